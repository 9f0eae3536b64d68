//! The release agent, started with a directory and a configuration of its own.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::unistd::geteuid;

use crate::{
    admin::Admin,
    child::{Directory, Tended},
};

const START_LIMIT: Duration = Duration::from_secs(20);
/// So much of the agent's log is shown when a run fails.
const SHOWN_LOG_LINES: usize = 20;

/// Raised so that one caller may be the whole node; everything else is the default.
pub(crate) const RAISED_LIMITS: [&str; 3] = ["connections", "connections_per_caller", "streams_per_caller"];

/// A running agent. It and its directory go away with this.
#[derive(Debug)]
pub(crate) struct Agent {
    process: Tended,
    directory: Directory,
}

/// What may be chosen of an agent.
#[derive(Debug)]
pub(crate) struct Settings<'a> {
    /// So many connections, with a stream each, may one caller have.
    pub(crate) streams: u32,
    pub(crate) hooks: &'a str,
    /// The path of a SPIFFE ID, and the selector that earns it.
    pub(crate) entries: &'a [(&'a str, String)],
    pub(crate) metrics: Option<SocketAddr>,
}

impl Agent {
    /// Starts `program` for `streams` connections of this user, on the CPUs of the calling thread.
    ///
    /// # Errors
    /// When it does not answer on its admin socket in time.
    pub(crate) fn start(program: &Path, streams: u32, hooks: &str) -> Result<(Self, Admin)> {
        let selectors = format!("unix:uid:{}", geteuid());
        Self::start_with(
            program,
            &Settings { streams, hooks, entries: &[("load", selectors)], metrics: None },
        )
    }

    /// The same, with everything that may be chosen.
    pub(crate) fn start_with(program: &Path, settings: &Settings<'_>) -> Result<(Self, Admin)> {
        let directory = Directory::new("vouch-bench-")?;
        let config = directory.path().join("vouch.toml");
        fs::write(directory.path().join("entries.toml"), entries(settings.entries))?;
        fs::write(&config, configuration(directory.path(), settings))?;
        let log = File::create(directory.path().join("agent.log"))?;
        let mut command = Command::new(program);
        command.args(["run", "--config"]).arg(&config);
        let process = Tended::start(command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log))?;
        let mut agent = Self { process, directory };
        let admin = agent.wait_for_admin().with_context(|| agent.log())?;
        Ok((agent, admin))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
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
            if let Some(status) = self.process.ended()? {
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

/// One entry for each path of a SPIFFE ID, with one selector.
fn entries(entries: &[(&str, String)]) -> String {
    let entry = |(path, selector): &(&str, String)| {
        format!("[[entries]]\nspiffe_id = \"spiffe://bench.example/{path}\"\nselectors = [\"{selector}\"]\n")
    };
    entries.iter().map(entry).collect()
}

fn configuration(directory: &Path, settings: &Settings<'_>) -> String {
    let (directory, hooks) = (directory.display(), settings.hooks);
    let metrics = settings.metrics.map_or_else(|| "off".to_owned(), |address| address.to_string());
    let mut text = format!(
        "trust_domain = \"bench.example\"\n\
         state_dir = \"{directory}/state\"\n\
         workload_api.socket = \"{directory}/public/api.sock\"\n\
         admin.socket = \"{directory}/admin/admin.sock\"\n\
         entries.files = [\"{directory}/entries.toml\"]\n\
         kernel.hooks = \"{hooks}\"\n\
         kernel.pins = \"off\"\n\
         telemetry.metrics = \"{metrics}\"\n\
         telemetry.log.level = \"warn\"\n"
    );
    for limit in RAISED_LIMITS {
        // One more than is used.
        text.push_str(&format!("limits.{limit} = {}\n", settings.streams + 1));
    }
    text
}
