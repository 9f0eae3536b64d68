//! Envoys ask the agent whether requests may pass, and policies in Rego say so: what an Envoy makes of the answers, which
//! policy is for whom, what happens when a policy is bad or changes, and what is left to read afterwards.

mod addresses;
mod bad_policies;
mod bad_settings;
mod choice;
mod decisions;
mod effects;
mod failures;
mod hostile;
mod many;
mod reload;
mod source;

use std::time::Duration;

use vouch_tests::{Agent, Settings, metrics::value};

/// What comes by itself comes within this, on a debug build and a busy machine.
const SOON: Duration = Duration::from_secs(20);

/// Policies have time: what a scenario proves does not rest on how fast a debug build is.
fn settings() -> Settings {
    Settings::new([]).set("authz.timeout", "10s")
}

/// A policy in today's syntax.
fn rego(rules: &str) -> String {
    format!("package envoy.authz\n\nimport rego.v1\n\n{rules}\n")
}

/// A policy that allows everything and says in a header which one it is.
fn named(name: &str) -> String {
    rego(&format!("allow := {{\"allowed\": true, \"headers\": {{\"x-policy\": \"{name}\"}}}}"))
}

/// How many questions were answered so.
fn checks(agent: &Agent, policy: &str, answer: &str, reason: &str) -> f64 {
    let name =
        format!("vouch_authz_checks_total{{policy=\"{policy}\",answer=\"{answer}\",reason=\"{reason}\"}}");
    value(&agent.metrics(), &name).unwrap_or(0.0)
}
