//! One run of one process: what was learned of it once, for all of its connections.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::{OnceCell, watch};

use super::{
    caller_key::CallerKey,
    draft::Cost,
    learner::{OF_BIRTH, OF_EXECUTABLE, SLOW},
    look::{About, Changes, Look},
    peer::{Grade, Peer},
    selector::{Selector, SelectorSet},
    standing::Standing,
    witness::Subject,
};
use crate::{
    kernel::{Sighting, Task},
    process::ProcessId,
};

/// One run of one process as its connections found it: a process that changes between two connections has two.
#[derive(Debug)]
pub struct Run {
    pub(super) about: About,
    /// Holds below grade kernel that the process is still the same; no other connection shares the run there.
    peer: Option<Weak<Peer>>,
    /// Whom limits count.
    pub(super) caller: CallerKey,
    /// Held by the one who judges it: when the last look began, if it found nothing new. Time since boot.
    pub(super) judging: tokio::sync::Mutex<Option<Duration>>,
    /// Somebody waits to judge it, and has not looked yet.
    summoned: AtomicBool,
    /// Set once the local facts are learned.
    pub(super) attested: OnceCell<()>,
    standing: watch::Sender<Arc<Standing>>,
    /// Types of witnesses that have not been heard yet.
    unheard: watch::Sender<Vec<&'static str>>,
    facts: Mutex<Facts>,
}

#[derive(Debug, Default)]
struct Facts {
    /// Of the kernel, procfs and the file system, when it connected.
    local: SelectorSet,
    /// By type of the witness; one that is silent leaves a gap.
    testimony: BTreeMap<&'static str, SelectorSet>,
    costs: Vec<Cost>,
    changed: Option<Changed>,
    gone: bool,
}

/// The newest look, when it differs from the first one.
#[derive(Debug)]
struct Changed {
    look: Look,
    set: Arc<SelectorSet>,
    /// Everything was learned that can be.
    whole: bool,
}

impl Facts {
    /// In the place of what the same attestor took before.
    fn charge(&mut self, cost: Cost) {
        self.costs.retain(|before| before.attestor != cost.attestor);
        self.costs.push(cost);
    }
}

impl Run {
    pub(super) fn new(peer: &Arc<Peer>, about: About) -> Self {
        Self {
            peer: (about.grade < Grade::Kernel).then(|| Arc::downgrade(peer)),
            caller: peer.caller_key(),
            about,
            judging: tokio::sync::Mutex::default(),
            summoned: AtomicBool::new(false),
            attested: OnceCell::new(),
            standing: watch::Sender::default(),
            unheard: watch::Sender::default(),
            facts: Mutex::default(),
        }
    }

    pub fn grade(&self) -> Grade {
        self.about.grade
    }

    /// What its connections may be told, and every change of it.
    pub fn standing(&self) -> watch::Receiver<Arc<Standing>> {
        self.standing.subscribe()
    }

    /// Types of witnesses that are still being asked for the first time: `docker`, `systemd`.
    pub fn unheard(&self) -> watch::Receiver<Vec<&'static str>> {
        self.unheard.subscribe()
    }

    /// What each attestor took the last time.
    pub fn costs(&self) -> Vec<Cost> {
        self.facts().costs.clone()
    }

    pub fn is_gone(&self) -> bool {
        self.facts().gone
    }

    /// Whether a judge is to be sent for: not while one waits who has not looked yet.
    pub(super) fn summon(&self) -> bool {
        !self.summoned.swap(true, Ordering::AcqRel)
    }

    /// When the last look began, unless it found something or somebody has reason to look again. Time since boot.
    pub(super) fn found_unchanged_at(&self) -> Option<Duration> {
        let found = *self.judging.try_lock().ok()?;
        found.filter(|_| !self.summoned.load(Ordering::Acquire))
    }

    /// A judge begins to look.
    pub(super) fn looked_at(&self) {
        self.summoned.store(false, Ordering::Release);
    }

    /// The process, where the kernel's record names it.
    pub(super) fn process(&self) -> Option<ProcessId> {
        self.about.look.task().map(ProcessId::of)
    }

    pub(super) fn exec_count(&self) -> Option<u64> {
        Some(self.about.look.task()?.exec_count)
    }

    /// What a witness is asked about.
    pub(super) fn subject(&self) -> Subject {
        let peer = self.peer.as_ref().and_then(Weak::upgrade);
        self.about.subject(self.about.pidfd().or_else(|| peer?.pidfd()))
    }

    /// Whether a record of a connection is of this run, unchanged.
    pub(super) fn is_of(&self, record: &Sighting) -> bool {
        match &self.about.look {
            Look::Kernel(first, _) => {
                record.task.unchanged_since(&first.task)
                    && (record.executable, record.launcher) == (first.executable, first.launcher)
                    // More groups than a record holds are not compared.
                    && record.task.supplementary_groups().is_some()
            }
            Look::Procfs(_) => false,
        }
    }

    /// Whether the process that connected has certainly ended, as far as its connection can tell.
    pub(super) fn has_ended(&self) -> bool {
        let peer = self.peer.as_ref().and_then(Weak::upgrade);
        peer.is_some_and(|peer| peer.check_alive().is_err())
    }

    /// Takes what was learned about the first look, and who will be asked.
    pub(super) fn learned(&self, local: SelectorSet, costs: Vec<Cost>, asked: &[&'static str]) {
        let mut facts = self.facts();
        facts.local = local;
        facts.costs = costs;
        for kind in asked {
            let mut silence = SelectorSet::default();
            silence.mark_gap(Selector::new(*kind, ""));
            facts.testimony.insert(kind, silence);
        }
        self.publish(&facts);
        drop(facts);
        self.unheard.send_replace(asked.to_vec());
    }

    /// Takes local facts that came late: those that were gaps and are none any more.
    pub(super) fn learned_late(&self, late: &SelectorSet, costs: Vec<Cost>) {
        let mut facts = self.facts();
        for gap in SLOW.map(|(kind, field)| Selector::new(kind, field)) {
            if !late.gaps().any(|other| *other == gap) {
                let there =
                    late.part(|selector| selector.kind() == gap.kind() && selector.field() == gap.value());
                facts.local.settle(&gap, there.iter().cloned());
            }
        }
        costs.into_iter().for_each(|cost| facts.charge(cost));
        self.publish(&facts);
    }

    /// Takes what a witness said; `None` when it was silent.
    pub(super) fn heard(&self, cost: Cost, said: Option<SelectorSet>) {
        let kind = cost.attestor;
        let mut facts = self.facts();
        facts.charge(cost);
        if let Some(said) = said {
            facts.testimony.insert(kind, said);
            self.publish(&facts);
        }
        drop(facts);
        self.unheard.send_if_modified(|unheard| {
            let before = unheard.len();
            unheard.retain(|waiting| *waiting != kind);
            unheard.len() != before
        });
    }

    /// What has changed between the newest look that is known and this one.
    pub(super) fn news(&self, look: &Look) -> Changes {
        let facts = self.facts();
        // One of which not all was learned is to be learned again.
        let newest = facts.changed.as_ref().filter(|changed| changed.whole);
        look.changes_since(newest.map_or(&self.about.look, |changed| &changed.look))
    }

    /// The process at the newest look, by the kernel.
    pub(super) fn newest_task(&self) -> Option<Task> {
        let facts = self.facts();
        facts.changed.as_ref().map_or(&self.about.look, |changed| &changed.look).task().copied()
    }

    /// Whether nothing is left to be learned of the newest look.
    pub(super) fn is_settled(&self) -> bool {
        self.facts().changed.as_ref().is_none_or(|changed| changed.whole)
    }

    /// What a later look need not learn again, since it depends on nothing that has changed.
    pub(super) fn carried_over(&self, changes: Changes, later: &About) -> SelectorSet {
        let facts = self.facts();
        let mut carried = facts.local.part(|selector| is_one_of(&OF_BIRTH, selector));
        if !changes.exec && !changes.executable {
            carried.extend(&facts.local.part(is_of_executable));
        }
        let same_container = later.containment == self.about.containment && !changes.confinement;
        for (kind, testimony) in &facts.testimony {
            if !changes.cgroup || *kind == "docker" && same_container {
                carried.extend(testimony);
            } else {
                carried.mark_gap(Selector::new(*kind, ""));
            }
        }
        carried
    }

    /// The process is no longer what it was when it connected. `whole`: `set` is all that can be learned of it now.
    pub(super) fn changed(&self, look: Look, set: SelectorSet, whole: bool) {
        let mut facts = self.facts();
        facts.changed = Some(Changed { look, set: Arc::new(set), whole });
        self.publish(&facts);
    }

    /// The process is what it was when it connected, again.
    pub(super) fn is_as_it_was(&self) {
        let mut facts = self.facts();
        facts.changed = None;
        self.publish(&facts);
    }

    /// The process has ended.
    pub(super) fn end(&self) {
        let mut facts = self.facts();
        facts.gone = true;
        self.publish(&facts);
        drop(facts);
        self.unheard.send_replace(Vec::new());
    }

    fn publish(&self, facts: &Facts) {
        let new = if facts.gone {
            Standing { gone: true, ..Standing::default() }
        } else {
            let mut known = facts.local.clone();
            facts.testimony.values().for_each(|testimony| known.extend(testimony));
            match &facts.changed {
                None => Standing::new(Arc::new(known)),
                Some(Changed { set, .. }) => Standing {
                    selectors: Arc::new(known.narrowed_to(set)),
                    now: Some(Arc::clone(set)),
                    gone: false,
                },
            }
        };
        self.standing.send_if_modified(|standing| {
            let differs = **standing != new;
            if differs {
                *standing = Arc::new(new);
            }
            differs
        });
    }

    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a selector speaks of the file that the process executes.
pub(super) fn is_of_executable(selector: &Selector) -> bool {
    is_one_of(&OF_EXECUTABLE, selector)
}

fn is_one_of(fields: &[(&str, &str)], selector: &Selector) -> bool {
    fields.contains(&(selector.kind(), selector.field()))
}
