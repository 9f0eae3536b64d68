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
/// Nobody was turned away for so long: the queue is long again. Whoever comes and goes finds it short.
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
pub(super) struct Door {
    pub(super) listener: AsyncFd<UnixListener>,
    pub(super) queue: Arc<Queue>,
}

/// What came out of a queue.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Seen {
    pub(super) accepted: u64,
    /// Of these.
    pub(super) turned_away: u64,
    /// Whether there was nothing more.
    pub(super) emptied: bool,
}

#[derive(Debug)]
struct State {
    /// Since the queue was last found empty.
    seen: Seen,
    last_turned_away: Instant,
    is_short: bool,
}

impl Queue {
    /// The queue of `listener`; it is `flooded_length` long while it is flooded, and each time is counted in `floods`.
    ///
    /// # Errors
    /// When there is no descriptor for it.
    pub(super) fn of(
        listener: &UnixListener,
        flooded_length: usize,
        floods: &Counter,
    ) -> io::Result<Arc<Self>> {
        let state = State { seen: Seen::default(), last_turned_away: Instant::now(), is_short: false };
        let longest = i32::from(Backlog::MAXCONN);
        let flooded_length = i32::try_from(flooded_length).unwrap_or(longest).min(longest);
        Ok(Arc::new(Self {
            listener: listener.try_clone()?,
            flooded_length: Backlog::new(flooded_length)?,
            floods: floods.clone(),
            state: Mutex::new(state),
        }))
    }

    /// Takes note, and makes the queue short when that shows a flood.
    pub(super) fn take_note(self: &Arc<Self>, seen: Seen, now: Instant) {
        if self.is_shortened_by(seen, now) {
            tracing::warn!(
                "a caller connects faster than it may: the listen queue is short until that has ended"
            );
            let queue = Arc::clone(self);
            tokio::spawn(async move {
                while !queue.is_lengthened(Instant::now()) {
                    sleep(CALM_AFTER).await;
                }
            });
        }
    }

    fn is_shortened_by(&self, seen: Seen, now: Instant) -> bool {
        let state = &mut *self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.turned_away > 0 {
            state.last_turned_away = now;
        }
        let all = &mut state.seen;
        *all = match seen.emptied {
            true => Seen::default(),
            false => Seen {
                accepted: all.accepted + seen.accepted,
                turned_away: all.turned_away + seen.turned_away,
                emptied: false,
            },
        };
        let flooded = all.turned_away >= FLOODED_BY && 2 * all.turned_away > all.accepted;
        if !flooded || state.is_short {
            return false;
        }
        state.is_short = listen(&self.listener, self.flooded_length).is_ok();
        self.floods.inc_by(u64::from(state.is_short));
        state.is_short
    }

    /// Whether it is calm, so that the queue is long again.
    fn is_lengthened(&self, now: Instant) -> bool {
        let state = &mut *self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let calm = now.duration_since(state.last_turned_away) >= CALM_AFTER;
        if calm && state.is_short {
            // As `std` asks for it: what net.core.somaxconn allows.
            state.is_short = listen(&self.listener, Backlog::MAXALLOWABLE).is_err();
        }
        !state.is_short
    }
}

impl Door {
    /// # Errors
    /// When this thread's event loop cannot watch it.
    pub(super) fn new(listener: UnixListener, queue: Arc<Queue>) -> io::Result<Self> {
        #[expect(unsafe_code, reason = "tokio has no other way for a listener of the standard library")]
        // SAFETY: a listener is one open descriptor from beginning to end, and closes it when it is dropped.
        let listener = unsafe { AsyncFd::register(listener) }?;
        Ok(Self { listener, queue })
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
    const AWAY: Seen = Seen { accepted: 16, turned_away: 16, emptied: false };

    fn queue() -> (Arc<Queue>, TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("s")).unwrap();
        (Queue::of(&listener, SHORT, &Counter::default()).unwrap(), directory)
    }

    fn is_short_after(queue: &Queue, seen: Seen, times: u64) -> bool {
        (0..times).any(|_| queue.is_shortened_by(seen, Instant::now()))
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
        assert!(is_short_after(&queue, AWAY, FLOODED_BY / AWAY.turned_away));
        assert_eq!((length(&queue), queue.floods.get()), (SHORT + 1, 1), "the kernel lets one more in");
        assert!(!is_short_after(&queue, AWAY, 1_000), "once is enough");
        let now = Instant::now();
        assert!(!queue.is_lengthened(now));
        assert!(queue.is_lengthened(now + CALM_AFTER));
        assert_eq!(length(&queue), long);
    }

    #[test]
    fn a_queue_that_is_emptied_and_one_of_welcome_callers_stay_long() {
        let (queue, _directory) = queue();
        for _ in 0..1_000 {
            assert!(!is_short_after(&queue, AWAY, FLOODED_BY / AWAY.turned_away - 1));
            assert!(!is_short_after(&queue, Seen { emptied: true, ..AWAY }, 1));
        }
        assert!(!is_short_after(&queue, Seen { turned_away: 7, ..AWAY }, 1_000));
    }
}
