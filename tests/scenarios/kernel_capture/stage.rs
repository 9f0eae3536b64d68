use std::{
    fs,
    io::{BufRead, BufReader, Lines},
    os::{
        fd::AsFd,
        unix::{fs::MetadataExt, net::UnixListener},
    },
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;
use vouch::kernel::{Capture, EventSource, KernelEvent, Options, Sighting, Task};

pub(crate) const LIMIT: Duration = Duration::from_secs(10);

/// An attached capture, a socket, and programs.
pub(crate) struct Stage {
    pub(crate) capture: Capture,
    pub(crate) events: EventSource,
    pub(crate) listener: UnixListener,
    pub(crate) path: String,
    pub(crate) programs: Programs,
}

/// Copies of one program that are told apart by their files.
pub(crate) struct Programs {
    pub(crate) dir: TempDir,
}

impl Stage {
    pub(crate) fn new() -> Self {
        let (capture, events) = Capture::attach(&Options::default()).unwrap();
        let programs = Programs::new();
        let path = programs.dir.path().join("api.sock").to_str().unwrap().to_owned();
        Self { capture, events, listener: UnixListener::bind(&path).unwrap(), path, programs }
    }

    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.programs.program(name)
    }

    pub(crate) fn actor(&self, name: &str, steps: &[&str]) -> Actor {
        self.programs.actor(name, steps)
    }

    /// What the kernel saw of the next connection.
    pub(crate) fn sighting(&self) -> Option<Sighting> {
        let (accepted, _) = self.listener.accept().unwrap();
        self.capture.connect_record(accepted.as_fd()).unwrap()
    }

    /// The same without the origin.
    pub(crate) fn record(&self) -> Option<Task> {
        self.sighting().map(|seen| seen.task)
    }

    /// Everything told about one process until it exits.
    pub(crate) fn events_of(&mut self, pid: u32) -> Vec<KernelEvent> {
        let mut seen = Vec::new();
        let start = Instant::now();
        while !matches!(seen.last(), Some(KernelEvent::Exit(_))) && start.elapsed() < LIMIT {
            seen.extend(self.events.take_ready().unwrap().into_iter().filter(|event| match event {
                KernelEvent::Exec(task)
                | KernelEvent::Fork(task)
                | KernelEvent::Exit(task)
                | KernelEvent::CgroupMove(task) => task.pid == pid,
                KernelEvent::Lost(events) => panic!("{events} events lost"),
            }));
            thread::sleep(Duration::from_millis(1));
        }
        seen
    }
}

impl Programs {
    pub(crate) fn new() -> Self {
        Self { dir: vouch_tests::agent::temporary_dir() }
    }

    /// The program under a name of its own.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        if !path.exists() {
            // By another process: a descriptor for writing that a fork elsewhere in this one inherits would keep
            // the file from being run.
            // Where the build put it may be hidden by our own /tmp; the first thread of this process has never left.
            let actor = format!("/proc/{}/root{}", std::process::id(), env!("CARGO_BIN_EXE_actor"));
            let copied = Command::new("cp").arg(actor).arg(&path).status();
            assert!(copied.unwrap().success());
        }
        path
    }

    pub(crate) fn actor(&self, name: &str, steps: &[&str]) -> Actor {
        Self::start(Command::new(self.program(name)).args(steps))
    }

    /// A command that ends up as one of the programs.
    pub(crate) fn start(command: &mut Command) -> Actor {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Actor { child, lines }
    }
}

pub(crate) struct Actor {
    pub(crate) child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Actor {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it has done `step`.
    pub(crate) fn wait(&mut self, step: &str) {
        for line in self.lines.by_ref() {
            if line.unwrap() == step {
                return;
            }
        }
        panic!("the actor ended before {step}");
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Whether the task runs that file, in the state in which it is now. (The generation is in no `stat`.)
pub(crate) fn runs(task: &Task, path: &Path) -> bool {
    let file = fs::metadata(path).unwrap();
    task.exe.is_some_and(|exe| {
        (exe.major, exe.minor, exe.inode) == (libc::major(file.dev()), libc::minor(file.dev()), file.ino())
            && (exe.ctime_sec, i64::from(exe.ctime_nsec)) == (file.ctime(), file.ctime_nsec())
    })
}
