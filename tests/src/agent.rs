//! The agent, with a configuration and a state directory of its own.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{Child, Settings, child, eventually, http, need, settings};

/// A debug build on a busy machine may take its time.
const START_LIMIT: Duration = Duration::from_secs(20);
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// An agent and its folder. Both go away when this is dropped.
#[derive(Debug)]
pub struct Agent {
    settings: Settings,
    process: Option<Child>,
    dir: TempDir,
}

impl Agent {
    /// A running agent that is ready.
    ///
    /// # Panics
    /// When it does not become ready.
    pub fn start(settings: Settings) -> Self {
        let mut agent = Self::prepare(settings);
        agent.launch();
        agent
    }

    /// Configuration and entries are written, but nothing runs yet.
    ///
    /// # Panics
    /// When the files cannot be written.
    pub fn prepare(settings: Settings) -> Self {
        let dir = temporary_dir();
        let agent = Self { settings, process: None, dir };
        agent.write_entries(agent.settings.entries());
        agent.settings.policies().for_each(|(name, rego)| agent.write_policy(name, rego));
        fs::write(agent.config(), agent.settings.text(agent.dir()))
            .expect("the configuration can be written");
        agent
    }

    /// Starts it, again if it ran before, and waits until it is ready.
    ///
    /// # Panics
    /// When it ends instead, or is not ready in time.
    pub fn launch(&mut self) {
        self.spawn();
        let ready = self.metrics_address();
        eventually("the agent is ready", START_LIMIT, || {
            let child = self.process.as_mut().expect("just started");
            if let Some(status) = child.exited() {
                panic!("the agent ended instead of becoming ready: {status}");
            }
            let answer = http::get(ready, "/ready").ok()?;
            (answer.status == 200).then_some(())
        });
    }

    /// Starts it without waiting.
    pub fn spawn(&mut self) {
        let mut command = Command::new(binary());
        command.args(["run", "--config"]).arg(self.config());
        self.spawn_as(command);
    }

    /// Starts `command`, which is this agent by other words, without waiting.
    pub fn spawn_as(&mut self, command: Command) {
        self.process = Some(Child::spawn("the agent", command, None, &self.dir().join("agent.log")));
    }

    /// Stops it in good order.
    ///
    /// # Panics
    /// When it does not run, does not stop, or does not end with 0.
    pub fn stop(&mut self) {
        let status = self.process().terminate(STOP_LIMIT);
        assert!(status.success(), "the agent ended with {status} after SIGTERM");
        self.process = None;
    }

    /// Kills it, as a crash would.
    pub fn kill(&mut self) {
        self.process().kill();
        self.process = None;
    }

    /// The running process.
    ///
    /// # Panics
    /// When it does not run.
    pub fn process(&mut self) -> &mut Child {
        self.process.as_mut().expect("the agent runs")
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn state_dir(&self) -> PathBuf {
        self.settings.state_dir(self.dir())
    }

    pub fn config(&self) -> PathBuf {
        self.dir().join("vouch.toml")
    }

    /// The public socket: SDS, Workload API, health, reflection.
    pub fn socket(&self) -> PathBuf {
        self.dir().join("public/api.sock")
    }

    /// Where Envoys ask for authorization, when there is a policy.
    pub fn authz_socket(&self) -> PathBuf {
        self.dir().join("authz/authz.sock")
    }

    pub fn admin_socket(&self) -> PathBuf {
        self.dir().join("admin/admin.sock")
    }

    pub fn metrics_address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.settings.metrics_port()).into()
    }

    /// Everything at `/metrics`.
    ///
    /// # Panics
    /// When it does not answer.
    pub fn metrics(&self) -> String {
        http::get(self.metrics_address(), "/metrics").expect("the agent answers at /metrics").body
    }

    /// How many connections and calls it has turned away so far, over all reasons.
    pub fn turned_away(&self) -> f64 {
        let away = |line: &&str| line.contains("outcome=\"refused\"") || line.contains("outcome=\"shed\"");
        let text = self.metrics();
        text.lines().filter(away).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Replaces the entry file in one step, as an operator's editor does.
    ///
    /// # Panics
    /// When the files cannot be written.
    pub fn write_entries(&self, entries: &[Value]) {
        self.write_entry_file(&json!({ "entries": entries }).to_string());
    }

    /// Replaces the entry file by `text`, whatever that is.
    ///
    /// # Panics
    /// When the files cannot be written.
    pub fn write_entry_file(&self, text: &str) {
        let draft = self.dir().join("entries.json.new");
        fs::write(&draft, text).expect("entries can be written");
        fs::rename(draft, self.dir().join("entries.json")).expect("entries can be moved into place");
    }

    /// The file of the policy `name`.
    pub fn policy_file(&self, name: &str) -> PathBuf {
        self.dir().join(settings::policy_file(name))
    }

    /// Replaces the file of the policy `name` in one step.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write_policy(&self, name: &str, rego: &str) {
        let file = self.policy_file(name);
        fs::create_dir_all(file.parent().expect("it lies in a folder")).expect("the folder can be made");
        // A name that is no Rego's.
        let draft = file.with_extension("new");
        fs::write(&draft, rego).expect("a policy can be written");
        fs::rename(draft, file).expect("a policy can be moved into place");
    }

    /// Runs `vouch` against this agent as `uid`, to its end.
    pub fn cli(&self, uid: Option<u32>, arguments: &[&str]) -> Output {
        let mut command = Command::new(binary());
        command.args(arguments).arg("--socket").arg(self.socket());
        command.arg("--admin-socket").arg(self.admin_socket());
        child::output(command, uid)
    }

    /// `vouch status -o json`.
    ///
    /// # Panics
    /// When it fails or does not print JSON.
    pub fn status(&self) -> Value {
        let output = self.cli(None, &["status", "-o", "json"]);
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("`vouch status -o json` printed no JSON: {error}: {output:?}"))
    }
}

/// The agent under test.
pub fn binary() -> PathBuf {
    need::binary("VOUCH_BIN")
}

/// A folder below the temporary one that every uid may enter.
///
/// # Panics
/// When it cannot be made.
pub fn temporary_dir() -> TempDir {
    let dir = TempDir::with_prefix("t").expect("a temporary folder can be made");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("it is ours");
    dir
}
