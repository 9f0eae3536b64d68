//! Tells that files may have changed, by watching their directories.
//!
//! A watch on a file itself would follow the old inode when an editor renames a new one into place, or when
//! Kubernetes swaps the `..data` link of a mounted ConfigMap; the directory sees both.

#![expect(unsafe_code, reason = "waiting for a descriptor asks for a promise that it stays the same one")]

use std::{
    collections::HashMap,
    ffi::{OsStr, OsString},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use inotify::{EventMask, Inotify, WatchDescriptor, WatchMask};
use tokio::io::{Interest, unix::AsyncFd};

/// Room for the events of one read.
const EVENT_BUFFER: usize = 4096;

/// What a wake-up says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Change {
    /// Something else in a watched directory changed, such as the link through which a file is reached.
    Nearby,
    /// One of the files was written or replaced, perhaps without a trace in its size and times; or events were
    /// lost.
    Likely,
}

/// The directories of some files. Without inotify (none left for this user) it never wakes, and the poll of its
/// owner has to do.
pub(crate) struct DirectoryWatch {
    inotify: Option<AsyncFd<Inotify>>,
    watched: HashMap<PathBuf, WatchDescriptor>,
    files: Vec<PathBuf>,
    names: Vec<OsString>,
}

impl DirectoryWatch {
    /// Watches nothing until [`Self::arm`].
    pub(crate) fn of(files: &[PathBuf]) -> Self {
        let inotify = Inotify::init().and_then(register);
        if let Err(error) = &inotify {
            tracing::warn!(%error, "files cannot be watched; they are looked at every few seconds instead");
        }
        Self {
            inotify: inotify.ok(),
            watched: HashMap::new(),
            names: files.iter().filter_map(|file| file.file_name().map(OsStr::to_owned)).collect(),
            files: files.to_vec(),
        }
    }

    /// Watches every directory that matters now: the one that each file is named in, and the one that it lies
    /// in when the name is a link. Call it again later: a directory may have been made, or made anew.
    pub(crate) fn arm(&mut self) {
        let Some(inotify) = &self.inotify else { return };
        let mut watches = inotify.get_ref().watches();
        let mut watched = HashMap::new();
        for directory in self.files.iter().flat_map(|file| directories_of(file)) {
            let mask = WatchMask::CLOSE_WRITE
                | WatchMask::CREATE
                | WatchMask::DELETE
                | WatchMask::MOVE
                | WatchMask::DELETE_SELF
                | WatchMask::MOVE_SELF
                | WatchMask::ONLYDIR;
            // An absent directory is no error: it may come back. The same inode gives the same descriptor.
            if let Ok(descriptor) = watches.add(&directory, mask) {
                watched.insert(directory, descriptor);
            }
        }
        let gone = self.watched.values().filter(|old| !watched.values().any(|new| new == *old));
        for descriptor in gone.cloned().collect::<Vec<_>>() {
            // Fails when the directory was deleted, which ended the watch already.
            let _ = watches.remove(descriptor);
        }
        self.watched = watched;
    }

    /// Waits until something changes in a watched directory. Losing the future loses no event but those read
    /// in the same poll.
    pub(crate) async fn changed(&mut self) -> Change {
        let Some(inotify) = &mut self.inotify else {
            return std::future::pending().await;
        };
        loop {
            let Ok(mut ready) = inotify.readable_mut().await else {
                return std::future::pending().await;
            };
            match ready.try_io(|inotify| read(inotify.get_mut(), &self.names)) {
                Ok(Ok(Some(change))) => return change,
                Ok(Ok(None)) | Err(_) => {}
                // Nothing is known then: as after lost events.
                Ok(Err(_)) => return Change::Likely,
            }
        }
    }
}

fn register(inotify: Inotify) -> io::Result<AsyncFd<Inotify>> {
    // SAFETY: `Inotify` owns its descriptor until it is dropped, and `as_raw_fd` always returns that one.
    Ok(unsafe { AsyncFd::register_with_interest(inotify, Interest::READABLE) }?)
}

fn read(inotify: &mut Inotify, names: &[OsString]) -> io::Result<Option<Change>> {
    let mut buffer = [0; EVENT_BUFFER];
    let events = inotify.read_events(&mut buffer)?;
    let ours = EventMask::Q_OVERFLOW | EventMask::DELETE_SELF | EventMask::MOVE_SELF | EventMask::UNMOUNT;
    let weigh = |event: inotify::Event<&OsStr>| {
        let named = event.name.is_some_and(|name| names.iter().any(|ours| ours == name));
        if named || event.mask.intersects(ours) { Change::Likely } else { Change::Nearby }
    };
    Ok(events.map(weigh).max())
}

fn directories_of(file: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let named_in = file
        .parent()
        .map(|parent| if parent.as_os_str().is_empty() { PathBuf::from(".") } else { parent.to_owned() });
    let lies_in = std::fs::canonicalize(file).ok().and_then(|real| real.parent().map(Path::to_owned));
    named_in.into_iter().chain(lies_in)
}

/// What tells one version of a file from another without reading it; absent files have none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Fingerprint(Vec<Option<[i64; 6]>>);

impl Fingerprint {
    pub(crate) fn of(files: &[PathBuf]) -> Self {
        let stat = |file: &PathBuf| {
            let meta = std::fs::metadata(file).ok()?;
            let (device, inode, size) =
                (meta.dev().cast_signed(), meta.ino().cast_signed(), meta.size().cast_signed());
            Some([device, inode, size, meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()])
        };
        Self(files.iter().map(stat).collect())
    }
}
