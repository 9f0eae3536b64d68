//! Builds agent and harness for speed, and runs the harness.

use std::{env, path::PathBuf, process::Command};

use crate::step;

/// Runs `vouch-bench` with `arguments`; without any, its first scenario: `run`.
///
/// # Errors
/// When something cannot be built, or the harness finds a stream that was not served.
pub(crate) fn run(arguments: &[String]) -> anyhow::Result<()> {
    step::run(&mut step::cargo(&["build", "--release", "--package", "vouch", "--package", "vouch-bench"]))?;
    let built =
        env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from).join("release");
    let mut harness = Command::new(built.join("vouch-bench"));
    if arguments.is_empty() {
        harness.arg("run");
    }
    step::run(harness.args(arguments))
}
