//! A socket that tells when it has been unable to write for long: a peer that stops reading fills the socket itself,
//! and then no window of HTTP/2 says anything.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::UnixStream,
    sync::Notify,
    time::sleep,
};

/// The socket. What it tells is heard through its [`Blocked`].
#[derive(Debug)]
pub(super) struct Watched {
    socket: UnixStream,
    blocked: Arc<State>,
    waiting: bool,
}

/// Hears when the socket is blocked.
#[derive(Debug, Clone)]
pub(super) struct Blocked(Arc<State>);

#[derive(Debug, Default)]
struct State {
    /// Grows with each change: odd while a write waits for room.
    changes: AtomicU64,
    blocked: Notify,
}

impl Watched {
    pub(super) fn new(socket: UnixStream) -> (Self, Blocked) {
        let blocked = Arc::new(State::default());
        (Self { socket, blocked: Arc::clone(&blocked), waiting: false }, Blocked(blocked))
    }

    fn note<T>(&mut self, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_pending() != self.waiting {
            self.waiting = written.is_pending();
            self.blocked.changes.fetch_add(1, Ordering::Release);
            if self.waiting {
                self.blocked.blocked.notify_one();
            }
        }
        written
    }
}

impl Blocked {
    /// Waits until one write has waited for `limit`. Costs nothing while the peer reads.
    pub(super) async fn for_as_long_as(&self, limit: Duration) {
        loop {
            self.0.blocked.notified().await;
            let before = self.0.changes.load(Ordering::Acquire);
            sleep(limit).await;
            if before % 2 == 1 && self.0.changes.load(Ordering::Acquire) == before {
                return;
            }
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.note(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(cx, parts);
        self.note(written)
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
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn only_a_peer_that_does_not_read_blocks() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let (mut watched, blocked) = Watched::new(ours);
        let limit = Duration::from_millis(50);
        let writer = tokio::spawn(async move { while watched.write_all(&[0; 4096]).await.is_ok() {} });
        let mut read = vec![0; 1 << 20];
        let reading = async { while theirs.read(&mut read).await.is_ok() {} };
        tokio::select! {
            () = blocked.for_as_long_as(limit) => panic!("the peer reads"),
            () = reading => {}
            () = sleep(limit * 4) => {}
        }
        blocked.for_as_long_as(limit).await;
        writer.abort();
    }
}
