//! `/metrics`, `/live`, `/ready` and `/started`, on loopback.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::get,
};
use prometheus_client::{encoding::text::encode, metrics::counter::Counter, registry::Registry};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::bounded::{Bounded, Bounds};

/// Every local process may connect, and a few probes and scrapers should.
const BOUNDS: Bounds = Bounds { connections: 64, patience: Duration::from_secs(60) };

/// What the probes say.
#[derive(Debug, Default)]
pub struct Probes {
    started: AtomicBool,
    /// The first part that ended.
    ended: OnceLock<&'static str>,
}

impl Probes {
    /// From now on the sockets serve.
    pub fn started(&self) {
        self.started.store(true, Ordering::Release);
    }

    /// A part of the agent is gone for good: from now on the node is not live.
    pub fn part_ended(&self, part: &'static str) {
        self.ended.get_or_init(|| part);
    }

    /// The part that is gone, when one is.
    pub fn live(&self) -> Result<(), &'static str> {
        self.ended.get().map_or(Ok(()), |part| Err(part))
    }

    fn has_started(&self) -> bool {
        self.started.load(Ordering::Acquire)
    }
}

struct Shared {
    registry: Registry,
    probes: Arc<Probes>,
    ready: Box<dyn Fn() -> Result<(), String> + Send + Sync>,
}

/// Serves until `stop`. `ready` says why the node is not ready, when it is not.
pub async fn serve(
    listener: TcpListener,
    mut registry: Registry,
    probes: Arc<Probes>,
    ready: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    stop: CancellationToken,
) {
    let shed = Counter::default();
    registry.register(
        "metrics_connections_shed",
        "Connections of the metrics port closed for want of room",
        shed.clone(),
    );
    let listener = Bounded::new(listener, BOUNDS, shed);
    let shared = Arc::new(Shared { registry, probes, ready: Box::new(ready) });
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/live", get(is_live))
        .route("/ready", get(is_ready))
        .route("/started", get(has_started))
        .with_state(shared);
    let served = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await;
    if let Err(error) = served {
        tracing::error!(%error, "metrics are no longer served (E0320)");
    }
}

async fn metrics(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    let mut text = String::new();
    match encode(&mut text, &shared.registry) {
        Ok(()) => ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
            .into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn is_live(State(shared): State<Arc<Shared>>) -> (StatusCode, String) {
    match shared.probes.live() {
        Ok(()) => (StatusCode::OK, "live\n".into()),
        Err(part) => (StatusCode::SERVICE_UNAVAILABLE, format!("{part} has ended\n")),
    }
}

async fn is_ready(State(shared): State<Arc<Shared>>) -> (StatusCode, String) {
    if !shared.probes.has_started() {
        return (StatusCode::SERVICE_UNAVAILABLE, "starting\n".into());
    }
    match (shared.ready)() {
        Ok(()) => (StatusCode::OK, "ready\n".into()),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

async fn has_started(State(shared): State<Arc<Shared>>) -> (StatusCode, &'static str) {
    if shared.probes.has_started() {
        (StatusCode::OK, "started\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "starting\n")
    }
}
