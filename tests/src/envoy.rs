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

use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

pub use admin::AdminPage;

use crate::{Child, agent::temporary_dir, eventually, http, need};

const AUTHZ_SOCKET: &str = "/run/vouch/authz/authz.sock";
/// Of a [`Bootstrap::gate`].
const ROUTE: &str = r#"              - match: { prefix: "/NAME" }
                route: { cluster: application }
                typed_per_filter_config:
                  envoy.filters.http.ext_authz:
                    "@type": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute
                    check_settings: { context_extensions: { service: "NAME" } }
"#;
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

    /// Plain HTTP on 8000 of loopback for the application on 8080, and each request is asked about first. What begins with
    /// `/NAME` of one of `services` is asked about with the context extension `service: NAME`.
    pub fn gate(services: &[&str]) -> Self {
        let routes: String = services.iter().map(|name| ROUTE.replace("NAME", name)).collect();
        Self(include_str!("envoy/gate.yaml").replace("              # SERVICES\n", &routes))
    }

    /// Asks about each request before it is forwarded, at `socket`: a bootstrap that does not ask yet.
    #[must_use]
    pub fn asking_at(self, socket: &Path) -> Self {
        let gate = include_str!("envoy/gate.yaml");
        let part = |from: &str, to: &str| {
            let from = gate.find(from).expect("the gate has that part");
            gate[from..][..gate[from..].find(to).expect("and its end")].to_owned()
        };
        let filter = part(
            "          - name: envoy.filters.http.ext_authz",
            "          - name: envoy.filters.http.router",
        );
        let cluster = part("  - name: authz", "  # END");
        self.with("          http_filters:\n", &format!("          http_filters:\n{filter}"))
            .with("  clusters:\n", &format!("  clusters:\n{cluster}"))
            .authz_at(socket)
    }

    /// Asks at `socket` about requests.
    #[must_use]
    pub fn authz_at(self, socket: &Path) -> Self {
        self.with(AUTHZ_SOCKET, socket.to_str().expect("a temporary path is text"))
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
        // Where a relative path in a bootstrap lies.
        command.current_dir(dir.path());
        command.arg("--config-path").arg(&config).arg("--admin-address-path").arg(dir.path().join("admin"));
        command.args(["--disable-hot-restart", "--concurrency", "1", "--log-level", "warning"]);
        command.args(["--file-flush-interval-msec", "50"]);
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

    pub fn pid(&self) -> Pid {
        self.child.pid()
    }

    /// The file `name` that it wrote; empty as long as there is none.
    pub fn file(&self, name: &str) -> String {
        fs::read_to_string(self.dir.path().join(name)).unwrap_or_default()
    }
}

/// An Envoy that asks about each request before it forwards it.
#[derive(Debug)]
pub struct Gate {
    pub envoy: Envoy,
    /// Where it takes plain HTTP.
    pub entrance: SocketAddr,
}

impl Gate {
    /// Starts it as `uid` in front of the application at that port. `bootstrap` is a [`Bootstrap::gate`], complete but for the
    /// ports.
    ///
    /// # Panics
    /// When it does not serve in time.
    pub fn start(name: &'static str, uid: u32, bootstrap: Bootstrap, application: u16) -> Self {
        let mut gate = Self::spawn(name, uid, bootstrap, application);
        gate.envoy.wait_until_ready();
        gate
    }

    /// Like [`Self::start`], without waiting.
    pub fn spawn(name: &'static str, uid: u32, bootstrap: Bootstrap, application: u16) -> Self {
        let entrance = crate::port::free_port();
        let bootstrap = bootstrap.port(8080, application).port(8000, entrance);
        let envoy = Envoy::spawn(name, uid, bootstrap);
        Self { envoy, entrance: (Ipv4Addr::LOCALHOST, entrance).into() }
    }

    /// What its client gets for `path`.
    ///
    /// # Panics
    /// When there is no answer.
    #[track_caller]
    pub fn get(&self, path: &str) -> http::Response {
        self.get_with(path, &[])
    }

    /// What its client gets for `path` when it sends `headers`.
    ///
    /// # Panics
    /// When there is no answer.
    #[track_caller]
    pub fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> http::Response {
        http::get_with(self.entrance, path, headers).expect("the gate answers")
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
