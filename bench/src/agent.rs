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
use nix::{sched::sched_getaffinity, unistd::Pid};

use crate::{
    admin::Admin,
    child::{Directory, Tended},
    clock::Moment,
    cpus,
};

const START_LIMIT: Duration = Duration::from_secs(20);
/// So much of the agent's log is shown when a run fails.
const SHOWN_LOG_LINES: usize = 20;

/// Raised so that one caller may be the whole node, with the least that they are. Everything else is the default, and how
/// often a caller may connect follows from the first. Storms that come one behind the other have more frames than one caller may
/// send in a second.
pub(crate) const RAISED_LIMITS: [(&str, u32); 3] =
    [("connections_per_caller", 128), ("streams_per_caller", 1_024), ("frames_per_second", 1_000_000)];

pub(crate) const TRUST_DOMAIN: &str = "bench.example";

/// A running agent. It and its directory go away with this.
#[derive(Debug)]
pub(crate) struct Agent {
    process: Tended,
    program: PathBuf,
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
    /// Further lines of its configuration, which name files in its directory.
    pub(crate) issuer: Option<fn(&Path) -> String>,
}

/// The agent that was named, or the one beside this program.
pub(crate) fn agent_program(named: Option<&Path>) -> Result<PathBuf> {
    let beside = || Ok(std::env::current_exe()?.with_file_name("vouch"));
    let program = named.map(Path::to_owned).map_or_else(beside, anyhow::Ok)?;
    ensure!(
        program.exists(),
        "there is no agent at {}: cargo build --release -p vouch, or name one with --agent",
        program.display()
    );
    Ok(program)
}

impl Agent {
    /// Starts `program` on the CPUs of the calling thread, in `directory`.
    ///
    /// # Errors
    /// When it does not answer on its admin socket in time.
    pub(crate) fn start(
        program: &Path,
        directory: Directory,
        settings: &Settings<'_>,
    ) -> Result<(Self, Admin)> {
        let config = directory.path().join("vouch.toml");
        fs::write(directory.path().join("entries.toml"), entries(settings.entries))?;
        fs::write(&config, configuration(directory.path(), settings))?;
        let process = Tended::start(&mut command(program, directory.path())?)?;
        let mut agent = Self { process, program: program.to_owned(), directory };
        let admin = agent.wait_for_admin().with_context(|| agent.log())?;
        Ok((agent, admin))
    }

    /// A directory for one.
    pub(crate) fn directory() -> Result<Directory> {
        Directory::new("vouch-bench-")
    }

    /// Ends the process and starts another with the same state on the same CPUs, without waiting for it to
    /// serve. Gives the moment at which that was.
    pub(crate) fn restart(&mut self) -> Result<Moment> {
        let cpus = sched_getaffinity(Pid::from_raw(self.pid().cast_signed()))?;
        self.process.stop()?;
        let began = Moment::now();
        let start = || Tended::start(&mut command(&self.program, self.directory.path())?);
        self.process = cpus::inherited(&cpus, start)?;
        Ok(began)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub(crate) fn public_socket(&self) -> PathBuf {
        self.directory.path().join("public/api.sock")
    }

    pub(crate) fn admin_socket(&self) -> PathBuf {
        self.directory.path().join("admin/admin.sock")
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
        let path = self.admin_socket();
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

fn command(program: &Path, directory: &Path) -> Result<Command> {
    let log = File::options().create(true).append(true).open(directory.join("agent.log"))?;
    let mut command = Command::new(program);
    command.args(["run", "--config"]).arg(directory.join("vouch.toml"));
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    Ok(command)
}

/// One entry for each path of a SPIFFE ID, with one selector.
fn entries(entries: &[(&str, String)]) -> String {
    let entry = |(path, selector): &(&str, String)| {
        format!("[[entries]]\nspiffe_id = \"spiffe://{TRUST_DOMAIN}/{path}\"\nselectors = [\"{selector}\"]\n")
    };
    entries.iter().map(entry).collect()
}

fn configuration(directory: &Path, settings: &Settings<'_>) -> String {
    let issuer = settings.issuer.map_or_else(String::new, |issuer| issuer(directory));
    let (directory, hooks) = (directory.display(), settings.hooks);
    let metrics = settings.metrics.map_or_else(|| "off".to_owned(), |address| address.to_string());
    let mut text = format!(
        "trust_domain = \"{TRUST_DOMAIN}\"\n\
         state_dir = \"{directory}/state\"\n\
         workload_api.socket = \"{directory}/public/api.sock\"\n\
         admin.socket = \"{directory}/admin/admin.sock\"\n\
         entries.files = [\"{directory}/entries.toml\"]\n\
         kernel.hooks = \"{hooks}\"\n\
         kernel.pins = \"off\"\n\
         telemetry.metrics = \"{metrics}\"\n\
         telemetry.log.level = \"warn\"\n{issuer}"
    );
    for (limit, default) in RAISED_LIMITS {
        // One more than is used.
        text.push_str(&format!("limits.{limit} = {}\n", default.max(settings.streams + 1)));
    }
    // Nothing is kept for others, as there are none.
    text.push_str("limits.reserve = 0.0\n");
    text
}
