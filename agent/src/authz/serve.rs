//! The sockets where Envoys ask, and the thread that answers.

mod budget;
mod unreadable;

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    os::fd::AsFd,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    thread,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    runtime,
    sync::{mpsc, oneshot},
    time::{Sleep, sleep},
};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::{
    Request, Response, Status,
    transport::{Server, server::Connected},
};

use self::unreadable::{Older, Unreadable};
use super::{STACK, asker::Asker, check::Judge};
use crate::{
    attestation::{CallerKey, Grade, Peer},
    caller::Callers,
    kernel::Capture,
    open::Open,
    quiet::Quiet,
    share::Share,
};
use vouch_proto::envoy::service::auth::v3::{
    CheckRequest, CheckResponse,
    authorization_server::{Authorization, AuthorizationServer},
};

/// Part of all connections that is kept for callers below their share.
const RESERVE: f64 = 0.25;
/// Questions of one connection that are answered at the same time; Envoy has one connection for each of its threads.
const STREAMS: u32 = 1024;
/// What a client may have put into its trace headers comes along.
const HEADER_LIST: u32 = 256 << 10;
/// How long a connection may take to say its first word.
const FIRST_BYTES: Duration = Duration::from_secs(5);
/// Accepted connections that wait to be served.
const ACCEPTED: usize = 64;
const KEEPALIVE_EVERY: Duration = Duration::from_secs(30);
const KEEPALIVE_WAIT: Duration = Duration::from_secs(20);
/// How long accepting rests when the process has no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

static REFUSED: Quiet = Quiet::new();

/// Sockets that listen, not served yet.
#[derive(Debug, Default)]
pub struct Listeners {
    pub unix: Option<std::os::unix::net::UnixListener>,
    pub tcp: Vec<(SocketAddr, std::net::TcpListener)>,
}

/// What tells an asker from others.
#[derive(Debug, Clone)]
pub(super) struct Door {
    pub(super) judge: Arc<Judge>,
    pub(super) callers: Callers,
    pub(super) capture: Option<Arc<Capture>>,
    pub(super) minimum: Grade,
    places: Arc<Places>,
}

/// How many connections each caller holds.
#[derive(Debug)]
struct Places {
    share: Share,
    held: Mutex<HashMap<PlaceKey, usize>>,
}

/// A caller, and the address where it asks: nobody knows who asks there, so what one address may hold is no other's.
type PlaceKey = (CallerKey, Option<SocketAddr>);

/// One caller's place among the connections; given back on drop.
#[derive(Debug)]
struct Place {
    places: Arc<Places>,
    key: PlaceKey,
}

impl Door {
    pub(super) fn new(
        judge: Arc<Judge>,
        callers: Callers,
        capture: Option<Arc<Capture>>,
        minimum: Grade,
    ) -> Self {
        let share = Share::new(judge.settings.connections, RESERVE);
        let places = Arc::new(Places { share, held: Mutex::default() });
        Self { judge, callers, capture, minimum, places }
    }

    /// Answers at `listeners` until `stop`, on a thread of its own: nobody else waits for a policy.
    pub(super) async fn serve(
        self,
        listeners: Listeners,
        stop: CancellationToken,
    ) -> io::Result<impl Future<Output = ()> + Send + 'static + use<>> {
        let (started, ready) = oneshot::channel();
        let (ended, end) = oneshot::channel::<()>();
        thread::Builder::new().name("authz".into()).stack_size(STACK).spawn(move || {
            let _ended = ended;
            self.run(listeners, stop, started);
        })?;
        ready.await.map_err(|_| io::Error::other("the thread ended at once"))??;
        Ok(async move { end.await.unwrap_or_default() })
    }

    fn run(self, listeners: Listeners, stop: CancellationToken, started: oneshot::Sender<io::Result<()>>) {
        let begin = || {
            let runtime =
                runtime::Builder::new_current_thread().enable_all().thread_stack_size(STACK).build()?;
            let inside = runtime.enter();
            let unix = listeners.unix.map(UnixListener::from_std).transpose()?;
            let tcp = listeners.tcp.into_iter();
            let tcp = tcp.map(|(address, listener)| Ok((address, TcpListener::from_std(listener)?)));
            let tcp = tcp.collect::<io::Result<Vec<_>>>()?;
            drop(inside);
            Ok((runtime, unix, tcp))
        };
        let (runtime, unix, tcp) = match begin() {
            Ok(begun) => begun,
            Err(error) => return drop(started.send(Err(error))),
        };
        drop(started.send(Ok(())));
        runtime.block_on(async move {
            let (accepted, connections) = mpsc::channel(ACCEPTED);
            if let Some(listener) = unix {
                tokio::spawn(self.clone().accept_unix(listener, accepted.clone()));
            }
            for (address, listener) in tcp {
                tokio::spawn(self.clone().accept_tcp(address, listener, accepted.clone()));
            }
            drop(accepted);
            let served = self.server().serve_with_incoming_shutdown(
                ReceiverStream::new(connections).map(Ok::<_, io::Error>),
                stop.cancelled_owned(),
            );
            if let Err(error) = served.await {
                tracing::error!(%error, "authorization is no longer served (E0907)");
            }
        });
        runtime.shutdown_background();
    }

    fn server(&self) -> tonic::transport::server::Router {
        let service = AuthorizationServer::new(Answers(Arc::clone(&self.judge)))
            .max_decoding_message_size(self.judge.settings.request);
        let service = Unreadable::answered_by(Arc::clone(&self.judge), service);
        Server::builder()
            .max_concurrent_streams(STREAMS)
            .http2_keepalive_interval(Some(KEEPALIVE_EVERY))
            .http2_keepalive_timeout(Some(KEEPALIVE_WAIT))
            // A client of Envoy's that gives up many requests at once makes Envoy give up as many questions, on the connection
            // where others' are answered.
            .http2_max_pending_accept_reset_streams(Some(STREAMS as usize))
            .http2_max_local_error_reset_streams(Some(STREAMS as usize))
            .http2_max_header_list_size(HEADER_LIST)
            .add_service(service)
            .add_service(Older(Arc::clone(&self.judge)))
    }

    async fn accept_unix(self, listener: UnixListener, accepted: mpsc::Sender<Connection>) {
        loop {
            match listener.accept().await {
                Ok((socket, _)) => {
                    if let Some(connection) = self.let_in_unix(socket)
                        && accepted.send(connection).await.is_err()
                    {
                        return;
                    }
                }
                Err(error) => rest(&error).await,
            }
        }
    }

    fn let_in_unix(&self, socket: UnixStream) -> Option<Connection> {
        let peer = Peer::of(&socket.as_fd(), self.capture.as_deref(), self.minimum);
        let peer = peer.map_err(|refusal| self.refuse(&refusal.to_string())).ok()?;
        let place = self.place((peer.caller_key(), None))?;
        let asker = Asker::known(self.callers.caller(peer), &self.callers);
        Some(self.connection(Socket::Unix(socket), asker, place))
    }

    async fn accept_tcp(
        self,
        address: SocketAddr,
        listener: TcpListener,
        accepted: mpsc::Sender<Connection>,
    ) {
        loop {
            match listener.accept().await {
                Ok((socket, _)) => {
                    let _ = socket.set_nodelay(true);
                    if let Some(place) = self.place((CallerKey::Unknown, Some(address))) {
                        let connection = self.connection(Socket::Tcp(socket), Asker::at(address), place);
                        if accepted.send(connection).await.is_err() {
                            return;
                        }
                    }
                }
                Err(error) => rest(&error).await,
            }
        }
    }

    fn connection(&self, socket: Socket, asker: Asker, place: Place) -> Connection {
        let open = Open::count(&self.judge.metrics.connections);
        let asker = Arc::new(asker);
        let attested = Arc::clone(&asker);
        tokio::spawn(async move { attested.attest().await });
        let first_bytes = Some(Box::pin(sleep(FIRST_BYTES)));
        Connection { socket, first_bytes, asker, _place: place, _open: open }
    }

    fn place(&self, key: PlaceKey) -> Option<Place> {
        let taken = self.places.take(key);
        if taken.is_none() {
            self.refuse("there are too many connections");
        }
        taken
    }

    fn refuse(&self, why: &str) {
        self.judge.metrics.refused.inc();
        if let Some(suppressed) = REFUSED.line(Instant::now()) {
            tracing::info!(why, suppressed, "connection for authorization refused (E0908)");
        }
    }
}

impl Places {
    fn take(self: &Arc<Self>, key: PlaceKey) -> Option<Place> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let (taken, holders) = (held.values().sum(), held.len());
        let own = held.get(&key).copied().unwrap_or(0);
        self.share.admits(taken, holders, own).ok()?;
        held.insert(key.clone(), own + 1);
        Some(Place { places: Arc::clone(self), key })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.places.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = held.get_mut(&self.key) {
            *own -= 1;
            if *own == 0 {
                held.remove(&self.key);
            }
        }
    }
}

async fn rest(error: &io::Error) {
    if let Some(suppressed) = REFUSED.line(Instant::now()) {
        tracing::warn!(%error, suppressed, "connection cannot be accepted (E0305)");
    }
    sleep(ACCEPT_PAUSE).await;
}

/// One Envoy's connection; its end gives back what it held.
#[derive(Debug)]
struct Connection {
    socket: Socket,
    /// Until something was read.
    first_bytes: Option<Pin<Box<Sleep>>>,
    asker: Arc<Asker>,
    _place: Place,
    _open: Open,
}

#[derive(Debug)]
enum Socket {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Connected for Connection {
    type ConnectInfo = Arc<Asker>;

    fn connect_info(&self) -> Arc<Asker> {
        Arc::clone(&self.asker)
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let read = match &mut self.socket {
            Socket::Unix(socket) => Pin::new(socket).poll_read(cx, into),
            Socket::Tcp(socket) => Pin::new(socket).poll_read(cx, into),
        };
        if let Some(first_bytes) = &mut self.first_bytes {
            if into.filled().len() > before {
                self.first_bytes = None;
            } else if read.is_pending() && first_bytes.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.socket {
            Socket::Unix(socket) => Pin::new(socket).poll_write(cx, bytes),
            Socket::Tcp(socket) => Pin::new(socket).poll_write(cx, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.socket {
            Socket::Unix(socket) => Pin::new(socket).poll_flush(cx),
            Socket::Tcp(socket) => Pin::new(socket).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.socket {
            Socket::Unix(socket) => Pin::new(socket).poll_shutdown(cx),
            Socket::Tcp(socket) => Pin::new(socket).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.socket {
            Socket::Unix(socket) => Pin::new(socket).poll_write_vectored(cx, parts),
            Socket::Tcp(socket) => Pin::new(socket).poll_write_vectored(cx, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}

/// The service as gRPC wants it.
#[derive(Debug, Clone)]
struct Answers(Arc<Judge>);

#[tonic::async_trait]
impl Authorization for Answers {
    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        let (_, extensions, request) = request.into_parts();
        let asker = extensions.get::<Arc<Asker>>().ok_or_else(|| Status::internal("no connection"))?;
        self.0.check(asker, request).await.map(Response::new)
    }
}
