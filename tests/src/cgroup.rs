//! One cgroup of the unified hierarchy, empty at first.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use nix::unistd::Pid;

use crate::eventually;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A cgroup below the root, under a name that is used once. Whoever is in it when this is dropped is killed.
#[derive(Debug)]
pub struct Cgroup {
    dir: PathBuf,
}

impl Cgroup {
    /// # Panics
    /// When the hierarchy is not there or not writable; [`crate::require!`] comes first.
    pub fn new() -> Self {
        let name = format!("vouch-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let dir = root().expect("the unified hierarchy is mounted").join(name);
        fs::create_dir(&dir).expect("a cgroup can be made");
        Self { dir }
    }

    /// Its path from the root of the hierarchy, as selectors name it.
    ///
    /// # Panics
    /// Never: the name is our own.
    pub fn path(&self) -> String {
        format!("/{}", self.dir.file_name().expect("it has a name").to_str().expect("an ASCII name"))
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Moves `pid` into it.
    ///
    /// # Panics
    /// When the process is gone.
    pub fn take(&self, pid: Pid) {
        fs::write(self.dir.join("cgroup.procs"), pid.to_string()).expect("the process can be moved");
    }
}

impl Default for Cgroup {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        fs::write(self.dir.join("cgroup.kill"), "1").ok();
        if !std::thread::panicking() {
            eventually("the cgroup can be removed", Duration::from_secs(5), || {
                fs::remove_dir(&self.dir).ok()
            });
            return;
        }
        // A second panic would hide the first; a moment later the killed processes are gone.
        std::thread::sleep(Duration::from_millis(200));
        fs::remove_dir(&self.dir).ok();
    }
}

/// Where the unified hierarchy is mounted.
pub fn root() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    mounts.lines().find_map(|mount| {
        let mut fields = mount.split(' ').skip(1);
        let (point, kind) = (fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(point))
    })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::{Child, Need, agent::temporary_dir, require};

    #[test]
    fn a_cgroup_goes_away_with_whoever_is_in_it() {
        require!(Need::Root, Need::Cgroup2);
        let dir = temporary_dir();
        let mut command = Command::new("sleep");
        command.arg("60");
        let mut child = Child::spawn("sleep", command, None, &dir.path().join("log"));
        let cgroup = Cgroup::new();
        cgroup.take(child.pid());
        let path = cgroup.dir().to_owned();
        drop(cgroup);
        assert!(!path.exists());
        eventually("the process is gone", Duration::from_secs(5), || child.exited());
    }
}
