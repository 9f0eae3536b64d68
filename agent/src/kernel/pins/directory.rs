//! The directory of one instance: on a bpffs, ours alone, and held by one agent at a time.

use std::{
    fs::{self, DirBuilder, File, Metadata, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use nix::fcntl::{Flock, FlockArg};

use super::{PinFault, place};

/// An open directory. The lock goes with it.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    _lock: Flock<File>,
}

impl Directory {
    /// Makes it if there is none.
    ///
    /// # Errors
    /// When it is not on a bpffs, not ours alone, or held by another agent.
    pub(super) fn open(path: &Path) -> Result<Self, PinFault> {
        check_above(path)?;
        make(path)?;
        Self::lock(path)
    }

    /// `None` when there is none.
    ///
    /// # Errors
    /// As [`Directory::open`].
    pub(super) fn open_existing(path: &Path) -> Result<Option<Self>, PinFault> {
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            _ => {
                check_above(path)?;
                require_ours(path)?;
                Self::lock(path).map(Some)
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn lock(path: &Path) -> Result<Self, PinFault> {
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_CLOEXEC)
            .open(path)
            .map_err(|error| PinFault::cannot(path, &error))?;
        match Flock::lock(opened, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => Err(PinFault::InUse { path: path.to_owned() }),
            Err((_, errno)) => Err(PinFault::cannot(path, &errno.into())),
        }
    }
}

/// Makes a directory for us alone, or finds one that is.
pub(super) fn make(path: &Path) -> Result<(), PinFault> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(PinFault::Place { path: path.to_owned(), reason: error.to_string() })
        }
        _ => require_ours(path),
    }
}

/// Nobody but us may put another directory in the place of this one.
fn check_above(path: &Path) -> Result<(), PinFault> {
    let unfit = |reason: String| Err(PinFault::Place { path: path.to_owned(), reason });
    let Some(above) = path.parent() else { return unfit("it has no directory above it".to_owned()) };
    let metadata = match fs::metadata(above) {
        Ok(metadata) => metadata,
        Err(error) => return unfit(format!("{}: {error}", above.display())),
    };
    if !place::is_bpffs(above) {
        return unfit(format!("{} is not on a bpffs", above.display()));
    }
    if !is_roots_or_ours(&metadata) {
        return unfit(format!("{} belongs to uid {}", above.display(), metadata.uid()));
    }
    let is_sticky = metadata.mode() & libc::S_ISVTX != 0;
    if metadata.mode() & 0o022 != 0 && !is_sticky {
        let mode = metadata.mode() & 0o7777;
        return unfit(format!("{} has mode {mode:04o}: others may rename what is in it", above.display()));
    }
    Ok(())
}

fn require_ours(path: &Path) -> Result<(), PinFault> {
    let odd = |reason: String| Err(PinFault::NotOurs { path: path.to_owned(), reason });
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) => return Err(PinFault::cannot(path, &error)),
    };
    if !metadata.is_dir() {
        return odd("it is no directory".to_owned());
    }
    if metadata.uid() != ours() {
        return odd(format!("it belongs to uid {}, and the agent runs as uid {}", metadata.uid(), ours()));
    }
    if metadata.mode() & 0o077 != 0 {
        return odd(format!("its mode is {:04o}, not 0700", metadata.mode() & 0o7777));
    }
    if !place::is_bpffs(path) {
        return odd("another file system is mounted on it".to_owned());
    }
    Ok(())
}

fn is_roots_or_ours(metadata: &Metadata) -> bool {
    [0, ours()].contains(&metadata.uid())
}

fn ours() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// What is in a directory, in order of the names.
pub(super) fn names(path: &Path) -> Result<Vec<String>, PinFault> {
    let read = || -> io::Result<Vec<String>> {
        let entries = fs::read_dir(path)?;
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    };
    let mut names = read().map_err(|error| PinFault::cannot(path, &error))?;
    names.sort();
    Ok(names)
}

/// Removes a pin, if it is there.
pub(super) fn remove(path: &Path) -> Result<(), PinFault> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(PinFault::cannot(path, &error)),
        _ => Ok(()),
    }
}

/// Removes the pins of one layout, and adds them to `removed`: hooks before the maps that they write to.
pub(super) fn remove_layout(path: &Path, removed: &mut Vec<PathBuf>) -> Result<(), PinFault> {
    let mut pins = names(path)?;
    pins.sort_by_key(|name| !name.starts_with(super::LINK));
    for name in pins {
        let pin = path.join(name);
        remove(&pin)?;
        removed.push(pin);
    }
    fs::remove_dir(path).map_err(|error| PinFault::cannot(path, &error))
}
