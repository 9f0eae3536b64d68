//! The processes of a demo.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use tempfile::TempDir;

use crate::{
    Bootstrap, Child, Container, Engine, Envoy, Runtime, agent, agent::temporary_dir, child,
    engine::root_folder, envoy::AdminPage, eventually, http, need,
};

/// A debug build on a busy machine may take its time.
const START_LIMIT: Duration = Duration::from_secs(20);
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// The image of the containers.
const IMAGE: &str = "envoy:demo";

/// A copy of a demo's folder, and what was started from it. All of it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Stage {
    // Dropped in this order: an agent that goes first would only make the others complain.
    envoys: Vec<(&'static str, Envoy)>,
    containers: Vec<(&'static str, AdminPage, Container)>,
    services: Vec<Child>,
    agent: Option<Child>,
    engine: Option<Engine>,
    dir: TempDir,
}

impl Stage {
    /// A demo for which everything is [`gather`]ed in `dir`. Nothing runs yet.
    pub(super) fn new(dir: TempDir) -> Self {
        Self {
            envoys: Vec::new(),
            containers: Vec::new(),
            services: Vec::new(),
            agent: None,
            engine: None,
            dir,
        }
    }

    /// A file of the demo's folder.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join("demo").join(name)
    }

    /// Where what the demo makes can be seen from outside, too.
    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Starts the agent with the demo's `vouch.toml` as it is, and waits until it is ready.
    pub(super) fn start_agent(&mut self) {
        let mut command = Command::new(agent::binary());
        command.args(["run", "--config"]).arg(self.file("vouch.toml"));
        let mut agent = Child::spawn("the agent", command, None, &self.dir.path().join("agent.log"));
        let metrics = self.metrics_address();
        eventually("the agent is ready", START_LIMIT, || {
            if let Some(status) = agent.exited() {
                panic!("the agent ended instead of becoming ready: {status}");
            }
            (http::get(metrics, "/ready").ok()?.status == 200).then_some(())
        });
        self.agent = Some(agent);
    }

    /// Stops it in good order.
    pub(super) fn stop_agent(&mut self) {
        let mut agent = self.agent.take().expect("the agent runs");
        let status = agent.terminate(STOP_LIMIT);
        assert!(status.success(), "the agent ended with {status} after SIGTERM");
    }

    /// Everything at the agent's `/metrics`.
    pub(super) fn metrics(&self) -> String {
        http::get(self.metrics_address(), "/metrics").expect("the agent answers at /metrics").body
    }

    fn metrics_address(&self) -> SocketAddr {
        let text = fs::read_to_string(self.file("vouch.toml")).expect("every demo has one");
        let table: toml::Table = text.parse().expect("it is TOML");
        let address = table["telemetry"]["metrics"].as_str().and_then(|text| text.parse().ok());
        address.expect("it says where its metrics are")
    }

    /// Starts a service that listens at `address` and then runs as `uid`; `kind` and what follows are as the program
    /// `service` takes them. Waits until it is there.
    pub(super) fn service(&mut self, address: &str, uid: u32, kind: &[&str]) {
        let name = kind[1];
        let mut command = Command::new(self.dir.path().join("service"));
        command.args([address, &uid.to_string()]).args(kind);
        // As root: the port may be a privileged one, and it becomes `uid` by itself.
        let log = self.dir.path().join(format!("{name}.log"));
        let mut child = Child::spawn(name, command, None, &log);
        eventually(&format!("{name} listens"), START_LIMIT, || {
            if let Some(status) = child.exited() {
                panic!("{name} ended: {status}: {}", child.log());
            }
            child.log().contains("listens on").then_some(())
        });
        self.services.push(child);
    }

    /// Starts Envoy with the demo's file `envoy/NAME.yaml` as it is, as `uid`. Does not wait.
    pub(super) fn envoy(&mut self, name: &'static str, uid: u32) {
        let bootstrap = fs::read_to_string(self.file(&format!("envoy/{name}.yaml")));
        let bootstrap = Bootstrap::of(bootstrap.expect("the demo has a file for each Envoy"));
        self.envoys.push((name, Envoy::spawn_untouched(name, uid, &bootstrap)));
    }

    /// Starts Docker, where an agent looks for it, with an image in which Envoy can run.
    pub(super) fn start_docker(&mut self) {
        let engine = Engine::start(Runtime::Docker);
        std::os::unix::fs::symlink(engine.socket(), "/run/docker.sock").expect("/run is ours");
        engine.import(root_folder(&need::binary("VOUCH_ENVOY")).path(), IMAGE);
        self.engine = Some(engine);
    }

    /// Starts Envoy with the demo's file `envoy/NAME.yaml` as it is, as `uid` in a container with the label
    /// `KEY=VALUE`, where it finds the folder of the agent's socket. Does not wait.
    pub(super) fn envoy_in_container(
        &mut self,
        name: &'static str,
        admin: SocketAddr,
        uid: u32,
        label: &str,
        sockets: &str,
    ) {
        let envoy = format!("{}:/bin/envoy:ro", need::binary("VOUCH_ENVOY").display());
        let config = format!("{}:/etc/envoy.yaml:ro", self.file(&format!("envoy/{name}.yaml")).display());
        let (user, sockets) = (format!("{uid}:{uid}"), format!("{sockets}:{sockets}"));
        let options = ["--label", label, "--user", &user];
        let volumes = ["--volume", &envoy, "--volume", &config, "--volume", &sockets];
        let command = [
            ["envoy", "--config-path", "/etc/envoy.yaml", "--disable-hot-restart"],
            ["--concurrency", "1", "--log-level", "warning"],
        ];
        let engine = self.engine.as_ref().expect("the engine runs");
        let container = engine.run_beside(&[&options[..], &volumes].concat(), IMAGE, &command.concat());
        self.containers.push((name, AdminPage(admin), container));
    }

    /// Waits until each Envoy has its secrets and serves.
    pub(super) fn wait_for_envoys(&mut self) {
        self.envoys.iter_mut().for_each(|(_, envoy)| envoy.wait_until_ready());
        for (name, admin, container) in &self.containers {
            let start = std::time::Instant::now();
            while !admin.is_ready() {
                let engine = self.engine.as_ref().expect("the engine runs");
                assert!(
                    start.elapsed() < START_LIMIT,
                    "Envoy {name} is not ready:\n{}",
                    engine.log(container)
                );
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }

    /// The admin page of the Envoy that was started as `name`.
    pub(super) fn envoy_of(&self, name: &str) -> AdminPage {
        let contained = self.containers.iter().map(|(known, admin, _)| (*known, *admin));
        let own = self.envoys.iter().map(|(known, envoy)| (*known, envoy.admin_page()));
        let found = own.chain(contained).find(|(known, _)| *known == name);
        found.unwrap_or_else(|| panic!("no Envoy is called {name}")).1
    }

    /// SPIFFE IDs that the Envoy `name` presents.
    pub(super) fn identity(&self, name: &str) -> String {
        let ids: Vec<_> = self.envoy_of(name).identities().into_iter().map(|(id, _)| id).collect();
        ids.join(" ")
    }

    /// Runs `vouch` with `arguments` as `uid` to its end.
    pub(super) fn vouch(&self, uid: Option<u32>, arguments: &[&str]) -> Output {
        let mut command = Command::new(agent::binary());
        command.args(arguments);
        child::output(command, uid)
    }

    /// The words before a command by which somebody outside runs it in here.
    pub(super) fn enter(&self) -> String {
        let pid = self.agent.as_ref().expect("the agent runs").pid();
        format!("nsenter --target {pid} --mount")
    }

    /// The same, and `vouch`.
    pub(super) fn enter_vouch(&self) -> String {
        format!("{} {}", self.enter(), agent::binary().display())
    }
}

/// A folder with what the demo `name` needs, where every user may read it.
pub(super) fn gather(name: &str, service: &Path) -> TempDir {
    let dir = temporary_dir();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/demos").join(name);
    copy_folder(&folder, &dir.path().join("demo"));
    fs::copy(service, dir.path().join("service")).expect("the services' program can be copied");
    dir
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap_or_else(|error| panic!("making {}: {error}", to.display()));
    let entries = fs::read_dir(from).unwrap_or_else(|error| panic!("reading {}: {error}", from.display()));
    for entry in entries {
        let entry = entry.expect("the folder can be read");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("a file can be copied");
        }
    }
}
