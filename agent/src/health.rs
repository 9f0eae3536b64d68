//! One list of what is wrong now. Status, probes and metrics all read this one.

use std::{path::PathBuf, sync::Arc, time::SystemTime};

use caps::Capability;

#[cfg(feature = "authz")]
use crate::authz::Authz;
use crate::{
    attestation::{Grade, PathRule},
    authority::Authority,
    config::{Config, Hooks, PathMeaning},
    front::Front,
    kernel::{Capture, HookState},
    problem::Problem,
    process::Processes,
    registration::{EntryFiles, Surroundings, Warning},
    spiffe::TrustDomain,
    svid::SvidCache,
    workload_api,
};
use vouch_proto::admin::Fact;

/// The running agent, as those see it who describe it.
#[derive(Debug)]
pub struct Node {
    pub config: Config,
    pub trust_domain: TrustDomain,
    pub started_at: SystemTime,
    pub issuer: &'static str,
    pub capture: Option<Arc<Capture>>,
    /// Why there is no capture.
    pub capture_problem: Option<Problem>,
    /// Why the hooks end with the agent, although it was not told so.
    pub unpinned: Option<Problem>,
    pub processes: Option<Processes>,
    pub entries: EntryFiles,
    pub authority: Authority,
    pub svids: SvidCache,
    pub front: Arc<Front>,
    pub workload_api: workload_api::Metrics,
    #[cfg(feature = "authz")]
    pub authz: Option<Authz>,
    pub sockets: Vec<PathBuf>,
}

/// What the agent keeps for good, and for what. Everything else is dropped once sockets are bound and hooks attached.
pub const KEPT_CAPABILITIES: [(Capability, &str); 2] = [
    (Capability::CAP_SYS_PTRACE, "the executable of another user's process"),
    (Capability::CAP_DAC_READ_SEARCH, "cgroup ids to paths, and files of entries that others own"),
];

/// Most warnings of one kind of source that are listed at once.
const LISTED: usize = 20;

impl Node {
    /// Best evidence that this node can give now.
    pub fn grade(&self) -> Grade {
        match &self.capture {
            Some(capture) if capture.captures_connects() => Grade::Kernel,
            _ => Grade::best_without_hooks(),
        }
    }

    /// What the meaning of entries depends on.
    pub fn surroundings(&self) -> Surroundings {
        let path = match self.config.attest.unix.path {
            PathMeaning::Verified => PathRule::Verified,
            PathMeaning::Spire => PathRule::Spire,
        };
        Surroundings { grade: Some(self.grade()), path }
    }

    /// What is wrong, worst first.
    pub fn facts(&self, now: SystemTime) -> Vec<Fact> {
        let mut facts = self.degradations(now);
        if self.entries.current().is_empty() {
            let text = "there are no registration entries, so nobody has an identity";
            facts.push(fact("W0650", WARNING, text, "write one into a file of [entries] files"));
        }
        if self.authority.warns(now) {
            let text = format!(
                "the signing certificate ends {}",
                humantime::format_rfc3339_seconds(self.authority.expires())
            );
            facts.push(fact("W0230", WARNING, &text, "replace it before: see the README on the issuer"));
        }
        facts.extend(self.unpinned.iter().map(|problem| told(problem, WARNING)));
        facts.extend(self.entries.warnings().iter().take(LISTED).map(warning_fact));
        facts
    }

    /// Whether anything is worse than it should be.
    pub fn is_degraded(&self, now: SystemTime) -> bool {
        !self.degradations(now).is_empty()
    }

    fn degradations(&self, now: SystemTime) -> Vec<Fact> {
        let mut facts: Vec<Fact> = self.capture_problem.iter().map(degraded).collect();
        if self.config.kernel.hooks == Hooks::Off {
            let text = "kernel hooks are switched off, so evidence is weaker than it could be";
            facts.push(fact("E0750", DEGRADED, text, "set [kernel] hooks = \"auto\""));
        }
        if let Some(capture) = &self.capture {
            facts.extend(capture.hooks().iter().filter_map(|hook| match &hook.state {
                HookState::Attached => None,
                HookState::Off(reason) => {
                    let text = format!("hook {} is off: {reason}", hook.name);
                    Some(fact("E0751", DEGRADED, &text, "a newer kernel or the missing right brings it"))
                }
            }));
        }
        if self.processes.as_ref().is_some_and(Processes::needs_resync) {
            let text = "kernel events were lost and the process table is being rebuilt";
            facts.push(fact("E0752", DEGRADED, text, "if this stays, enlarge [kernel] ring"));
        }
        facts.extend(self.entries.last_problem().iter().map(|problem| degraded(problem)));
        facts.extend(self.authority.trouble().iter().map(|problem| degraded(problem)));
        #[cfg(feature = "authz")]
        facts.extend(
            self.authz
                .iter()
                .flat_map(Authz::policies)
                .filter_map(|policy| policy.problem)
                .map(|problem| degraded(&problem)),
        );
        if now >= self.authority.expires() {
            facts.push(fact("E0231", DEGRADED, "the signing certificate has expired", "replace it"));
        }
        if let Some(behind) = self.authority.clock_behind() {
            let text =
                format!("the clock is {} behind what this node has seen", humantime::format_duration(behind));
            facts.push(fact("E0232", DEGRADED, &text, "set the clock"));
        }
        let failing = self.svids.stats().failing;
        if failing > 0 {
            let last = self
                .svids
                .stats()
                .last_failure
                .as_ref()
                .map(|last| format!(": entry {}: {}", last.entry, last.why));
            let text = format!("{failing} SVIDs cannot be issued{}", last.unwrap_or_default());
            facts.push(fact("E0233", DEGRADED, &text, "it is tried again by itself"));
        }
        facts
    }
}

const DEGRADED: &str = "degraded";
const WARNING: &str = "warning";

fn fact(code: &str, severity: &str, text: &str, fix: &str) -> Fact {
    Fact { code: code.into(), severity: severity.into(), text: text.into(), fix: fix.into() }
}

fn degraded(problem: &Problem) -> Fact {
    told(problem, DEGRADED)
}

/// A remark on entries as a fact.
pub fn warning_fact(warning: &Warning) -> Fact {
    told(warning, WARNING)
}

fn told(problem: &Problem, severity: &str) -> Fact {
    let place = problem.place.iter().map(|place| format!("\n{place}"));
    let why = problem.why.iter().map(|why| format!("\nwhy: {why}"));
    let text: String = std::iter::once(problem.title.clone()).chain(place).chain(why).collect();
    fact(problem.code, severity, &text, problem.fix.as_deref().unwrap_or_default())
}
