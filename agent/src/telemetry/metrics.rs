//! Every metric of the agent, under its name. Durations are seconds; no label holds an id, a pid or a path.

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::{SystemTime, UNIX_EPOCH},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{
        counter::ConstCounter,
        family::Family,
        gauge::{ConstGauge, Gauge},
        info::Info,
    },
    registry::{Registry, Unit},
};

use crate::{
    attestation::{Attestor, Grade},
    authority::KeyPool,
    config::Limits,
    health::Node,
};

const CRYPTO: &str = if cfg!(feature = "aws-lc-rs") { "ring, aws-lc-rs" } else { "ring" };

/// Registers what every stage counts. What is only known when asked is asked at each scrape.
pub fn registry(node: Arc<Node>, attestor: &Attestor, keys: Arc<KeyPool>, limits: &Limits) -> Registry {
    let mut registry = Registry::with_prefix("vouch");
    let version = env!("CARGO_PKG_VERSION");
    registry.register(
        "build",
        "What this agent was built from",
        Info::new(vec![("version", version), ("crypto", CRYPTO)]),
    );

    let front = &node.front.metrics;
    registry.register(
        "connections",
        "Connections of the public socket that are open",
        front.connections.clone(),
    );
    registry.register(
        "connections_accepted",
        "Connections accepted on the public socket",
        front.accepted.clone(),
    );
    registry.register("connections_ended", "Connections by how they ended", front.connections_ended.clone());
    registry.register("calls", "Calls begun on the public socket", front.calls.clone());
    registry.register("calls_ended", "Calls by how they ended", front.calls_ended.clone());
    registry.register(
        "listen_queue_floods",
        "Times that a listen queue was made short, since somebody connects without pause",
        front.floods.clone(),
    );
    registry.register(
        "reads_paused",
        "Times that a caller's frames were left unread since it sends too many",
        front.paused.clone(),
    );

    let decisions = node.front.callers.decisions.metrics();
    registry.register("decisions_held", "Decisions that are remembered", decisions.held.clone());
    registry.register(
        "decisions",
        "Decisions about callers that were taken down",
        decisions.recorded.clone(),
    );
    registry.register(
        "decisions_repeated",
        "Decisions that said again what is remembered",
        decisions.repeated.clone(),
    );
    registry.register("decisions_dropped", "Decisions that made room for others", decisions.dropped.clone());

    let sds = &node.front.sds.metrics;
    registry.register("sds_streams", "StreamSecrets calls that are open", sds.streams.clone());
    registry.register("sds_responses", "Responses made for Envoys", sds.pushes.clone());
    registry.register(
        "sds_superseded",
        "Responses replaced by a newer one before they were written",
        sds.superseded.clone(),
    );
    registry.register("sds_nacks", "Responses that an Envoy refused", sds.nacks.clone());
    registry.register("sds_stalled", "Streams ended because the client did not read", sds.stalled.clone());
    registry.register(
        "workload_api_streams",
        "Workload API calls that are open",
        node.workload_api.streams.clone(),
    );

    #[cfg(feature = "authz")]
    if let Some(authz) = &node.authz {
        register_authz(&mut registry, authz.metrics());
    }

    let attestation = attestor.metrics();
    registry.register("attestations", "Attestations that gave selectors", attestation.attested.clone());
    registry.register("attestations_failed", "Attestations that gave none", attestation.failed.clone());
    registry.register(
        "attestations_shed",
        "Attestations turned away, by the limit that was reached",
        attestation.shed.clone(),
    );
    registry.register(
        "attestation_gaps",
        "Facts that could not be learned of an attested process",
        attestation.gaps.clone(),
    );
    registry.register(
        "attestations_shared",
        "Connections whose process was attested already",
        attestation.shared.clone(),
    );
    registry.register(
        "processes_changed",
        "Connected processes that were judged again, by what had changed",
        attestation.changed.clone(),
    );
    registry.register("processes_ended", "Attested processes that ended", attestation.ended.clone());
    registry.register(
        "witness_silences",
        "Questions that a container engine or another witness left unanswered",
        attestation.silences.clone(),
    );
    registry.register_with_unit(
        "sweep",
        "How long one look at all connected processes took",
        Unit::Seconds,
        attestation.sweeps.clone(),
    );
    registry.register("files_hashed", "Executables read to be hashed", attestation.hashed.clone());
    registry.register_with_unit(
        "attestation",
        "From the first call of a connection to its selectors, by whether its process was known",
        Unit::Seconds,
        attestation.seconds.clone(),
    );

    registry.register(
        "template_refusals",
        "Times that a template gave no identity to a process that has all that it asks for, by why",
        node.svids.template_refusals(),
    );
    registry.register(
        "limit",
        "Limits in force, under the keys of [limits]; times in seconds",
        limits_in_force(limits, node.front.limits.connections),
    );
    registry.register(
        "keys_made_ahead",
        "Keys of SVIDs that were made in idle time",
        keys.metrics.made_ahead.clone(),
    );
    registry.register(
        "keys_taken",
        "Keys that became SVIDs, by whether they were made ahead or on the spot",
        keys.metrics.taken.clone(),
    );
    registry.register(
        "key_pool_emptied",
        "Times that the last key made ahead was taken",
        keys.metrics.emptied.clone(),
    );
    registry.register_collector(Box::new(Asked { node, keys }));
    registry
}

type LimitGauges = Family<[(&'static str, &'static str); 1], Gauge<f64, AtomicU64>>;

#[cfg(feature = "authz")]
fn register_authz(registry: &mut Registry, authz: &crate::authz::Metrics) {
    registry.register(
        "authz_connections",
        "Connections of Envoys that ask for authorization",
        authz.connections.clone(),
    );
    registry.register(
        "authz_connections_refused",
        "Connections for authorization that were closed at once",
        authz.refused.clone(),
    );
    registry.register(
        "authz_checks",
        "Answers by the policy that decided, and why where it gave none",
        authz.checks.clone(),
    );
    registry.register_with_unit(
        "authz_check",
        "How long an answer took, from the question to what Envoy is told",
        Unit::Seconds,
        authz.seconds.clone(),
    );
    registry.register(
        "authz_reloads",
        "Policies that were read again, by whether they decide now",
        authz.reloads.clone(),
    );
    registry.register("authz_log_lost", "Decisions that are not in the decision log", authz.log_lost.clone());
    registry.register(
        "authz_shadow_differences",
        "Policies that two ways of evaluation decide differently; the engine's answers count since",
        authz.shadow_differences.clone(),
    );
}

/// `connections` is what descriptors leave of the limit that is configured.
fn limits_in_force(limits: &Limits, connections: usize) -> LimitGauges {
    let gauges = LimitGauges::default();
    for (key, limit) in [
        ("connections", connections as f64),
        ("connections_per_caller", limits.connections_per_caller as f64),
        ("connects_per_second", limits.connects_per_second as f64),
        ("flooded_queue", limits.flooded_queue as f64),
        ("streams", limits.streams as f64),
        ("streams_per_connection", limits.streams_per_connection as f64),
        ("streams_per_caller", limits.streams_per_caller as f64),
        ("reserve", limits.reserve),
        ("frames_per_second", limits.frames_per_second as f64),
        ("sds_request", limits.sds_request as f64),
        ("request", limits.request as f64),
        ("names_per_stream", limits.names_per_stream as f64),
        ("header_list", limits.header_list as f64),
        ("header_fields", limits.header_fields as f64),
        ("pending_resets", limits.pending_resets as f64),
        ("local_resets", limits.local_resets as f64),
        ("attestations", limits.attestations as f64),
        ("attestations_per_caller", limits.attestations_per_caller as f64),
        ("attestations_queued", limits.attestations_queued as f64),
        ("attestations_per_second", limits.attestations_per_second as f64),
        ("attestations_burst", limits.attestations_burst as f64),
        ("attested_processes", limits.attested_processes as f64),
        ("template_identities", limits.template_identities as f64),
        ("preface_timeout", limits.preface_timeout.as_secs_f64()),
        ("first_request_timeout", limits.first_request_timeout.as_secs_f64()),
        ("attestation_timeout", limits.attestation_timeout.as_secs_f64()),
        ("idle_timeout", limits.idle_timeout.as_secs_f64()),
        ("stalled_timeout", limits.stalled_timeout.as_secs_f64()),
        ("keepalive_interval", limits.keepalive_interval.as_secs_f64()),
        ("keepalive_timeout", limits.keepalive_timeout.as_secs_f64()),
    ] {
        gauges.get_or_create(&[("limit", key)]).set(limit);
    }
    gauges
}

/// What is asked at each scrape.
#[derive(Debug)]
struct Asked {
    node: Arc<Node>,
    keys: Arc<KeyPool>,
}

impl Collector for Asked {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Self { node, keys } = self;
        let now = SystemTime::now();
        let mut gauge = |name: &str, help: &str, value: f64| {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
        };
        let svids = node.svids.stats();
        gauge("entries", "Registration entries in force", node.entries.current().len() as f64)?;
        gauge("svids", "X.509-SVIDs held", svids.held as f64)?;
        gauge("key_pool", "Keys made ahead that are held", keys.held() as f64)?;
        gauge("key_pool_limit", "Most keys that are made ahead", keys.limit() as f64)?;
        gauge("svids_failing", "SVIDs whose last issue failed", svids.failing as f64)?;
        gauge(
            "svid_earliest_expiry_timestamp_seconds",
            "When the first SVID ends; 0 when none is held",
            unix(svids.first_expiry),
        )?;
        gauge(
            "issuer_expiry_timestamp_seconds",
            "When the signing certificate ends",
            unix(Some(node.authority.expires())),
        )?;
        gauge(
            "degraded",
            "1 when something is worse than it should be: see vouch status",
            f64::from(u8::from(node.is_degraded(now))),
        )?;
        let grade = node.grade();
        gauge(
            "evidence_grade",
            "Best evidence: 0 peercred, 1 pidfd, 2 kernel",
            f64::from(grade as u8 - Grade::Peercred as u8),
        )?;
        let in_use = node.front.in_use();
        gauge("calls_open", "Calls of the public socket that are open", in_use.streams as f64)?;
        gauge(
            "callers",
            "Containers, and users outside containers, that are connected",
            in_use.callers as f64,
        )?;
        let (under_way, queued) = node.front.callers.attestor.at_work();
        gauge("attestations_under_way", "Attestations under way", under_way as f64)?;
        gauge("attestations_queued", "Attestations that wait for their turn", queued as f64)?;
        let (remembered, evicted) = node.front.callers.attestor.remembered();
        gauge("attested_processes", "Attested processes that are remembered", remembered as f64)?;
        if let Some(processes) = &node.processes {
            gauge("processes", "Processes in the table", processes.counters().size as f64)?;
        }
        for hook in node.capture.iter().flat_map(|capture| capture.hooks()) {
            let attached = f64::from(u8::from(hook.state == crate::kernel::HookState::Attached));
            gauge(
                &format!("hook_{}_attached", hook.name),
                "1 when this kernel program is attached",
                attached,
            )?;
        }

        let mut counter = |name: &str, help: &str, value: u64| {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)
        };
        let reloads = node.entries.counts();
        counter("entry_reloads", "Readings of the entry files that were taken", reloads.accepted)?;
        counter(
            "entry_reloads_refused",
            "Readings of the entry files that kept the old entries",
            reloads.refused,
        )?;
        counter("attested_processes_evicted", "Attested processes that were let go to make room", evicted)?;
        counter("svids_issued", "SVIDs issued", svids.issued_total)?;
        counter("svids_failed", "Issues that failed", svids.failed_total)?;
        if let Some(counters) = node.capture.as_ref().and_then(|capture| capture.counters().ok()) {
            counter(
                "kernel_connects",
                "Connects on Unix sockets that the kernel recorded",
                counters.connects,
            )?;
            counter(
                "kernel_connects_without_storage",
                "Connects for which the kernel had no room",
                counters.connects_without_storage,
            )?;
            counter(
                "kernel_connects_delayed",
                "Connects that took longer: their makers connect to the agent too often, or left no record",
                counters.connects_delayed,
            )?;
            counter("kernel_handovers", "Records handed to an accepted socket", counters.handovers)?;
            counter(
                "kernel_handovers_without_record",
                "Accepted sockets without a record",
                counters.handovers_without_record,
            )?;
            counter(
                "kernel_origins_lost",
                "Processes for whose executable there was no room to note",
                counters.origins_lost,
            )?;
            counter("kernel_events", "Events of processes", counters.events)?;
            counter("kernel_events_lost", "Events of processes that were lost", counters.events_lost)?;
        }
        Ok(())
    }
}

fn unix(time: Option<SystemTime>) -> f64 {
    time.and_then(|time| time.duration_since(UNIX_EPOCH).ok()).map_or(0.0, |since| since.as_secs_f64())
}
