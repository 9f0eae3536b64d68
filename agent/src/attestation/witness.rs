//! What others than the kernel know of a process: its container's engine, the service manager, a job scheduler.

mod bus;
mod docker;
mod engine;
mod off;
mod rootless;
mod slurm;
mod socket;
mod systemd;
mod user_namespaces;

use std::{fmt, os::fd::OwnedFd, path::PathBuf, sync::Arc};

use futures_util::future::BoxFuture;

pub use systemd::system_bus;

use super::{container::Containment, selector::Selector};
use docker::Docker;
use off::Off;
use slurm::Slurm;
use systemd::Systemd;

/// A process about which a [`Witness`] is asked: as the kernel's record says, or below that grade procfs.
#[derive(Debug, Clone)]
pub struct Subject {
    pub pid: u32,
    /// Effective, in the initial user namespace.
    pub uid: u32,
    /// Path from the cgroup2 root, when it is known.
    pub cgroup: Option<String>,
    /// What that path says, `Unsure` without one.
    pub containment: Containment,
    /// Holds the process's number while the witness is asked.
    pub pidfd: Option<Arc<OwnedFd>>,
}

/// Why a witness says nothing of a subject that it may know: a marked gap, asked about again later.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Silence {
    /// In words for the operator, without a line feed.
    pub reason: String,
}

/// One more source of selectors, asked off the kernel's record and beside all others.
///
/// The asker sets the deadline, checks afterwards that the subject is still the process that it was, asks again
/// with back-off after a [`Silence`], and remembers the answer for that run of the process.
pub trait Witness: fmt::Debug + Send + Sync {
    /// The type of its selectors, such as `docker`.
    fn kind(&self) -> &'static str;

    /// Whether it could know anything of `subject`. If not, that is a fact, and it is not asked.
    fn concerns(&self, subject: &Subject) -> bool;

    /// Everything that it knows of `subject`, each of type [`Witness::kind`]. Never blocks the thread.
    fn testify<'a>(&'a self, subject: &'a Subject) -> BoxFuture<'a, Result<Vec<Selector>, Silence>>;
}

impl Silence {
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into() }
    }
}

/// Which witnesses are asked, and where they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WitnessConfig {
    pub docker: DockerConfig,
    pub systemd: bool,
    pub slurm: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerConfig {
    pub enabled: bool,
    /// Docker's.
    pub socket: PathBuf,
    /// That of the Podman of root.
    pub podman_socket: PathBuf,
    /// Where the Podman of a user has its socket; `%d` stands for the uid. `None`: no user's engine is asked.
    pub rootless_sockets: Option<String>,
    /// Whether the environment that a container is started with becomes selectors.
    pub env: bool,
}

/// Every witness that this version knows. One that is switched off stays: what it could have said is not known, and is
/// no absence.
pub fn witnesses(config: &WitnessConfig) -> Vec<Arc<dyn Witness>> {
    let on = |witness: Arc<dyn Witness>, enabled: bool| -> Arc<dyn Witness> {
        if enabled { witness } else { Arc::new(Off(witness)) }
    };
    vec![
        on(Arc::new(Docker::new(&config.docker)), config.docker.enabled),
        on(Arc::new(Systemd::new()), config.systemd),
        on(Arc::new(Slurm), config.slurm),
    ]
}
