//! The cgroup2 file system: where it is mounted, and which path a cgroup id has.

use std::{
    ffi::OsString,
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd},
        unix::{ffi::OsStringExt, fs::MetadataExt},
    },
    path::{Path, PathBuf},
    sync::OnceLock,
};

use super::{Error, system};

/// Inode of the root of every kernfs, so also the id of the root cgroup.
const ROOT: u64 = 1;

/// The host's whole tree of cgroups.
#[derive(Debug)]
pub(super) struct Cgroups {
    mount: PathBuf,
    root: File,
}

impl Cgroups {
    /// # Errors
    /// [`Error::NoCgroup2`] also when what is mounted is a part of the host's tree, as in a container.
    pub(super) fn find() -> Result<Self, Error> {
        const MOUNTS: &str = "/proc/self/mountinfo";
        let mounts = fs::read(MOUNTS).map_err(|source| Error::Cgroup2 { path: MOUNTS.into(), source })?;
        for mount in cgroup2_mounts(&mounts) {
            let failed = |source| Error::Cgroup2 { path: mount.clone(), source };
            let root = File::open(&mount).map_err(failed)?;
            if root.metadata().map_err(failed)?.ino() == ROOT {
                return Ok(Self { mount, root });
            }
        }
        Err(Error::NoCgroup2)
    }

    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Path of a cgroup from the root, `/` for the root itself.
    ///
    /// # Errors
    /// `NotFound` when there is no such cgroup any more.
    pub(super) fn path(&self, id: u64) -> io::Result<String> {
        if id == ROOT {
            return Ok("/".to_owned());
        }
        let directory = system::open_cgroup(self.root(), id).map_err(|error| match error.raw_os_error() {
            Some(libc::ESTALE) => gone(id),
            _ => error,
        })?;
        let path = fs::read_link(format!("/proc/self/fd/{}", directory.as_raw_fd()))?;
        // The link's text of a removed directory ends in " (deleted)", which a directory may also be called.
        match fs::symlink_metadata(&path) {
            Ok(found) if found.ino() == id => self.below_root(&path),
            _ => Err(gone(id)),
        }
    }

    fn below_root(&self, path: &Path) -> io::Result<String> {
        let below = path.strip_prefix(&self.mount).map_err(io::Error::other)?;
        let below = below.to_str().ok_or_else(|| io::Error::other("the name of a cgroup is not UTF-8"))?;
        Ok(format!("/{below}"))
    }
}

/// Whether root alone may add cgroups to the cgroup `path`, so that what is directly in it has the name that root
/// gave it. Not when the cgroup is gone, and not where the host's tree is not in view.
pub fn only_root_adds_to(path: &str) -> bool {
    static TREE: OnceLock<Option<PathBuf>> = OnceLock::new();
    let tree = TREE.get_or_init(|| Cgroups::find().ok().map(|cgroups| cgroups.mount));
    tree.as_deref().is_some_and(|tree| is_roots_alone(tree, path))
}

/// Every directory from `tree` down to `path` counts: whoever owns one may have moved into what is below.
fn is_roots_alone(tree: &Path, path: &str) -> bool {
    let mut directory = tree.to_owned();
    let names = path.split('/').filter(|name| !name.is_empty());
    std::iter::once("").chain(names).all(|name| {
        directory.push(name);
        let seen = fs::symlink_metadata(&directory);
        name != ".."
            && seen.is_ok_and(|seen| seen.is_dir() && is_writable_by_root_alone(seen.uid(), seen.mode()))
    })
}

fn is_writable_by_root_alone(owner: u32, mode: u32) -> bool {
    const WRITABLE_BY_OTHERS: u32 = 0o022;
    owner == 0 && mode & WRITABLE_BY_OTHERS == 0
}

fn gone(id: u64) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("cgroup {id} is gone"))
}

/// Mount points of cgroup2 whose root is the file system's root. See `proc(5)`, `/proc/[pid]/mountinfo`.
fn cgroup2_mounts(mountinfo: &[u8]) -> Vec<PathBuf> {
    let point = |line: &[u8]| {
        let mut fields = line.split(|byte| *byte == b' ');
        let (root, point) = (fields.nth(3)?, fields.next()?);
        let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
        (root == b"/" && kind == b"cgroup2").then(|| PathBuf::from(unescape(point)))
    };
    mountinfo.split(|byte| *byte == b'\n').filter_map(point).collect()
}

/// The kernel writes space, tab, line end and backslash as `\ooo`.
fn unescape(field: &[u8]) -> OsString {
    let mut text = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let octal = tail.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match (first, octal.and_then(|digits| u8::from_str_radix(digits, 8).ok())) {
            (b'\\', Some(byte)) => {
                text.push(byte);
                rest = &tail[3..];
            }
            _ => {
                text.push(*first);
                rest = tail;
            }
        }
    }
    OsString::from_vec(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_roots_alone_by_owner_and_mode() {
        assert!(is_writable_by_root_alone(0, 0o40755) && is_writable_by_root_alone(0, 0o40555));
        for (owner, mode) in [(1000, 0o40755), (0, 0o40775), (0, 0o40757)] {
            assert!(!is_writable_by_root_alone(owner, mode), "{owner} {mode:o}");
        }
    }

    #[test]
    fn what_is_not_there_or_leads_elsewhere_is_nobodys() {
        assert!(is_roots_alone(Path::new("/proc"), "/sys/kernel"));
        for path in ["/sys/no-such-directory", "/sys/../sys", "/version"] {
            assert!(!is_roots_alone(Path::new("/proc"), path), "{path}");
        }
    }

    #[test]
    fn the_mount_is_found_among_others() {
        let text = b"22 1 0:20 / /sys rw - sysfs sysfs rw\n\
            31 22 0:27 / /sys/fs/cgroup/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu\n\
            32 22 0:28 / /sys/fs/my\\040cgroups rw,relatime shared:10 - cgroup2 cgroup2 rw\n";
        assert_eq!(cgroup2_mounts(text), [PathBuf::from("/sys/fs/my cgroups")]);
    }

    #[test]
    fn a_mount_of_one_branch_is_not_the_tree() {
        let text = b"32 22 0:28 /docker/1 /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        assert_eq!(cgroup2_mounts(text), Vec::<PathBuf>::new());
    }

    #[test]
    fn lines_cut_short_are_passed_over() {
        for text in [&b""[..], b"\n\n", b"1 2 3", b"32 22 0:28 / /x rw -", b"32 22 0:28 / /x rw"] {
            assert_eq!(cgroup2_mounts(text), Vec::<PathBuf>::new());
        }
    }
}
