//! Limits on strangers: each ends what goes beyond it, is counted under its name, and leaves everybody else alone.

mod floods;
mod rates;
mod reserve;
mod subordinate;

use std::{
    fs,
    time::{Duration, Instant},
};

use vouch_tests::{
    Agent, Settings, eventually,
    metrics::{sum, value},
    settings::entry_of_user,
    user,
};

/// What an honest caller may have to wait, on a debug build and a busy machine.
const HONEST_LIMIT: Duration = Duration::from_secs(5);
const SOON: Duration = Duration::from_secs(20);

/// [`user::FRONTEND`] is honest; this process, and whoever it makes itself into, is not.
pub(crate) fn settings() -> Settings {
    Settings::new([entry_of_user("spiffe://example.org/honest", user::FRONTEND)])
}

#[track_caller]
pub(crate) fn honest_caller_is_served(agent: &Agent) {
    let start = Instant::now();
    let fetched = agent.cli(Some(user::FRONTEND), &["fetch"]);
    assert!(fetched.status.success(), "{fetched:?}\n{}", agent.metrics());
    assert!(start.elapsed() < HONEST_LIMIT, "it took {:?}", start.elapsed());
}

/// Whatever strangers held is given back.
#[track_caller]
fn nothing_is_held(agent: &Agent) {
    let gauges = [
        "vouch_connections",
        "vouch_calls_open",
        "vouch_callers",
        "vouch_sds_streams",
        "vouch_attestations_under_way",
        "vouch_attestations_queued",
    ];
    eventually("nothing is held", SOON, || {
        let metrics = agent.metrics();
        gauges.iter().all(|gauge| value(&metrics, gauge) == Some(0.0)).then_some(())
    });
    eventually("accounts add up", SOON, || {
        let metrics = agent.metrics();
        let ends = |what| sum(&metrics, &format!("vouch_{what}_ended_total"));
        let connections = value(&metrics, "vouch_connections_accepted_total") == Some(ends("connections"));
        (connections && value(&metrics, "vouch_calls_total") == Some(ends("calls"))).then_some(())
    });
}

fn connections_shed(agent: &Agent, reason: &str) -> f64 {
    let name = format!("vouch_connections_ended_total{{outcome=\"shed\",reason=\"{reason}\"}}");
    value(&agent.metrics(), &name).unwrap_or(0.0)
}

fn calls_shed(agent: &Agent, reason: &str) -> f64 {
    let name = format!("vouch_calls_ended_total{{outcome=\"shed\",reason=\"{reason}\"}}");
    value(&agent.metrics(), &name).unwrap_or(0.0)
}

fn attestations_shed(agent: &Agent, reason: &str) -> f64 {
    value(&agent.metrics(), &format!("vouch_attestations_shed_total{{reason=\"{reason}\"}}")).unwrap_or(0.0)
}

/// Resident memory of the agent, in bytes.
pub(crate) fn memory(agent: &mut Agent) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", agent.process().pid())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has memory");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
}
