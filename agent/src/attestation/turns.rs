//! Who may work now: so many at once, so many of one caller, and each caller so often.

mod line;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::oneshot,
    time::{Instant, sleep, timeout},
};

use self::line::Line;
use super::{attestor::Error, caller_key::CallerKey};
use crate::{rate::Rate, share::Share};

#[derive(Debug, Clone)]
pub(super) struct Bounds {
    pub(super) at_once: Share,
    pub(super) of_a_caller: usize,
    pub(super) queued: Share,
    /// How often one caller gets a turn.
    pub(super) rate: Option<Rate>,
    /// How long a turn is waited for.
    pub(super) patience: Duration,
}

/// Cheap to clone: all clones hand out the same turns.
#[derive(Debug, Clone)]
pub(super) struct Turns {
    patience: Duration,
    line: Arc<Mutex<Line>>,
}

/// Given back when it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    caller: CallerKey,
    turns: Turns,
}

impl Turns {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self { patience: bounds.patience, line: Arc::new(Mutex::new(Line::new(bounds))) }
    }

    /// Waits for a turn of `caller`: in the order in which they came, save for those whose caller may have no more now.
    ///
    /// # Errors
    /// [`Error::Busy`] when too many wait, [`Error::TooOften`] when its rate would have it wait too long, and
    /// [`Error::TimedOut`] when it has.
    pub(super) async fn take(&self, caller: CallerKey) -> Result<Turn, Error> {
        let began = Instant::now();
        let (place, mine, pause) = {
            let (tell, mine) = oneshot::channel();
            let (number, pause) = self.lock().join(&caller, tell, began.into_std())?;
            (Waiting { number, turns: self }, mine, pause)
        };
        if !pause.is_zero() {
            sleep(pause).await;
        }
        self.lock().is_due(place.number);
        self.hand_out();
        let turn = timeout(self.patience.saturating_sub(began.elapsed()), mine).await;
        match turn {
            Ok(Ok(turn)) => Ok(turn),
            Ok(Err(_)) | Err(_) => Err(Error::TimedOut(self.patience)),
        }
    }

    /// Turns that are taken, and how many wait for one.
    pub(super) fn counts(&self) -> (usize, usize) {
        self.lock().counts()
    }

    fn hand_out(&self) {
        loop {
            let Some((caller, tell)) = self.lock().next() else { return };
            // Whoever gave up meanwhile drops it, and it is handed out again.
            let _ = tell.send(Turn { caller, turns: self.clone() });
        }
    }

    // Nothing inside panics half-way.
    fn lock(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.turns.lock().give_back(&self.caller);
        self.turns.hand_out();
    }
}

/// A place in the line, left when this is dropped.
#[derive(Debug)]
struct Waiting<'a> {
    number: u64,
    turns: &'a Turns,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.turns.lock().leave(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::share::Full;

    fn turns(rate: Option<Rate>) -> Turns {
        Turns::new(Bounds {
            at_once: Share::new(2, 0.0),
            of_a_caller: 1,
            queued: Share::new(1, 0.0),
            rate,
            patience: Duration::from_secs(5),
        })
    }

    #[tokio::test(start_paused = true)]
    async fn one_more_than_may_wait_is_turned_away() {
        let turns = turns(None);
        let caller = CallerKey::Uid(1);
        let held = turns.take(caller.clone()).await.unwrap();
        let second = turns.take(caller.clone());
        tokio::pin!(second);
        assert!(timeout(Duration::from_millis(20), &mut second).await.is_err());
        assert_eq!(turns.counts(), (1, 1));
        assert!(matches!(turns.take(caller).await, Err(Error::Busy(Full::Total))));
        drop(held);
        let second = second.await.unwrap();
        assert_eq!(turns.counts(), (1, 0));
        drop(second);
        assert_eq!(turns.counts(), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_holds_all_of_its_turns_leaves_those_of_others() {
        let turns = turns(None);
        let _held = turns.take(CallerKey::Uid(1)).await.unwrap();
        assert!(timeout(Duration::from_millis(20), turns.take(CallerKey::Uid(1))).await.is_err());
        assert_eq!(turns.counts(), (1, 0), "who gave up does not wait");
        assert!(timeout(Duration::from_secs(5), turns.take(CallerKey::Uid(2))).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn beyond_its_rate_a_caller_waits_and_beyond_its_patience_it_is_turned_away() {
        let turns = turns(Some(Rate::new(1, 1)));
        let mut waited = Vec::new();
        for _ in 0..3 {
            let began = Instant::now();
            drop(turns.take(CallerKey::Uid(1)).await.unwrap());
            waited.push(began.elapsed().as_millis());
        }
        assert_eq!(waited[0], 0);
        assert!(waited[1..].iter().all(|wait| (990..=1_010).contains(wait)), "{waited:?}");
        let other = Instant::now();
        turns.take(CallerKey::Uid(2)).await.unwrap();
        assert!(other.elapsed() < Duration::from_millis(5), "another caller has a rate of its own");
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_that_does_not_come_in_time_is_not_waited_for() {
        let turns = turns(None);
        let _held = turns.take(CallerKey::Uid(1)).await.unwrap();
        assert!(matches!(turns.take(CallerKey::Uid(1)).await, Err(Error::TimedOut(_))));
        assert_eq!(turns.counts(), (1, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_whose_taker_has_gone_goes_to_the_next() {
        let turns = Turns::new(Bounds {
            at_once: Share::new(1, 0.0),
            of_a_caller: 1,
            queued: Share::new(9, 0.0),
            rate: None,
            patience: Duration::from_secs(5),
        });
        let held = turns.take(CallerKey::Uid(1)).await.unwrap();
        let mut gone = Box::pin(turns.take(CallerKey::Uid(2)));
        let mut next = Box::pin(turns.take(CallerKey::Uid(3)));
        for waits in [&mut gone, &mut next] {
            assert!(timeout(Duration::from_millis(1), waits).await.is_err());
        }
        // It is handed over, and nobody takes it.
        drop(held);
        drop(gone);
        next.await.unwrap();
        assert_eq!(turns.counts(), (0, 0));
    }
}
