//! What the kernel, procfs and the file system say of one process. Reads files, so it runs off the async threads.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{sync::watch, time::timeout};

use super::{
    draft::Draft,
    files::{Executable, Hashes, PathRule},
    kernel_facts::{believes_executable, file_facts, kernel_facts},
    look::{About, Changes, Look},
    names::Names,
    selector::{Selector, SelectorSet},
    user_namespace,
};
use crate::kernel::{self, Capture, Namespaces, Sighting};

/// Learns local facts: of `unix` and of `kernel`.
#[derive(Debug)]
pub(super) struct Learner {
    pub(super) path: PathRule,
    pub(super) hash_size_limit: u64,
    pub(super) capture: Option<Arc<Capture>>,
    /// The namespaces that count as the host's own.
    pub(super) host: Option<Namespaces>,
    pub(super) names: Names,
    pub(super) hashes: Hashes,
    pub(super) wanted: watch::Sender<Wanted>,
}

/// Facts that cost more than others, and that are learned only while some entry names them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wanted {
    /// `unix:sha256`.
    pub hash: bool,
    /// `kernel:parent_exe`.
    pub parent: bool,
}

impl Wanted {
    const ALL: Self = Self { hash: true, parent: true };

    /// Whether this is more than `learned`.
    fn exceeds(self, learned: Self) -> bool {
        self.hash && !learned.hash || self.parent && !learned.parent
    }

    fn and(self, other: Self) -> Self {
        Self { hash: self.hash || other.hash, parent: self.parent || other.parent }
    }

    /// Whether a gap is none that anybody would miss; that another than root named a cgroup is no failure.
    pub(super) fn excuses(self, gap: &Selector) -> bool {
        !self.hash && (gap.kind(), gap.value()) == ("unix", "sha256")
            || !self.parent && (gap.kind(), gap.value()) == ("kernel", "parent_exe")
            || (gap.kind(), gap.value()) == ("kernel", "cgroup_name")
    }
}

/// How often a task that waits for a wish looks whether its run is still held.
const STILL_HELD: Duration = Duration::from_secs(30);

/// Facts that may take long, or never come: each is a gap until it is there.
pub(super) const SLOW: [(&str, &str); 7] = [
    ("unix", "user"),
    ("unix", "group"),
    ("unix", "supplementary_group"),
    ("unix", "path"),
    ("unix", "sha256"),
    ("kernel", "fsverity"),
    ("kernel", "parent_exe"),
];
/// Those about the file that the process executes.
pub(super) const OF_EXECUTABLE: [(&str, &str); 3] =
    [("unix", "path"), ("unix", "sha256"), ("kernel", "fsverity")];
/// That about its making, which nothing changes.
pub(super) const OF_BIRTH: [(&str, &str); 1] = [("kernel", "parent_exe")];
const GONE: &str = "the process is no longer what it was";

impl Learner {
    pub(super) fn draft() -> Draft {
        Draft::with_gaps(SLOW.map(|(kind, field)| Selector::new(kind, field)))
    }

    /// For a process whose facts of files are known.
    pub(super) fn draft_without_files() -> Draft {
        let of_names =
            SLOW.into_iter().filter(|slow| !OF_EXECUTABLE.contains(slow) && !OF_BIRTH.contains(slow));
        Draft::with_gaps(of_names.map(|(kind, field)| Selector::new(kind, field)))
    }

    /// Waits until more is wanted than `learned`, and returns all that is. `None` when that can never be, or once `held`
    /// says that nobody waits for it any more.
    pub(super) async fn more_wanted(&self, learned: Wanted, held: impl Fn() -> bool) -> Option<Wanted> {
        let mut wanted = self.wanted.subscribe();
        while learned != Wanted::ALL && held() {
            if let Ok(more) = timeout(STILL_HELD, wanted.wait_for(|wanted| wanted.exceeds(learned))).await {
                return more.ok().map(|more| more.and(learned));
            }
        }
        None
    }

    /// Everything, the quick facts first.
    pub(super) fn learn(&self, about: &About, draft: &Draft) {
        self.learn_quick(about, draft);
        self.learn_executable(about, draft);
    }

    /// What needs no look at the executable.
    pub(super) fn learn_quick(&self, about: &About, draft: &Draft) {
        draft.charge("kernel", || {
            draft.edit(|set| match &about.look {
                Look::Kernel(seen, _) => {
                    let (cgroup, host) = (about.cgroup.as_deref(), self.host.as_ref());
                    kernel_facts(seen, cgroup, &about.containment, host, kernel::only_root_adds_to, set);
                    None
                }
                Look::Procfs(_) => {
                    set.mark_gap(Selector::new("kernel", ""));
                    Some(format!("evidence of grade {} says nothing of it", about.grade))
                }
            })
        });
        draft.charge("unix", || {
            draft.edit(|set| {
                set.insert(unix(format!("uid:{}", about.uid)));
                set.insert(unix(format!("gid:{}", about.gid)));
            });
            let groups = self.groups(about);
            draft.edit(|set| match &groups {
                Some(groups) => groups.iter().for_each(|gid| {
                    set.insert(unix(format!("supplementary_gid:{gid}")));
                }),
                None => set.mark_gap(unix("supplementary_gid")),
            });
            self.learn_names(about, groups.as_deref(), draft);
            groups.is_none().then(|| GONE.to_owned())
        });
    }

    fn learn_names(&self, about: &About, groups: Option<&[u32]>, draft: &Draft) {
        let settle = |field: &str, names: Vec<String>| {
            let selectors = names.into_iter().map(|name| unix(format!("{field}:{name}")));
            draft.edit(|set| set.settle(&unix(field), selectors));
        };
        let now = Instant::now();
        settle("user", self.names.user(about.uid, now).into_iter().collect());
        settle("group", self.names.group(about.gid, now).into_iter().collect());
        if let Some(groups) = groups {
            settle(
                "supplementary_group",
                groups.iter().filter_map(|gid| self.names.group(*gid, now)).collect(),
            );
        }
    }

    /// Supplementary groups as in the look; where there are more than it holds, those of procfs, if nothing has changed since.
    fn groups(&self, about: &About) -> Option<Vec<u32>> {
        match &about.look {
            Look::Procfs(seen) => Some(seen.status.groups.clone()),
            Look::Kernel(seen, many) => match seen.task.supplementary_groups() {
                Some(groups) => Some(groups.to_vec()),
                None => {
                    let groups = many.clone()?;
                    let changes = self.changes(about)?;
                    (!changes.exec && !changes.credentials).then_some(groups)
                }
            },
        }
    }

    /// What files tell: the path, the digests and the maker of the executable, if it is the file of the look.
    pub(super) fn learn_executable(&self, about: &About, draft: &Draft) {
        let mut executable = None;
        draft.charge("unix:path", || {
            executable = self.executable(about);
            let opened = executable.as_ref()?;
            let Some(path) = opened.path(self.path) else {
                return Some("the agent finds another file at the path of the executable".to_owned());
            };
            draft.edit(|set| set.settle(&unix("path"), [unix(format!("path:{path}"))]));
            None
        });
        if let (Look::Kernel(seen, _), Some(capture)) = (&about.look, &self.capture) {
            draft.charge("kernel:files", || {
                let mut said = SelectorSet::default();
                let parent = self.wanted.borrow().parent;
                file_facts(seen, executable.as_ref(), capture, parent, &mut said);
                for field in ["fsverity", "parent_exe"] {
                    let gap = Selector::new("kernel", field);
                    if !said.gaps().any(|other| *other == gap) {
                        let found = said.iter().filter(|selector| selector.field() == field).cloned();
                        draft.edit(|set| set.settle(&gap, found));
                    }
                }
                None
            });
        }
        let Some(executable) = executable.filter(|_| self.wanted.borrow().hash) else { return };
        draft.charge("unix:sha256", || match self.hashes.sha256(&executable, self.hash_size_limit) {
            Ok(hash) => {
                draft.edit(|set| set.settle(&unix("sha256"), [unix(format!("sha256:{hash}"))]));
                None
            }
            Err(error) => {
                tracing::warn!(%error, "executable has no unix:sha256 (W0411)");
                Some(error.to_string())
            }
        });
    }

    fn executable(&self, about: &About) -> Option<Executable> {
        let opened = Executable::of(about.pid).ok()?;
        match &about.look {
            Look::Kernel(seen, _) => {
                // The exec counter does not tell of a file that was put in the place of the executable.
                let same_file = seen.task.exe.is_some_and(|recorded| opened.is(&recorded));
                let believed = same_file && self.believes(seen);
                // Afterwards: who has left by now may have chosen the file.
                let changes = self.changes(about).filter(|_| believed)?;
                (!changes.exec && !changes.executable).then_some(opened)
            }
            Look::Procfs(_) => user_namespace::is_ours(about.pid).then_some(opened),
        }
    }

    fn believes(&self, seen: &Sighting) -> bool {
        believes_executable(seen, self.host.as_ref())
    }

    /// What has changed since the look; `None` when the process is gone.
    fn changes(&self, about: &About) -> Option<Changes> {
        Some(self.look(about)?.changes_since(&about.look))
    }

    /// Looks again at the process of an earlier look; `None` when it is gone.
    pub(super) fn look(&self, about: &About) -> Option<Look> {
        match &about.look {
            Look::Kernel(before, _) => {
                let now = self.capture.as_ref()?.inspect(about.pid).ok().flatten()?;
                let same_run =
                    now.task.pid_ino == before.task.pid_ino && now.task.start_time == before.task.start_time;
                same_run.then(|| Look::by_kernel(now))
            }
            // That it is the same run, its pidfd or its start time says.
            Look::Procfs(_) => Look::by_procfs(about.pid),
        }
    }
}

fn unix(value: impl Into<Box<str>>) -> Selector {
    Selector::new("unix", value)
}
