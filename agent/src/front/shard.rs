//! The connections of one thread, and what they share.

use std::{
    io,
    os::unix::net,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, unix::AsyncFd},
    net::UnixStream,
    task::yield_now,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Front, Outcome, Refused,
    admission::{ConnectionPlace, TOO_SOON},
    bell::Bells,
    connection::{self, LINGER},
    queue::{Door, Seen},
};
use crate::{
    attestation::{Evidence, Peer},
    caller::Caller,
    kernel::Task,
    open::Open,
    quiet::Quiet,
};

/// How long the accept loop rests when the process has no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// So many connections are accepted, or turned away, until those that are open have their turn.
const ACCEPTED_AT_ONCE: u64 = 4;
/// How long the connects of a caller are slowed down that came too soon.
const SLOWED_FOR: Duration = Duration::from_secs(1);
const STOP_CHECKED_EVERY: Duration = Duration::from_millis(10);

static ACCEPT_ERRORS: Quiet = Quiet::new();

/// Serves connections, each by a task of its own. Several shards serve one front side by side.
#[derive(Debug)]
pub struct Shard {
    pub(super) front: Arc<Front>,
    pub(super) bells: Bells,
    pub(super) stopping: AtomicBool,
}

impl Shard {
    pub fn new(front: Arc<Front>) -> Arc<Self> {
        Arc::new(Self { front, bells: Bells::default(), stopping: AtomicBool::new(false) })
    }

    /// Tells the connections of every publication. Never returns: one task of each shard.
    pub async fn fan_out(self: Arc<Self>) {
        self.bells.ring_after_publications(&self.front.callers.svids).await;
    }

    /// Accepts until `stop`, then lets the connections end.
    pub(super) async fn run(self: Arc<Self>, doors: Vec<Door>, stop: CancellationToken) {
        let fan_out = tokio::spawn(Arc::clone(&self).fan_out());
        for door in doors {
            let (shard, stop) = (Arc::clone(&self), stop.clone());
            tokio::spawn(async move { stop.run_until_cancelled(shard.accept(door)).await });
        }
        stop.cancelled().await;
        self.stop().await;
        fan_out.abort();
    }

    /// Serves the caller behind `socket` to the end of the connection.
    pub async fn serve<S>(&self, socket: S, caller: Arc<Caller>) -> Outcome
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        match self.place_of(&caller) {
            Ok(place) => self.serve_at(place, socket, caller).await,
            Err(refused) => refused.into(),
        }
    }

    /// Ends all connections, and waits for them, but not for ever.
    pub async fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.bells.ring_all();
        let all_gone = async {
            while !self.bells.are_gone() {
                sleep(STOP_CHECKED_EVERY).await;
            }
        };
        let _ = timeout(LINGER * 2, all_gone).await;
    }

    async fn accept(self: Arc<Self>, door: Door) {
        loop {
            match self.accept_some(&door.listener).await {
                Ok(seen) => {
                    door.queue.take_note(seen, Instant::now());
                    yield_now().await;
                }
                Err(error) => {
                    if let Some(suppressed) = ACCEPT_ERRORS.line(Instant::now()) {
                        tracing::warn!(%error, suppressed, "connection cannot be accepted (E0305)");
                    }
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Waits for connections, and accepts some of them.
    async fn accept_some(self: &Arc<Self>, listener: &AsyncFd<net::UnixListener>) -> io::Result<Seen> {
        let mut ready = listener.readable().await?;
        let mut seen = Seen::default();
        while seen.accepted < ACCEPTED_AT_ONCE && !seen.emptied {
            match ready.try_io(|listener| listener.get_ref().accept()) {
                Ok(Ok((socket, _))) => {
                    seen.accepted += 1;
                    seen.turned_away += u64::from(!self.let_in(socket));
                }
                // The peer gave up first.
                Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Ok(Err(error)) => return Err(error),
                Err(_would_block) => seen.emptied = true,
            }
        }
        Ok(seen)
    }

    /// Begins to serve whoever connected, or closes the connection. Whether it serves.
    fn let_in(self: &Arc<Self>, socket: net::UnixStream) -> bool {
        let metrics = &self.front.metrics;
        metrics.accepted.inc();
        let admitted = self.admit(&socket).and_then(|admitted| match into_tokio(socket) {
            Ok(socket) => Ok((admitted, socket)),
            Err(_) => Err(Outcome::refused("socket")),
        });
        match admitted {
            Ok(((caller, place), socket)) => {
                let shard = Arc::clone(self);
                tokio::spawn(async move {
                    let outcome = shard.serve_at(place, socket, caller).await;
                    shard.front.metrics.ended(&outcome);
                });
                true
            }
            Err(outcome) => {
                metrics.ended(&outcome);
                false
            }
        }
    }

    /// Who connects too fast is turned away before anything else is paid for.
    fn admit(&self, socket: &net::UnixStream) -> Result<(Arc<Caller>, ConnectionPlace), Outcome> {
        let front = &*self.front;
        let (capture, refuse) = (front.capture.as_deref(), |refusal| front.refuse(&refusal, socket));
        let evidence = Evidence::of(socket, capture).map_err(refuse)?;
        if let Evidence::Record(seen) = &evidence {
            front.admission.not_too_soon(seen.task.sign(), Instant::now())?;
        }
        let peer = Peer::shown_by(evidence, socket, capture, front.minimum).map_err(refuse)?;
        let caller = Arc::new(front.callers.caller(peer));
        let place = self.place_of(&caller)?;
        Ok((caller, place))
    }

    fn place_of(&self, caller: &Caller) -> Result<ConnectionPlace, Refused> {
        let Front { admission, capture, .. } = &*self.front;
        let (peer, sign) = (caller.peer(), caller.peer().record().map(Task::sign));
        let place = admission.connection(peer.caller_key(), sign);
        if let (Err(TOO_SOON), Some(capture), Some(sign)) = (&place, capture, sign) {
            // The place is refused either way.
            let _ = capture.slow_down(sign, SLOWED_FOR);
        }
        place
    }

    async fn serve_at<S>(&self, place: ConnectionPlace, socket: S, caller: Arc<Caller>) -> Outcome
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let _open = Open::count(&self.front.metrics.connections);
        connection::serve(self, socket, caller, &place).await
    }
}

fn into_tokio(socket: net::UnixStream) -> io::Result<UnixStream> {
    socket.set_nonblocking(true)?;
    UnixStream::from_std(socket)
}
