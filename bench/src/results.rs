//! What a run leaves behind: one JSON file, read by `report` and `compare`, in this and in later versions.
//!
//! Every number carries its unit in its name. Histograms are HDR's own encoding (V2, deflated) in base64, in microseconds.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Raised when a reader of the format before would misread a file.
pub const FORMAT: u32 = 1;

/// One run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Results {
    pub format: u32,
    /// Begin, RFC 3339 in UTC.
    pub started: String,
    /// As it was typed.
    pub command: Vec<String>,
    /// Of the repository, with `-dirty` behind it when it was not what is committed; empty when there is no git.
    pub commit: String,
    pub machine: Machine,
    /// Before, between and after the scenarios.
    pub probes: Vec<Probe>,
    /// In the order of the columns.
    pub servers: Vec<Server>,
    pub scenarios: Vec<Scenario>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Machine {
    pub cpu: String,
    pub cpus: usize,
    pub kernel: String,
    pub memory_mib: u64,
    /// RLIMIT_NOFILE of the load.
    pub descriptors: u64,
    pub server_cpus: Vec<usize>,
    pub load_cpus: Vec<usize>,
}

/// Share of a core that a loop got which only reads the clock.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Probe {
    /// `before`, `after S1/5000`, ...
    pub when: String,
    pub share_by_cpu: Vec<f64>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Server {
    /// `vouch`, `anchor`, `anchor-threads`, `tonic`, `spire`, or the name of a peer.
    pub name: String,
    pub version: String,
    /// What is not its default, and why.
    pub settings: Vec<String>,
}

/// One scenario at one size; its servers took turns.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Scenario {
    /// `S1` to `S10`.
    pub id: String,
    pub title: String,
    pub streams: u32,
    pub streams_per_connection: u32,
    /// Bytes of one response message and of one ACK, without frame headers.
    pub message_bytes: usize,
    pub ack_bytes: usize,
    /// Everything else that shapes it, by name: `stalled_share`, `rate_per_second`, `identities`, ...
    pub parameters: BTreeMap<String, String>,
    pub series: Vec<Series>,
}

/// One server in one scenario.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Series {
    pub server: String,
    /// Why there are no numbers, when there are none.
    pub missing: Option<String>,
    pub connect: Option<Connect>,
    pub memory: Option<Memory>,
    pub rounds: Vec<Round>,
    /// Further numbers that belong to the scenario alone, by name with unit: `handshake_p99_us`, ...
    pub numbers: BTreeMap<String, f64>,
}

/// From the first `connect()` until every stream had its first secret.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Connect {
    pub took_us: f64,
    pub server_cpu_us_per_stream: f64,
    pub unanswered: u32,
}

/// Resident memory of the server's process, and the kernel's slab.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Memory {
    pub before_kib: u64,
    pub connected_kib: u64,
    pub rotated_kib: u64,
    pub peak_kib: u64,
    pub slab_connected_kib: Option<i64>,
}

/// One rotation. Times count from its moment in the schedule, also when it was started late.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Round {
    /// Warm-up rounds are kept and not counted.
    pub counted: bool,
    /// Somebody else had a CPU of ours for more than a tenth of the time.
    pub disturbed: bool,
    pub started_late_us: f64,
    pub updates: u64,
    pub server_cpu_us_per_update: f64,
    pub server_user_us_per_update: Option<f64>,
    pub server_switches_per_update: Option<f64>,
    pub load_cpu_us_per_update: f64,
    pub first_delivery_us: f64,
    pub last_delivery_us: f64,
    pub last_ack_us: f64,
    /// From the scheduled moment until a stream had the whole new secret.
    pub delivery: String,
}
