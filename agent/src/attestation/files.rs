//! The executable behind a process: its path, if it may be believed, and its hash, made once for each file.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::Path,
    sync::Mutex,
};

use crate::kernel::FileId;

/// Files whose hash is remembered; past that, everything is hashed anew.
const REMEMBERED: usize = 4096;
const CHUNK: usize = 128 << 10;

/// When `unix:path` is offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathRule {
    /// Only when the agent finds the same file, by device and inode, at that path.
    Verified,
    /// Whatever the link says, which the process's own mount namespace decides. SPIRE's meaning.
    Spire,
}

/// Names one content of one file: it changes whenever the file does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Version {
    device: u64,
    inode: u64,
    ctime_seconds: i64,
    ctime_nanos: i64,
    size: u64,
}

/// An executable, open: it stays this file whatever the process does.
#[derive(Debug)]
pub(super) struct Executable {
    file: File,
    version: Version,
    link: String,
}

/// Why there is no hash.
#[derive(Debug, thiserror::Error)]
pub(super) enum HashError {
    #[error("executable has {size} bytes, more than attest.unix.hash_size_limit = {limit}")]
    TooLarge { size: u64, limit: u64 },
    #[error("executable cannot be read")]
    Unreadable(#[from] io::Error),
    #[error("executable changed while it was read")]
    Changed,
}

impl Executable {
    /// Opens what process `pid` runs now. Needs CAP_SYS_PTRACE for processes of other users.
    pub(super) fn of(pid: u32) -> io::Result<Self> {
        let link = format!("/proc/{pid}/exe");
        let file = File::open(&link)?;
        let version = Version::of(&file)?;
        let link = std::fs::read_link(link)?.into_os_string().into_string();
        let link = link.map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "path is not UTF-8"))?;
        Ok(Self { file, version, link })
    }

    /// Whether this is the file that the kernel recorded. A process may have the kernel call another file its
    /// executable, and then its own again, between any two looks at it; an open file stays what it is.
    ///
    /// Some file systems, such as btrfs, show another device than the kernel has in its own books. It is always one
    /// without a driver, of major number 0; there the time of the last change stands in for it.
    pub(super) fn is(&self, recorded: &FileId) -> bool {
        let version = &self.version;
        let device = (libc::major(version.device), libc::minor(version.device));
        let same_device = device == (recorded.major, recorded.minor);
        let same_time = (version.ctime_seconds, version.ctime_nanos)
            == (recorded.ctime_sec, i64::from(recorded.ctime_nsec));
        version.inode == recorded.inode && (same_device || device.0 == 0 && same_time)
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// The path for `unix:path`; `None` when it may not be believed.
    pub(super) fn path(&self, rule: PathRule) -> Option<&str> {
        let believed = match rule {
            PathRule::Spire => true,
            PathRule::Verified => Path::new(&self.link)
                .metadata()
                .is_ok_and(|seen| (seen.dev(), seen.ino()) == (self.version.device, self.version.inode)),
        };
        believed.then_some(&*self.link)
    }
}

impl Version {
    fn of(file: &File) -> io::Result<Self> {
        let seen = file.metadata()?;
        Ok(Self {
            device: seen.dev(),
            inode: seen.ino(),
            ctime_seconds: seen.ctime(),
            ctime_nanos: seen.ctime_nsec(),
            size: seen.size(),
        })
    }
}

/// SHA-256 of executables, each computed once.
#[derive(Debug, Default)]
pub(super) struct Hashes {
    known: Mutex<HashMap<Version, String>>,
    pub(super) computed: prometheus_client::metrics::counter::Counter,
}

impl Hashes {
    /// Lower-case hex. Reads the whole file the first time, so it belongs off the async threads.
    pub(super) fn sha256(&self, executable: &Executable, limit: u64) -> Result<String, HashError> {
        let version = executable.version;
        if let Some(known) = self.lock().get(&version) {
            return Ok(known.clone());
        }
        if version.size > limit {
            return Err(HashError::TooLarge { size: version.size, limit });
        }
        let hash = digest(&executable.file)?;
        if Version::of(&executable.file)? != version {
            return Err(HashError::Changed);
        }
        self.computed.inc();
        let mut known = self.lock();
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(version, hash.clone());
        Ok(hash)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Version, String>> {
        self.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn digest(mut file: &File) -> io::Result<String> {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    let mut chunk = vec![0; CHUNK];
    loop {
        match file.read(&mut chunk) {
            Ok(0) => return Ok(hex::encode(context.finish())),
            Ok(count) => context.update(&chunk[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_hashed_once() {
        let executable = Executable::of(std::process::id()).unwrap();
        let hashes = Hashes::default();
        let first = hashes.sha256(&executable, u64::MAX).unwrap();
        let again = hashes.sha256(&Executable::of(std::process::id()).unwrap(), u64::MAX).unwrap();
        assert_eq!((first.len(), &first), (64, &again));
        assert_eq!(hashes.computed.get(), 1);
    }

    #[test]
    fn a_file_above_the_limit_is_not_read() {
        let executable = Executable::of(std::process::id()).unwrap();
        let error = Hashes::default().sha256(&executable, 10).unwrap_err();
        assert!(matches!(error, HashError::TooLarge { limit: 10, .. }));
    }

    #[test]
    fn our_own_path_is_believed() {
        let executable = Executable::of(std::process::id()).unwrap();
        let own = std::env::current_exe().unwrap();
        assert_eq!(executable.path(PathRule::Verified), own.to_str());
    }

    #[test]
    fn a_file_is_known_by_device_and_inode_or_where_the_device_is_no_help_by_its_time() {
        let mut executable = Executable::of(std::process::id()).unwrap();
        executable.version.device = libc::makedev(8, 1);
        let recorded = FileId {
            major: 8,
            minor: 1,
            inode: executable.version.inode,
            generation: 7,
            ctime_sec: executable.version.ctime_seconds,
            ctime_nsec: u32::try_from(executable.version.ctime_nanos).unwrap(),
        };
        let touched = FileId { ctime_sec: 1, ..recorded };
        assert!(executable.is(&recorded) && executable.is(&touched));
        assert!(!executable.is(&FileId { inode: recorded.inode + 1, ..recorded }));
        assert!(!executable.is(&FileId { minor: 2, ..recorded }));
        executable.version.device = libc::makedev(0, 42);
        assert!(executable.is(&recorded) && !executable.is(&touched));
        assert!(!executable.is(&FileId { inode: recorded.inode + 1, ..recorded }));
    }

    #[test]
    fn a_path_that_names_another_file_is_not_believed() {
        let mut executable = Executable::of(std::process::id()).unwrap();
        executable.link = "/bin/sh".into();
        assert_eq!(executable.path(PathRule::Verified), None);
        assert_eq!(executable.path(PathRule::Spire), Some("/bin/sh"));
    }
}
