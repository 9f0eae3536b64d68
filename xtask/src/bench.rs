//! Builds agent and harness for speed, and runs the harness.

pub(crate) mod gate;

use std::{env, path::PathBuf, process::Command};

use anyhow::{Context, bail};

use crate::{interrupt, peers, step};

/// Runs `vouch-bench` with `arguments`; without any, its first scenario: `run`. `attest` gets a SPIRE to measure
/// beside, where one can be built, and `authz` an Open Policy Agent; the harness ends with 3 when it had none. `peer spire` runs the scenarios that a SPIRE
/// agent can take part in, beside Vouch, and `full` everything that is published; arguments may follow both. `gate` is no
/// part of the harness.
///
/// # Errors
/// When something cannot be built, or the harness finds something wrong.
pub(crate) fn run(arguments: &[String]) -> anyhow::Result<()> {
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let (arguments, beside): (_, Beside) = match arguments.as_slice() {
        ["gate"] => return gate::run(false),
        ["gate", "--record"] => return gate::run(true),
        ["gate", ..] => bail!("gate takes --record and nothing else"),
        ["peer", "spire", rest @ ..] if names(rest, "--spire") => (with_defaults(rest), nobody),
        ["peer", "spire", rest @ ..] => (with_defaults(rest), || peers::spire().map(spire)),
        ["peer", ..] => bail!("the peer that we know is spire; give others with bench run --peer"),
        ["full", rest @ ..] if names(rest, "--spire") => ([&["run", "--full"], rest].concat(), nobody),
        ["full", rest @ ..] => ([&["run", "--full"], rest].concat(), spire_if_any),
        ["attest", rest @ ..] if !names(rest, "--spire") => (arguments, spire_if_any),
        ["authz", rest @ ..] if !names(rest, "--opa") => (arguments, opa_if_any),
        [] => (vec!["run"], nobody),
        _ => (arguments, nobody),
    };
    let helps = arguments.iter().any(|argument| matches!(*argument, "--help" | "-h"));
    let beside = if helps { None } else { beside()? };
    step::run(&mut step::cargo(&["build", "--release", "--package", "vouch", "--package", "vouch-bench"]))?;
    let built =
        env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from).join("release");
    let envoy = (wants_envoy(&arguments) && !helps).then(peers::envoy).transpose()?;
    let mut harness = Command::new(built.join("vouch-bench"));
    harness.args(&arguments);
    if let Some((flag, path)) = beside {
        harness.arg(flag).arg(path);
    }
    if let Some(program) = envoy {
        harness.arg("--envoy").arg(std::path::absolute(program)?);
    }
    if ["run", "attest", "authz"].iter().any(|own| arguments.first() == Some(own)) {
        // It ends what it started by itself.
        interrupt::ignore();
    }
    match harness.status().context("starting the harness")?.code() {
        Some(0) => Ok(()),
        // Its own word for what was wrong is said already.
        Some(code) => std::process::exit(code),
        None => bail!("the harness was killed"),
    }
}

/// The scenarios of the comparison, at one size, unless `rest` says otherwise.
fn with_defaults<'a>(rest: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec!["run"];
    if !names(rest, "--scenario") {
        arguments.extend(["--scenario", "S1,S2,S6,S8"]);
    }
    // Quick has a size of its own.
    if !names(rest, "--streams") && !names(rest, "--quick") {
        arguments.extend(["--streams", "1000"]);
    }
    arguments.extend(rest);
    arguments
}

/// Whether `flag` is given, alone or with its value behind a `=`.
fn names(arguments: &[&str], flag: &str) -> bool {
    let is_it = |rest: &str| rest.is_empty() || rest.starts_with('=');
    arguments.iter().any(|argument| argument.strip_prefix(flag).is_some_and(is_it))
}

/// Whether a scenario with real Envoys is among those that are asked for, and nobody has said where one is.
fn wants_envoy(arguments: &[&str]) -> bool {
    let asked = arguments.iter().flat_map(|argument| argument.split([',', '=']));
    let asked = asked.filter(|word| ["--full", "all"].contains(word) || word.eq_ignore_ascii_case("s9"));
    arguments.first() == Some(&"run") && asked.count() > 0 && !names(arguments, "--envoy")
}

/// Who takes part, by the flag and the path that name them to the harness, if anybody does.
type Beside = fn() -> anyhow::Result<Option<(&'static str, PathBuf)>>;

fn nobody() -> anyhow::Result<Option<(&'static str, PathBuf)>> {
    Ok(None)
}

fn spire(folder: PathBuf) -> Option<(&'static str, PathBuf)> {
    Some(("--spire", folder))
}

fn spire_if_any() -> anyhow::Result<Option<(&'static str, PathBuf)>> {
    let say = |error: &anyhow::Error| eprintln!("there is no SPIRE to measure beside: {error:#}");
    Ok(peers::spire().inspect_err(say).ok().and_then(spire))
}

fn opa_if_any() -> anyhow::Result<Option<(&'static str, PathBuf)>> {
    let say = |error: &anyhow::Error| eprintln!("there is no Open Policy Agent to measure beside: {error:#}");
    Ok(peers::opa().inspect_err(say).ok().map(|program| ("--opa", program)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_envoy_is_fetched_for_what_needs_it_alone() {
        assert!(wants_envoy(&["run", "--full"]) && wants_envoy(&["run", "--scenario=S1,s9"]));
        assert!(!wants_envoy(&["run", "--scenario", "S1"]));
        assert!(!wants_envoy(&["run", "--scenario", "all", "--envoy", "/envoy"]));
    }

    #[test]
    fn what_is_said_of_a_comparison_replaces_its_defaults() {
        let some = with_defaults(&["--streams", "100,5000", "--json", "f"]);
        assert_eq!(some, ["run", "--scenario", "S1,S2,S6,S8", "--streams", "100,5000", "--json", "f"]);
        assert_eq!(with_defaults(&["--quick"]), ["run", "--scenario", "S1,S2,S6,S8", "--quick"]);
    }
}
