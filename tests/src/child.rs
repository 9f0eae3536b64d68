//! Child processes that end with their owner.
#![expect(unsafe_code, reason = "a child asks for the parent-death signal between fork and exec")]

use std::{
    fs::{self, File},
    io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use nix::{
    sys::{prctl, signal},
    unistd::Pid,
};

use crate::wait::eventually;

const LOG_LINES_SHOWN: usize = 60;

/// A running program. It is killed when this is dropped or when the thread that started it ends, and its log is
/// shown when the test fails.
#[derive(Debug)]
pub struct Child {
    name: String,
    process: std::process::Child,
    log: PathBuf,
}

impl Child {
    /// Starts `command`, as `uid` when one is given; what it writes is added to `log`.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn spawn(name: &str, mut command: Command, uid: Option<u32>, log: &Path) -> Self {
        let file = File::options().create(true).append(true).open(log).expect("the log opens");
        command
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("the log has a second handle"))
            .stderr(file);
        become_user(&mut command, uid);
        let process = command.spawn().unwrap_or_else(|error| panic!("starting {name}: {error}"));
        Self { name: name.to_owned(), process, log: log.to_owned() }
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.process.id()).expect("a pid is positive"))
    }

    /// How it ended, if it did.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.process.try_wait().expect("our own child can be waited for")
    }

    pub fn signal(&self, signal: signal::Signal) {
        signal::kill(self.pid(), signal).expect("our own child can be signalled");
    }

    /// Kills it, as a crash would.
    pub fn kill(&mut self) {
        self.process.kill().ok();
        self.process.wait().expect("our own child can be waited for");
    }

    /// Asks it to end and waits for that.
    ///
    /// # Panics
    /// When it has not ended after `limit`.
    pub fn terminate(&mut self, limit: Duration) -> ExitStatus {
        self.signal(signal::Signal::SIGTERM);
        eventually(&format!("{} ends after SIGTERM", self.name), limit, || self.exited())
    }

    /// Everything it wrote so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            eprintln!("--- the last lines of {}:", self.name);
            lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].iter().for_each(|line| eprintln!("{line}"));
        }
    }
}

/// Runs `command` as `uid` to its end and gives what it wrote.
///
/// # Panics
/// When it cannot be started.
pub fn output(mut command: Command, uid: Option<u32>) -> std::process::Output {
    become_user(&mut command, uid);
    command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("starting {command:?}: {error}"))
}

/// The child will run as `uid` without further groups, and die with the thread that starts it.
fn become_user(command: &mut Command, uid: Option<u32>) {
    if let Some(uid) = uid {
        command.uid(uid).gid(uid);
    }
    // After the change of user, which would clear the setting.
    let die_with_parent = || prctl::set_pdeathsig(signal::Signal::SIGKILL).map_err(io::Error::from);
    // SAFETY: between fork and exec the closure makes one system call; it allocates nothing and takes no lock.
    unsafe { command.pre_exec(die_with_parent) };
}
