//! What the kernel programs tell is what `/proc` tells, at the instant they speak of; and what they cannot tell
//! they count.
#![expect(clippy::unwrap_used, reason = "what cannot be arranged fails the scenario")]

mod credentials;
mod delay;
mod origins;
mod pins;
mod processes;
pub(crate) mod stage;
mod storm;
mod subordinate;

use std::{
    fs,
    os::{
        fd::{AsFd, FromRawFd, OwnedFd},
        unix::{
            fs::MetadataExt,
            net::{UnixListener, UnixStream},
        },
    },
    path::Path,
    process::{Command, id},
    time::Duration,
};

use vouch::{
    kernel::{Capture, HookState, Namespaces, Options, Seccomp, Task},
    process::ProcessId,
};
use vouch_tests::{Need, require};

use stage::{Programs, Stage, runs};

#[test]
fn a_connect_record_says_what_proc_says() {
    require!(Need::ConnectHook);
    let stage = Stage::new();
    let mut actor = stage.actor("caller", &["connect", &stage.path, "hold"]);
    actor.wait("connect");
    let seen = stage.sighting().unwrap();
    let mut now = stage.capture.inspect(actor.pid()).unwrap().unwrap();
    now.task.recorded_at = seen.task.recorded_at;
    assert_eq!(seen, now, "nothing has changed since");
    let record = seen.task;
    assert!(now.task.unchanged_since(&record));
    assert_agrees_with_proc(&record);
    assert_eq!(record.parent.pid, id());
    assert_eq!(record.comm(), "caller");
}

#[test]
fn a_record_has_the_confinement_of_the_process() {
    require!(Need::ConnectHook);
    let stage = Stage::new();
    let program = stage.program("confined");
    for (groups, recorded) in [(2, true), (16, true), (17, false)] {
        let list: Vec<String> = (1..=groups).map(|gid| (70_000 + gid).to_string()).collect();
        let mut command = Command::new("setpriv");
        command.args(["--groups", &list.join(","), "--no-new-privs", "--inh-caps=-all", "--"]);
        command.args(["setpriv", "--bounding-set=-all,+net_admin,+kill", "--"]);
        let mut actor =
            Programs::start(command.arg(&program).args(["filter", "connect", &stage.path, "hold"]));
        actor.wait("connect");
        let record = stage.record().unwrap();
        assert_agrees_with_proc_but_groups(&record);
        let groups: Vec<u32> = (1..=groups).map(|gid| 70_000 + gid).collect();
        assert_eq!(record.supplementary_groups(), recorded.then_some(&*groups));
        assert_eq!(record.capabilities, 1 << 5 | 1 << 12, "kill and net_admin");
        assert!(record.no_new_privs);
        assert_eq!(record.seccomp, Seccomp::Filter);
    }
}

#[test]
fn every_hook_is_attached_and_two_captures_do_not_disturb_each_other() {
    require!(Need::ConnectHook);
    let (one, other) = (Stage::new(), Stage::new());
    for stage in [&one, &other] {
        assert!(stage.capture.hooks().iter().all(|hook| hook.state == HookState::Attached));
        assert!(stage.capture.captures_connects());
    }
    let _client = UnixStream::connect(&one.path).unwrap();
    let (accepted, _) = one.listener.accept().unwrap();
    for stage in [&one, &other] {
        assert_eq!(stage.capture.connect_record(accepted.as_fd()).unwrap().unwrap().task.pid, id());
    }
}

#[test]
fn a_client_that_is_dead_has_its_record() {
    require!(Need::ConnectHook);
    let stage = Stage::new();
    let mut actor = stage.actor("caller", &["connect", &stage.path]);
    let pid = actor.pid();
    actor.child.wait().unwrap();
    let record = stage.record().unwrap();
    assert_eq!(record.pid, pid);
    assert!(runs(&record, &stage.program("caller")));
    assert_eq!(stage.capture.inspect(pid).unwrap(), None);
}

#[test]
fn an_exec_after_connect_shows_in_the_counter_and_not_in_the_record() {
    require!(Need::ConnectHook);
    let stage = Stage::new();
    let good = stage.program("good");
    let mut evil = stage.actor("evil", &["connect", &stage.path, "exec", good.to_str().unwrap(), "hold"]);
    evil.wait("inherit");
    let (record, now) = (stage.record().unwrap(), stage.capture.inspect(evil.pid()).unwrap().unwrap().task);
    assert!(runs(&record, &stage.program("evil")));
    assert!(runs(&now, &good));
    assert_eq!(record.exec_count + 1, now.exec_count);
    assert_eq!(ProcessId::of(&record), ProcessId::of(&now));
}

#[test]
fn a_second_connect_on_a_connected_socket_leaves_the_first_record() {
    require!(Need::ConnectHook);
    let stage = Stage::new();
    let good = stage.program("good");
    let steps = ["connect", &stage.path, "exec", good.to_str().unwrap(), "connect", &stage.path, "hold"];
    let mut evil = stage.actor("evil", &steps);
    for step in ["connect", "exec", "inherit", "connect"] {
        evil.wait(step);
    }
    assert!(stage.capture.counters().unwrap().connects_repeated >= 1);
    assert!(runs(&stage.record().unwrap(), &stage.program("evil")));
}

#[test]
fn the_record_of_a_failed_connect_gives_way_to_that_of_the_one_that_succeeds() {
    require!(Need::ConnectHook);
    let stage = Stage::new();
    let nowhere = stage.programs.dir.path().join("nobody-listens");
    let other = stage.program("other");
    let steps = [
        "connect",
        nowhere.to_str().unwrap(),
        "exec",
        other.to_str().unwrap(),
        "connect",
        &stage.path,
        "hold",
    ];
    let mut actor = stage.actor("first", &steps);
    for step in ["connect", "exec", "inherit", "connect"] {
        actor.wait(step);
    }
    assert!(runs(&stage.record().unwrap(), &other));
}

#[test]
fn a_connection_from_before_the_hooks_has_no_record_and_is_counted() {
    require!(Need::ConnectHook);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("api.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let _client = UnixStream::connect(&path).unwrap();
    let (capture, _events) = Capture::attach(&Options::default()).unwrap();
    let (accepted, _) = listener.accept().unwrap();
    assert_eq!(capture.connect_record(accepted.as_fd()).unwrap(), None);
    assert!(capture.counters().unwrap().handovers_without_record >= 1);
}

#[test]
fn a_caller_that_starves_its_socket_storage_has_no_record_and_is_counted() {
    require!(Need::ConnectHook);
    let stage = Stage::new();
    let program = stage.program("starved");
    let script = "echo 1 > /proc/sys/net/core/optmem_max && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--net", "sh", "-c", script, "sh"]);
    let mut actor = Programs::start(command.arg(program).args(["connect", &stage.path, "hold"]));
    actor.wait("connect");
    assert_eq!(stage.record(), None);
    let counters = stage.capture.counters().unwrap();
    // Nobody can be named to slow them down.
    assert!(counters.connects_without_storage >= 1 && counters.connects_delayed >= 1, "{counters:?}");
}

#[test]
fn a_client_has_no_record_on_its_own_end() {
    require!(Need::ConnectHook);
    let stage = Stage::new();
    let client = UnixStream::connect(&stage.path).unwrap();
    let (accepted, _) = stage.listener.accept().unwrap();
    assert!(stage.capture.connect_record(accepted.as_fd()).unwrap().is_some());
    assert_eq!(stage.capture.connect_record(client.as_fd()).unwrap(), None);
}

/// Compares with `/proc` what a living process was recorded with.
fn assert_agrees_with_proc(task: &Task) {
    let status = fs::read_to_string(format!("/proc/{}/status", task.pid)).unwrap();
    let groups = status.lines().find_map(|line| line.strip_prefix("Groups:")).unwrap();
    let groups: Vec<u32> = groups.split_whitespace().map(|gid| gid.parse().unwrap()).collect();
    assert_eq!(task.supplementary_groups(), Some(&*groups));
    assert_agrees_with_proc_but_groups(task);
}

fn assert_agrees_with_proc_but_groups(task: &Task) {
    let proc = Path::new("/proc").join(task.pid.to_string());
    let stat = fs::read_to_string(proc.join("stat")).unwrap();
    // From field 3 on; the name before it may hold anything.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    assert_eq!(fields[1], task.parent.pid.to_string());
    let ticks_per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).unwrap().unwrap();
    let tick = Duration::from_secs(1) / u32::try_from(ticks_per_second).unwrap();
    assert_eq!(fields[19], (task.start_time.as_nanos() / tick.as_nanos()).to_string());
    let status = fs::read_to_string(proc.join("status")).unwrap();
    let ids = |name: &str| -> Vec<u32> {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().map(|id| id.parse().unwrap()).collect()
    };
    assert_eq!(ids("Uid:")[..2], [task.uid, task.euid]);
    assert_eq!(ids("Gid:")[..2], [task.gid, task.egid]);
    let line = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim();
    assert_eq!(format!("{:016x}", task.capabilities), line("CapEff:"));
    assert_eq!(task.no_new_privs, line("NoNewPrivs:") == "1");
    let seccomp = [Seccomp::Off, Seccomp::Strict, Seccomp::Filter];
    assert_eq!(task.seccomp, seccomp[line("Seccomp:").parse::<usize>().unwrap()]);
    assert_eq!(ids("NSpid:").last(), Some(&task.pid_in_namespace));
    let namespace = |name: &str| fs::metadata(proc.join("ns").join(name)).unwrap().ino() as u32;
    let namespaces = Namespaces {
        pid: namespace("pid"),
        mnt: namespace("mnt"),
        net: namespace("net"),
        user: namespace("user"),
        cgroup: namespace("cgroup"),
    };
    assert_eq!(task.namespaces, namespaces);
    assert_eq!(task.namespaces, Namespaces::of_host().unwrap(), "the scenarios run on the host");
    assert!(runs(task, &proc.join("exe")));
    if let Some(inode) = task.pid_ino {
        assert_eq!(pidfd_inode(task.pid), inode.get());
    }
    let cgroups = fs::read_to_string(proc.join("cgroup")).unwrap();
    let cgroup = cgroups.lines().find_map(|line| line.strip_prefix("0::/")).unwrap();
    let directory = vouch_tests::cgroup::root().unwrap().join(cgroup);
    assert_eq!(task.cgroup_id, fs::metadata(directory).unwrap().ino());
}

#[expect(unsafe_code, reason = "pidfd_open has no safe form")]
fn pidfd_inode(pid: u32) -> u64 {
    // SAFETY: takes two numbers and returns a new descriptor.
    let pidfd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    assert!(pidfd >= 0);
    // SAFETY: just opened, and nobody else holds it.
    fs::File::from(unsafe { OwnedFd::from_raw_fd(pidfd as i32) }).metadata().unwrap().ino()
}
