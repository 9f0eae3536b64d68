//! All policies, kept as their files say.

use std::{
    path::PathBuf,
    sync::Arc,
    thread,
    time::{Duration, Instant, SystemTime},
};

use tokio::time::{MissedTickBehavior, interval};

use super::{
    asker::{Asker, Standing},
    metrics::{Metrics, Reload},
    policy::{Policy, Unattested},
    rego,
    settings::Settings,
};
use crate::{
    problem::Problem,
    registration::{DirectoryWatch, Fingerprint},
};
use vouch_proto::envoy::service::auth::v3::AttributeContext;

/// Files are read when nothing has changed for this long: one save, or one swap of a folder, is several events.
const QUIET: Duration = Duration::from_millis(150);
/// They are read after this long even if changes never pause.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often files are looked at without being told: some file systems tell nothing.
const POLL: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub(super) struct Policies {
    all: Vec<Arc<Policy>>,
    metrics: Metrics,
}

/// One policy for an operator.
#[derive(Debug, Clone)]
pub struct PolicyStatus {
    pub name: String,
    /// Short digest of what decides, and since when; `None`: nothing was ever loaded, and all is denied.
    pub loaded: Option<(String, SystemTime)>,
    /// Why what the files say now is not what decides.
    pub problem: Option<Arc<Problem>>,
    /// What is doubtful in what decides (W0905), each with its place.
    pub warnings: Vec<String>,
    pub dry_run: bool,
}

/// Why no policy decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoPolicy {
    /// The conditions of none hold.
    None,
    /// Whether some policy's conditions hold rests on who asks, and nobody can say who does.
    Unattested,
}

impl Policies {
    /// Reads them all once. One that is bad has nothing to decide by, and says so.
    pub(super) fn open(settings: &Settings, metrics: Metrics) -> Arc<Self> {
        let all = settings.policies.iter().map(|policy| Arc::new(Policy::new(policy.clone()))).collect();
        let policies = Self { all, metrics };
        policies.reload();
        Arc::new(policies)
    }

    /// The first whose conditions all hold.
    pub(super) fn choose(
        &self,
        asker: &Asker,
        standing: Option<&Standing>,
        attributes: &AttributeContext,
    ) -> Result<&Arc<Policy>, NoPolicy> {
        for policy in &self.all {
            match policy.applies(asker, standing, attributes) {
                Ok(true) => return Ok(policy),
                Ok(false) => {}
                // Whoever it is, a later policy was not meant for it.
                Err(Unattested) => return Err(NoPolicy::Unattested),
            }
        }
        Err(NoPolicy::None)
    }

    pub(super) fn status(&self) -> Vec<PolicyStatus> {
        let status = |policy: &Arc<Policy>| {
            let current = policy.current();
            let warnings = current.iter().flat_map(|loaded| loaded.rego.warnings());
            PolicyStatus {
                name: policy.settings.name.clone(),
                warnings: warnings.map(ToString::to_string).collect(),
                loaded: current.map(|loaded| (loaded.decider.revision.clone(), loaded.at)),
                problem: policy.problem(),
                dry_run: policy.settings.dry_run,
            }
        };
        self.all.iter().map(status).collect()
    }

    /// Reads those whose files have changed. Not for a thread that serves.
    pub(super) fn reload(&self) {
        for policy in &self.all {
            let name = &policy.settings.name;
            match policy.reload() {
                None => {}
                Some(Ok(loaded)) => {
                    self.metrics.reloaded(name, Reload::Accepted);
                    self.watch_shadow(name, &loaded.rego);
                    tracing::info!(policy = name, revision = loaded.decider.revision, "policy loaded");
                    for warning in loaded.rego.warnings() {
                        tracing::warn!(policy = name, "policy: {warning} (W0905)");
                    }
                }
                Some(Err(problem)) => {
                    self.metrics.reloaded(name, Reload::Refused);
                    let kept = match policy.current() {
                        Some(_) => "the old one stays",
                        None => "there is no old one, so all that it is asked is denied",
                    };
                    tracing::error!(policy = name, code = problem.code, "policy refused, {kept}: {problem}");
                }
            }
        }
    }

    /// Has it said when a policy's machine decides otherwise than the engine.
    fn watch_shadow(&self, name: &str, rego: &rego::Policy) {
        let (name, differences) = (name.to_owned(), self.metrics.shadow_differences.clone());
        rego.report_difference(move |difference| {
            differences.inc();
            let rego::Difference { machine, engine } = difference;
            tracing::error!(
                policy = name,
                machine,
                engine,
                "two ways to evaluate the policy differ, the engine alone decides from now on (E0914)"
            );
        });
    }

    /// The files, and what tells this version of them from others, once nobody has written to them for a while: a file that
    /// is half written may be a policy, too.
    fn quiet_files(&self, told: bool, before: &Fingerprint) -> (Vec<PathBuf>, Fingerprint) {
        let files = self.watched();
        let mut now = Fingerprint::of(&files);
        if !told && now == *before {
            return (files, now);
        }
        let end = Instant::now() + PATIENCE;
        loop {
            thread::sleep(QUIET);
            let files = self.watched();
            let later = Fingerprint::of(&files);
            if later == now || Instant::now() >= end {
                return (files, later);
            }
            now = later;
        }
    }

    fn watched(&self) -> Vec<PathBuf> {
        self.all.iter().flat_map(|policy| policy.watched()).collect()
    }

    /// Reads again whatever changes. Never returns.
    pub(super) async fn follow(self: Arc<Self>) {
        let mut poll = interval(POLL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut files = self.watched();
        let (mut watch, mut seen) = (DirectoryWatch::of(&files), Fingerprint::default());
        watch.arm();
        loop {
            let told = tokio::select! {
                _ = watch.changed() => true,
                _ = poll.tick() => false,
            };
            let (this, before) = (Arc::clone(&self), std::mem::take(&mut seen));
            // Compiling takes long, and the thread that serves is another one.
            let looked = tokio::task::spawn_blocking(move || {
                let (files, now) = this.quiet_files(told, &before);
                if told || now != before {
                    this.reload();
                }
                (files, now)
            });
            let Ok((now_watched, now_seen)) = looked.await else { continue };
            seen = now_seen;
            if now_watched != files {
                watch = DirectoryWatch::of(&now_watched);
                files = now_watched;
            }
            watch.arm();
        }
    }
}
