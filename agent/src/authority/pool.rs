//! Keys made ahead of the SVIDs that will have them, so that a rotation of everything only signs.

mod pace;

use std::{
    collections::VecDeque,
    fmt, iter,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use prometheus_client::metrics::{counter::Counter, family::Family};
use tokio::{
    sync::{Notify, watch},
    task::spawn_blocking,
    time::sleep,
};

use super::key::{KeyError, KeyPair, KeyType};
use pace::{Batch, Pace, Step};

/// Pause after keys could not be made.
const RETRY: Duration = Duration::from_secs(1);

/// Keys of one type, each handed out once, never written anywhere and wiped with the pool. A pool lives as long as the
/// agent: another key type is another configuration, which is read at the next start.
///
/// It holds as many keys as SVIDs are said to be in use, within bounds, and is filled by [`Self::fill`].
pub struct KeyPool {
    key_type: KeyType,
    limit: usize,
    store: Mutex<Store>,
    /// More keys may be wanted.
    wanted: Notify,
    ready: watch::Sender<usize>,
    pub metrics: KeyMetrics,
}

struct Store {
    keys: VecDeque<KeyPair>,
    target: usize,
    pace: Pace,
}

#[derive(Debug, Default)]
pub struct KeyMetrics {
    pub made_ahead: Counter,
    /// Whether a key came from the pool or was made on the spot.
    pub taken: Family<[(&'static str, &'static str); 1], Counter>,
    /// Times that somebody took the last one.
    pub emptied: Counter,
}

impl KeyPool {
    /// An empty pool for at most `limit` keys of `key_type`.
    pub fn new(key_type: KeyType, limit: usize) -> Self {
        let makers = std::thread::available_parallelism().map_or(1, |cores| cores.get() / 2);
        let pace = Pace::new(key_type, makers);
        let store = Store { keys: VecDeque::new(), target: pace.least().min(limit), pace };
        let ready = if key_type.is_elliptic() { usize::MAX } else { 0 };
        Self {
            key_type,
            limit,
            store: Mutex::new(store),
            wanted: Notify::new(),
            ready: watch::Sender::new(ready),
            metrics: KeyMetrics::default(),
        }
    }

    /// A key that nobody had before. Does not wait: where the pool is empty an EC key is made on the spot.
    ///
    /// # Errors
    /// [`KeyError::NoneReady`] when the pool is empty and a key takes too long to make, [`KeyError::Random`].
    pub fn take(&self, now: Instant) -> Result<KeyPair, KeyError> {
        let key = {
            let mut store = self.store();
            store.pace.taken(now);
            let was_full = store.keys.len() >= store.target;
            let key = store.keys.pop_front();
            if key.is_some() && store.keys.is_empty() {
                self.metrics.emptied.inc();
            }
            if was_full && store.keys.len() < store.target {
                // Until it is full again, filling needs no reminder.
                self.wanted.notify_one();
            }
            self.tell(&store);
            key
        };
        let source = if key.is_some() { "pool" } else { "spot" };
        let key = match key {
            Some(key) => key,
            None if self.key_type.is_elliptic() => KeyPair::generate(self.key_type)?,
            None => return Err(KeyError::NoneReady),
        };
        self.metrics.taken.get_or_create(&[("from", source)]).inc();
        Ok(key)
    }

    /// `svids` SVIDs are in use, and may all be replaced at once.
    pub fn expect(&self, svids: usize) {
        let mut store = self.store();
        let target = svids.clamp(store.pace.least().min(self.limit), self.limit);
        if target > std::mem::replace(&mut store.target, target) {
            self.wanted.notify_one();
        }
    }

    /// How many keys can be taken now without being refused; for EC keys no end of them.
    pub fn ready(&self) -> watch::Receiver<usize> {
        self.ready.subscribe()
    }

    /// Keys that are held.
    pub fn held(&self) -> usize {
        self.store().keys.len()
    }

    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Keeps the pool filled for as long as it is polled: a few keys at a time on threads that may block, with pauses
    /// between, and none while keys are being taken, unless somebody may be waiting for one.
    pub async fn fill(self: Arc<Self>) {
        let mut fails = false;
        loop {
            let step = {
                let store = self.store();
                store.pace.next(store.keys.len(), store.target, Instant::now())
            };
            match step {
                Step::Enough => self.wanted.notified().await,
                Step::Rest(pause) => sleep(pause).await,
                Step::Make(batch) => match self.make(batch).await {
                    Ok(()) => fails = false,
                    Err(error) => {
                        if !std::mem::replace(&mut fails, true) {
                            tracing::warn!(%error, "no keys can be made ahead; it is tried again (W0240)");
                        }
                        sleep(RETRY).await;
                    }
                },
            }
        }
    }

    /// Keys that were made before another one failed are kept.
    async fn make(&self, batch: Batch) -> Result<(), KeyError> {
        let key_type = self.key_type;
        let each = move || {
            iter::repeat_with(|| KeyPair::generate(key_type)).take(batch.each).collect::<Vec<Result<_, _>>>()
        };
        let made = join_all(iter::repeat_with(|| spawn_blocking(each)).take(batch.threads)).await;
        let mut outcome = Ok(());
        let mut store = self.store();
        for key in made.into_iter().flatten().flatten() {
            match key {
                Ok(key) => {
                    store.keys.push_back(key);
                    self.metrics.made_ahead.inc();
                }
                Err(error) => outcome = Err(error),
            }
        }
        store.keys.truncate(self.limit);
        store.pace.made(Instant::now());
        self.tell(&store);
        outcome
    }

    fn tell(&self, store: &Store) {
        if !self.key_type.is_elliptic() {
            self.ready.send_replace(store.keys.len());
        }
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        // Nothing under the lock can panic between two states.
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for KeyPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyPool({}, ..)", self.key_type)
    }
}

#[cfg(test)]
mod tests;
