//! The queue of a listening socket, in which connections wait until they are accepted.
//!
//! It is as long as the kernel allows, so that a burst of honest callers waits instead of failing. Whoever connects without
//! pause fills it with what will be turned away, and everybody else waits behind that; while it lasts, the queue is short.

use std::{
    io,
    os::unix::net::UnixListener,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use nix::sys::socket::{Backlog, listen};
use prometheus_client::metrics::counter::Counter;
use tokio::{io::unix::AsyncFd, time::sleep};

/// A queue is flooded when so many were turned away without its being found empty, and they were the most of it: two
/// milliseconds' work or three.
const FLOODED_BY: u64 = 256;
/// After so long without such a flood the queue is long again. Whoever comes and goes finds it short.
const CALM_AFTER: Duration = Duration::from_secs(60);

/// The queue of one socket, whichever threads take from it.
#[derive(Debug)]
pub(super) struct Queue {
    listener: UnixListener,
    flooded_length: Backlog,
    floods: Counter,
    state: Mutex<State>,
}

/// One listening socket, as one thread sees it.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) socket: AsyncFd<UnixListener>,
    pub(super) queue: Arc<Queue>,
}

/// What came out of a queue.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Batch {
    pub(super) accepted: u64,
    /// Of these.
    pub(super) turned_away: u64,
    /// Whether there was nothing more.
    pub(super) emptied: bool,
}

#[derive(Debug)]
struct State {
    /// Since the queue was last found empty, or flooded.
    all: Batch,
    last_flooded: Instant,
    is_short: bool,
}

impl Queue {
    /// The queue of `listener`; it is `flooded_length` long while it is flooded, and each time is counted in `floods`.
    ///
    /// # Errors
    /// When there is no descriptor for it, or it is longer than 4096.
    pub(super) fn of(
        listener: &UnixListener,
        flooded_length: usize,
        floods: &Counter,
    ) -> io::Result<Arc<Self>> {
        let state = State { all: Batch::default(), last_flooded: Instant::now(), is_short: false };
        Ok(Arc::new(Self {
            listener: listener.try_clone()?,
            flooded_length: Backlog::new(i32::try_from(flooded_length).unwrap_or(i32::MAX))?,
            floods: floods.clone(),
            state: Mutex::new(state),
        }))
    }

    /// Takes note, and makes the queue short when that shows a flood.
    pub(super) fn take_note(self: &Arc<Self>, batch: Batch) {
        if self.is_shortened_by(batch, Instant::now()) {
            tracing::warn!(
                "a caller connects faster than it may: the listen queue is short until that has ended"
            );
            let queue = Arc::downgrade(self);
            tokio::spawn(async move {
                let mut left = CALM_AFTER;
                while !left.is_zero() {
                    sleep(left).await;
                    let Some(queue) = queue.upgrade() else { break };
                    left = queue.calm_in(Instant::now());
                }
            });
        }
    }

    fn is_shortened_by(&self, batch: Batch, now: Instant) -> bool {
        let state = &mut *self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let all = &mut state.all;
        all.accepted += batch.accepted;
        all.turned_away += batch.turned_away;
        let flooded = all.turned_away >= FLOODED_BY && 2 * all.turned_away > all.accepted;
        if flooded || batch.emptied {
            *all = Batch::default();
        }
        if !flooded {
            return false;
        }
        state.last_flooded = now;
        if state.is_short {
            return false;
        }
        state.is_short = listen(&self.listener, self.flooded_length).is_ok();
        self.floods.inc_by(u64::from(state.is_short));
        state.is_short
    }

    /// How long it has to be calm until the queue is long again; zero when it is.
    fn calm_in(&self, now: Instant) -> Duration {
        let state = &mut *self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let left = CALM_AFTER.saturating_sub(now.duration_since(state.last_flooded));
        if !left.is_zero() || !state.is_short {
            return left;
        }
        // As `std` asks for it: what net.core.somaxconn allows.
        state.is_short = listen(&self.listener, Backlog::MAXALLOWABLE).is_err();
        if state.is_short { CALM_AFTER } else { Duration::ZERO }
    }
}

impl Listener {
    /// # Errors
    /// When this thread's event loop cannot watch it.
    pub(super) fn new(listener: UnixListener, queue: Arc<Queue>) -> io::Result<Self> {
        #[expect(unsafe_code, reason = "tokio has no other way for a listener of the standard library")]
        // SAFETY: a listener is one open descriptor from beginning to end, and closes it when it is dropped.
        let socket = unsafe { AsyncFd::register(listener) }?;
        Ok(Self { socket, queue })
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use nix::{
        errno::Errno,
        sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket},
    };
    use tempfile::TempDir;

    use super::*;

    const SHORT: usize = 8;
    const AWAY: Batch = Batch { accepted: 16, turned_away: 16, emptied: false };

    fn queue() -> (Arc<Queue>, TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("s")).unwrap();
        (Queue::of(&listener, SHORT, &Counter::default()).unwrap(), directory)
    }

    fn is_short_after(queue: &Queue, batch: Batch, times: u64) -> bool {
        (0..times).any(|_| queue.is_shortened_by(batch, Instant::now()))
    }

    /// How many connections wait in it when there is no room for one more.
    fn length(queue: &Queue) -> usize {
        let path = queue.listener.local_addr().unwrap().as_pathname().unwrap().to_owned();
        let address = UnixAddr::new(&path).unwrap();
        let mut waiting: Vec<OwnedFd> = Vec::new();
        loop {
            let client =
                socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_NONBLOCK, None).unwrap();
            match connect(std::os::fd::AsRawFd::as_raw_fd(&client), &address) {
                Ok(()) => waiting.push(client),
                Err(error) => {
                    assert_eq!(error, Errno::EAGAIN);
                    break;
                }
            }
        }
        waiting.iter().for_each(|_| drop(queue.listener.accept().unwrap()));
        waiting.len()
    }

    #[test]
    fn a_flood_finds_a_short_queue_and_calm_a_long_one() {
        let (queue, _directory) = queue();
        let long = length(&queue);
        assert!(long > 2 * SHORT, "{long}");
        let flood = FLOODED_BY / AWAY.turned_away;
        assert!(is_short_after(&queue, AWAY, flood));
        assert_eq!((length(&queue), queue.floods.get()), (SHORT + 1, 1), "the kernel lets one more in");
        assert!(!is_short_after(&queue, AWAY, 1_000), "once is enough");
        let now = Instant::now();
        assert!(queue.calm_in(now) > CALM_AFTER / 2);
        // One who is turned away now and then is no flood.
        let later = now + CALM_AFTER / 2;
        assert!(!queue.is_shortened_by(Batch { emptied: true, ..AWAY }, later));
        assert!(queue.calm_in(later) <= CALM_AFTER / 2);
        (0..flood).for_each(|_| _ = queue.is_shortened_by(AWAY, later));
        assert_eq!(queue.calm_in(later), CALM_AFTER);
        assert!(queue.calm_in(later + CALM_AFTER).is_zero());
        assert_eq!((length(&queue), queue.floods.get()), (long, 1));
    }

    #[test]
    fn a_queue_that_is_emptied_and_one_of_welcome_callers_stay_long() {
        let (queue, _directory) = queue();
        for _ in 0..1_000 {
            assert!(!is_short_after(&queue, AWAY, FLOODED_BY / AWAY.turned_away - 1));
            assert!(!is_short_after(&queue, Batch { turned_away: 0, emptied: true, ..AWAY }, 1));
        }
        assert!(!is_short_after(&queue, Batch { turned_away: 7, ..AWAY }, 1_000));
    }
}
