//! Hooks and maps outlive the agent, and the next one goes on where the last one ended.

mod interrupted;
mod takeover;
mod wrong;

use std::{
    collections::BTreeSet,
    fs,
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use tempfile::TempDir;
use vouch::{
    kernel::{Capture, Error, EventSource, HookState, KernelEvent, Options, instance_directory},
    process::ProcessId,
};
use vouch_tests::{Bpffs, agent::temporary_dir, eventually};

/// No other scenario makes a storm that fills it while nobody reads.
const ROOMY_RING: u32 = 16 << 20;

/// A bpffs and a socket of our own, and agents that come and go.
struct Place {
    bpffs: Bpffs,
    dir: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { bpffs: Bpffs::mount(), dir: temporary_dir() }
    }

    /// Where the pins of the instance with that name are.
    fn pins(&self, instance: &str) -> PathBuf {
        instance_directory(self.bpffs.path(), &self.dir.path().join(instance))
    }

    fn options(&self) -> Options {
        Options { ring_bytes: ROOMY_RING, pins: Some(self.pins("state")), ..Options::default() }
    }

    /// Another agent takes over.
    fn attach(&self) -> (Capture, EventSource) {
        attach(&self.options()).unwrap()
    }

    /// The directory of the one layout that there is.
    fn layout(&self) -> PathBuf {
        let mut layouts: Vec<PathBuf> = entries(&self.pins("state"));
        assert_eq!(layouts.len(), 1, "{layouts:?}");
        layouts.remove(0)
    }

    /// What is pinned.
    fn names(&self) -> BTreeSet<String> {
        let names = entries(&self.layout()).into_iter();
        names.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect()
    }

    fn listen(&self) -> (UnixListener, PathBuf) {
        let path = self.dir.path().join("api.sock");
        fs::remove_file(&path).ok();
        (UnixListener::bind(&path).unwrap(), path)
    }
}

fn attach(options: &Options) -> Result<(Capture, EventSource), Error> {
    let attached = Capture::attach(options)?;
    let hooks = attached.0.hooks();
    assert!(hooks.iter().all(|hook| hook.state == HookState::Attached), "{hooks:?}");
    Ok(attached)
}

/// Without those that the kernel puts into the root of each bpffs.
fn entries(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut entries: Vec<_> = entries.filter(|path| path.extension().is_none()).collect();
    entries.sort();
    entries
}

/// Somebody comes and goes.
fn pass_by() -> u32 {
    let mut child = Command::new("/bin/true").spawn().unwrap();
    assert!(child.wait().unwrap().success());
    child.id()
}

/// What is told of `pid`, in short, until it exits; and how many events were lost.
fn told_of(events: &mut EventSource, pid: u32) -> (Vec<&'static str>, u64) {
    let (mut told, mut lost, mut id) = (Vec::new(), 0, None);
    let start = Instant::now();
    let mut end = None;
    // A moment longer: another hook on the same event would speak of it right behind the first.
    while end.is_none_or(|end: Instant| end.elapsed() < Duration::from_millis(50)) {
        assert!(start.elapsed() < Duration::from_secs(10), "{told:?}, {lost} lost");
        for event in events.take_ready().unwrap() {
            let (word, task) = match event {
                KernelEvent::Fork(task) => ("fork", task),
                KernelEvent::Exec(task) => ("exec", task),
                KernelEvent::CgroupMove(task) => ("move", task),
                KernelEvent::Exit(task) => ("exit", task),
                KernelEvent::Lost(events) => {
                    lost += events;
                    continue;
                }
            };
            // In a storm the number is soon somebody else's.
            if task.pid == pid && *id.get_or_insert(ProcessId::of(&task)) == ProcessId::of(&task) {
                told.push(word);
                end = end.or((word == "exit").then(Instant::now));
            }
        }
    }
    (told, lost)
}

/// Everything works, and every hook is attached once.
fn assert_works(place: &Place, capture: &Capture, events: &mut EventSource) {
    let (told, lost) = told_of(events, pass_by());
    assert_eq!((told, lost), (vec!["fork", "exec", "exit"], 0));
    let (listener, path) = place.listen();
    let before = capture.counters().unwrap().connects;
    let _client = UnixStream::connect(path).unwrap();
    let (accepted, _) = listener.accept().unwrap();
    let record = capture.connect_record(std::os::fd::AsFd::as_fd(&accepted)).unwrap().unwrap();
    assert_eq!(record.task.pid, std::process::id());
    assert!(capture.counters().unwrap().connects > before);
    eventually("nothing is left over", Duration::from_secs(1), || {
        (place.names() == all_names()).then_some(())
    });
}

/// What a running agent has pinned.
fn all_names() -> BTreeSet<String> {
    let maps = ["CONNECTORS", "COUNTERS", "EVENTS", "DELAYED", "ORIGINS", "PEERS"].map(str::to_owned);
    let links = ["connect_unix", "getsockname_unix", "process_exec", "process_exit", "process_fork"];
    let links = links.iter().chain(&["cgroup_move"]).map(|link| format!("link_{link}"));
    maps.into_iter().chain(links).collect()
}
