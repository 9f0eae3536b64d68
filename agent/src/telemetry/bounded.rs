//! A TCP listener that anybody on this machine may reach: so many connections at once, and none for long that neither
//! asks nor reads.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::serve::Listener;
use prometheus_client::metrics::counter::Counter;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, Sleep, sleep},
};

#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Open at once; what comes on top is closed at once.
    pub(super) connections: usize,
    /// How long a connection may take to make its request, and the next one, and to take a byte of an answer.
    pub(super) patience: Duration,
}

#[derive(Debug)]
pub(super) struct Bounded {
    listener: TcpListener,
    places: Arc<Semaphore>,
    patience: Duration,
    /// Connections for which there was no place.
    shed: Counter,
}

impl Bounded {
    pub(super) fn new(listener: TcpListener, bounds: Bounds, shed: Counter) -> Self {
        let places = Arc::new(Semaphore::new(bounds.connections));
        Self { listener, places, patience: bounds.patience, shed }
    }
}

impl Listener for Bounded {
    type Io = Patient;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Patient, SocketAddr) {
        loop {
            let (socket, peer) = Listener::accept(&mut self.listener).await;
            match Arc::clone(&self.places).try_acquire_owned() {
                Ok(place) => return (Patient::new(socket, self.patience, place), peer),
                Err(_) => {
                    self.shed.inc();
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that fails when its peer has taken nothing for too long, whatever it sends meanwhile.
#[derive(Debug)]
pub(super) struct Patient {
    socket: TcpStream,
    patience: Duration,
    /// Starts anew with everything that the peer takes.
    until: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
}

impl Patient {
    fn new(socket: TcpStream, patience: Duration, place: OwnedSemaphorePermit) -> Self {
        Self { socket, patience, until: Box::pin(sleep(patience)), _place: place }
    }

    fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        self.until.as_mut().poll(cx).is_ready()
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Before the bytes: one now and then buys no time.
        if self.is_over(cx) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.socket).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(cx, bytes);
        if written.is_ready() {
            let until = Instant::now() + self.patience;
            self.until.as_mut().reset(until);
        } else if self.is_over(cx) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        written
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
    use axum::{Router, routing::get};
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        time::timeout,
    };

    use super::*;

    const SOON: Duration = Duration::from_secs(10);
    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";

    async fn serve(bounds: Bounds) -> (SocketAddr, Counter) {
        let shed = Counter::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let bounded = Bounded::new(listener, bounds, shed.clone());
        let address = bounded.local_addr().unwrap();
        let router = Router::new().route("/", get(async || "yes"));
        tokio::spawn(async move { axum::serve(bounded, router).await });
        (address, shed)
    }

    /// Whether an answer comes; not when the connection is closed instead.
    async fn answers(connection: &mut TcpStream) -> bool {
        let mut answer = [0; 1024];
        if connection.write_all(REQUEST).await.is_err() {
            return false;
        }
        let read = timeout(SOON, connection.read(&mut answer)).await.expect("an answer or an end");
        read.is_ok_and(|count| count > 0)
    }

    #[tokio::test]
    async fn connections_beyond_the_bound_are_closed_and_counted() {
        let (address, shed) = serve(Bounds { connections: 2, patience: SOON }).await;
        let mut held =
            [TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap()];
        for connection in &mut held {
            assert!(answers(connection).await);
        }
        assert!(!answers(&mut TcpStream::connect(address).await.unwrap()).await);
        assert_eq!(shed.get(), 1);
        drop(held);
        timeout(SOON, async { while !answers(&mut TcpStream::connect(address).await.unwrap()).await {} })
            .await
            .expect("a place is given back");
    }

    #[tokio::test]
    async fn a_connection_that_never_finishes_its_request_is_closed() {
        let patience = Duration::from_millis(300);
        let (address, _) = serve(Bounds { connections: 2, patience }).await;
        let mut silent = TcpStream::connect(address).await.unwrap();
        let mut slow = TcpStream::connect(address).await.unwrap();
        let drips = async {
            while slow.write_all(b"G").await.is_ok() {
                sleep(patience / 6).await;
            }
        };
        timeout(SOON, drips).await.expect("the slow one is closed");
        let read = timeout(SOON, silent.read(&mut [0; 8])).await.expect("the silent one is closed");
        assert!(read.is_err() || read.is_ok_and(|count| count == 0));
    }

    #[tokio::test]
    async fn a_connection_that_asks_in_time_is_kept() {
        let patience = Duration::from_millis(600);
        let (address, _) = serve(Bounds { connections: 2, patience }).await;
        let mut connection = TcpStream::connect(address).await.unwrap();
        for _ in 0..4 {
            assert!(answers(&mut connection).await);
            sleep(patience / 3).await;
        }
    }
}
