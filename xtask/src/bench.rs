//! Builds agent and harness for speed, and runs the harness.

use std::{env, path::PathBuf, process::Command};

use anyhow::{Context, bail};

use crate::{interrupt, peers, step};

/// Runs `vouch-bench` with `arguments`; without any, its first scenario: `run`. `attest` gets a SPIRE to measure
/// beside, where one can be built; the harness ends with 3 when it had none.
///
/// # Errors
/// When something cannot be built, or the harness finds something wrong.
pub(crate) fn run(arguments: &[String]) -> anyhow::Result<()> {
    let spire = match arguments.first() {
        Some(first)
            if first == "attest" && !arguments.iter().any(|argument| argument.starts_with("--spire")) =>
        {
            peers::spire()
                .inspect_err(|error| eprintln!("there is no SPIRE to measure beside: {error:#}"))
                .ok()
        }
        _ => None,
    };
    step::run(&mut step::cargo(&["build", "--release", "--package", "vouch", "--package", "vouch-bench"]))?;
    let built =
        env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from).join("release");
    let mut harness = Command::new(built.join("vouch-bench"));
    if arguments.is_empty() {
        harness.arg("run");
    }
    harness.args(arguments);
    if let Some(folder) = spire {
        // It ends what it started by itself.
        interrupt::ignore();
        harness.arg("--spire").arg(folder);
    }
    match harness.status().context("starting the harness")?.code() {
        Some(0) => Ok(()),
        // Its own word for what was wrong is said already.
        Some(code) => std::process::exit(code),
        None => bail!("the harness was killed"),
    }
}
