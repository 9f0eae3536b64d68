//! The connections of one thread, and what they share.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{UnixListener, UnixStream},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Front, Outcome, Refused,
    bell::Bells,
    connection::{self, LINGER},
};
use crate::{attestation::Peer, caller::Caller, open::Open, quiet::Quiet};

/// How long the accept loop rests when the process has no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
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
    pub async fn run(self: Arc<Self>, listeners: Vec<UnixListener>, stop: CancellationToken) {
        let fan_out = tokio::spawn(Arc::clone(&self).fan_out());
        for listener in listeners {
            let (shard, stop) = (Arc::clone(&self), stop.clone());
            tokio::spawn(async move { stop.run_until_cancelled(shard.accept(listener)).await });
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
        let place = match self.front.admission.connection(caller.peer().caller_key()) {
            Ok(place) => place,
            Err(Refused { reason }) => return Outcome::shed(reason),
        };
        let _open = Open::count(&self.front.metrics.connections);
        connection::serve(self, socket, caller, &place).await
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

    async fn accept(self: Arc<Self>, listener: UnixListener) {
        loop {
            match listener.accept().await {
                Ok((socket, _)) => {
                    self.front.metrics.accepted.inc();
                    let shard = Arc::clone(&self);
                    tokio::spawn(async move {
                        let outcome = shard.connection(socket).await;
                        shard.front.metrics.connections_ended.get_or_create(&outcome).inc();
                    });
                }
                // The peer gave up first.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    if let Some(suppressed) = ACCEPT_ERRORS.line(Instant::now()) {
                        tracing::warn!(%error, suppressed, "connection cannot be accepted (E0305)");
                    }
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn connection(&self, socket: UnixStream) -> Outcome {
        let front = &self.front;
        let caller = match Peer::of(&socket, front.capture.as_deref(), front.minimum) {
            Ok(peer) => Arc::new(front.callers.caller(peer)),
            Err(refusal) => return front.refuse(&refusal, &socket),
        };
        self.serve(socket, caller).await
    }
}
