//! Processes and directories that go away with us, however we end: also on Ctrl-C, where no destructor runs.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus},
    sync::{Mutex, MutexGuard, PoisonError},
    thread::{self, sleep},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};

const STOP_LIMIT: Duration = Duration::from_secs(10);
/// What a shell says of a program that Ctrl-C has ended.
const INTERRUPTED: i32 = 130;

/// What is there now. A pid stands here until its process is waited for, so it names nobody else.
static KEPT: Mutex<Kept> = Mutex::new(Kept { pids: Vec::new(), directories: Vec::new() });

#[derive(Debug)]
struct Kept {
    pids: Vec<u32>,
    directories: Vec<PathBuf>,
}

/// From now on Ctrl-C and SIGTERM end this program after what it started.
///
/// # Errors
/// When there is no thread for it.
pub(crate) fn clean_up_on_interrupt() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let (mut interrupt, mut terminate) = {
        let _inside = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    thread::Builder::new().name("interrupt".into()).spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        });
        kept().end_all();
        std::process::exit(INTERRUPTED);
    })?;
    Ok(())
}

fn kept() -> MutexGuard<'static, Kept> {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Kept {
    fn end_all(&mut self) {
        let there = |pid: &u32| fs::exists(format!("/proc/{pid}/exe")).unwrap_or(false);
        let all = |signal: Signal| self.pids.iter().for_each(|pid| tell(*pid, signal));
        all(Signal::SIGTERM);
        let deadline = Instant::now() + STOP_LIMIT / 2;
        // Nobody waits for them here, so what has ended is a zombie, which has no executable.
        while Instant::now() < deadline && self.pids.iter().any(there) {
            sleep(Duration::from_millis(20));
        }
        all(Signal::SIGKILL);
        for directory in &self.directories {
            // What cannot be removed is left to the system's own cleaning.
            let _ = fs::remove_dir_all(directory);
        }
    }
}

/// Fails only when the process has ended already.
fn tell(pid: u32, signal: Signal) {
    let _ = kill(Pid::from_raw(pid.cast_signed()), signal);
}

/// A process of ours. It is told to end when this goes away, and made to when it does not.
#[derive(Debug)]
pub(crate) struct Tended(Child);

impl Tended {
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        // Under the lock, so that no interrupt comes between the process and its being known.
        let mut kept = kept();
        let started = command.spawn();
        let child =
            started.with_context(|| format!("starting {}", command.get_program().to_string_lossy()))?;
        kept.pids.push(child.id());
        Ok(Self(child))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.0
    }

    /// Waits for it to end by itself.
    pub(crate) fn wait(&mut self) -> Result<ExitStatus> {
        let deadline = Instant::now() + STOP_LIMIT;
        loop {
            if let Some(ended) = self.ended()? {
                return Ok(ended);
            }
            ensure!(Instant::now() < deadline, "process {} does not end", self.pid());
            sleep(Duration::from_micros(200));
        }
    }

    /// Tells it to end, and waits until it has.
    pub(crate) fn stop(&mut self) -> Result<ExitStatus> {
        tell(self.pid(), Signal::SIGTERM);
        self.wait()
    }

    /// How it has ended, if it has.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        let mut kept = kept();
        let ended = self.0.try_wait()?;
        if ended.is_some() {
            kept.pids.retain(|pid| *pid != self.0.id());
        }
        Ok(ended)
    }
}

impl Drop for Tended {
    fn drop(&mut self) {
        if matches!(self.ended(), Ok(Some(_))) {
            return;
        }
        tell(self.pid(), Signal::SIGTERM);
        let deadline = Instant::now() + STOP_LIMIT;
        let mut pause = Duration::from_micros(200);
        while Instant::now() < deadline {
            if matches!(self.ended(), Ok(Some(_)) | Err(_)) {
                return;
            }
            sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
        // Fails only when it has ended in between.
        let _ = self.0.kill();
        let _ = self.0.wait();
        let pid = self.pid();
        kept().pids.retain(|known| *known != pid);
    }
}

/// A directory of ours, for this user alone until somebody opens it.
#[derive(Debug)]
pub(crate) struct Directory(TempDir);

impl Directory {
    pub(crate) fn new(prefix: &str) -> Result<Self> {
        let mut kept = kept();
        let directory = tempfile::Builder::new().prefix(prefix).tempdir()?;
        kept.directories.push(directory.path().to_owned());
        Ok(Self(directory))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        kept().directories.retain(|known| known != self.0.path());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_ends_with_its_owner() {
        let tended = Tended::start(Command::new("sleep").arg("1000")).unwrap();
        let pid = tended.pid();
        assert!(kept().pids.contains(&pid));
        drop(tended);
        assert!(!kept().pids.contains(&pid));
        assert!(kill(Pid::from_raw(pid.cast_signed()), None).is_err(), "it is gone, not a zombie");
    }

    #[test]
    fn an_interrupt_ends_what_is_left() {
        let mut tended = Tended::start(Command::new("sleep").arg("1000")).unwrap();
        let directory = Directory::new("vouch-bench-test-").unwrap();
        let path = directory.path().to_owned();
        Kept { pids: vec![tended.pid()], directories: vec![path.clone()] }.end_all();
        assert!(!path.exists());
        assert!(!tended.child().wait().unwrap().success());
    }
}
