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
    task::{JoinSet, yield_now},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Front, Outcome, Refused,
    admission::{ConnectionPlace, TOO_SOON},
    bell::Bells,
    connection::{self, LINGER},
    queue::{Batch, Listener},
};
use crate::{
    attestation::{Evidence, Peer},
    caller::Caller,
    kernel::ConnectorKey,
    open::Open,
    quiet::Quiet,
};

/// How long the accept loop rests when the process has no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// After so many that were accepted, or so many of them that were turned away, those that are open have their turns.
const ACCEPTED_AT_ONCE: u64 = 16;
const TURNED_AWAY_AT_ONCE: u64 = 4;
/// How long the connects of a caller are slowed down that came too soon, or is refused.
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

    /// Accepts until `stop`, or until that is not possible any more; then lets the connections end.
    pub(super) async fn run(self: Arc<Self>, listeners: Vec<Listener>, stop: CancellationToken) {
        let fan_out = tokio::spawn(Arc::clone(&self).fan_out());
        let mut accepting = JoinSet::new();
        for listener in listeners {
            accepting.spawn(Arc::clone(&self).accept(listener));
        }
        // None of them ends by itself, but one may be broken.
        stop.run_until_cancelled(accepting.join_next()).await;
        accepting.shutdown().await;
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

    async fn accept(self: Arc<Self>, listener: Listener) {
        loop {
            match self.accept_some(&listener.socket).await {
                Ok(batch) => {
                    listener.queue.take_note(batch);
                    if !batch.emptied {
                        yield_now().await;
                    }
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
    async fn accept_some(self: &Arc<Self>, socket: &AsyncFd<net::UnixListener>) -> io::Result<Batch> {
        let mut ready = socket.readable().await?;
        let mut batch = Batch::default();
        while batch.accepted < ACCEPTED_AT_ONCE && batch.turned_away < TURNED_AWAY_AT_ONCE && !batch.emptied {
            match ready.try_io(|socket| socket.get_ref().accept()) {
                Ok(Ok((socket, _))) => {
                    batch.accepted += 1;
                    batch.turned_away += u64::from(!self.let_in(socket));
                }
                // Whoever comes next meets it again.
                Ok(Err(_)) if batch.accepted > 0 => break,
                Ok(Err(error)) => return Err(error),
                Err(_would_block) => batch.emptied = true,
            }
        }
        Ok(batch)
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
        let connector = evidence.record().map(|seen| seen.task.connector_key());
        if let Some(connector) = connector {
            front.admission.not_too_soon(connector, Instant::now())?;
        }
        let peer = Peer::shown_by(evidence, socket, capture, front.minimum).map_err(|refusal| {
            self.slow_down(connector);
            refuse(refusal)
        })?;
        let caller = Arc::new(front.callers.caller(peer));
        let place = self.place_of(&caller)?;
        Ok((caller, place))
    }

    fn place_of(&self, caller: &Caller) -> Result<ConnectionPlace, Refused> {
        let (caller, record) = (caller.peer().caller_key(), caller.peer().record());
        let connector = record.map(|task| caller.known_by(task.connector_key()));
        let place = self.front.admission.connection(caller, connector);
        if let Err(TOO_SOON) = &place {
            self.slow_down(connector);
        }
        place
    }

    /// Whoever costs us something for nothing is the slower at it.
    fn slow_down(&self, connector: Option<ConnectorKey>) {
        if let (Some(capture), Some(connector)) = (&self.front.capture, connector)
            && let Err(error) = capture.slow_down(connector, SLOWED_FOR)
        {
            tracing::debug!(%error, "connects of a caller are not slowed down");
        }
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
