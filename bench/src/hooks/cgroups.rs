//! Two cgroups beside each other, and this process in one of them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

/// Sockets belong to the cgroup in which they are made. Both cgroups go away with this.
#[derive(Debug)]
pub(super) struct Pair {
    hooked: PathBuf,
    plain: PathBuf,
    /// Where this process was before.
    home: PathBuf,
}

impl Pair {
    pub(super) fn make() -> Result<Self> {
        let root = root().context("the unified cgroup hierarchy is not mounted")?;
        let own = fs::read_to_string("/proc/self/cgroup")?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::/")).context("no cgroup of our own")?;
        let make = |name: &str| -> Result<PathBuf> {
            let path = root.join(format!("vouch-bench-{}-{name}", std::process::id()));
            fs::create_dir(&path).with_context(|| format!("making {}", path.display()))?;
            Ok(path)
        };
        Ok(Self { hooked: make("hooked")?, plain: make("plain")?, home: root.join(own) })
    }

    pub(super) fn hooked(&self) -> &Path {
        &self.hooked
    }

    /// Moves this process.
    pub(super) fn enter(&self, hooked: bool) -> Result<()> {
        join(if hooked { &self.hooked } else { &self.plain })
    }

    pub(super) fn leave(&self) -> Result<()> {
        join(&self.home)
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        // What is not empty, or gone, stays or is gone.
        let _ = self.leave();
        let _ = fs::remove_dir(&self.hooked);
        let _ = fs::remove_dir(&self.plain);
    }
}

fn join(cgroup: &Path) -> Result<()> {
    let procs = cgroup.join("cgroup.procs");
    fs::write(&procs, "0").with_context(|| format!("writing {}", procs.display()))
}

fn root() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    mounts.lines().find_map(|mount| {
        let mut fields = mount.split(' ').skip(1);
        let (point, kind) = (fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(point))
    })
}
