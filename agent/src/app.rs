//! Builds every part, wires the channels, spawns the tasks: reading this is reading the architecture.

#[cfg(feature = "authz")]
mod authz;
mod hardening;
mod parts;
mod pins;
mod prepare;
mod services;

use std::{io, sync::Arc, time::SystemTime};

use tokio::{
    net::{TcpListener, UnixListener},
    signal::unix::{SignalKind, signal},
};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;

use parts::Parts;
pub use pins::unpin;
pub use prepare::{Prepared, hide_memory, prepare};

use crate::{
    attestation::{Attestor, witnesses},
    authority::KeyPool,
    caller::Callers,
    config::IssuerKind,
    decision::Decisions,
    front::{self, Front},
    health::Node,
    problem::Problem,
    process::Processes,
    registration::EntryFiles,
    svid::{Schedule, SvidOwner, WithKeysAhead},
    telemetry::{self, Probes},
    workload_api::WorkloadApi,
};

/// Runs a prepared agent until SIGINT or SIGTERM. `ready` is called once everything serves.
///
/// # Errors
/// When a part cannot start. Afterwards the agent degrades, and says so, but does not stop.
pub async fn run(prepared: Prepared, ready: impl FnOnce(&Node)) -> Result<(), Problem> {
    let stop = CancellationToken::new();
    let mut parts = Parts::default();
    #[cfg(feature = "authz")]
    let prepared_authz = prepared.authz;
    let Prepared {
        config, authority, capture, capture_problem, unpinned, host, public, admin, metrics, ..
    } = prepared;
    let started_at = SystemTime::now();

    // kernel → process → attestation
    let (capture, events) = capture.map(|(capture, events)| (Arc::new(capture), events)).unzip();
    let witnesses = witnesses(&services::witnesses(&config));
    let attestor = Attestor::new(services::attestor(&config), capture.clone(), host, witnesses);
    let attestor = Arc::new(attestor);
    let mut processes = None;
    if let Some(source) = capture.clone().zip(events) {
        match Processes::follow(source).await {
            Ok((table, follow)) => {
                processes = Some(table);
                let attestor = Arc::clone(&attestor);
                parts.spawn("the table of processes", async move {
                    if let Err(error) = follow.run_and_tell(|events| attestor.observe(events)).await {
                        tracing::error!(%error, "processes are no longer followed (E0753)");
                    }
                });
            }
            Err(error) => tracing::error!(%error, "processes cannot be listed (E0753)"),
        }
    }
    parts.spawn("the watch over connected processes", Arc::clone(&attestor).keep_watch());

    // registration
    let (entries, watch_files) =
        EntryFiles::open(config.entries.files.clone(), config.trust_domain.clone()).await?;
    parts.spawn("the watch on the entry files", watch_files.run());
    // Before anybody is served: the first caller may be the one who has a hash to be known by.
    attestor.want(services::wanted(&entries.subscribe().borrow()));
    parts.spawn("the wish for dear facts", services::want(entries.subscribe(), Arc::clone(&attestor)));
    parts.spawn("the answer to SIGHUP", services::reload_on_hangup(entries.clone()));

    // authority → svid
    parts.spawn("the keeper of the authority", authority.clone().maintain());
    let schedule = Schedule { at: config.rotation.at, jitter: config.rotation.jitter };
    let keys = Arc::new(KeyPool::new(authority.config().key_type, config.issuer.key_pool));
    parts.spawn("the making of keys", Arc::clone(&keys).fill());
    let issuer = Arc::new(WithKeysAhead { authority: authority.clone(), keys: Arc::clone(&keys) });
    let (svids, owner) = SvidOwner::new(issuer, entries.subscribe(), schedule, started_at);
    let owner = owner
        .checked_by(services::check_before_push(Arc::clone(&attestor)))
        .deriving_at_most(config.limits.template_identities);
    parts.spawn("the owner of the SVIDs", owner.run());

    // sds, workload_api → front
    let workload_api = WorkloadApi { issue_wait: services::ISSUE_WAIT, metrics: Default::default() };
    let streams = workload_api.metrics.clone();
    let (routes, health) = services::public(workload_api, config.limits.request).await?;
    let sds = services::sds(&config);
    let limits = services::limits(&config);
    let callers = Callers {
        attestor: Arc::clone(&attestor),
        svids: svids.clone(),
        decisions: Arc::new(Decisions::new(config.attest.decisions)),
    };
    let front = Front::new(limits, services::minimum(&config), capture.clone(), callers.clone(), sds, routes);
    let front = Arc::new(front);
    let sockets = public.iter().map(|(_, bound)| bound.path.clone()).collect();
    let (listeners, mut bound): (Vec<_>, Vec<_>) = public.into_iter().unzip();
    let threads = front::threads::serve(&front, &listeners, &stop).await;
    for thread in threads.map_err(|error| cannot_listen(&error))? {
        parts.spawn("a thread of the public socket", thread);
    }

    // authz
    #[cfg(feature = "authz")]
    let authz = match prepared_authz {
        Some(prepared) => {
            let minimum = services::minimum(&config);
            let (authz, socket) =
                prepared.serve(&mut parts, callers, capture.clone(), minimum, stop.clone()).await?;
            bound.extend(socket);
            Some(authz)
        }
        None => None,
    };

    // health, admin, telemetry
    let node = Arc::new(Node {
        config: config.clone(),
        trust_domain: config.trust_domain.clone(),
        started_at,
        issuer: match config.issuer.kind {
            IssuerKind::Embedded { .. } => "embedded",
            IssuerKind::Intermediate { .. } => "intermediate",
        },
        capture,
        capture_problem,
        unpinned,
        processes,
        entries,
        authority,
        svids,
        front,
        workload_api: streams,
        #[cfg(feature = "authz")]
        authz,
        sockets,
    });
    let (listener, socket) = admin;
    bound.push(socket);
    let incoming = UnixListenerStream::new(listen(listener)?);
    let admin = services::admin(Arc::clone(&node))
        .serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned());
    parts.spawn("the admin socket", async move {
        if let Err(error) = admin.await {
            tracing::error!(%error, "the admin socket is no longer served (E0321)");
        }
    });
    let probes = Arc::new(Probes::default());
    if let Some(listener) = metrics {
        let listener = TcpListener::from_std(listener).map_err(|error| cannot_listen(&error))?;
        let registry = telemetry::registry(Arc::clone(&node), &attestor, keys, &config.limits);
        let is_ready = services::readiness(Arc::clone(&node));
        parts.spawn(
            "the metrics",
            telemetry::serve(listener, registry, Arc::clone(&probes), is_ready, stop.clone()),
        );
    }
    parts.spawn("the health service", services::watch_health(health, Arc::clone(&node)));

    probes.started();
    ready(&node);
    tokio::select! {
        told = until_told_to_stop() => told?,
        () = parts.watch(&probes) => {}
    }
    tracing::info!("stopping");
    stop.cancel();
    // Names first: whoever reconnects now waits for the next agent instead of being refused by this one.
    drop((bound, listeners));
    parts.ended("a thread of the public socket").await;
    parts.shutdown().await;
    Ok(())
}

fn listen(listener: std::os::unix::net::UnixListener) -> Result<UnixListener, Problem> {
    UnixListener::from_std(listener).map_err(|error| cannot_listen(&error))
}

fn cannot_listen(error: &io::Error) -> Problem {
    Problem::new("E0306", "a socket cannot be listened on")
        .why(error.to_string())
        .fix("see whether descriptors ran out")
}

async fn until_told_to_stop() -> Result<(), Problem> {
    let cannot =
        |error: io::Error| Problem::new("E0307", "signals cannot be received").why(error.to_string());
    let mut terminate = signal(SignalKind::terminate()).map_err(cannot)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot)?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
