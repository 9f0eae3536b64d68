//! The release agent, started with a directory and a configuration of its own.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, geteuid},
};
use tempfile::TempDir;

use crate::admin::Admin;

const START_LIMIT: Duration = Duration::from_secs(20);
const STOP_LIMIT: Duration = Duration::from_secs(10);
/// So much of the agent's log is shown when a run fails.
const SHOWN_LOG_LINES: usize = 20;

/// Raised so that one caller may be the whole node; everything else is the default.
pub(crate) const RAISED_LIMITS: [&str; 3] = ["connections", "connections_per_caller", "streams_per_caller"];

/// A running agent. It and its directory go away with this.
#[derive(Debug)]
pub(crate) struct Agent {
    process: Child,
    directory: TempDir,
}

impl Agent {
    /// Starts `program` for `streams` connections of this user, on the CPUs of the calling thread.
    ///
    /// # Errors
    /// When it does not answer on its admin socket in time.
    pub(crate) fn start(program: &Path, streams: u32, hooks: &str) -> Result<(Self, Admin)> {
        let directory = tempfile::Builder::new().prefix("vouch-bench-").tempdir()?;
        let config = directory.path().join("vouch.toml");
        fs::write(directory.path().join("entries.toml"), entries(geteuid().as_raw()))?;
        fs::write(&config, configuration(directory.path(), streams, hooks))?;
        let log = File::create(directory.path().join("agent.log"))?;
        let process = Command::new(program)
            .args(["run", "--config"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        let mut agent = Self { process, directory };
        let admin = agent.wait_for_admin().with_context(|| agent.log())?;
        Ok((agent, admin))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn public_socket(&self) -> PathBuf {
        self.directory.path().join("public/api.sock")
    }

    /// The end of what it logged.
    pub(crate) fn log(&self) -> String {
        let text = fs::read_to_string(self.directory.path().join("agent.log")).unwrap_or_default();
        if text.is_empty() {
            return "the agent logged nothing".into();
        }
        let lines: Vec<_> = text.lines().collect();
        let shown = &lines[lines.len().saturating_sub(SHOWN_LOG_LINES)..];
        format!("the agent's log ends with:\n{}", shown.join("\n"))
    }

    fn wait_for_admin(&mut self) -> Result<Admin> {
        let path = self.directory.path().join("admin/admin.sock");
        let deadline = Instant::now() + START_LIMIT;
        loop {
            if let Some(status) = self.process.try_wait()? {
                bail!("the agent ended instead of serving: {status}");
            }
            // Both are bound before either is served, and the public one first.
            if let Ok(mut admin) = Admin::connect(&path) {
                admin.status()?;
                return Ok(admin);
            }
            ensure!(Instant::now() < deadline, "the agent does not serve after {START_LIMIT:?}");
            sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let pid = Pid::from_raw(self.process.id().cast_signed());
        let deadline = Instant::now() + STOP_LIMIT;
        let mut told = kill(pid, Signal::SIGTERM).is_ok();
        while told && matches!(self.process.try_wait(), Ok(None)) {
            told = Instant::now() < deadline;
            sleep(Duration::from_millis(20));
        }
        // Either fails only when it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn entries(uid: u32) -> String {
    format!("[[entries]]\nspiffe_id = \"spiffe://bench.example/load\"\nselectors = [\"unix:uid:{uid}\"]\n")
}

fn configuration(directory: &Path, streams: u32, hooks: &str) -> String {
    let directory = directory.display();
    let mut text = format!(
        "trust_domain = \"bench.example\"\n\
         state_dir = \"{directory}/state\"\n\
         workload_api.socket = \"{directory}/public/api.sock\"\n\
         admin.socket = \"{directory}/admin/admin.sock\"\n\
         entries.files = [\"{directory}/entries.toml\"]\n\
         kernel.hooks = \"{hooks}\"\n\
         telemetry.metrics = \"off\"\n\
         telemetry.log.level = \"warn\"\n"
    );
    for limit in RAISED_LIMITS {
        // One more than is used.
        text.push_str(&format!("limits.{limit} = {}\n", streams + 1));
    }
    text
}
