//! The file as it is written. The docs of these fields are the manual.

use serde::Deserialize;
use toml::Spanned;

use super::authz::RawAuthz;

/// A value, and where it stands in the file; absent means the default.
pub(super) type Setting<T> = Option<Spanned<T>>;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table")]
pub(super) struct RawConfig {
    /// Name of the trust domain that this node belongs to, such as "example.org". Required. It is stored at the
    /// first start; another one later is refused.
    pub(super) trust_domain: Setting<String>,
    /// Directory of the agent's own state, mode 0700: above all the key of the embedded CA.
    /// Default: "/var/lib/vouch".
    pub(super) state_dir: Setting<String>,
    pub(super) workload_api: RawWorkloadApi,
    pub(super) admin: RawAdmin,
    pub(super) entries: RawEntries,
    pub(super) issuer: RawIssuer,
    pub(super) rotation: RawRotation,
    pub(super) attest: RawAttest,
    pub(super) kernel: RawKernel,
    pub(super) sds: RawSds,
    pub(super) limits: RawLimits,
    pub(super) authz: RawAuthz,
    pub(super) telemetry: RawTelemetry,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a section")]
pub(super) struct RawWorkloadApi {
    /// Path of the socket that serves SDS, the Workload API, health and reflection to every local process; at
    /// most 107 bytes. Default: "/run/vouch/public/api.sock".
    pub(super) socket: Setting<String>,
    /// Further paths at which the same socket appears, such as "/tmp/spire-agent/public/api.sock". Default: [].
    pub(super) also: Setting<Vec<Spanned<String>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a section")]
pub(super) struct RawAdmin {
    /// Path of the operator's socket. It may not lie in or below the directory of the public socket, which
    /// everyone may enter. Default: "/run/vouch/admin/admin.sock".
    pub(super) socket: Setting<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a section")]
pub(super) struct RawEntries {
    /// Files of registration entries, .json or .toml, read again when they change.
    /// Default: ["/etc/vouch/entries.json"].
    pub(super) files: Setting<Vec<Spanned<String>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a section")]
pub(super) struct RawIssuer {
    /// Who signs: "embedded", a CA of this node's own, or "intermediate", a CA certificate from files.
    /// Default: "embedded".
    pub(super) kind: Setting<String>,
    /// Lifetime of X.509-SVIDs whose entry names none: "2s" to "366days", and no longer than ca_ttl.
    /// Default: "1h".
    pub(super) svid_ttl: Setting<String>,
    /// Lifetime of the embedded CA: "1m" to "30y". Default: "1y".
    pub(super) ca_ttl: Setting<String>,
    /// Keys of X.509-SVIDs: "ec-p256" or "ec-p384", and "rsa-2048" in a build with the feature aws-lc-rs.
    /// Default: "ec-p256".
    pub(super) key_type: Setting<String>,
    /// Most keys of X.509-SVIDs that are made ahead, in idle time; no more are than SVIDs are in use.
    /// Default: 16384, or 64 with "rsa-2048".
    pub(super) key_pool: Setting<i64>,
    /// PEM file of the CA certificate and what lies between it and a root; "intermediate" needs it.
    pub(super) certificate: Setting<String>,
    /// PEM file of the CA's key; "intermediate" needs it.
    pub(super) key: Setting<String>,
    /// PEM file of the roots, which become the trust bundle; "intermediate" needs it.
    pub(super) roots: Setting<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a section")]
pub(super) struct RawRotation {
    /// Share of its lifetime after which an SVID is replaced: 0.25 to 0.9. Default: 0.5.
    pub(super) at: Setting<f64>,
    /// Share of `at` by which each SVID's replacement is moved, once, to either side: 0.0 to 0.5. Default: 0.1.
    pub(super) jitter: Setting<f64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a section")]
pub(super) struct RawAttest {
    /// Weakest evidence about a caller that is accepted: "kernel", "pidfd" or "peercred".
    /// Default: "peercred".
    pub(super) minimum: Setting<String>,
    /// Decisions about callers that `vouch explain` remembers; they take 16 MiB at most. Default: 4096.
    pub(super) decisions: Setting<i64>,
    pub(super) unix: RawAttestUnix,
    pub(super) docker: RawAttestDocker,
    pub(super) systemd: RawAttestSystemd,
    pub(super) slurm: RawAttestSlurm,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a section")]
pub(super) struct RawAttestUnix {
    /// When a process gets unix:path: "verified", when the agent finds the same file at that path, or "spire",
    /// always, as the process sees it in its own mount namespace. Default: "verified".
    pub(super) path: Setting<String>,
    /// Largest executable that is hashed for unix:sha256: "1KiB" to "64GiB". Default: "512MiB".
    pub(super) hash_size_limit: Setting<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a section")]
pub(super) struct RawAttestDocker {
    /// Whether engines are asked about the containers that the kernel says a process is in. If not, nobody is known
    /// to have, or to lack, a selector of docker. Default: true.
    pub(super) enabled: Setting<bool>,
    /// Path of Docker's socket, which root must own and not everybody may write to. Default: "/run/docker.sock".
    pub(super) socket: Setting<String>,
    /// The same of root's Podman. Default: "/run/podman/podman.sock".
    pub(super) podman_socket: Setting<String>,
    /// Ask the Podman of a user about that user's own containers. What it says is a word of the user's: an entry for
    /// such a container has to name unix:uid as well. Default: false.
    pub(super) rootless: Setting<bool>,
    /// Where the Podman of a user has its socket; "%d" is the uid.
    /// Default: "/run/user/%d/podman/podman.sock".
    pub(super) podman_socket_template: Setting<String>,
    /// Make docker:env of everything in a container's environment, secrets too. Default: false.
    pub(super) env: Setting<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a section")]
pub(super) struct RawAttestSystemd {
    /// Whether the service manager is asked for the unit of a process, where systemd runs. Default: true.
    pub(super) enabled: Setting<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a section")]
pub(super) struct RawAttestSlurm {
    /// Whether a job is read from the cgroup of a process. Default: true.
    pub(super) enabled: Setting<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a section")]
pub(super) struct RawKernel {
    /// Kernel programs: "auto", as far as this kernel and our rights allow, "off", or "require", refuse to start
    /// without them. Default: "auto".
    pub(super) hooks: Setting<String>,
    /// Size of the event ring: a power of two, "64KiB" to "256MiB". Default: "1MiB".
    pub(super) ring: Setting<String>,
    /// Where hooks and maps are kept while no agent runs, so that a restart misses nothing: "auto", below
    /// /sys/fs/bpf if a bpffs is mounted there, "off", or the absolute path of a directory on a bpffs. Each agent
    /// makes a directory of its own there, named after its state_dir. Default: "auto".
    pub(super) pins: Setting<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a section")]
pub(super) struct RawSds {
    /// Name of the secret that is the caller's first SVID; "" for none. Default: "default".
    pub(super) default_svid_name: Setting<String>,
    /// Name of the secret that is the bundle of this trust domain; "" for none. Default: "ROOTCA".
    pub(super) default_bundle_name: Setting<String>,
    /// Name of the secret that is all bundles; "" for none. Default: "ALL".
    pub(super) default_all_bundles_name: Setting<String>,
    /// Send bundles as plain trusted CAs, without Envoy's SPIFFE validator. Default: false.
    pub(super) disable_spiffe_cert_validation: Setting<bool>,
    /// Answer a request with those of its names that the caller may have. Default: false, which refuses the
    /// request for the first name that it may not.
    pub(super) partial: Setting<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a section")]
pub(super) struct RawLimits {
    /// Connections to the public socket, all together. Default: 16384.
    pub(super) connections: Setting<i64>,
    /// Connections of one caller: of one container, else of one user. Default: 128.
    pub(super) connections_per_caller: Setting<i64>,
    /// Connections that one caller may make in a second; those beyond are closed at once.
    /// Default: 8 for each of connections_per_caller.
    pub(super) connects_per_second: Setting<i64>,
    /// Connections that may wait to be accepted while somebody makes more than connects_per_second without pause. Else
    /// as many as net.core.somaxconn allows. 1 to 4096, default: 64.
    pub(super) flooded_queue: Setting<i64>,
    /// Streams, all together. Default: 32768.
    pub(super) streams: Setting<i64>,
    /// Streams of one connection. Default: 128.
    pub(super) streams_per_connection: Setting<i64>,
    /// Streams of one caller. Default: 1024.
    pub(super) streams_per_caller: Setting<i64>,
    /// Part of `connections`, `streams`, `attestations` and `attestations_queued` that is kept for callers who hold
    /// less than their share: 0.0 to 0.9. Default: 0.25.
    pub(super) reserve: Setting<f64>,
    /// Frames of HTTP/2 that are read from one caller in a second; what it sends beyond stays in its socket. The head of
    /// a stream counts as 16, and each 4 KiB of a frame as one more. Default: 32 for each of streams_per_caller.
    pub(super) frames_per_second: Setting<i64>,
    /// Largest SDS request: "1KiB" to "64MiB". Default: "1MiB".
    pub(super) sds_request: Setting<String>,
    /// Largest other request: "1KiB" to "64MiB". Default: "16KiB".
    pub(super) request: Setting<String>,
    /// Secret names of one SDS stream. Default: 128.
    pub(super) names_per_stream: Setting<i64>,
    /// Largest header list of a request: "1KiB" to "1MiB". Default: "8KiB".
    pub(super) header_list: Setting<String>,
    /// Header fields of a request. Default: 64.
    pub(super) header_fields: Setting<i64>,
    /// Streams that a client may have reset before they were looked at; then its connection is closed. Default: 20.
    pub(super) pending_resets: Setting<i64>,
    /// Streams that may be reset for what a client sent on them; then its connection is closed. Default: 64.
    pub(super) local_resets: Setting<i64>,
    /// How long a new connection may take to begin HTTP/2. Default: "2s".
    pub(super) preface_timeout: Setting<String>,
    /// How long it may take to send its first request, and a stream to send all of its first message. Default: "5s".
    pub(super) first_request_timeout: Setting<String>,
    /// How long attesting a caller may take. Default: "5s".
    pub(super) attestation_timeout: Setting<String>,
    /// How long a connection may stay without a stream. Default: "60s".
    pub(super) idle_timeout: Setting<String>,
    /// How long a caller may leave unread what was sent to it, or unfinished a message that it began. Default: "30s".
    pub(super) stalled_timeout: Setting<String>,
    /// How often a client is asked whether it is still there. Default: "30s".
    pub(super) keepalive_interval: Setting<String>,
    /// How long it may take to say so. Default: "20s".
    pub(super) keepalive_timeout: Setting<String>,
    /// Attestations under way at once, all together. Default: 64.
    pub(super) attestations: Setting<i64>,
    /// Attestations under way at once for one caller. Default: 4.
    pub(super) attestations_per_caller: Setting<i64>,
    /// Attestations that wait for their turn, all together. Default: 200.
    pub(super) attestations_queued: Setting<i64>,
    /// Attestations of one caller in a second; one more waits, for attestation_timeout at most. A process that is
    /// known costs none. Default: 50.
    pub(super) attestations_per_second: Setting<i64>,
    /// Attestations of one caller that need not wait after a rest. Default: 100.
    pub(super) attestations_burst: Setting<i64>,
    /// Processes that are remembered though nobody of theirs is connected. Default: 16384.
    pub(super) attested_processes: Setting<i64>,
    /// Identities of one entry with a template that may be in use at once; whoever would have another has none by that
    /// entry. Default: 1024.
    pub(super) template_identities: Setting<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a section")]
pub(super) struct RawTelemetry {
    /// Loopback address of /metrics, /live, /ready and /started, or "off". Default: "127.0.0.1:9988".
    pub(super) metrics: Setting<String>,
    pub(super) log: RawLog,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a section")]
pub(super) struct RawLog {
    /// "auto" (text on a terminal, else JSON), "text" or "json". Default: "auto".
    pub(super) format: Setting<String>,
    /// "error", "warn", "info", "debug" or "trace". Default: "info".
    pub(super) level: Setting<String>,
}
