//! Who may work now: so many at once, so many of one caller.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{attestor::Error, peer::CallerKey};

#[derive(Debug)]
pub(super) struct Turns {
    common: Arc<Semaphore>,
    of_a_caller: usize,
    by_caller: Mutex<HashMap<CallerKey, Arc<Semaphore>>>,
    queued: usize,
    waiting: AtomicUsize,
}

/// Given back when it is dropped.
#[derive(Debug)]
pub(super) struct Turn(#[expect(dead_code, reason = "held, never looked at")] [OwnedSemaphorePermit; 2]);

impl Turns {
    /// `at_once` in all and `of_a_caller` for each; when `queued` wait, one more is turned away.
    pub(super) fn new(at_once: usize, of_a_caller: usize, queued: usize) -> Self {
        let common = Arc::new(Semaphore::new(at_once));
        Self { common, of_a_caller, by_caller: Mutex::default(), queued, waiting: AtomicUsize::new(0) }
    }

    /// Waits for a turn of `caller`.
    ///
    /// # Errors
    /// [`Error::Busy`] when too many wait.
    pub(super) async fn take(&self, caller: CallerKey) -> Result<Turn, Error> {
        let _waiting = Waiting::join(&self.waiting, self.queued)?;
        let own = {
            let mut callers = self.by_caller.lock().unwrap_or_else(PoisonError::into_inner);
            callers.retain(|_, turns| Arc::strong_count(turns) > 1);
            let turns = callers.entry(caller);
            Arc::clone(turns.or_insert_with(|| Arc::new(Semaphore::new(self.of_a_caller))))
        };
        let own = own.acquire_owned().await.map_err(|_| Error::Busy)?;
        let common = Arc::clone(&self.common).acquire_owned().await.map_err(|_| Error::Busy)?;
        Ok(Turn([own, common]))
    }
}

/// Counts who waits for a turn.
#[derive(Debug)]
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn join(waiting: &'a AtomicUsize, limit: usize) -> Result<Self, Error> {
        let before = waiting.fetch_add(1, Ordering::Relaxed);
        let place = Self(waiting);
        if before < limit { Ok(place) } else { Err(Error::Busy) }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn one_more_than_may_wait_is_turned_away() {
        let turns = Turns::new(2, 1, 1);
        let caller = CallerKey::Uid(1);
        let held = turns.take(caller.clone()).await.unwrap();
        let second = turns.take(caller.clone());
        tokio::pin!(second);
        assert!(timeout(Duration::from_millis(20), &mut second).await.is_err());
        assert!(matches!(turns.take(caller).await, Err(Error::Busy)));
        drop(held);
        assert!(second.await.is_ok());
    }

    #[tokio::test]
    async fn a_caller_that_holds_all_of_its_turns_leaves_those_of_others() {
        let turns = Turns::new(2, 1, 8);
        let _held = turns.take(CallerKey::Uid(1)).await.unwrap();
        assert!(timeout(Duration::from_millis(20), turns.take(CallerKey::Uid(1))).await.is_err());
        assert!(timeout(Duration::from_secs(5), turns.take(CallerKey::Uid(2))).await.is_ok());
    }
}
