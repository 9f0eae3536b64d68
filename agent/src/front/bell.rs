//! Wakes a connection's task, except from inside of it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Wake, Waker},
};

use futures_util::task::AtomicWaker;
use tokio::task::yield_now;

use crate::{
    registration::{Entries, EntryId, RegistrationEntry, without},
    svid::SvidCache,
};

/// Connections woken at once. More of them go through the cache twice, fewer wait for the loop too often.
const CHUNK: usize = 64;

/// The waker that a connection's task hands to everything it polls. What rings while the task runs costs a flag and no
/// further turn of the task: it looks at the flag before it rests.
#[derive(Debug, Default)]
pub(super) struct Bell {
    task: AtomicWaker,
    rung: AtomicBool,
    /// The task is running, so it will look at `rung` again.
    inside: AtomicBool,
}

/// The bells of all connections of one thread.
#[derive(Debug, Default)]
pub(super) struct Bells {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The number of the next one.
    next: u64,
    bells: BTreeMap<u64, Arc<Bell>>,
    /// Who is rung for an SVID of an entry.
    by_entry: HashMap<EntryId, BTreeSet<u64>>,
}

/// One connection's place among them; given back on drop.
#[derive(Debug)]
pub(super) struct Hung<'a> {
    bells: &'a Bells,
    number: u64,
    /// What its connection matches: the same until it matches something else. `None` before that is known.
    matched: Option<Entries>,
    /// For whose SVIDs it is rung: some of `matched`.
    rings_for: Entries,
}

impl Bell {
    /// Begins a turn of the task.
    pub(super) fn enter(&self, cx: &Context<'_>) {
        self.task.register(cx.waker());
        self.inside.store(true, Ordering::SeqCst);
    }

    /// Takes note that it was rung; what is looked at from now on holds whatever it was rung for.
    pub(super) fn answer(&self) -> bool {
        self.rung.swap(false, Ordering::SeqCst)
    }

    /// Ends a turn. Returns whether it was rung meanwhile: then the task must go on, and has entered again.
    pub(super) fn leave(&self) -> bool {
        self.inside.store(false, Ordering::SeqCst);
        // Whoever rings from here on wakes the task.
        let rung = self.rung.load(Ordering::SeqCst);
        if rung {
            self.inside.store(true, Ordering::SeqCst);
        }
        rung
    }

    /// Ends a turn whether it was rung or not, for a task that has another one.
    pub(super) fn rest(&self) {
        self.inside.store(false, Ordering::SeqCst);
    }

    pub(super) fn ring(&self) {
        self.rung.store(true, Ordering::SeqCst);
        if !self.inside.load(Ordering::SeqCst) {
            self.task.wake();
        }
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
    }
}

impl Bells {
    /// A new bell, its waker, and its place.
    pub(super) fn hang(&self) -> (Arc<Bell>, Waker, Hung<'_>) {
        let bell = Arc::new(Bell::default());
        let number = self.lock().hang(&bell);
        (
            Arc::clone(&bell),
            Waker::from(bell),
            Hung { bells: self, number, matched: None, rings_for: Entries::default() },
        )
    }

    /// Rings after each publication for those whom it concerns, some at a time: these are served before the next are
    /// woken. Never returns.
    pub(super) async fn ring_after_publications(&self, svids: &SvidCache) {
        let mut published = svids.published();
        let mut seen = svids.snapshot().generation;
        while published.changed().await.is_ok() {
            published.borrow_and_update();
            let snapshot = svids.snapshot();
            match &snapshot.change.svids {
                // It came between the last word of a publication and the look at it.
                _ if snapshot.generation == seen => {}
                Some(changed) if snapshot.change.since == seen => {
                    self.ring_in_turns(self.served(changed)).await;
                }
                _ => self.ring_in_turns(self.all()).await,
            }
            seen = snapshot.generation;
        }
    }

    /// In the order in which they were hung.
    fn served(&self, entries: &[EntryId]) -> Vec<u64> {
        let state = self.lock();
        let of = |entry| state.by_entry.get(entry).into_iter().flatten().copied();
        match entries {
            [only] => of(only).collect(),
            _ => entries.iter().flat_map(of).collect::<BTreeSet<_>>().into_iter().collect(),
        }
    }

    fn all(&self) -> Vec<u64> {
        self.lock().bells.keys().copied().collect()
    }

    async fn ring_in_turns(&self, numbers: Vec<u64>) {
        for chunk in numbers.chunks(CHUNK) {
            {
                let state = self.lock();
                chunk.iter().filter_map(|number| state.bells.get(number)).for_each(|bell| bell.ring());
            }
            yield_now().await;
        }
    }

    pub(super) fn ring_all(&self) {
        self.lock().bells.values().for_each(|bell| bell.ring());
    }

    pub(super) fn are_gone(&self) -> bool {
        self.lock().bells.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hung<'_> {
    /// Whether `matched` was what it was hung for last.
    pub(super) fn is_for(&self, matched: &Entries) -> bool {
        self.matched.as_ref().is_some_and(|before| Arc::ptr_eq(before, matched))
    }

    /// From now on its bell is rung for SVIDs of those of `matched` that bear one of `names`, all of them when that is
    /// `None`, and for no others.
    pub(super) fn serve(&mut self, matched: &Entries, names: Option<&HashSet<&str>>) {
        let rings_for = match names {
            None => Arc::clone(matched),
            Some(names) => {
                let bears_one = |entry: &&Arc<RegistrationEntry>| names.contains(entry.spiffe_id.as_str());
                matched.iter().filter(bears_one).cloned().collect()
            }
        };
        self.matched = Some(Arc::clone(matched));
        let before = std::mem::replace(&mut self.rings_for, rings_for);
        if Arc::ptr_eq(&before, &self.rings_for) {
            return;
        }
        let mut state = self.bells.lock();
        state.forget(self.number, without(&before, &self.rings_for));
        for entry in without(&self.rings_for, &before) {
            state.by_entry.entry(entry.id.clone()).or_default().insert(self.number);
        }
    }
}

impl State {
    fn hang(&mut self, bell: &Arc<Bell>) -> u64 {
        let number = self.next;
        self.next += 1;
        self.bells.insert(number, Arc::clone(bell));
        number
    }

    fn forget<'a>(&mut self, number: u64, entries: impl Iterator<Item = &'a Arc<RegistrationEntry>>) {
        for entry in entries {
            if let Some(served) = self.by_entry.get_mut(&entry.id) {
                served.remove(&number);
                if served.is_empty() {
                    self.by_entry.remove(&entry.id);
                }
            }
        }
    }
}

impl Drop for Hung<'_> {
    fn drop(&mut self) {
        let mut state = self.bells.lock();
        state.bells.remove(&self.number);
        state.forget(self.number, self.rings_for.iter());
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, sync::atomic::AtomicUsize, task::Poll};

    use super::*;
    use crate::svid::tests::entry;

    #[test]
    fn a_ring_from_inside_asks_for_another_look_and_wakes_nobody() {
        let woken = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&woken));
        let bell = Bell::default();
        bell.enter(&Context::from_waker(&waker));
        bell.ring();
        assert!(bell.leave(), "it was rung");
        assert!(bell.answer() && !bell.leave());
        assert_eq!(woken.0.load(Ordering::Relaxed), 0);
        bell.ring();
        bell.ring();
        assert_eq!(woken.0.load(Ordering::Relaxed), 1, "once, until the task runs");
    }

    #[tokio::test]
    async fn every_bell_is_rung_after_a_publication_and_the_first_are_served_before_the_last_are_rung() {
        let bells = Arc::new(Bells::default());
        let served = Arc::new(AtomicUsize::new(0));
        let connections = 3 * CHUNK + 1;
        let mut tasks = Vec::new();
        for _ in 0..connections {
            let (bells, served) = (Arc::clone(&bells), Arc::clone(&served));
            tasks.push(tokio::spawn(async move {
                let (bell, _, _hung) = bells.hang();
                poll_fn(|cx| {
                    bell.enter(cx);
                    let rung = bell.answer();
                    bell.leave();
                    if rung { Poll::Ready(()) } else { Poll::Pending }
                })
                .await;
                served.fetch_add(1, Ordering::Relaxed)
            }));
        }
        while bells.all().len() < connections {
            yield_now().await;
        }
        bells.ring_in_turns(bells.all()).await;
        assert!(served.load(Ordering::Relaxed) >= 2 * CHUNK, "they are served while others are rung");
        for (number, task) in tasks.into_iter().enumerate() {
            assert_eq!(task.await.unwrap(), number, "in their order");
        }
        assert!(bells.are_gone());
    }

    #[test]
    fn a_bell_is_rung_for_the_entries_that_it_hangs_for() {
        let entries = ["a", "b"].map(|id| Arc::new(entry(id, 1)));
        let (both, last) = (Entries::from(&entries[..]), Entries::from(&entries[1..]));
        let bells = Bells::default();
        let (_, _, mut first) = bells.hang();
        let (_, _, mut second) = bells.hang();
        first.serve(&both, None);
        second.serve(&last, None);
        let ids: Vec<_> = entries.iter().map(|entry| entry.id.clone()).collect();
        assert_eq!(bells.served(&ids), [first.number, second.number]);
        assert_eq!(bells.served(&ids[..1]), [first.number]);
        assert!(first.is_for(&both) && !first.is_for(&last));
        let of_last = HashSet::from([entries[1].spiffe_id.as_str()]);
        first.serve(&both, Some(&of_last));
        assert!(bells.served(&ids[..1]).is_empty());
        assert_eq!(bells.served(&ids[1..]), [first.number, second.number]);
        first.serve(&both, None);
        assert_eq!(bells.served(&ids[..1]), [first.number]);
        first.serve(&last, None);
        assert!(bells.served(&ids[..1]).is_empty());
        drop((first, second));
        assert!(bells.lock().by_entry.is_empty());
    }

    #[derive(Debug, Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}
