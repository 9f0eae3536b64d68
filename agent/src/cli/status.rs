//! `vouch status` and `vouch healthcheck`.

use std::{
    process::ExitCode,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use clap::{Args, ValueEnum};
use serde_json::json;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use vouch_proto::admin::{Fact, Policy, StatusRequest, StatusResponse};

use super::{
    Common,
    client::{admin_problem, block_on, call_problem},
    exit, output,
};
use crate::problem::Problem;

#[derive(Debug, Args)]
pub(super) struct Status {
    /// Exit 4 when there is something to say
    #[arg(long, value_enum, value_name = "LEVEL")]
    fail_on: Option<FailOn>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum FailOn {
    Warn,
}

pub(super) fn status(status: &Status, common: &Common) -> Result<ExitCode, Problem> {
    let seen = block_on(Some(common.timeout), async {
        let answer = common.admin().await?.status(StatusRequest {}).await;
        Ok(answer.map_err(|status| admin_problem(&status))?.into_inner())
    })?;
    output::print(common.output, &as_json(&seen), |out| describe(&seen, out))?;
    let fails = status.fail_on.is_some() && !seen.facts.is_empty();
    Ok(if fails { ExitCode::from(exit::WARNINGS) } else { ExitCode::SUCCESS })
}

pub(super) fn healthcheck(common: &Common) -> Result<ExitCode, Problem> {
    let serving = block_on(Some(common.timeout), async {
        let channel = common.channel().await?;
        let answer = HealthClient::new(channel).check(HealthCheckRequest { service: String::new() }).await;
        let answer = answer.map_err(|status| call_problem(&status))?;
        Ok(answer.into_inner().status() == ServingStatus::Serving)
    })?;
    let word = if serving { "Agent is healthy." } else { "Agent is unhealthy: see vouch status." };
    output::print(common.output, &json!({ "serving": serving }), |out| {
        out.push_str(word);
        out.push('\n');
    })?;
    Ok(if serving { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// `DEGRADED` when something is, else `HEALTHY`; warnings do not change it.
fn word(facts: &[Fact]) -> &'static str {
    if facts.iter().any(|fact| fact.severity == "degraded") { "DEGRADED" } else { "HEALTHY" }
}

fn time(seconds: i64) -> Option<SystemTime> {
    u64::try_from(seconds)
        .ok()
        .filter(|seconds| *seconds > 0)
        .map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds))
}

fn describe(seen: &StatusResponse, out: &mut String) {
    let now = SystemTime::now();
    let since = time(seen.started_at).map_or(String::new(), |start| {
        let up = now.duration_since(start).unwrap_or_default().as_secs();
        format!("  up {}", humantime::format_duration(Duration::from_secs(up)))
    });
    let mut line = |name: &str, text: String| out.push_str(&format!("  {name:<11}{text}\n"));
    line("state", format!("{}{since}  pid {}  vouch {}", word(&seen.facts), seen.pid, seen.version));
    line("domain", seen.trust_domain.clone());
    if let Some(authority) = &seen.authority {
        let until = time(authority.not_after).map_or_else(|| "unknown".into(), output::date);
        let roots = authority.bundle_authorities;
        line("issuer", format!("{}  until {until}  authorities in the bundle {roots}", authority.kind));
    }
    let expiry = time(seen.earliest_expiry).map_or_else(|| "none".into(), |at| output::left(at, now));
    line("entries", seen.entries.to_string());
    line("SVIDs", format!("{}  earliest expiry {expiry}", seen.svids));
    let streams = format!("{} SDS, {} Workload API", seen.sds_streams, seen.workload_api_streams);
    line("streams", format!("{streams}  connections {}  NACKs {}", seen.connections, seen.nacks));
    let hooks =
        seen.hooks.iter().map(|hook| format!("{} {}", hook.name, hook.state)).collect::<Vec<_>>().join(", ");
    line("evidence", format!("{}  (minimum {})", seen.grade, seen.minimum_grade));
    line("kernel", if hooks.is_empty() { "no hooks".into() } else { hooks });
    line("processes", format!("{}  lost events {}", seen.processes, seen.lost_events));
    for socket in &seen.sockets {
        line("socket", socket.clone());
    }
    for policy in &seen.policies {
        line("policy", describe_policy(policy));
        if policy.warnings > 0 {
            line("", describe_warnings(policy));
        }
    }
    if !seen.facts.is_empty() {
        out.push_str("Problems\n");
    }
    for fact in &seen.facts {
        out.push_str(&format!("  {} {}\n", fact.code, fact.text.replace('\n', "\n        ")));
        if !fact.fix.is_empty() {
            out.push_str(&format!("        fix: {}\n", fact.fix));
        }
    }
}

fn describe_policy(policy: &Policy) -> String {
    let dry_run = if policy.dry_run { "  dry run" } else { "" };
    let loaded = match time(policy.loaded_at) {
        Some(at) => format!("loaded {}  revision {}", output::date(at), policy.revision),
        None => "not loaded: all that it is asked is denied".to_owned(),
    };
    format!("{}  {loaded}{dry_run}", policy.name)
}

/// How many there are, and the first: the log and `vouch policy check` have all of them.
fn describe_warnings(policy: &Policy) -> String {
    let first = policy.first_warning.lines().next().unwrap_or_default();
    match policy.warnings {
        1 => format!("warning: {first} (W0905)"),
        many => format!("{many} warnings, the first: {first} (W0905)"),
    }
}

fn as_json(seen: &StatusResponse) -> serde_json::Value {
    json!({
        "state": word(&seen.facts),
        "version": seen.version,
        "trust_domain": seen.trust_domain,
        "pid": seen.pid,
        "started_at": seen.started_at,
        "grade": seen.grade,
        "minimum_grade": seen.minimum_grade,
        "hooks": seen.hooks.iter().map(|hook| json!({
            "name": hook.name, "state": hook.state, "reason": hook.reason,
        })).collect::<Vec<_>>(),
        "issuer": seen.authority.as_ref().map(|authority| json!({
            "kind": authority.kind,
            "not_after": authority.not_after,
            "bundle_authorities": authority.bundle_authorities,
        })),
        "entries": seen.entries,
        "svids": seen.svids,
        "earliest_expiry": seen.earliest_expiry,
        "connections": seen.connections,
        "sds_streams": seen.sds_streams,
        "workload_api_streams": seen.workload_api_streams,
        "nacks": seen.nacks,
        "processes": seen.processes,
        "lost_events": seen.lost_events,
        "sockets": seen.sockets,
        "policies": seen.policies.iter().map(|policy| json!({
            "name": policy.name, "revision": policy.revision, "loaded_at": policy.loaded_at, "dry_run": policy.dry_run,
            "warnings": policy.warnings, "first_warning": policy.first_warning,
        })).collect::<Vec<_>>(),
        "facts": facts(&seen.facts),
    })
}

pub(super) fn facts(facts: &[Fact]) -> serde_json::Value {
    let as_json = |fact: &Fact| json!({ "code": fact.code, "severity": fact.severity, "text": fact.text, "fix": fact.fix });
    facts.iter().map(as_json).collect()
}
