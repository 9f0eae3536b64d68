//! The sockets where Envoys ask, and the thread that answers.

mod budget;
mod call;
mod connection;
mod unix;

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    os::fd::AsFd,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use tokio::{
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    runtime,
    sync::oneshot,
    time::sleep,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{budget::Budgets, unix::UnixSocket};
use super::{STACK, asker::Asker, check::Judge};
use crate::{
    attestation::{CallerKey, Grade, Peer},
    caller::Callers,
    kernel::Capture,
    open::Open,
    quiet::Quiet,
    share::Share,
};

/// Part of all connections that is kept for callers below their share.
const RESERVE: f64 = 0.25;
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
    budgets: Budgets,
}

/// How many connections each caller holds.
#[derive(Debug)]
struct Places {
    share: Share,
    held: Mutex<HashMap<PlaceKey, usize>>,
}

/// A caller, and the address where it asks: what strangers of one address may hold is no other's.
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
        Self { judge, callers, capture, minimum, places, budgets: Budgets::default() }
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
            let connections = TaskTracker::new();
            if let Some(listener) = unix {
                tokio::spawn(self.clone().accept_unix(listener, connections.clone(), stop.clone()));
            }
            for (address, listener) in tcp {
                let (door, connections) = (self.clone(), connections.clone());
                tokio::spawn(door.accept_tcp(address, listener, connections, stop.clone()));
            }
            stop.cancelled().await;
            connections.close();
            connections.wait().await;
        });
        runtime.shutdown_background();
    }

    async fn accept_unix(self, listener: UnixListener, connections: TaskTracker, stop: CancellationToken) {
        while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
            match accepted {
                Ok((socket, _)) => {
                    if let Some(connection) = self.let_in_unix(socket) {
                        connections.spawn(connection.serve(self.clone(), stop.clone()));
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
        let asker = Asker::known(self.callers.caller(peer), &self.callers, None);
        let socket = UnixSocket::new(socket).map_err(|error| self.refuse(&error.to_string())).ok()?;
        Some(self.connection(Socket::Unix(socket), asker, place))
    }

    async fn accept_tcp(
        self,
        address: SocketAddr,
        listener: TcpListener,
        connections: TaskTracker,
        stop: CancellationToken,
    ) {
        while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
            match accepted {
                Ok((socket, _)) => {
                    if let Some(connection) = self.let_in_tcp(address, socket) {
                        connections.spawn(connection.serve(self.clone(), stop.clone()));
                    }
                }
                Err(error) => rest(&error).await,
            }
        }
    }

    /// Whom the kernel does not tell is let in as a stranger, since that is a sign of nothing; whose process is gone is not.
    fn let_in_tcp(&self, address: SocketAddr, socket: TcpStream) -> Option<Connection> {
        let _ = socket.set_nodelay(true);
        let peer = Peer::of_tcp(&socket.as_fd(), self.capture.as_deref());
        let peer = peer.map_err(|refusal| self.refuse(&refusal.to_string())).ok()?;
        let key = peer.as_ref().map_or(CallerKey::Unknown, Peer::caller_key);
        let place = self.place((key, Some(address)))?;
        let asker = match peer {
            Some(peer) => Asker::known(self.callers.caller(peer), &self.callers, Some(address)),
            None => Asker::unknown(address),
        };
        Some(self.connection(Socket::Tcp(socket), asker, place))
    }

    fn connection(&self, socket: Socket, asker: Asker, place: Place) -> Connection {
        let open = Open::count(&self.judge.metrics.connections);
        let asker = Arc::new(asker);
        let attested = Arc::clone(&asker);
        tokio::spawn(async move { attested.attest().await });
        Connection { socket, asker, _place: place, _open: open }
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
    asker: Arc<Asker>,
    _place: Place,
    _open: Open,
}

#[derive(Debug)]
enum Socket {
    Unix(UnixSocket),
    Tcp(TcpStream),
}

impl Connection {
    async fn serve(self, door: Door, stop: CancellationToken) {
        let Self { socket, asker, _place, _open } = self;
        let Door { judge, budgets, .. } = &door;
        match socket {
            Socket::Unix(socket) => connection::serve(socket, judge, &asker, budgets, &stop).await,
            Socket::Tcp(socket) => connection::serve(socket, judge, &asker, budgets, &stop).await,
        }
    }
}
