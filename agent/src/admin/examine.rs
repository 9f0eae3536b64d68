//! What the agent finds when it looks at itself: every part that is right, and the facts about those that are not.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path, time::SystemTime};

use nix::{
    sys::{
        resource::{Resource, getrlimit},
        statvfs::statvfs,
    },
    unistd::geteuid,
};
use vouch_proto::admin::{Check, Fact};

use crate::{
    attestation::{self, Grade},
    config::{Hooks, IssuerKind},
    health::Node,
    kernel::HookState,
    registration::lint,
};

/// The state log is rewritten now and then: room for two of its largest.
const LITTLE_SPACE: u64 = 64 << 20;

/// Reads a few files of procfs and of the state directory: not for an async thread.
pub(super) fn examine(node: &Node, now: SystemTime) -> Vec<Check> {
    let mut checks = kernel(node);
    checks.extend(process(node));
    checks.extend(state(node));
    checks.extend(entries(node, now));
    checks.extend(attestors(node));
    checks.extend(issuer(node, now));
    checks.extend(node.facts(now).iter().filter(|fact| !is_told_elsewhere(fact)).map(of_fact));
    checks
}

fn kernel(node: &Node) -> Vec<Check> {
    let mut checks = vec![];
    let hooks = || node.capture.iter().flat_map(|capture| capture.hooks());
    let attached: Vec<&str> =
        hooks().filter(|hook| hook.state == HookState::Attached).map(|hook| hook.name).collect();
    if !attached.is_empty() {
        checks.push(ok("kernel", format!("hooks attached: {}", attached.join(", "))));
    }
    if let Some(place) = node.capture.as_ref().and_then(|capture| capture.pinned_at()) {
        checks.push(fact("kernel", format!("hooks outlive the agent, pinned at {}", place.display())));
    }
    for hook in hooks() {
        if let HookState::Off(reason) = &hook.state {
            let text = format!("hook {} is off: {reason}", hook.name);
            checks.push(warn("kernel", "E0751", text, "a newer kernel or the missing right brings it"));
        }
    }
    if let Some(problem) = &node.capture_problem {
        let text = [Some(&problem.title), problem.why.as_ref()];
        let text: Vec<&str> = text.into_iter().flatten().map(String::as_str).collect();
        checks.push(warn(
            "kernel",
            problem.code,
            text.join(": "),
            problem.fix.as_deref().unwrap_or_default(),
        ));
    }
    if node.config.kernel.hooks == Hooks::Off {
        checks.push(warn("kernel", "E0750", "hooks are switched off", "set [kernel] hooks = \"auto\""));
    }
    let grade = node.grade();
    let said = format!("evidence of grade {grade}");
    checks.push(match grade {
        Grade::Kernel => ok("kernel", said),
        _ => warn(
            "kernel",
            "W0430",
            format!("{said}: a program that is executed after connect is not noticed"),
            "see above for what keeps this node from grade kernel",
        ),
    });
    if let Some(lost) = node.capture.as_ref().and_then(|capture| capture.counters().ok()) {
        checks
            .push(fact("kernel", format!("{} events of processes, {} lost", lost.events, lost.events_lost)));
    }
    checks
}

/// The capabilities that the agent keeps for good, and its descriptors.
fn process(node: &Node) -> Vec<Check> {
    let held = caps::read(None, caps::CapSet::Effective).unwrap_or_default();
    let mut names: Vec<String> = held.iter().map(ToString::to_string).collect();
    names.sort();
    let mut checks = vec![fact("process", format!("pid {}, uid {}", std::process::id(), geteuid()))];
    for (capability, need) in crate::health::KEPT_CAPABILITIES {
        if !held.contains(&capability) {
            let text = format!("the agent lacks {capability}: {need}");
            checks.push(warn("process", "W0431", text, "start it as root, or with that capability"));
        }
    }
    checks.push(match names.is_empty() {
        true => fact("process", "no capabilities".to_owned()),
        false => ok("process", format!("capabilities: {}", names.join(" "))),
    });
    if let Ok((soft, _)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let (public, authz) = node.config.connections();
        let wanted = public.saturating_add(authz);
        let enough = u64::try_from(wanted).unwrap_or(u64::MAX).saturating_mul(2) <= soft;
        let text = format!("{soft} descriptors, two for each of {wanted} connections");
        checks.push(match enough {
            true => ok("process", text),
            false => {
                warn("process", "W0724", text, "raise LimitNOFILE, or lower [limits] or [authz] connections")
            }
        });
    }
    checks
}

fn state(node: &Node) -> Vec<Check> {
    if !matches!(node.config.issuer.kind, IssuerKind::Embedded { .. }) {
        return vec![fact("state", "none: an intermediate from files signs".to_owned())];
    }
    let path = &node.config.state_dir;
    let shown = path.display();
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) => {
            let fix = "restore it before the agent stops: the CA's key is in memory only";
            return vec![fail("state", "E0201", format!("{shown}: {error}"), fix)];
        }
    };
    let mode = found.mode() & 0o7777;
    let mut checks = vec![if found.uid() == geteuid().as_raw() && mode & 0o077 == 0 {
        ok("state", format!("{shown}, mode {mode:o}, locked by this agent"))
    } else {
        let text = format!("{shown} belongs to uid {} and has mode {mode:o}", found.uid());
        fail("state", "E0202", text, "give it to the agent's user alone: chmod 0700")
    }];
    checks.extend(space(path));
    checks
}

fn space(path: &Path) -> Option<Check> {
    let free = statvfs(path).map(|disk| disk.blocks_available() * disk.fragment_size()).ok()?;
    let text = format!("{} MiB free", free >> 20);
    Some(match free {
        0 => fail("state", "E0204", text, "make room: no key is used before it is written"),
        1..LITTLE_SPACE => {
            warn("state", "W0432", text, "make room: the CA must be able to write its successor")
        }
        _ => ok("state", text),
    })
}

fn entries(node: &Node, now: SystemTime) -> Vec<Check> {
    let index = node.entries.current();
    let files: Vec<String> =
        node.config.entries.files.iter().map(|file| file.display().to_string()).collect();
    let mut checks = vec![];
    if node.entries.last_problem().is_none() && !index.is_empty() {
        checks.push(ok("entries", format!("{} from {}", index.len(), files.join(", "))));
    }
    let remarks = lint(&index, now, node.surroundings()).len();
    if remarks > 0 {
        checks.push(fact("entries", format!("{remarks} remarks: vouch entry lint")));
    }
    checks
}

fn issuer(node: &Node, now: SystemTime) -> Vec<Check> {
    let until = humantime::format_rfc3339_seconds(node.authority.expires());
    let mut checks = vec![];
    if now < node.authority.expires() && !node.authority.warns(now) && node.authority.trouble().is_none() {
        checks.push(ok("issuer", format!("{} until {until}", node.issuer)));
    }
    if node.authority.clock_behind().is_none() {
        checks.push(ok("clock", "not behind what this node has seen".to_owned()));
    }
    checks
}

/// What the kernel group says with more words.
fn is_told_elsewhere(fact: &Fact) -> bool {
    fact.code.starts_with("E070") || ["E0750", "E0751"].contains(&fact.code.as_str())
}

fn of_fact(fact: &Fact) -> Check {
    let group = match fact.code.get(..3) {
        _ if fact.code == "E0232" => "clock",
        Some("E02" | "W02") => "issuer",
        Some("E06" | "W06") => "entries",
        Some("E07" | "W07") => "kernel",
        _ => "process",
    };
    let verdict = if fact.severity == "degraded" { "fail" } else { "warn" };
    Check {
        group: group.into(),
        verdict: verdict.into(),
        code: fact.code.clone(),
        text: fact.text.clone(),
        fix: fact.fix.clone(),
    }
}

/// Whether those can be asked whom entries want to be asked.
fn attestors(node: &Node) -> Vec<Check> {
    let (index, attest) = (node.entries.current(), &node.config.attest);
    let bus = attestation::system_bus();
    let kinds: [(&str, bool, &[&Path]); 3] = [
        ("docker", attest.docker.enabled, &[&attest.docker.socket, &attest.docker.podman_socket]),
        ("systemd", attest.systemd.enabled, &[&bus]),
        ("slurm", attest.slurm.enabled, &[]),
    ];
    let check = |(kind, enabled, sockets): (&str, bool, &[&Path])| {
        let there: Vec<String> =
            sockets.iter().filter(|path| path.exists()).map(|path| path.display().to_string()).collect();
        let (missing, fix) = if !enabled {
            ("switched off", "switch it on in [attest], or let entries do without it")
        } else if there.is_empty() && !sockets.is_empty() {
            (
                "not here: there is no socket of it",
                "start it, or name its socket in [attest]; until then entries that name it match nobody",
            )
        } else {
            return ok("attestors", format!("{kind} {}", there.join(", ")).trim_end().to_owned());
        };
        match index.asks_of(kind) {
            true => warn("attestors", "W0412", format!("{kind} is {missing}, and entries name it"), fix),
            false => fact("attestors", format!("{kind} is {missing}; no entry names it")),
        }
    };
    kinds.into_iter().map(check).collect()
}

fn ok(group: &str, text: String) -> Check {
    Check { group: group.into(), verdict: "ok".into(), text, ..Default::default() }
}

fn fact(group: &str, text: String) -> Check {
    Check { group: group.into(), verdict: "fact".into(), text, ..Default::default() }
}

fn warn(group: &str, code: &str, text: impl Into<String>, fix: &str) -> Check {
    let (code, text, fix) = (code.into(), text.into(), fix.into());
    Check { group: group.into(), verdict: "warn".into(), code, text, fix }
}

fn fail(group: &str, code: &str, text: String, fix: &str) -> Check {
    Check { verdict: "fail".into(), ..warn(group, code, text, fix) }
}
