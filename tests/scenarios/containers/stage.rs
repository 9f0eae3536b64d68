use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;
use vouch_tests::{
    Agent, Container, Engine, Runtime, Settings,
    agent::{binary, temporary_dir},
    engine::root_folder,
    eventually,
};

pub(super) const IMAGE: &str = "box:1";
pub(super) const LIMIT: Duration = Duration::from_secs(30);

/// An agent, an engine, and a folder that the containers share with us.
pub(super) struct Stage {
    pub(super) agent: Agent,
    pub(super) engine: Engine,
    pub(super) shared: TempDir,
}

/// What `vouch fetch` ended with.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fetched {
    pub(super) identities: Vec<String>,
    pub(super) code: i32,
}

impl Fetched {
    pub(super) fn only(identity: &str) -> Self {
        Self { identities: vec![identity.to_owned()], code: 0 }
    }

    pub(super) fn nothing() -> Self {
        Self { identities: Vec::new(), code: 6 }
    }
}

impl Stage {
    /// The engine is there before the agent.
    pub(super) fn new(runtime: Runtime, entries: impl IntoIterator<Item = Value>) -> Self {
        let engine = Engine::start(runtime);
        import(&engine, &binary());
        let key = match runtime {
            Runtime::Docker => "attest.docker.socket",
            Runtime::Podman => "attest.docker.podman_socket",
        };
        let agent = Agent::start(settings(entries).set(key, text(&engine.socket())));
        Self { agent, engine, shared: shared() }
    }

    /// A container with `label` that does `script`: `/out` is the shared folder, and `$S` names our socket.
    pub(super) fn container(&self, label: &str, script: &str) -> Container {
        let mounts = mounts(&self.agent, &self.shared);
        let mut options = vec!["--label", label];
        for mount in &mounts {
            options.extend(["--volume", mount]);
        }
        let script = format!("S='--socket /vouch/api.sock'; {script}; sleep 300");
        self.engine.run(&options, IMAGE, &["sh", "-c", &script])
    }

    /// What `vouch fetch` gets in a container with `label`.
    pub(super) fn fetch_in(&self, label: &str) -> Fetched {
        self.container(label, &fetch("fetched"));
        self.fetched("fetched")
    }

    pub(super) fn fetched(&self, name: &str) -> Fetched {
        fetched(self.shared.path(), name)
    }

    /// What somebody wrote into the shared folder by now.
    pub(super) fn written(&self, name: &str) -> String {
        fs::read_to_string(self.shared.path().join(name)).unwrap_or_default()
    }

    pub(super) fn write(&self, name: &str) {
        fs::write(self.shared.path().join(name), "").unwrap();
    }
}

/// An attestor that hangs is not waited for long.
pub(super) fn settings(entries: impl IntoIterator<Item = Value>) -> Settings {
    Settings::new(entries).set("kernel.hooks", "require").set("limits.attestation_timeout", "2s")
}

/// Makes an image in which `program` can run.
pub(super) fn import(engine: &Engine, program: &Path) {
    engine.import(root_folder(program).path(), IMAGE);
}

pub(super) fn shared() -> TempDir {
    let folder = temporary_dir();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    folder
}

/// `vouch`, the folder of the public socket, and the shared one.
pub(super) fn mounts(agent: &Agent, shared: &TempDir) -> [String; 3] {
    let public = agent.socket().parent().unwrap().to_owned();
    [(binary(), "/bin/vouch"), (public, "/vouch"), (shared.path().to_owned(), "/out")]
        .map(|(from, to): (PathBuf, _)| format!("{}:{to}", text(&from)))
}

/// The script that leaves what [`fetched`] reads.
pub(super) fn fetch(name: &str) -> String {
    format!(
        "vouch fetch $S > /out/{name} 2> /out/{name}.err; echo $? > /out/.{name}; mv /out/.{name} /out/{name}.code"
    )
}

pub(super) fn fetched(shared: &Path, name: &str) -> Fetched {
    let code = eventually("vouch fetch has ended", LIMIT, || {
        fs::read_to_string(shared.join(format!("{name}.code"))).ok()
    });
    let said = fs::read_to_string(shared.join(name)).unwrap();
    fs::remove_file(shared.join(format!("{name}.code"))).unwrap();
    let identities = said.lines().filter_map(|line| line.split(' ').next().map(str::to_owned)).collect();
    Fetched { identities, code: code.trim().parse().unwrap() }
}

pub(super) fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}
