//! What a scenario needs from this machine, and how it says that it is not there.

use std::{env, fs, io::Write, os::unix::process::CommandExt, path::PathBuf, process::Command, thread};

use io_uring::IoUring;
use nix::sys::statvfs::{FsFlags, statvfs};

use crate::{cgroup, user};

/// The number that the last process got; who writes it decides which one comes next.
pub const NEXT_PID: &str = "/proc/sys/kernel/ns_last_pid";

/// One thing that not every machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// A built agent, as `cargo xtask test` stages it.
    Agent,
    /// Several uids, namespaces, hooks: all of them need root.
    Root,
    /// A real Envoy, as `cargo xtask test` fetches it.
    Envoy,
    /// The judge on Open Policy Agent's library, as `cargo xtask test` builds it.
    Opa,
    /// Docker, Podman and runc, as `cargo xtask test` unpacks them.
    Engines,
    /// Chromium without a screen, as `cargo xtask test` unpacks it.
    Browser,
    /// `openssl` on the path.
    OpenSsl,
    /// A kernel that can record `connect()` on Unix sockets.
    ConnectHook,
    /// The unified cgroup hierarchy, mounted and writable.
    Cgroup2,
    /// A file system that keeps hooks and maps.
    Bpffs,
    /// User namespaces for processes without privilege.
    UserNamespaces,
    /// io_uring for processes without privilege.
    IoUring,
    /// Root may choose where the numbers of processes go on.
    NextPid,
    /// Programs in the temporary folder may run as their owner.
    SetUid,
}

impl Need {
    /// Why this machine does not have it; `None` when it does.
    pub fn missing(self) -> Option<String> {
        match self {
            Self::Agent => env::var_os("VOUCH_BIN")
                .is_none()
                .then(|| "VOUCH_BIN is not set: run `cargo xtask test`".to_owned()),
            Self::Root => (!nix::unistd::geteuid().is_root())
                .then(|| "not root, and sudo asks for a password".to_owned()),
            Self::Envoy => not_fetched("VOUCH_ENVOY"),
            Self::Opa => not_fetched("VOUCH_OPA"),
            Self::Engines => not_fetched("VOUCH_ENGINES"),
            Self::Browser => not_fetched("VOUCH_BROWSER"),
            Self::OpenSsl => {
                Command::new("openssl").arg("version").output().err().map(|error| format!("openssl: {error}"))
            }
            Self::ConnectHook => Self::Root.missing().or_else(|| Self::Cgroup2.missing()).or_else(old_kernel),
            Self::Cgroup2 => {
                cgroup::root().is_none().then(|| "the unified cgroup hierarchy is not mounted".to_owned())
            }
            Self::Bpffs => Self::Root.missing().or_else(no_bpffs),
            Self::UserNamespaces => Self::Root.missing().or_else(no_user_namespace),
            Self::IoUring => no_io_uring(),
            Self::SetUid => {
                let folder = env::temp_dir();
                let flags = statvfs(&folder).map(|mount| mount.flags());
                flags
                    .map_or(true, |flags| flags.contains(FsFlags::ST_NOSUID))
                    .then(|| format!("{} is mounted with nosuid", folder.display()))
            }
            Self::NextPid => {
                let file = fs::File::options().write(true).open(NEXT_PID);
                file.err().map(|error| format!("{NEXT_PID}: {error}"))
            }
        }
    }
}

/// Leaves the test when something it needs is missing, after writing down what and why.
#[macro_export]
macro_rules! require {
    ($($need:expr),+ $(,)?) => {
        if $crate::need::skips(&[$($need),+]) {
            return;
        }
    };
}

/// Whether the calling test must be skipped. If so, a line about it is in the file that the summary is made of.
///
/// # Panics
/// When that line cannot be written: a skip is never silent.
pub fn skips(needs: &[Need]) -> bool {
    let lacks: Vec<_> =
        needs.iter().filter_map(|need| Some(format!("{need:?}: {}", need.missing()?))).collect();
    if lacks.is_empty() {
        return false;
    }
    let test = thread::current().name().unwrap_or("a test").to_owned();
    let line = format!("{test} needs {}\n", lacks.join("; "));
    eprint!("skipped: {line}");
    if let Some(file) = env::var_os("VOUCH_SKIPS") {
        let mut file =
            fs::File::options().create(true).append(true).open(file).expect("the list of skips opens");
        file.write_all(line.as_bytes()).expect("the list of skips takes a line");
    }
    true
}

/// The binary that the environment variable `name` points to.
///
/// # Panics
/// When it is not set; [`require!`] comes first.
pub(crate) fn binary(name: &str) -> PathBuf {
    env::var_os(name).map(PathBuf::from).unwrap_or_else(|| panic!("{name} is not set"))
}

/// Why what the variable `name` should point to is not there.
fn not_fetched(name: &str) -> Option<String> {
    env::var_os(name).is_none().then(|| {
        env::var(format!("{name}_MISSING"))
            .unwrap_or_else(|_| format!("{name} is not set: run `cargo xtask test`"))
    })
}

/// `BPF_CGROUP_UNIX_CONNECT` exists since Linux 6.7.
fn old_kernel() -> Option<String> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").ok()?;
    let mut numbers = release.split(['.', '-']).map_while(|part| part.trim().parse::<u32>().ok());
    let version = (numbers.next()?, numbers.next()?);
    (version < (6, 7)).then(|| format!("Linux {} is older than 6.7", release.trim()))
}

fn no_bpffs() -> Option<String> {
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    (!known.lines().any(|line| line.ends_with("\tbpf"))).then(|| "this kernel has no bpffs".to_owned())
}

fn no_user_namespace() -> Option<String> {
    let mut unshare = Command::new("unshare");
    unshare.args(["--user", "--map-root-user", "--mount", "true"]).uid(user::STRANGER).gid(user::STRANGER);
    match unshare.output() {
        Err(error) => Some(format!("unshare: {error}")),
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}

/// The setting is younger than io_uring.
fn no_io_uring() -> Option<String> {
    let disabled = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
    if !["", "0"].contains(&disabled.trim()) {
        return Some(format!("kernel.io_uring_disabled is {}", disabled.trim()));
    }
    IoUring::new(1).err().map(|error| format!("io_uring: {error}"))
}
