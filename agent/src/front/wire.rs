//! A connection's socket: holds small writes back until the connection's turn is over, and knows since when the peer
//! takes nothing. A peer that stops reading fills the socket itself, and then no window of HTTP/2 says anything.

use std::{
    cell::RefCell,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};
use zeroize::Zeroize as _;

/// Most bytes that are held back. While a peer takes nothing its connection keeps so much.
const HELD: usize = 64 << 10;

thread_local! {
    /// An empty buffer for the next connection that holds something back, so that an idle one has none.
    static SPARE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The side that `h2` reads and writes.
#[derive(Debug)]
pub(super) struct Wire<S>(Arc<Mutex<State<S>>>);

/// The side of whoever owns the connection.
#[derive(Debug)]
pub(super) struct Valve<S>(Arc<Mutex<State<S>>>);

#[derive(Debug)]
struct State<S> {
    socket: S,
    /// What is written is held back.
    closed: bool,
    /// Never grows: what it holds may be a key, and must not be left behind where it was.
    held: Vec<u8>,
    /// Bytes at the front of `held` that have been written.
    written: usize,
    blocked_since: Option<Instant>,
    /// Something was read since that was last asked.
    arrived: bool,
}

/// Both sides of `socket`.
pub(super) fn wire<S>(socket: S) -> (Wire<S>, Valve<S>) {
    let state =
        State { socket, closed: false, held: Vec::new(), written: 0, blocked_since: None, arrived: false };
    let state = Arc::new(Mutex::new(state));
    (Wire(Arc::clone(&state)), Valve(state))
}

impl<S> Clone for Valve<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S: AsyncWrite + Unpin> Valve<S> {
    /// From now on what is written is held back, up to a bound.
    pub(super) fn close(&self) {
        lock(&self.0).closed = true;
    }

    /// Writes what was held back, all in one, and holds nothing back any more.
    pub(super) fn open(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = lock(&self.0);
        state.closed = false;
        state.push(cx)
    }

    pub(super) fn is_closed(&self) -> bool {
        lock(&self.0).closed
    }

    /// Whether bytes of the peer, or its end, have come since this was last asked.
    pub(super) fn take_arrived(&self) -> bool {
        std::mem::take(&mut lock(&self.0).arrived)
    }

    /// Since when a write waits for the peer.
    pub(super) fn blocked_since(&self) -> Option<Instant> {
        lock(&self.0).blocked_since
    }
}

impl<S: AsyncWrite + Unpin> State<S> {
    /// Writes what is held.
    fn push(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.held.len() {
            let written = Pin::new(&mut self.socket).poll_write(cx, &self.held[self.written..]);
            let written = ready!(self.note(written))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += written;
        }
        self.give_back();
        Poll::Ready(Ok(()))
    }

    /// Takes as much of `parts` as there is room for.
    fn hold(&mut self, parts: &[io::IoSlice<'_>], cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.held.len() == HELD {
            ready!(self.push(cx))?;
        }
        if self.held.capacity() == 0 {
            self.held = SPARE.take();
            self.held.reserve_exact(HELD);
        }
        let before = self.held.len();
        for part in parts {
            let room = HELD - self.held.len();
            self.held.extend_from_slice(&part[..part.len().min(room)]);
        }
        Poll::Ready(Ok(self.held.len() - before))
    }

    fn give_back(&mut self) {
        if self.held.capacity() > 0 {
            self.held.as_mut_slice().zeroize();
            self.held.clear();
            self.written = 0;
            SPARE.set(std::mem::take(&mut self.held));
        }
    }

    fn note<T>(&mut self, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.blocked_since = None;
        } else if self.blocked_since.is_none() {
            self.blocked_since = Some(Instant::now());
        }
        written
    }
}

impl<S> Drop for State<S> {
    fn drop(&mut self) {
        self.held.as_mut_slice().zeroize();
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut state = lock(&self.0);
        let read = Pin::new(&mut state.socket).poll_read(cx, buffer);
        state.arrived |= read.is_ready();
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut state = lock(&self.0);
        if state.closed {
            return state.hold(parts, cx);
        }
        ready!(state.push(cx))?;
        let written = Pin::new(&mut state.socket).poll_write_vectored(cx, parts);
        state.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = lock(&self.0);
        if state.closed {
            return Poll::Ready(Ok(()));
        }
        ready!(state.push(cx))?;
        Pin::new(&mut state.socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = lock(&self.0);
        ready!(state.push(cx))?;
        Pin::new(&mut state.socket).poll_shutdown(cx)
    }
}

fn lock<S>(state: &Mutex<State<S>>) -> MutexGuard<'_, State<S>> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _, duplex},
        net::UnixStream,
    };

    use super::*;

    #[tokio::test]
    async fn what_is_held_back_leaves_in_one_write_and_its_buffer_goes_to_the_next() {
        let (ours, mut theirs) = duplex(1 << 20);
        let (mut wire, valve) = wire(ours);
        valve.close();
        for part in [&b"one "[..], b"two ", b"three"] {
            wire.write_all(part).await.unwrap();
            wire.flush().await.unwrap();
        }
        let mut read = [0; 64];
        tokio::select! {
            biased;
            _ = theirs.read(&mut read) => panic!("nothing has left"),
            () = std::future::ready(()) => {}
        }
        poll_fn(|cx| valve.open(cx)).await.unwrap();
        let length = theirs.read(&mut read).await.unwrap();
        assert_eq!(&read[..length], b"one two three");
        assert_eq!(lock(&valve.0).held.capacity(), 0);
        assert!(SPARE.with_borrow(|spare| spare.capacity() == HELD && spare.is_empty()));
    }

    #[tokio::test]
    async fn more_than_may_be_held_goes_on_its_way() {
        let (ours, mut theirs) = duplex(1 << 20);
        let (mut wire, valve) = wire(ours);
        valve.close();
        let sent: Vec<_> = (0..3 * HELD + 5).map(|number| number as u8).collect();
        wire.write_all(&sent).await.unwrap();
        poll_fn(|cx| valve.open(cx)).await.unwrap();
        drop((wire, valve));
        let mut read = Vec::new();
        theirs.read_to_end(&mut read).await.unwrap();
        assert!(read == sent);
    }

    #[tokio::test]
    async fn only_a_peer_that_does_not_read_blocks() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let (mut wire, valve) = wire(ours);
        let writer = tokio::spawn(async move { while wire.write_all(&[0; 4096]).await.is_ok() {} });
        while valve.blocked_since().is_none() {
            tokio::task::yield_now().await;
        }
        let before = valve.blocked_since();
        let mut read = vec![0; 1 << 20];
        while valve.blocked_since() == before {
            assert!(theirs.read(&mut read).await.unwrap() > 0);
            tokio::task::yield_now().await;
        }
        writer.abort();
    }
}
