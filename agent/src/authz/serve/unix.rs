//! A Unix socket that wakes its thread when there is something to read, and for a write only while one waits.
//!
//! Whoever reads from a Unix socket makes it writable, to the kernel's mind, every time: an event loop that listens for that
//! is woken once more for each answer that an Envoy takes.

use std::{
    io::{self, IoSlice, Read as _, Write as _},
    net::Shutdown,
    os::{
        fd::{AsFd as _, AsRawFd, OwnedFd},
        unix::net::UnixStream,
    },
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf, unix::AsyncFd};

/// One end of a connection.
#[derive(Debug)]
pub(super) struct UnixSocket {
    socket: AsyncFd<UnixStream>,
    /// Another descriptor of it, while a write waits for room.
    room: Option<AsyncFd<OwnedFd>>,
}

impl UnixSocket {
    /// # Errors
    /// When this thread's event loop cannot watch it.
    pub(super) fn new(socket: tokio::net::UnixStream) -> io::Result<Self> {
        // It does not block, and stays so.
        let socket = socket.into_std()?;
        Ok(Self { socket: watched(socket, Interest::READABLE)?, room: None })
    }

    /// Tries `write`; while there is no room, waits for some.
    fn poll_with(
        &mut self,
        cx: &mut Context<'_>,
        mut write: impl FnMut(&mut &UnixStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            if let Some(room) = &self.room {
                ready!(room.poll_write_ready(cx))?.clear_ready();
            }
            match write(&mut self.socket.get_ref()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait_for_room()?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                written => {
                    self.room = None;
                    return Poll::Ready(written);
                }
            }
        }
    }

    fn wait_for_room(&mut self) -> io::Result<()> {
        if self.room.is_none() {
            let other = self.socket.get_ref().as_fd().try_clone_to_owned()?;
            self.room = Some(watched(other, Interest::WRITABLE)?);
        }
        Ok(())
    }
}

fn watched<T: AsRawFd>(socket: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    #[expect(unsafe_code, reason = "tokio has no other way to listen for one half of a socket")]
    // SAFETY: both kinds that are watched here are one open descriptor from beginning to end, and close it when dropped.
    let watched = unsafe { AsyncFd::register_with_interest(socket, interest) };
    Ok(watched?)
}

impl AsyncRead for UnixSocket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut there = ready!(self.socket.poll_read_ready(cx))?;
            let room = into.initialize_unfilled();
            let asked = room.len();
            match self.socket.get_ref().read(room) {
                Ok(read) => {
                    // All that was there: what comes next is an event of its own.
                    if 0 < read && read < asked {
                        there.clear_ready();
                    }
                    into.advance(read);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => there.clear_ready(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for UnixSocket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_with(cx, |socket| socket.write(bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_with(cx, |socket| socket.write_vectored(parts))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.socket.get_ref().shutdown(Shutdown::Write))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        time::timeout,
    };

    use super::*;

    /// More than a socket takes at once.
    const MUCH: usize = 4 << 20;

    fn pair() -> (UnixSocket, tokio::net::UnixStream) {
        let (ours, theirs) = tokio::net::UnixStream::pair().unwrap();
        (UnixSocket::new(ours).unwrap(), theirs)
    }

    #[tokio::test]
    async fn what_is_written_arrives_and_what_comes_is_read_again_and_again() {
        let (mut ours, mut theirs) = pair();
        for round in 0..100_u8 {
            theirs.write_all(&[round; 3]).await.unwrap();
            let mut read = [0; 3];
            ours.read_exact(&mut read).await.unwrap();
            assert_eq!(read, [round; 3]);
            ours.write_all(&[round]).await.unwrap();
            assert_eq!(theirs.read_u8().await.unwrap(), round);
        }
        assert!(ours.room.is_none());
        drop(theirs);
        assert_eq!(ours.read(&mut [0; 8]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_write_waits_for_a_peer_that_reads_late() {
        let (mut ours, mut theirs) = pair();
        let writing = tokio::spawn(async move {
            ours.write_all(&vec![7; MUCH]).await.unwrap();
            assert!(ours.room.is_none(), "nothing waits any more");
            ours.shutdown().await.unwrap();
        });
        tokio::time::sleep(Duration::from_millis(20)).await;
        let mut read = Vec::new();
        timeout(Duration::from_secs(10), theirs.read_to_end(&mut read)).await.unwrap().unwrap();
        assert!(read.len() == MUCH && read.iter().all(|byte| *byte == 7));
        writing.await.unwrap();
    }

    #[tokio::test]
    async fn a_peer_that_is_gone_is_an_error_to_write_to() {
        let (mut ours, theirs) = pair();
        drop(theirs);
        assert_eq!(ours.write(b"x").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
