//! The agent with its default limits, for other users.

use std::{
    fs::{self, File, Permissions},
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    time::{ClockId, clock_getcpuclockid, clock_gettime},
    unistd::Pid,
};

use crate::child::{Directory, Tended};

const START_LIMIT: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub(super) struct HostAgent {
    process: Tended,
    clock: ClockId,
    directory: Directory,
}

impl HostAgent {
    /// Starts `program`, or the agent beside this one, with an entry for user `honest`, on the CPUs of the calling thread.
    pub(super) fn start(program: Option<&Path>, honest: u32) -> Result<Self> {
        let beside = || Ok(std::env::current_exe()?.with_file_name("vouch"));
        let program = program.map_or_else(beside, |path| anyhow::Ok(path.to_owned()))?;
        let directory = Directory::new("vouch-hostile-")?;
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755))?;
        let config = directory.path().join("vouch.toml");
        let shown = directory.path().display();
        let entry = format!(
            "[[entries]]\nspiffe_id = \"spiffe://bench.example/honest\"\nselectors = [\"unix:uid:{honest}\"]\n"
        );
        fs::write(directory.path().join("entries.toml"), entry)?;
        fs::write(
            &config,
            format!(
                "trust_domain = \"bench.example\"\nstate_dir = \"{shown}/state\"\n\
                 workload_api.socket = \"{shown}/public/api.sock\"\nadmin.socket = \"{shown}/admin/admin.sock\"\n\
                 entries.files = [\"{shown}/entries.toml\"]\nkernel.pins = \"off\"\n\
                 telemetry.metrics = \"off\"\ntelemetry.log.level = \"warn\"\n"
            ),
        )?;
        let log = File::create(directory.path().join("agent.log"))?;
        let mut command = Command::new(&program);
        command.args(["run", "--config"]).arg(&config);
        let process = Tended::start(command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log))?;
        let clock = clock_getcpuclockid(Pid::from_raw(process.pid().cast_signed()))?;
        let mut agent = Self { process, clock, directory };
        agent.wait().with_context(|| agent.log())?;
        Ok(agent)
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.directory.path().join("public/api.sock")
    }

    /// CPU time that it has used so far.
    pub(super) fn cpu(&self) -> Result<Duration> {
        Ok(clock_gettime(self.clock)?.into())
    }

    pub(super) fn log(&self) -> String {
        let text = fs::read_to_string(self.directory.path().join("agent.log")).unwrap_or_default();
        format!("the agent's log:\n{text}")
    }

    fn wait(&mut self) -> Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        while UnixStream::connect(self.socket()).is_err() {
            if let Some(status) = self.process.ended()? {
                bail!("the agent ended instead of serving: {status}");
            }
            ensure!(Instant::now() < deadline, "the agent does not serve after {START_LIMIT:?}");
            sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}
