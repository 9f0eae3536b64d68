//! Where the pins of an instance are.

use std::{
    fs,
    path::{Path, PathBuf},
};

use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use ring::digest::{SHA256, digest};

use super::{
    LAYOUT, PinFault,
    directory::{self, Directory},
};

/// Whether the directory `path` is on a bpffs.
pub fn is_bpffs(path: &Path) -> bool {
    statfs(path).is_ok_and(|found| found.filesystem_type() == BPF_FS_MAGIC)
}

/// Where an agent with that state directory keeps its pins, below a directory of a bpffs. Two agents on one host have
/// two state directories.
pub fn instance_directory(bpffs: &Path, state_dir: &Path) -> PathBuf {
    let state_dir = resolve(state_dir);
    let hash = digest(&SHA256, state_dir.as_os_str().as_encoded_bytes());
    bpffs.join(format!("vouch-{}", hex::encode(&hash.as_ref()[..8])))
}

/// The same before and after the first start, which makes the directory.
fn resolve(path: &Path) -> PathBuf {
    for above in path.ancestors() {
        if let (Ok(found), Ok(below)) = (fs::canonicalize(above), path.strip_prefix(above)) {
            return if below.as_os_str().is_empty() { found } else { found.join(below) };
        }
    }
    path.to_owned()
}

/// Removes all pins of an instance, so that its hooks are detached, and gives their paths.
///
/// # Errors
/// When the directory is not ours, or an agent holds it.
pub fn unpin(root: &Path) -> Result<Vec<PathBuf>, PinFault> {
    let Some(directory) = Directory::open_existing(root)? else { return Ok(Vec::new()) };
    let mut removed = Vec::new();
    for name in directory::names(directory.path())? {
        if name.starts_with(LAYOUT) {
            directory::remove_layout(&directory.path().join(name), &mut removed)?;
        }
    }
    fs::remove_dir(directory.path()).map_err(|error| PinFault::cannot(directory.path(), &error))?;
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_known_by_its_state_directory() {
        let made = tempfile::tempdir().unwrap();
        let (one, other) = (made.path().join("one/state"), made.path().join("other/state"));
        let place = |state: &Path| instance_directory(Path::new("/bpf"), state);
        assert_ne!(place(&one), place(&other));
        let before = place(&one);
        fs::create_dir_all(&one).unwrap();
        assert_eq!(place(&one), before, "also when it is there");
        std::os::unix::fs::symlink(&one, made.path().join("link")).unwrap();
        assert_eq!(place(&made.path().join("link")), before, "also by another way");
        assert_eq!(before.parent(), Some(Path::new("/bpf")));
    }

    #[test]
    fn an_ordinary_directory_is_no_bpffs() {
        assert!(!is_bpffs(Path::new("/proc")));
        assert!(!is_bpffs(Path::new("/there-is-no-such-directory")));
    }
}
