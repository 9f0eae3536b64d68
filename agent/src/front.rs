//! The public socket: HTTP/2 on the `h2` crate.
//!
//! Calls of the Secret Discovery Service are served here, through the seam `sds::transport`; every other path is
//! handed to tonic services. What a stranger can open, send or leave unread has a bound, counted before an
//! attestation is paid for.

mod admission;
mod bridge;
mod connection;
mod grpc;
mod keepalive;
mod socket;
mod watched;

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

pub use admission::Limits;
use admission::{Admission, Refused};
pub use socket::{BoundSocket, MAX_SOCKET_PATH, bind};

use crate::{
    attestation::{Grade, Peer, Refusal},
    caller::Callers,
    kernel::Capture,
    open::Open,
    quiet::Quiet,
    sds::Sds,
};

/// Everything that a connection needs. One for the whole agent.
#[derive(Debug)]
pub struct Front {
    pub limits: Limits,
    pub minimum: Grade,
    pub capture: Option<Arc<Capture>>,
    pub callers: Callers,
    pub sds: Sds,
    /// The tonic services behind every path that is not SDS. They find an `Arc<Caller>` in the extensions.
    pub routes: Routes,
    pub metrics: Metrics,
    admission: Admission,
}

/// Every accepted connection and every call ends in exactly one of served, refused or shed.
#[derive(Debug, Default)]
pub struct Metrics {
    pub connections: Gauge,
    pub accepted: Counter,
    pub connections_ended: Family<Outcome, Counter>,
    pub calls: Counter,
    pub calls_ended: Family<Outcome, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Outcome {
    pub outcome: &'static str,
    /// Empty when served.
    pub reason: &'static str,
}

impl Metrics {
    fn call_ended(&self, outcome: &Outcome) {
        self.calls_ended.get_or_create(outcome).inc();
    }
}

impl Outcome {
    pub const SERVED: Self = Self { outcome: "served", reason: "" };

    pub fn refused(reason: &'static str) -> Self {
        Self { outcome: "refused", reason }
    }

    pub fn shed(reason: &'static str) -> Self {
        Self { outcome: "shed", reason }
    }
}

/// How long the accept loop rests when the process has no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

static REFUSALS: Quiet = Quiet::new();
static ACCEPT_ERRORS: Quiet = Quiet::new();

impl Front {
    pub fn new(
        limits: Limits,
        minimum: Grade,
        capture: Option<Arc<Capture>>,
        callers: Callers,
        sds: Sds,
        routes: Routes,
    ) -> Self {
        let admission = Admission::new(limits.clone());
        Self { limits, minimum, capture, callers, sds, routes, metrics: Metrics::default(), admission }
    }

    /// Accepts until `stop`; each connection is a task of its own.
    pub async fn run(self: Arc<Self>, listener: UnixListener, stop: CancellationToken) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = stop.cancelled() => return,
            };
            match accepted {
                Ok((socket, _)) => {
                    self.metrics.accepted.inc();
                    let front = Arc::clone(&self);
                    let stop = stop.clone();
                    tokio::spawn(async move {
                        let outcome = front.connection(socket, stop).await;
                        front.metrics.connections_ended.get_or_create(&outcome).inc();
                    });
                }
                // The peer gave up first.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    if let Some(suppressed) = ACCEPT_ERRORS.line(Instant::now()) {
                        tracing::warn!(%error, suppressed, "connection cannot be accepted (E0305)");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn connection(self: &Arc<Self>, socket: UnixStream, stop: CancellationToken) -> Outcome {
        let peer = match Peer::of(&socket, self.capture.as_deref(), self.minimum) {
            Ok(peer) => peer,
            Err(refusal) => return self.refuse(&refusal, &socket),
        };
        let place = match self.admission.connection(peer.caller_key()) {
            Ok(place) => place,
            Err(Refused { reason }) => return Outcome::shed(reason),
        };
        let _open = Open::count(&self.metrics.connections);
        let caller = Arc::new(self.callers.caller(peer));
        connection::serve(self, socket, caller, &place, stop).await
    }

    fn refuse(&self, refusal: &Refusal, socket: &UnixStream) -> Outcome {
        let maker = socket.peer_cred().map_or((0, u32::MAX, u32::MAX), |maker| {
            (maker.pid().and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0), maker.uid(), maker.gid())
        });
        let decision = self.callers.refuse(refusal, maker);
        let (reason, code) = (refusal.reason(), refusal.code());
        if let Some(suppressed) = REFUSALS.line(Instant::now()) {
            let (pid, uid, _) = maker;
            tracing::info!(pid, uid, %refusal, code, %decision, suppressed, "connection refused");
        }
        Outcome::refused(reason)
    }
}
