//! What scenarios and the demo are made of: a running agent, real Envoys, a tiny upstream, load, raw clients.
//!
//! Everything here cleans up when it is dropped, also when a test fails: processes are killed by pid, folders and
//! cgroups are removed. Processes and HTTP are blocking and live on threads, so that load goes on while a
//! test waits; only the gRPC clients are asynchronous.

/// Where a program connects to.
pub mod address;
/// The agent, with a configuration and a state directory of its own.
pub mod agent;
/// Questions about authorization, as an Envoy asks them.
pub mod authz;
/// gRPC calls as bytes.
pub mod bare;
/// A bpffs of a scenario's own.
pub mod bpffs;
/// A real browser without a screen.
pub mod browser;
/// One cgroup of the unified hierarchy, empty at first.
pub mod cgroup;
/// Child processes that end with their owner.
pub mod child;
/// A raw connection, as its maker sees it.
pub mod connection;
/// Real container engines.
pub mod engine;
/// The meshes of four write-ups, each whole on one machine.
pub mod demo;
/// A real Envoy.
pub mod envoy;
/// gRPC over a Unix socket or TCP, down to the bytes of each message.
pub mod grpc;
/// Connections of many users, made by one process.
pub mod guise;
/// A small HTTP/1.1 client.
pub mod http;
/// A client of frames on a pipe.
pub mod link;
/// Requests without pause, and how many of them failed.
pub mod load;
/// A private view of /run, /tmp and the network.
pub mod namespace;
/// An engine that says of containers what a scenario wants.
pub mod fake;
/// The agent's serving side in this process.
pub mod node;
/// Open Policy Agent, asked what it makes of a policy.
pub mod opa;
/// SDS as tonic serves it.
pub mod oracle;
/// Samples of /metrics.
pub mod metrics;
/// What a scenario needs from this machine, and how it says that it is not there.
pub mod need;
/// TCP ports that nobody else in this run takes.
pub mod port;
/// The services of the demos.
pub mod service;
/// JSON, judged by a schema that is shipped.
pub mod schema;
/// SDS as Envoy speaks it, one message at a time.
pub mod sds;
/// A configuration and its entries.
pub mod settings;
/// Uids that a user has in namespaces of its own.
pub mod subordinate;
/// What a process may do to look like another one.
pub mod trick;
/// A tiny HTTP server.
pub mod upstream;
/// HTTP/2 frame by frame, as a client writes and reads it.
pub mod wire;
/// Waiting with a bound.
pub mod wait;
/// Certificates as a stranger reads them.
pub mod x509;

pub use address::Address;
pub use agent::Agent;
pub use bpffs::Bpffs;
pub use browser::Browser;
pub use cgroup::Cgroup;
pub use child::Child;
pub use demo::Demo;
pub use engine::{Container, Engine, Runtime};
pub use envoy::{Bootstrap, Envoy};
pub use load::Load;
pub use need::Need;
pub use opa::Judge;
pub use settings::{Settings, entry};
pub use upstream::Upstream;
pub use wait::eventually;

/// Users of the scenarios. None needs a line in the password file; each is also the number of its group.
pub mod user {
    pub const BACKEND: u32 = 12_001;
    pub const FRONTEND: u32 = 12_002;
    /// Earns nothing in most scenarios.
    pub const STRANGER: u32 = 12_003;
}
