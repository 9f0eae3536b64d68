//! How fast a caller's frames are read. What HTTP/2 lets anybody send for nothing (PING, SETTINGS, WINDOW_UPDATE, empty
//! DATA, streams that are opened and reset) costs us time, and whoever sends it without pause would take it from others. So
//! each caller has so many frames a second, over all of its connections; what is more stays unread in its socket.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use prometheus_client::metrics::counter::Counter;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{self, Sleep, sleep},
};

use crate::rate::Rate;

/// A connection takes so many units from its caller's pace at once, so that the common one is rarely asked.
const GRAIN: u32 = 32;
/// Of a caller that sends too fast so many bytes are read at once, which may be some thirty calls, or what is left of a frame.
const SLOW_READ: usize = 512;
/// After so many units in one turn a connection lets others have theirs.
const TURN: u32 = 256;
/// How long it does. Timers are no finer.
const REST: Duration = Duration::from_millis(1);
/// The head that opens a stream is worth so many frames: it makes a call.
const HEADERS_WEIGHT: u32 = 16;
/// So many bytes of a frame are worth one frame more.
const LENGTH_UNIT: u32 = 4 << 10;

const FRAME_HEADER: u8 = 9;
const HEADERS: u8 = 1;

/// What one caller may send, in frames.
#[derive(Debug)]
pub(super) struct Pace {
    rate: Rate,
    paid_until: Mutex<Instant>,
}

impl Pace {
    pub(super) fn new(rate: Rate, now: Instant) -> Self {
        Self { rate, paid_until: Mutex::new(now) }
    }

    pub(super) fn owes_nothing(&self, now: Instant) -> bool {
        *self.lock() <= now
    }

    /// Takes `units`, whether they were used or will be, and returns how long nothing may be until they are made good.
    fn pay(&self, units: u32, now: Instant) -> Duration {
        self.rate.reserve(&mut self.lock(), units, now, Duration::MAX).unwrap_or_default()
    }

    /// How long nothing may be used, by no connection.
    fn owed(&self, now: Instant) -> Duration {
        self.rate.owed(*self.lock(), now)
    }

    fn lock(&self) -> MutexGuard<'_, Instant> {
        self.paid_until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Follows the frames in the bytes of one connection and tells what they weigh.
#[derive(Debug, Default)]
struct Meter {
    /// Bytes of the current frame's header that have come.
    header: u8,
    length: u32,
    kind: u8,
    /// Bytes of its payload that are to come. The client's preface is passed over like one.
    payload: u32,
}

const PREFACE: u32 = 24;

impl Meter {
    fn new() -> Self {
        Self { payload: PREFACE, ..Self::default() }
    }

    fn weigh(&mut self, mut bytes: &[u8]) -> u32 {
        let mut units = 0u32;
        while !bytes.is_empty() {
            let passed = bytes.len().min(self.payload as usize);
            bytes = &bytes[passed..];
            // No more than `payload`, which is a u32.
            self.payload -= passed as u32;
            if self.payload > 0 {
                break;
            }
            while self.header < FRAME_HEADER {
                let Some((&byte, rest)) = bytes.split_first() else { return units };
                bytes = rest;
                match self.header {
                    0..3 => self.length = self.length << 8 | u32::from(byte),
                    3 => self.kind = byte,
                    _ => {}
                }
                self.header += 1;
            }
            units = units.saturating_add(match self.kind {
                HEADERS => HEADERS_WEIGHT,
                _ => 1,
            });
            units = units.saturating_add(self.length / LENGTH_UNIT);
            (self.header, self.payload, self.length) = (0, self.length, 0);
        }
        units
    }
}

/// A connection that is read at its caller's pace.
#[derive(Debug)]
pub(super) struct Paced<S> {
    socket: S,
    meter: Meter,
    pace: Arc<Pace>,
    /// Units that were paid and not used.
    credit: u32,
    /// Whether its caller sends faster than it may.
    is_slow: bool,
    /// Units used since there was last nothing to read.
    turn: u32,
    /// Nothing is read until it is over.
    pause: Option<Pin<Box<Sleep>>>,
    paused: Counter,
}

impl<S> Paced<S> {
    /// A new connection of a client. In `paused` is counted how often bytes were left waiting.
    pub(super) fn new(socket: S, pace: Arc<Pace>, paused: Counter) -> Self {
        Self { socket, meter: Meter::new(), pace, credit: 0, is_slow: false, turn: 0, pause: None, paused }
    }

    fn account(&mut self, bytes: &[u8]) {
        let units = self.meter.weigh(bytes);
        self.turn = self.turn.saturating_add(units);
        let mut pause = Duration::ZERO;
        if units > self.credit {
            let paid = (units - self.credit).max(GRAIN);
            pause = self.pace.pay(paid, now());
            self.credit += paid;
            self.is_slow = !pause.is_zero();
        }
        self.credit -= units;
        if !pause.is_zero() {
            self.paused.inc();
        } else if self.turn >= TURN {
            pause = REST;
        }
        if !pause.is_zero() {
            self.rest(pause);
        }
    }

    /// Waits for its turn while its caller owes anything.
    fn poll_pace(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            // What is read is paid afterwards, so whoever begins with a new connection would always read something first.
            if self.credit > 0 || self.pace.owed(now()).is_zero() {
                return Poll::Ready(());
            }
            // Paid before: connections that wait have their turns one after the other, and do not all wake at once.
            let pause = self.pace.pay(GRAIN, now());
            (self.credit, self.is_slow) = (GRAIN, true);
            self.rest(pause);
        }
    }

    fn rest(&mut self, pause: Duration) {
        self.turn = 0;
        self.pause = Some(Box::pin(sleep(pause)));
    }
}

fn now() -> Instant {
    time::Instant::now().into_std()
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_pace(cx));
        let before = buffer.filled().len();
        let socket = Pin::new(&mut this.socket);
        let read = match this.is_slow {
            true => poll_read_some(socket, cx, buffer, SLOW_READ.max(this.meter.payload as usize)),
            false => socket.poll_read(cx, buffer),
        };
        match &read {
            Poll::Ready(Ok(())) => this.account(&buffer.filled()[before..]),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => this.turn = 0,
        }
        read
    }
}

/// As `poll_read`, no more than `most` bytes.
fn poll_read_some<S: AsyncRead>(
    socket: Pin<&mut S>,
    cx: &mut Context<'_>,
    buffer: &mut ReadBuf<'_>,
    most: usize,
) -> Poll<io::Result<()>> {
    let most = most.min(buffer.remaining());
    let mut part = ReadBuf::new(buffer.initialize_unfilled_to(most));
    ready!(socket.poll_read(cx, &mut part))?;
    let read = part.filled().len();
    buffer.advance(read);
    Poll::Ready(Ok(()))
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    fn frame(kind: u8, length: u32) -> Vec<u8> {
        let mut bytes = length.to_be_bytes()[1..].to_vec();
        bytes.extend([kind, 0, 0, 0, 0, 1]);
        bytes.resize(9 + length as usize, 0xff);
        bytes
    }

    fn preface_and(frames: &[(u8, u32)]) -> Vec<u8> {
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        frames.iter().for_each(|&(kind, length)| bytes.extend(frame(kind, length)));
        bytes
    }

    #[test]
    fn a_frame_weighs_what_it_costs() {
        let weight = |kind, length| Meter::new().weigh(&preface_and(&[(kind, length)]));
        assert_eq!(weight(6, 8), 1, "PING");
        assert_eq!(weight(1, 300), HEADERS_WEIGHT);
        assert_eq!(weight(0, 0), 1, "empty DATA");
        assert_eq!(weight(0, 16 << 10), 5, "16 KiB of DATA");
        assert_eq!(weight(99, 5), 1, "a kind that nobody knows");
        assert_eq!(weight(99, 16 << 10), 5, "much of it");
    }

    proptest! {
        #[test]
        fn frames_weigh_the_same_however_the_bytes_are_cut(
            frames in prop::collection::vec((0u8..12, 0u32..6_000), 0..20),
            cuts in prop::collection::vec(1usize..5_000, 1..50),
        ) {
            let bytes = preface_and(&frames);
            let whole = Meter::new().weigh(&bytes);
            let (mut meter, mut rest, mut parts) = (Meter::new(), &bytes[..], 0);
            for cut in cuts.into_iter().cycle() {
                let (part, left) = rest.split_at(cut.min(rest.len()));
                parts += meter.weigh(part);
                rest = left;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(parts, whole);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_read_at_the_pace_of_its_caller_and_another_caller_at_once() {
        let rate = Rate::new(1_000, 1_000);
        let paused = Counter::default();
        let flood: Vec<_> = preface_and(&vec![(6, 8); 6_000]);
        let read = async |pace: Arc<Pace>, bytes: Vec<u8>| {
            let (ours, mut theirs) = duplex(1 << 20);
            theirs.write_all(&bytes).await.unwrap();
            let start = time::Instant::now();
            let mut buffer = vec![0; bytes.len()];
            // Reads as `h2` does, some kilobytes at a time.
            let mut paced = Paced::new(ours, pace, paused.clone());
            for chunk in buffer.chunks_mut(8 << 10) {
                paced.read_exact(chunk).await.unwrap();
            }
            start.elapsed()
        };
        let hostile = Arc::new(Pace::new(rate, now()));
        let took = read(Arc::clone(&hostile), flood.clone()).await;
        assert!(took >= Duration::from_millis(3_500), "6,000 frames at 1,000 a second took {took:?}");
        assert!(!hostile.owes_nothing(now()) && paused.get() > 0);
        let honest = read(Arc::new(Pace::new(rate, now())), preface_and(&[(1, 100); 20])).await;
        assert!(honest < Duration::from_millis(5), "{honest:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_connection_reads_nothing_before_the_debts_of_its_caller_are_paid() {
        let pace = Arc::new(Pace::new(Rate::new(1_000, 1_000), now()));
        pace.pay(1_000, now());
        for _ in 0..3 {
            // A thousand at once were free.
            pace.pay(1_000, now());
            let (ours, mut theirs) = duplex(1 << 20);
            theirs.write_all(&preface_and(&[(6, 8)])).await.unwrap();
            let mut paced = Paced::new(ours, Arc::clone(&pace), Counter::default());
            let owed = pace.owed(now());
            assert!(!owed.is_zero());
            let start = time::Instant::now();
            paced.read_exact(&mut [0; 41]).await.unwrap();
            assert!(start.elapsed() >= owed, "{:?} of {owed:?}", start.elapsed());
        }
    }

    /// Each that wakes finds its turn paid: a hundred that wake to see that one of them was quicker would cost others time.
    #[tokio::test(start_paused = true)]
    async fn connections_that_wait_for_their_pace_wake_one_after_the_other_and_read_a_little() {
        const WAITING: usize = 50;
        let pace = Arc::new(Pace::new(Rate::new(1_000, 1_000), now()));
        pace.pay(2_000, now());
        let start = time::Instant::now();
        let mut reads = tokio::task::JoinSet::new();
        for _ in 0..WAITING {
            let (ours, mut theirs) = duplex(1 << 20);
            theirs.write_all(&preface_and(&vec![(6, 8); 1_000])).await.unwrap();
            let mut paced = Paced::new(ours, Arc::clone(&pace), Counter::default());
            reads.spawn(async move {
                let bytes = paced.read(&mut [0; 8 << 10]).await.unwrap();
                (bytes, start.elapsed(), theirs)
            });
        }
        let mut ends: Vec<_> = reads
            .join_all()
            .await
            .into_iter()
            .map(|(bytes, end, _)| {
                assert_eq!(bytes, SLOW_READ);
                end
            })
            .collect();
        ends.sort_unstable();
        assert!(ends.windows(2).all(|pair| pair[1] - pair[0] >= Duration::from_millis(30)), "{ends:?}");
    }

    /// What is left of a frame holds no calls.
    #[tokio::test(start_paused = true)]
    async fn a_long_frame_is_read_at_once_from_a_caller_that_sends_too_fast() {
        let pace = Arc::new(Pace::new(Rate::new(1_000, 1_000), now()));
        pace.pay(2_000, now());
        let (ours, mut theirs) = duplex(1 << 20);
        theirs.write_all(&preface_and(&[(0, 16 << 10), (6, 8)])).await.unwrap();
        let mut paced = Paced::new(ours, pace, Counter::default());
        let mut buffer = vec![0; 64 << 10];
        assert_eq!(paced.read(&mut buffer).await.unwrap(), SLOW_READ);
        let frame = 24 + 9 + (16 << 10);
        assert_eq!(paced.read(&mut buffer).await.unwrap(), frame - SLOW_READ);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_always_has_more_lets_others_have_their_turn() {
        let (ours, mut theirs) = duplex(1 << 20);
        theirs.write_all(&preface_and(&vec![(6, 8); 8 * TURN as usize])).await.unwrap();
        let pace = Arc::new(Pace::new(Rate::new(1_000_000, 1_000_000), now()));
        let mut paced = Paced::new(ours, pace, Counter::default());
        let start = time::Instant::now();
        let mut buffer = vec![0; 8 << 10];
        let mut left = 8 * TURN as usize * 17;
        while left > 0 {
            left = left.saturating_sub(paced.read(&mut buffer).await.unwrap());
        }
        assert!(start.elapsed() >= 3 * REST, "{:?}", start.elapsed());
    }
}
