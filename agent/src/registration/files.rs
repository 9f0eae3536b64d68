//! Keeps the index true while the entry files change.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, MissedTickBehavior, interval, timeout},
};

use super::{
    EntryId, EntryIndex, Loaded, Origin, Warning, load,
    watch::{Change, DirectoryWatch, Fingerprint},
};
use crate::{problem::Problem, spiffe::TrustDomain};

/// Files are read when nothing has changed for this long: an editor's save is several events.
const QUIET: Duration = Duration::from_millis(80);
/// They are read after this long even if changes never pause.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often the files are looked at without being told: a directory may vanish and come back, and some file
/// systems tell nothing.
const POLL: Duration = Duration::from_secs(3);
/// Reloads that may be asked for at once; the next waits.
const MAX_ASKED: usize = 16;

type Outcome = Result<(), Arc<Problem>>;

/// What the files say now, for everyone who needs to know. Cheap to clone.
#[derive(Debug, Clone)]
pub struct EntryFiles {
    published: Arc<Published>,
    asked: mpsc::Sender<oneshot::Sender<Outcome>>,
}

/// Watches the files until every [`EntryFiles`] is gone.
#[must_use = "nothing is watched until it runs"]
pub struct EntryFilesTask {
    files: Vec<PathBuf>,
    trust_domain: TrustDomain,
    published: Arc<Published>,
    asked: mpsc::Receiver<oneshot::Sender<Outcome>>,
    watch: DirectoryWatch,
    /// Of the files as they were read last, well or badly.
    seen: Fingerprint,
    poll: Duration,
}

/// How often the files were read since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReloadCounts {
    /// Readings whose entries are in use or were.
    pub accepted: u64,
    /// Readings that kept the old entries.
    pub refused: u64,
}

#[derive(Debug)]
struct Published {
    index: watch::Sender<Arc<EntryIndex>>,
    remarks: Mutex<Remarks>,
    accepted: AtomicU64,
    refused: AtomicU64,
}

#[derive(Debug, Default)]
struct Remarks {
    problem: Option<Arc<Problem>>,
    warnings: Arc<[Warning]>,
    origins: Arc<HashMap<EntryId, Origin>>,
}

impl EntryFiles {
    /// Loads all files once, and gives what watches them from then on, to be run by the caller.
    ///
    /// # Errors
    /// The first fault: an agent does not start with entries that it cannot read.
    pub async fn open(
        files: Vec<PathBuf>,
        trust_domain: TrustDomain,
    ) -> Result<(Self, EntryFilesTask), Problem> {
        // Watch, then read: a change in between is read twice, never missed.
        let mut watch = DirectoryWatch::of(&files);
        watch.arm();
        let (seen, loaded) = read(files.clone(), trust_domain.clone()).await;
        let Reading { index, warnings, origins } = loaded?;
        let published = Arc::new(Published {
            index: watch::Sender::new(Arc::new(index)),
            remarks: Mutex::new(Remarks { problem: None, warnings, origins }),
            accepted: AtomicU64::new(1),
            refused: AtomicU64::new(0),
        });
        let (sender, asked) = mpsc::channel(MAX_ASKED);
        let handle = Self { published: Arc::clone(&published), asked: sender };
        Ok((handle, EntryFilesTask { files, trust_domain, published, asked, watch, seen, poll: POLL }))
    }

    /// Sees every later index; several changes at once may be seen as one.
    pub fn subscribe(&self) -> watch::Receiver<Arc<EntryIndex>> {
        self.published.index.subscribe()
    }

    pub fn current(&self) -> Arc<EntryIndex> {
        Arc::clone(&self.published.index.borrow())
    }

    /// Why the files as they are now were refused; `None` while they are what is served.
    pub fn last_problem(&self) -> Option<Arc<Problem>> {
        self.published.remarks().problem.clone()
    }

    /// Of the entries that are served.
    pub fn warnings(&self) -> Arc<[Warning]> {
        Arc::clone(&self.published.remarks().warnings)
    }

    /// Where the entry is written, or the one whose template makes it; `None` when it is served no more.
    pub fn origin(&self, entry: &EntryId) -> Option<Origin> {
        let derived_from = self.current().get(entry).and_then(|entry| entry.derived_from.clone());
        self.published.remarks().origins.get(derived_from.as_ref().unwrap_or(entry)).cloned()
    }

    pub fn counts(&self) -> ReloadCounts {
        ReloadCounts {
            accepted: self.published.accepted.load(Ordering::Relaxed),
            refused: self.published.refused.load(Ordering::Relaxed),
        }
    }

    /// Reads the files now, as on SIGHUP, changed or not; waits until what they say is published.
    ///
    /// # Errors
    /// The fault that keeps the old entries in use, or `E0620` when the watching task has ended.
    pub async fn reload(&self) -> Outcome {
        let (sender, outcome) = oneshot::channel();
        self.asked.send(sender).await.map_err(|_| Arc::new(ended()))?;
        outcome.await.unwrap_or_else(|_| Err(Arc::new(ended())))
    }
}

enum Wake {
    Changed(Change),
    Asked(oneshot::Sender<Outcome>),
    Poll,
}

impl EntryFilesTask {
    /// Runs until every [`EntryFiles`] is dropped; may be dropped at any time itself.
    pub async fn run(mut self) {
        let mut poll = interval(self.poll);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let wake = tokio::select! {
                change = self.watch.changed() => Wake::Changed(change),
                asked = self.asked.recv() => match asked {
                    Some(asked) => Wake::Asked(asked),
                    None => return,
                },
                _ = poll.tick() => Wake::Poll,
            };
            self.apply(wake).await;
        }
    }

    async fn apply(&mut self, wake: Wake) {
        match wake {
            Wake::Changed(change) => {
                let change = self.settle(change).await;
                self.watch.arm();
                if change == Change::Likely || self.looks_changed().await {
                    self.reload().await.ok();
                }
            }
            Wake::Asked(answer) => {
                self.watch.arm();
                // Whoever asked may have gone away meanwhile.
                let _ = answer.send(self.reload().await);
            }
            Wake::Poll => {
                self.watch.arm();
                if self.looks_changed().await {
                    self.reload().await.ok();
                }
            }
        }
    }

    /// Waits for changes to pause; the weightiest counts.
    async fn settle(&mut self, mut change: Change) -> Change {
        let end = Instant::now() + PATIENCE;
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            match timeout(QUIET.min(left), self.watch.changed()).await {
                Ok(next) => change = change.max(next),
                Err(_) => break,
            }
        }
        change
    }

    async fn looks_changed(&self) -> bool {
        let files = self.files.clone();
        let now = tokio::task::spawn_blocking(move || Fingerprint::of(&files)).await;
        now.is_ok_and(|now| now != self.seen)
    }

    async fn reload(&mut self) -> Outcome {
        let (seen, loaded) = read(self.files.clone(), self.trust_domain.clone()).await;
        self.seen = seen;
        self.published.accept(loaded)
    }
}

type Read = Result<Reading, Problem>;

/// All files, read well.
struct Reading {
    index: EntryIndex,
    warnings: Arc<[Warning]>,
    origins: Arc<HashMap<EntryId, Origin>>,
}

/// Reads and files all entries, off the async threads: of many it takes seconds.
///
/// The fingerprint is of no later state than the entries: a change in between shows at the next look.
async fn read(files: Vec<PathBuf>, trust_domain: TrustDomain) -> (Fingerprint, Read) {
    let work = move || {
        let seen = Fingerprint::of(&files);
        let reading = |Loaded { entries, templates, origins, warnings }| Reading {
            index: EntryIndex::with_templates(entries, templates),
            warnings: warnings.into(),
            origins: Arc::new(origins),
        };
        (seen, load(&files, &trust_domain).map(reading))
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(read) => read,
        // The runtime is shutting down, or reading panicked: either way the old entries stay.
        Err(error) => (Fingerprint::default(), Err(ended().why(error.to_string()))),
    }
}

fn ended() -> Problem {
    Problem::new("E0620", "entry files are not read any more: the agent is stopping")
}

impl Published {
    fn accept(&self, read: Read) -> Outcome {
        match read {
            Ok(Reading { index, warnings, origins }) => {
                self.accepted.fetch_add(1, Ordering::Relaxed);
                let count = index.len();
                let recovered = {
                    let mut remarks = self.remarks();
                    remarks.warnings = warnings;
                    remarks.origins = origins;
                    remarks.problem.take().is_some()
                };
                let changed = self.index.send_if_modified(|current| {
                    let changed = **current != index;
                    if changed {
                        *current = Arc::new(index);
                    }
                    changed
                });
                if changed || recovered {
                    tracing::info!(entries = count, "entry files were read");
                }
                Ok(())
            }
            Err(problem) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                let problem = Arc::new(problem);
                let text = problem.to_string();
                let earlier = self.remarks().problem.replace(Arc::clone(&problem));
                // Files that stay bad in the same way are no news.
                if earlier.is_none_or(|earlier| earlier.to_string() != text) {
                    tracing::error!(
                        code = problem.code,
                        "entry files were refused, the old entries stay: {text}"
                    );
                }
                Err(problem)
            }
        }
    }

    fn remarks(&self) -> std::sync::MutexGuard<'_, Remarks> {
        // Every holder leaves it whole, so one that panicked does no harm.
        self.remarks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for EntryFilesTask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EntryFilesTask").field("files", &self.files).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
