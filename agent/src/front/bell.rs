//! Wakes a connection's task, except from inside of it.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Wake, Waker},
};

use futures_util::task::AtomicWaker;
use tokio::{sync::watch, task::yield_now};

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
    bells: Mutex<BTreeMap<u64, Arc<Bell>>>,
    next: AtomicU64,
}

/// One connection's place among them; given back on drop.
#[derive(Debug)]
pub(super) struct Hung<'a> {
    bells: &'a Bells,
    number: u64,
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
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.lock().insert(number, Arc::clone(&bell));
        (Arc::clone(&bell), Waker::from(bell), Hung { bells: self, number })
    }

    /// Rings them all after each publication, some at a time: those are served before the next are woken. Ends with
    /// the sender.
    pub(super) async fn ring_after(&self, mut published: watch::Receiver<u64>) {
        while published.changed().await.is_ok() {
            self.ring_in_turns().await;
        }
    }

    async fn ring_in_turns(&self) {
        let mut after = Bound::Unbounded;
        loop {
            let mut rung = 0;
            for (number, bell) in self.lock().range((after, Bound::Unbounded)).take(CHUNK) {
                bell.ring();
                after = Bound::Excluded(*number);
                rung += 1;
            }
            if rung < CHUNK {
                return;
            }
            yield_now().await;
        }
    }

    pub(super) fn ring_all(&self) {
        self.lock().values().for_each(|bell| bell.ring());
    }

    pub(super) fn are_gone(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Bell>>> {
        self.bells.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Hung<'_> {
    fn drop(&mut self) {
        self.bells.lock().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, sync::atomic::AtomicUsize, task::Poll};

    use tokio::sync::watch;

    use super::*;

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
        yield_now().await;
        let (publish, published) = watch::channel(0);
        let ringing = Arc::clone(&bells);
        let ringing = tokio::spawn(async move { ringing.ring_after(published).await });
        yield_now().await;
        publish.send_replace(1);
        for (number, task) in tasks.into_iter().enumerate() {
            assert_eq!(task.await.unwrap(), number, "in their order");
        }
        assert!(bells.are_gone());
        drop(publish);
        ringing.await.unwrap();
    }

    #[derive(Debug, Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}
