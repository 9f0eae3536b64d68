//! A real Envoy.

mod admin;

use std::{
    collections::BTreeSet,
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::Command,
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;

pub use admin::AdminPage;

use crate::{Child, agent::temporary_dir, eventually, need};

const READY_LIMIT: Duration = Duration::from_secs(25);

/// A bootstrap from deploy/envoy/, as operators copy it.
#[derive(Debug, Clone)]
pub struct Bootstrap(String);

impl Bootstrap {
    /// Inbound mutual TLS on 8443 for the application on 8080; only `frontend` may call.
    pub fn backend() -> Self {
        Self(include_str!("../../deploy/envoy/backend.yaml").to_owned())
    }

    /// Plain HTTP on 8080 of loopback, forwarded by mutual TLS to `backend` on 8443.
    pub fn frontend() -> Self {
        Self(include_str!("../../deploy/envoy/frontend.yaml").to_owned())
    }

    /// Written for SPIRE: the edge proxy of a mesh.
    pub fn spire_edge() -> Self {
        Self(include_str!("../../deploy/envoy/spire/edge.yaml").to_owned())
    }

    /// Written for SPIRE: the sidecar behind that edge proxy.
    pub fn spire_sidecar() -> Self {
        Self(include_str!("../../deploy/envoy/spire/sidecar.yaml").to_owned())
    }

    /// Whatever `text` says.
    pub fn of(text: String) -> Self {
        Self(text)
    }

    /// Puts `to` wherever it says `from`.
    ///
    /// # Panics
    /// When it says so nowhere.
    #[must_use]
    pub fn with(self, from: &str, to: &str) -> Self {
        assert!(self.0.contains(from), "the bootstrap does not say {from:?}:\n{}", self.0);
        Self(self.0.replace(from, to))
    }

    /// Takes its secrets from `socket`.
    #[must_use]
    pub fn agent_at(self, socket: &Path) -> Self {
        self.with("/run/vouch/public/api.sock", socket.to_str().expect("a temporary path is text"))
    }

    /// Uses `port` where the example says `example`.
    #[must_use]
    pub fn port(self, example: u16, port: u16) -> Self {
        self.with(&format!("port_value: {example} "), &format!("port_value: {port} "))
    }
}

/// A running Envoy, with a folder of its own. Both go away when this is dropped.
#[derive(Debug)]
pub struct Envoy {
    name: &'static str,
    child: Child,
    dir: TempDir,
}

impl Envoy {
    /// Starts `bootstrap` as `uid`, with the admin page wherever a port is free. Does not wait for anything.
    pub fn spawn(name: &'static str, uid: u32, bootstrap: Bootstrap) -> Self {
        Self::spawn_untouched(name, uid, &bootstrap.port(9901, 0))
    }

    /// Starts `bootstrap` as `uid`, exactly as it is written.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn spawn_untouched(name: &'static str, uid: u32, bootstrap: &Bootstrap) -> Self {
        let dir = temporary_dir();
        std::os::unix::fs::chown(dir.path(), Some(uid), Some(uid)).expect("root gives it away");
        let config = dir.path().join("envoy.yaml");
        fs::write(&config, &bootstrap.0).expect("the bootstrap can be written");
        // It opens its standard output by name when that is where its access log goes.
        let log = dir.path().join("envoy.log");
        fs::File::create(&log).expect("the folder is ours");
        std::os::unix::fs::chown(&log, Some(uid), Some(uid)).expect("root gives it away");
        let mut command = Command::new(need::binary("VOUCH_ENVOY"));
        command.arg("--config-path").arg(&config).arg("--admin-address-path").arg(dir.path().join("admin"));
        command.args(["--disable-hot-restart", "--concurrency", "1", "--log-level", "warning"]);
        let child = Child::spawn(name, command, Some(uid), &log);
        Self { name, child, dir }
    }

    /// Waits until it serves.
    ///
    /// # Panics
    /// When it ends, or does not serve in time.
    pub fn wait_until_ready(&mut self) {
        eventually(&format!("Envoy {} is ready", self.name), READY_LIMIT, || {
            if let Some(status) = self.child.exited() {
                panic!("Envoy {} ended: {status}", self.name);
            }
            AdminPage(self.admin()?).is_ready().then_some(())
        });
    }

    /// Where its admin page is, once it is there.
    pub fn admin(&self) -> Option<SocketAddr> {
        fs::read_to_string(self.dir.path().join("admin")).ok()?.trim().parse().ok()
    }

    /// Its admin page.
    ///
    /// # Panics
    /// When it has no address yet.
    pub fn admin_page(&self) -> AdminPage {
        AdminPage(self.admin().expect("the admin page has an address"))
    }

    /// The page at `path` of its admin page.
    ///
    /// # Panics
    /// When it does not answer.
    pub fn page(&self, path: &str) -> String {
        self.admin_page().page(path)
    }

    /// `/certs`.
    ///
    /// # Panics
    /// When it does not answer with JSON.
    pub fn certs(&self) -> Value {
        self.admin_page().certs()
    }

    /// SPIFFE IDs and serial numbers of the certificates it presents.
    pub fn identities(&self) -> BTreeSet<(String, String)> {
        self.admin_page().identities()
    }

    /// The sum of all counters and gauges whose name ends with `suffix`.
    pub fn stat(&self, suffix: &str) -> u64 {
        self.admin_page().stat(suffix)
    }

    pub fn log(&self) -> String {
        self.child.log()
    }
}

/// Two Envoys that speak mutual TLS with each other, and what stands before and behind them.
#[derive(Debug)]
pub struct Pair {
    pub frontend: Envoy,
    pub backend: Envoy,
    /// Where the frontend takes plain HTTP.
    pub entrance: SocketAddr,
}

impl Pair {
    /// Starts both without waiting, under [`crate::user::FRONTEND`] and [`crate::user::BACKEND`]. `frontend` and
    /// `backend` are their bootstraps, complete but for the ports.
    pub fn spawn(frontend: Bootstrap, backend: Bootstrap, application: u16) -> Self {
        let (inbound, entrance) = (crate::port::free_port(), crate::port::free_port());
        let backend = backend.port(8080, application).port(8443, inbound);
        let frontend = frontend.port(8080, entrance).port(8443, inbound);
        Self {
            backend: Envoy::spawn("backend", crate::user::BACKEND, backend),
            frontend: Envoy::spawn("frontend", crate::user::FRONTEND, frontend),
            entrance: (Ipv4Addr::LOCALHOST, entrance).into(),
        }
    }

    /// The usual pair: both take their secrets from the agent at `socket`.
    pub fn start(socket: &Path, application: u16) -> Self {
        let mut pair = Self::spawn(
            Bootstrap::frontend().agent_at(socket),
            Bootstrap::backend().agent_at(socket),
            application,
        );
        pair.wait_until_ready();
        pair
    }

    pub fn wait_until_ready(&mut self) {
        self.backend.wait_until_ready();
        self.frontend.wait_until_ready();
    }
}
