//! The public socket: HTTP/2 on the `h2` crate.
//!
//! Calls of the Secret Discovery Service are served here, through the seam `sds::transport`; every other path is
//! handed to tonic services. What a stranger can open, send or leave unread has a bound, counted before an
//! attestation is paid for.

mod admission;
mod bell;
mod bridge;
mod connection;
mod grpc;
mod keepalive;
mod limits;
mod pace;
mod queue;
mod reader;
mod session;
mod shard;
mod socket;
pub mod threads;
mod wire;

use std::{os::fd::AsFd, sync::Arc, time::Instant};

use nix::sys::socket::{getsockopt, sockopt};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
};
use tonic::service::Routes;

pub use admission::InUse;
use admission::{Admission, Refused};
pub use limits::Limits;
pub use shard::Shard;
pub use socket::{BoundSocket, MAX_SOCKET_PATH, bind};

use crate::{
    attestation::{Grade, Refusal},
    caller::Callers,
    kernel::Capture,
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
    /// Times that a listen queue was made short.
    pub floods: Counter,
    /// How often a caller's bytes were left unread for a while, since it sends too fast.
    pub paused: Counter,
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
    fn ended(&self, outcome: &Outcome) {
        self.connections_ended.get_or_create(outcome).inc();
    }

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

impl From<Refused> for Outcome {
    fn from(refused: Refused) -> Self {
        Self::shed(refused.reason)
    }
}

static REFUSALS: Quiet = Quiet::new();

impl Front {
    pub fn new(
        limits: Limits,
        minimum: Grade,
        capture: Option<Arc<Capture>>,
        callers: Callers,
        sds: Sds,
        routes: Routes,
    ) -> Self {
        let admission = Admission::new(&limits);
        Self { limits, minimum, capture, callers, sds, routes, metrics: Metrics::default(), admission }
    }

    /// What strangers hold of it now.
    pub fn in_use(&self) -> InUse {
        self.admission.in_use()
    }

    /// Closes a connection for what is known, or not known, of its maker.
    fn refuse(&self, refusal: &Refusal, socket: &impl AsFd) -> Outcome {
        let maker = getsockopt(socket, sockopt::PeerCredentials).map_or((0, u32::MAX, u32::MAX), |maker| {
            (u32::try_from(maker.pid()).unwrap_or(0), maker.uid(), maker.gid())
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
