//! The order in which a change is judged: cheap verdicts first.

use std::{path::Path, process::Command};

use crate::{bench, cache, ebpf, fuzz, scenarios, step, tidy};

/// Enough to find again what is found easily; a search worth the name is `cargo xtask fuzz request --seconds`.
const FUZZ_SECONDS: u64 = 30;
/// A header is read in microseconds, so less time asks as much.
const FUZZ_XFCC_SECONDS: u64 = 10;
const DENY_VERSION: &str = "0.20.2";

/// Runs every step and stops at the first that fails. No test may be skipped.
///
/// # Errors
/// The first step that failed.
pub(crate) fn run() -> anyhow::Result<()> {
    step::timed("fmt", || step::run(&mut step::cargo(&["fmt", "--all", "--check"])))?;
    step::timed("tidy", tidy::run)?;
    step::timed("clippy", || {
        let arguments = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
        step::run(&mut step::cargo(&arguments))
    })?;
    step::timed("docs", || {
        let mut doc = step::cargo(&["doc", "--workspace", "--no-deps", "--document-private-items"]);
        step::run(doc.env("RUSTDOCFLAGS", "-D warnings"))
    })?;
    step::timed("deny", deny)?;
    step::timed("build-ebpf --check", || ebpf::build(true))?;
    step::timed("feature aws-lc-rs", aws_lc_rs)?;
    step::timed("fuzz", || fuzz::run(fuzz::Target::Request, FUZZ_SECONDS))?;
    step::timed("fuzz xfcc", || fuzz::run(fuzz::Target::Xfcc, FUZZ_XFCC_SECONDS))?;
    step::timed("gate", || bench::gate::run(false))?;
    step::timed("test", scenarios::test_all)
}

/// What only a build with RSA keys compiles and does. Scenarios run with the default build.
fn aws_lc_rs() -> anyhow::Result<()> {
    let feature = ["--package", "vouch", "--features", "aws-lc-rs"];
    step::run(step::cargo(&["clippy", "--all-targets"]).args(feature).args(["--", "-D", "warnings"]))?;
    step::run(step::cargo(&["test", "--lib"]).args(feature))
}

/// Licences, banned crates and sources of everything in Cargo.lock.
fn deny() -> anyhow::Result<()> {
    let tool = cache::entry(&format!("cargo-deny-{DENY_VERSION}"), install_deny)?;
    let mut command = Command::new(tool.join("bin/cargo-deny"));
    step::run(command.args(["--all-features", "check", "licenses", "bans", "sources"]))
}

fn install_deny(into: &Path) -> anyhow::Result<()> {
    let mut install =
        step::cargo(&["install", "--quiet", "--locked", "cargo-deny", "--version", DENY_VERSION]);
    step::run(install.arg("--root").arg(into))
}
