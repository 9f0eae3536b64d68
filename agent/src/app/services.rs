//! Parts as the configuration wants them, and the small tasks between them.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use nix::sys::resource::{Resource, getrlimit};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    time::sleep,
};
use tonic::{
    service::Routes,
    transport::{Server, server::Router},
};
use tonic_health::server::HealthReporter;
use vouch_proto::{
    admin::admin_server::AdminServer, workload::spiffe_workload_api_server::SpiffeWorkloadApiServer,
};

use crate::{
    admin::AdminApi,
    attestation::{Attestor, AttestorConfig, DockerConfig, Grade, PathRule, Wanted, WitnessConfig},
    config::{Config, MinimumGrade, PathMeaning},
    front::Limits,
    health::Node,
    problem::Problem,
    rate::Rate,
    registration::{EntryFiles, EntryIndex},
    sds::{self, Names, NamesConfig, Sds},
    svid::Check,
    workload_api::WorkloadApi,
};

/// How long a first answer waits for an SVID that is being issued.
pub(super) const ISSUE_WAIT: Duration = Duration::from_secs(5);
const HEALTH_EVERY: Duration = Duration::from_secs(1);
/// What the health service answers for, beside the whole.
const SERVICES: [&str; 3] = ["", "SpiffeWorkloadAPI", "envoy.service.secret.v3.SecretDiscoveryService"];
/// Descriptors for all that is no connection of the public socket: files, hooks, admin, metrics, attestations.
const RESERVED_DESCRIPTORS: usize = 256;
/// Largest admin request.
const ADMIN_REQUEST: usize = 16 << 10;

pub(super) fn attestor(config: &Config) -> AttestorConfig {
    AttestorConfig {
        path: match config.attest.unix.path {
            PathMeaning::Verified => PathRule::Verified,
            PathMeaning::Spire => PathRule::Spire,
        },
        hash_size_limit: config.attest.unix.hash_size_limit,
        timeout: config.limits.attestation_timeout,
        in_flight: config.limits.attestations,
        in_flight_per_caller: config.limits.attestations_per_caller,
        queued: config.limits.attestations_queued,
        reserve: config.limits.reserve,
        rate: Rate::new(config.limits.attestations_per_second, config.limits.attestations_burst),
        remembered: config.limits.attested_processes,
    }
}

pub(super) fn witnesses(config: &Config) -> WitnessConfig {
    let docker = &config.attest.docker;
    WitnessConfig {
        docker: DockerConfig {
            enabled: docker.enabled,
            socket: docker.socket.clone(),
            podman_socket: docker.podman_socket.clone(),
            rootless_sockets: docker.rootless.then(|| docker.podman_socket_template.clone()),
            env: docker.env,
        },
        systemd: config.attest.systemd.enabled,
        slurm: config.attest.slurm.enabled,
    }
}

pub(super) fn minimum(config: &Config) -> Grade {
    match config.attest.minimum {
        MinimumGrade::Kernel => Grade::Kernel,
        MinimumGrade::Pidfd => Grade::Pidfd,
        MinimumGrade::Peercred => Grade::Peercred,
    }
}

pub(super) fn limits(config: &Config) -> Limits {
    let limits = &config.limits;
    Limits {
        connections: connections(config).0,
        connections_per_caller: limits.connections_per_caller,
        connects_per_second: limits.connects_per_second,
        flooded_queue: limits.flooded_queue,
        streams: limits.streams,
        streams_per_connection: u32::try_from(limits.streams_per_connection).unwrap_or(u32::MAX),
        streams_per_caller: limits.streams_per_caller,
        reserve: limits.reserve,
        frames_per_second: limits.frames_per_second,
        header_list: u32::try_from(limits.header_list).unwrap_or(u32::MAX),
        header_fields: limits.header_fields,
        pending_resets: limits.pending_resets,
        local_resets: limits.local_resets,
        preface_timeout: limits.preface_timeout,
        first_request_timeout: limits.first_request_timeout,
        idle_timeout: limits.idle_timeout,
        stalled_timeout: limits.stalled_timeout,
        keepalive_interval: limits.keepalive_interval,
        keepalive_timeout: limits.keepalive_timeout,
    }
}

/// Connections of the public socket and of authorization: as many as are configured, or as descriptors allow. Their limit has
/// been raised as far as it goes.
pub(super) fn connections(config: &Config) -> (usize, usize) {
    let configured = config.connections();
    match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((soft, _)) => connections_within(usize::try_from(soft).unwrap_or(usize::MAX), configured),
        Err(error) => {
            tracing::warn!(%error, "the limit of descriptors cannot be read (W0723)");
            configured
        }
    }
}

/// Says so when there are fewer than are configured.
pub(super) fn warn_of_few_descriptors(config: &Config) {
    let (configured, allowed) = (config.connections(), connections(config));
    if allowed != configured {
        tracing::warn!(
            ?configured,
            ?allowed,
            "descriptors allow fewer connections than [limits] and [authz] connections: raise LimitNOFILE (W0724)"
        );
    }
}

/// Each connection is a socket and its peer's pidfd. Where descriptors do not suffice for all, those of authorization come
/// first, up to half: they are few, and an Envoy behind each. One of each is left where descriptors are fewer than the
/// agent itself needs.
fn connections_within(descriptors: usize, (public, authz): (usize, usize)) -> (usize, usize) {
    let most = descriptors.saturating_sub(RESERVED_DESCRIPTORS) / 2;
    let authz = authz.min((most / 2).max(most.saturating_sub(public)).max(1));
    (public.min(most.saturating_sub(authz)).max(1), authz)
}

pub(super) fn sds(config: &Config) -> Sds {
    let names = NamesConfig {
        default_svid: config.sds.default_svid_name.clone(),
        default_bundle: config.sds.default_bundle_name.clone(),
        default_all_bundles: config.sds.default_all_bundles_name.clone(),
        disable_spiffe_validator: config.sds.disable_spiffe_cert_validation,
        partial: config.sds.partial,
    };
    Sds {
        names: Names::new(names, &config.trust_domain),
        limits: sds::Limits {
            request_bytes: config.limits.sds_request,
            names: config.limits.names_per_stream,
        },
        stalled: config.limits.stalled_timeout,
        issue_wait: ISSUE_WAIT,
        first_request: config.limits.first_request_timeout,
        metrics: Default::default(),
    }
}

/// Everything on the public socket that is not SDS.
pub(super) async fn public(
    workload_api: WorkloadApi,
    request_bytes: usize,
) -> Result<(Routes, HealthReporter), Problem> {
    let (reporter, health) = tonic_health::server::health_reporter();
    for service in SERVICES {
        reporter.set_service_status(service, tonic_health::ServingStatus::Serving).await;
    }
    let unreflected = |error: tonic_reflection::server::Error| {
        Problem::new("E0309", "gRPC reflection cannot be built").why(error.to_string())
    };
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(vouch_proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .with_service_name("SpiffeWorkloadAPI")
            .with_service_name("envoy.service.secret.v3.SecretDiscoveryService")
            .with_service_name("grpc.health.v1.Health")
    };
    let mut routes = Routes::builder();
    routes
        .add_service(SpiffeWorkloadApiServer::new(workload_api).max_decoding_message_size(request_bytes))
        .add_service(health.max_decoding_message_size(request_bytes))
        .add_service(reflection().build_v1().map_err(unreflected)?.max_decoding_message_size(request_bytes))
        .add_service(
            reflection().build_v1alpha().map_err(unreflected)?.max_decoding_message_size(request_bytes),
        );
    Ok((routes.routes(), reporter))
}

pub(super) fn admin(node: Arc<Node>) -> Router {
    Server::builder()
        .add_service(AdminServer::new(AdminApi { node }).max_decoding_message_size(ADMIN_REQUEST))
}

/// Nobody is pushed what their process is no longer entitled to.
pub(super) fn check_before_push(attestor: Arc<Attestor>) -> Check {
    Box::new(move || {
        let attestor = Arc::clone(&attestor);
        Box::pin(async move { attestor.sweep().await })
    })
}

/// Facts that some entry asks for, though they cost more than others.
pub(super) fn wanted(entries: &EntryIndex) -> Wanted {
    Wanted { hash: entries.names("unix", "sha256"), parent: entries.names("kernel", "parent_exe") }
}

/// They are learned only while some entry asks for them.
pub(super) async fn want(mut entries: watch::Receiver<Arc<EntryIndex>>, attestor: Arc<Attestor>) {
    loop {
        attestor.want(wanted(&entries.borrow_and_update()));
        if entries.changed().await.is_err() {
            return;
        }
    }
}

/// SIGHUP reads the entry files again, changed or not.
pub(super) async fn reload_on_hangup(entries: EntryFiles) {
    let Ok(mut hangups) = signal(SignalKind::hangup()) else { return };
    while hangups.recv().await.is_some() {
        // A refusal is logged and kept by the files themselves.
        let _ = entries.reload().await;
    }
}

/// Why the node is not ready, when it is not. Degraded is ready: what is valid is served.
pub(super) fn readiness(node: Arc<Node>) -> impl Fn() -> Result<(), String> + Send + Sync {
    move || {
        if SystemTime::now() >= node.authority.expires() {
            return Err("the signing certificate has expired".into());
        }
        Ok(())
    }
}

/// gRPC health follows readiness.
pub(super) async fn watch_health(reporter: HealthReporter, node: Arc<Node>) {
    let ready = readiness(node);
    loop {
        let status = match ready() {
            Ok(()) => tonic_health::ServingStatus::Serving,
            Err(_) => tonic_health::ServingStatus::NotServing,
        };
        for service in SERVICES {
            reporter.set_service_status(service, status).await;
        }
        sleep(HEALTH_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_never_need_more_descriptors_than_there_are() {
        let all = usize::MAX / 4;
        assert_eq!(connections_within(20_000, (all, 0)), (9_872, 0));
        assert_eq!(connections_within(1024, (all, 0)), (384, 0));
        assert_eq!(connections_within(257, (all, all)), (1, 1));
        assert_eq!(connections_within(0, (all, 0)), (1, 0));
        for descriptors in 260..70_000 {
            for wanted in [(all, 0), (all, all), (8_192, 1_024), (100, 50)] {
                let (public, authz) = connections_within(descriptors, wanted);
                assert!(
                    2 * (public + authz) + RESERVED_DESCRIPTORS <= descriptors,
                    "{descriptors}: {wanted:?}"
                );
                assert!(public >= 1 && public <= wanted.0 && authz <= wanted.1);
            }
        }
    }

    #[test]
    fn connections_of_authorization_are_counted_with_those_of_the_public_socket() {
        assert_eq!(connections_within(20_000, (8_192, 1_024)), (8_192, 1_024), "there is room for all");
        assert_eq!(connections_within(8_448, (8_192, 1_024)), (3_072, 1_024), "those of authorization first");
        assert_eq!(connections_within(2_256, (8_192, 1_024)), (500, 500), "up to half");
        assert_eq!(connections_within(2_256, (100, 1_024)), (100, 900), "or what the others leave");
        assert_eq!(connections_within(260, (8_192, 1_024)), (1, 1));
    }
}
