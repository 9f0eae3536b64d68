//! The meshes of four write-ups, each whole on one machine: an agent, real Envoys with the files of deploy/demos/, small
//! real services, and the checks that the write-up does by hand.

mod check;
mod docs;
mod edge_sidecar;
mod https;
mod opa_mesh;
mod stage;
mod tls_sandbox;

use std::path::Path;

pub use check::{Check, table};
use stage::Stage;

use crate::{Need, namespace};

/// One of the meshes, called as its folder below deploy/demos/.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Demo {
    Docs,
    OpaMesh,
    EdgeSidecar,
    TlsSandbox,
}

/// Which network a demo is on. Its /run and /tmp are always its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// This machine's, so that one can look in from outside.
    Shared,
    /// One where nothing is in the way, and nothing can be seen from outside.
    Own,
}

/// What a running demo has shown.
#[derive(Debug)]
pub struct Shown {
    pub checks: Vec<Check>,
    /// Commands with which one can look further, each with what it shows.
    pub hints: Vec<String>,
}

impl Shown {
    /// The checks that saw something else than was expected.
    pub fn differing(&self) -> Vec<&Check> {
        self.checks.iter().filter(|check| !check.holds()).collect()
    }
}

impl Demo {
    pub const ALL: [Self; 4] = [Self::Docs, Self::OpaMesh, Self::EdgeSidecar, Self::TlsSandbox];

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|demo| demo.name() == name)
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Docs => "docs",
            Self::OpaMesh => "opa-mesh",
            Self::EdgeSidecar => "edge-sidecar",
            Self::TlsSandbox => "tls-sandbox",
        }
    }

    /// What it shows, in half a line.
    pub fn about(self) -> &'static str {
        match self {
            Self::Docs => "two services that speak mutual TLS, as the SPIFFE documentation has it",
            Self::OpaMesh => "four services, each request judged by the Rego that was written for their OPAs",
            Self::EdgeSidecar => "an edge proxy and a sidecar that are known by their containers' labels",
            Self::TlsSandbox => "Envoy's four TLS proxies, with certificates from the agent",
        }
    }

    pub fn needs(self) -> &'static [Need] {
        match self {
            Self::Docs | Self::OpaMesh | Self::TlsSandbox => &[Need::Agent, Need::Root, Need::Envoy],
            Self::EdgeSidecar => &[Need::Agent, Need::Root, Need::Envoy, Need::Cgroup2, Need::Engines],
        }
    }

    /// Starts all of it, checks it, and ends it when `then` returns. `service` is the program of the services.
    ///
    /// # Panics
    /// When something cannot be started or does not become ready.
    pub fn run(self, service: &Path, network: Network, then: impl FnOnce(&Shown) + Send) {
        // Before /tmp changes, below which all of it may be.
        let gathered = stage::gather(self.name(), service);
        let all = move || {
            let mut stage = Stage::new(gathered);
            namespace::host_names(self.host_names());
            if self == Self::EdgeSidecar {
                stage.start_docker();
            }
            stage.start_agent();
            then(&self.show(&mut stage));
        };
        match network {
            Network::Shared => namespace::with_own_folders(all),
            Network::Own => namespace::alone(all),
        }
    }

    fn host_names(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Docs => &[],
            Self::OpaMesh => opa_mesh::HOST_NAMES,
            Self::EdgeSidecar => edge_sidecar::HOST_NAMES,
            Self::TlsSandbox => tls_sandbox::HOST_NAMES,
        }
    }

    fn show(self, stage: &mut Stage) -> Shown {
        match self {
            Self::Docs => docs::show(stage),
            Self::OpaMesh => opa_mesh::show(stage),
            Self::EdgeSidecar => edge_sidecar::show(stage),
            Self::TlsSandbox => tls_sandbox::show(stage),
        }
    }
}
