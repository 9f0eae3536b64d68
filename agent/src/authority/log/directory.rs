//! The state directory: ours alone, and held by one agent at a time.

use std::{
    fs::{self, DirBuilder, File, Metadata, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use nix::fcntl::{Flock, FlockArg};

use crate::problem::Problem;

const LOCK_FILE: &str = "lock";
/// What a fresh file system has at its root.
const LOST_AND_FOUND: &str = "lost+found";

/// An open state directory. The lock goes with it.
#[derive(Debug)]
pub(super) struct StateDirectory {
    path: PathBuf,
    handle: File,
    _lock: Flock<File>,
}

impl StateDirectory {
    /// Makes the directory if there is none, checks that it is ours and locks it.
    ///
    /// # Errors
    /// E0201 unusable, E0202 not ours, E0203 in use.
    pub(super) fn open(path: &Path) -> Result<Self, Problem> {
        make(path).map_err(|error| unusable(path, &error))?;
        let handle = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_CLOEXEC)
            .open(path)
            .map_err(|error| unusable(path, &error))?;
        require_ours(path, &handle.metadata().map_err(|error| unusable(path, &error))?)?;
        let lock = lock(path)?;
        Ok(Self { path: path.to_owned(), handle, _lock: lock })
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Makes what was created or renamed here survive a power cut, and the directory itself with it.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.handle.sync_all()?;
        for above in self.path.ancestors().skip(1) {
            let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
            // One that may not be read was not made by us.
            let _ = File::open(above).and_then(|directory| directory.sync_all());
        }
        Ok(())
    }

    /// # Errors
    /// E0202 when something lies here that an agent without a log cannot have left, `known` aside.
    pub(super) fn require_empty(&self, known: &[&str]) -> Result<(), Problem> {
        for entry in fs::read_dir(&self.path).map_err(|error| unusable(&self.path, &error))? {
            let name = entry.map_err(|error| unusable(&self.path, &error))?.file_name();
            let expected = [LOCK_FILE, LOST_AND_FOUND];
            if !expected.iter().chain(known).any(|known| name == **known) {
                return Err(not_ours(&self.path)
                    .why(format!("it holds {name:?} but no state log, so it is not an agent's"))
                    .fix("choose an empty or a new directory as state_dir, or restore state.log into it"));
            }
        }
        Ok(())
    }
}

/// The directory alone is private: sockets may be kept beside it.
fn make(path: &Path) -> io::Result<()> {
    if let Some(above) = path.parent() {
        fs::create_dir_all(above)?;
    }
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

/// # Errors
/// E0202 when someone else owns the thing at `path` or may open it.
pub(super) fn require_ours(path: &Path, metadata: &Metadata) -> Result<(), Problem> {
    let ours = nix::unistd::geteuid().as_raw();
    if metadata.uid() != ours {
        return Err(not_ours(path)
            .why(format!("it belongs to uid {}, and the agent runs as uid {ours}", metadata.uid()))
            .fix("run the agent as that user, or choose another state_dir"));
    }
    if metadata.mode() & 0o077 != 0 {
        let mode = metadata.mode() & 0o7777;
        let meant = if metadata.is_dir() { "700" } else { "600" };
        return Err(not_ours(path)
            .why(format!("its mode is {mode:04o}: others may reach the authority's key"))
            .fix(format!("if nobody else has read it: chmod {meant} {}", path.display())));
    }
    Ok(())
}

fn lock(directory: &Path) -> Result<Flock<File>, Problem> {
    let path = directory.join(LOCK_FILE);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
        .open(&path)
        .map_err(|error| unusable(&path, &error))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(mut lock) => {
            // Only for the message of the next one who comes; the lock itself is what counts.
            let _ = lock.set_len(0).and_then(|()| write!(lock, "{}", std::process::id()));
            Ok(lock)
        }
        Err((file, nix::errno::Errno::EWOULDBLOCK)) => Err(in_use(directory, file)),
        Err((_, errno)) => Err(unusable(&path, &errno.into())),
    }
}

fn in_use(directory: &Path, file: File) -> Problem {
    let mut text = String::new();
    let _ = file.take(10).read_to_string(&mut text);
    let holder = text.parse::<u32>().map_or(String::new(), |pid| format!(", process {pid}"));
    Problem::new("E0203", format!("state directory {} is in use", directory.display()))
        .why(format!("another agent holds its lock{holder}"))
        .fix("stop that agent, or give this one a state_dir of its own")
}

fn not_ours(path: &Path) -> Problem {
    Problem::new("E0202", format!("{} is not this agent's own", path.display()))
}

fn unusable(path: &Path, error: &io::Error) -> Problem {
    Problem::new("E0201", format!("state directory cannot be used: {}", path.display()))
        .why(error.to_string())
        .fix("state_dir must be a directory (no symbolic link) that the agent may create or write")
}
