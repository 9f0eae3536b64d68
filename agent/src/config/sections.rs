//! The checked settings, a section for each stage.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use super::authz::Authz;
use crate::spiffe::TrustDomain;

/// Everything that an operator may decide. Paths are absolute.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    pub trust_domain: TrustDomain,
    /// Of the agent alone, mode 0700.
    pub state_dir: PathBuf,
    pub workload_api: WorkloadApi,
    pub admin: Admin,
    pub entries: Entries,
    pub issuer: Issuer,
    pub rotation: Rotation,
    pub attest: Attest,
    pub kernel: Kernel,
    pub sds: Sds,
    pub limits: Limits,
    pub authz: Authz,
    pub telemetry: Telemetry,
}

/// The public socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkloadApi {
    /// At most [`crate::front::MAX_SOCKET_PATH`] bytes.
    pub socket: PathBuf,
    /// Further paths where the same socket appears; none equals `socket` or another.
    pub also: Vec<PathBuf>,
}

/// The operator's socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// Neither in nor below a directory of the public socket.
    pub socket: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entries {
    /// `.json` or `.toml`; may be none.
    pub files: Vec<PathBuf>,
}

/// Who signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issuer {
    pub kind: IssuerKind,
    /// Lifetime of an X.509-SVID whose entry names none.
    pub svid_ttl: Duration,
    /// Of workload keys.
    pub key_type: KeyType,
    /// Most workload keys that are made ahead.
    pub key_pool: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IssuerKind {
    /// A CA of this node's own; `ca_ttl` is no shorter than `svid_ttl`.
    Embedded { ca_ttl: Duration },
    /// A CA certificate that somebody else signed; all three are PEM files.
    Intermediate { certificate: PathBuf, key: PathBuf, roots: PathBuf },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyType {
    EcP256,
    EcP384,
    /// Of builds that make RSA keys.
    Rsa2048,
}

/// When an SVID is replaced.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rotation {
    /// Share of its lifetime, 0.25 to 0.9.
    pub at: f64,
    /// Share of `at` by which it is moved, once, to either side; 0 to 0.5.
    pub jitter: f64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attest {
    pub minimum: MinimumGrade,
    /// Decisions that are remembered.
    pub decisions: usize,
    pub unix: AttestUnix,
    pub docker: AttestDocker,
    pub systemd: AttestSystemd,
    pub slurm: AttestSlurm,
}

/// The weakest evidence that is accepted; each admits those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MinimumGrade {
    Kernel,
    Pidfd,
    Peercred,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttestUnix {
    pub path: PathMeaning,
    /// In bytes; of a larger file no `unix:sha256` is made.
    pub hash_size_limit: u64,
}

/// When a process gets its `unix:path`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathMeaning {
    /// When the agent finds the same file there.
    Verified,
    /// Always, as seen by the process itself.
    Spire,
}

/// The engines of containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttestDocker {
    pub enabled: bool,
    pub socket: PathBuf,
    pub podman_socket: PathBuf,
    /// Ask the engines of users about their own containers.
    pub rootless: bool,
    /// Absolute; `%d`, once, stands for the uid.
    pub podman_socket_template: String,
    pub env: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttestSystemd {
    pub enabled: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttestSlurm {
    pub enabled: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    pub hooks: Hooks,
    /// Of the event ring, in bytes: a power of two, and at least one page of any kernel.
    pub ring: u32,
    pub pins: Pins,
}

/// Where hooks and maps are kept while no agent runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pins {
    /// Where distributions mount a bpffs, if one is mounted there.
    Auto,
    /// Nowhere: they end with the agent.
    Off,
    /// In this agent's own directory below that one.
    Below(PathBuf),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hooks {
    /// As far as this kernel and our rights allow.
    Auto,
    Off,
    /// Refuse to start without them.
    Require,
}

/// The names that Envoy asks for; an empty one is served to nobody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sds {
    pub default_svid_name: String,
    pub default_bundle_name: String,
    pub default_all_bundles_name: String,
    pub disable_spiffe_cert_validation: bool,
    /// Serve what is allowed of a request, instead of refusing it for one name.
    pub partial: bool,
}

/// What strangers may use up. Sizes are in bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    pub connections: usize,
    pub connections_per_caller: usize,
    pub connects_per_second: usize,
    pub flooded_queue: usize,
    pub streams: usize,
    pub streams_per_connection: usize,
    pub streams_per_caller: usize,
    /// Part of each total that is kept for callers below their share.
    pub reserve: f64,
    pub frames_per_second: usize,
    pub sds_request: usize,
    pub request: usize,
    pub names_per_stream: usize,
    pub header_list: usize,
    pub header_fields: usize,
    pub pending_resets: usize,
    pub local_resets: usize,
    pub preface_timeout: Duration,
    pub first_request_timeout: Duration,
    pub attestation_timeout: Duration,
    pub idle_timeout: Duration,
    pub stalled_timeout: Duration,
    pub keepalive_interval: Duration,
    pub keepalive_timeout: Duration,
    pub attestations: usize,
    pub attestations_per_caller: usize,
    pub attestations_queued: usize,
    pub attestations_per_second: usize,
    pub attestations_burst: usize,
    /// Processes that are remembered though nobody of theirs is connected.
    pub attested_processes: usize,
    /// Identities of one entry with a template that may be in use at once.
    pub template_identities: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Telemetry {
    /// A loopback address; `None` serves no metrics and no probes.
    pub metrics: Option<SocketAddr>,
    pub log: Log,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Log {
    pub format: LogFormat,
    pub level: LogLevel,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, else JSON.
    Auto,
    Text,
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}
