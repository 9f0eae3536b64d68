//! Puts a listening Unix socket where clients look for it, without a moment at which a stranger could be there.

mod directory;

use std::{
    fs, io,
    os::unix::{
        fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use nix::sys::socket::{getsockopt, sockopt};

use crate::problem::Problem;

/// Longest path of a Unix socket in bytes: `sun_path` has 108, the last of which ends it. Source: unix(7).
pub const MAX_SOCKET_PATH: usize = 107;

/// A listening socket; its path is removed on drop, if it is still this socket's.
#[derive(Debug)]
pub struct BoundSocket {
    pub path: PathBuf,
    inode: u64,
}

/// Binds under a private name and renames into place, so that the path never leads to half a socket. `mode` is the
/// socket's; the directory is made 0755, or 0700 when `private`, if it is not there. How the way there is checked: `directory::reach`.
///
/// # Errors
/// E0301 when a live process listens at `path`, E0302 when something else than a socket is there, E0303 when the
/// socket cannot be made, E0304 when the path is too long, E0317 when others may change a directory on the way to
/// it, E0318 when a private directory is open to others.
pub fn bind(path: &Path, mode: u32, private: bool) -> Result<(UnixListener, BoundSocket), Problem> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let staged = directory.join(format!(".v{}", std::process::id()));
    if path.as_os_str().len().max(staged.as_os_str().len()) > MAX_SOCKET_PATH {
        return Err(Problem::new("E0304", format!("socket path {} is too long", path.display()))
            .why(format!("the kernel takes at most {MAX_SOCKET_PATH} bytes"))
            .fix("choose a shorter path"));
    }
    directory::reach(directory, private).map_err(|error| cannot(path, &error))??;
    check_free(path)?;
    let _ = fs::remove_file(&staged);
    let listener = place(&staged, path, mode).map_err(|error| {
        let _ = fs::remove_file(&staged);
        cannot(path, &error)
    })?;
    let inode = fs::symlink_metadata(path).map_err(|error| cannot(path, &error))?.ino();
    Ok((listener, BoundSocket { path: path.to_owned(), inode }))
}

fn place(staged: &Path, path: &Path, mode: u32) -> io::Result<UnixListener> {
    let listener = UnixListener::bind(staged)?;
    fs::set_permissions(staged, fs::Permissions::from_mode(mode))?;
    listener.set_nonblocking(true)?;
    fs::rename(staged, path)?;
    Ok(listener)
}

/// What is at `path` may be replaced: nothing, or a socket at which nobody listens.
fn check_free(path: &Path) -> Result<(), Problem> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(cannot(path, &error)),
    };
    if !found.file_type().is_socket() {
        return Err(Problem::new("E0302", format!("{} exists and is no socket", path.display()))
            .fix("move it away, or choose another path with --socket"));
    }
    match UnixStream::connect(path) {
        Ok(holder) => {
            let holder = getsockopt(&holder, sockopt::PeerCredentials).map_or(0, |peer| peer.pid());
            let name = fs::read_to_string(format!("/proc/{holder}/comm")).unwrap_or_default();
            Err(Problem::new(
                "E0301",
                format!("{} is held by pid {holder} {}", path.display(), name.trim_end()),
            )
            .why("two agents cannot own one path")
            .fix("stop that process first, or start with another path: --socket"))
        }
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(error) => Err(cannot(path, &error)),
    }
}

fn cannot(path: &Path, error: &io::Error) -> Problem {
    Problem::new("E0303", format!("socket {} cannot be made", path.display()))
        .why(error.to_string())
        .fix("check that its directory exists and may be written, or choose another path with --socket")
}

impl Drop for BoundSocket {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_live_socket_is_not_taken_over_and_a_dead_one_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("public/api.sock");
        let (listener, bound) = bind(&path, 0o777, false).unwrap();
        let held = bind(&path, 0o777, false).unwrap_err();
        assert_eq!(held.code, "E0301");
        assert!(held.title.contains(&format!("pid {}", std::process::id())), "{}", held.title);
        drop(listener);
        let (_listener, again) = bind(&path, 0o777, false).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o777);
        // The first owner leaves what is no longer its own.
        drop(bound);
        assert!(path.exists());
        drop(again);
        assert!(!path.exists());
    }

    #[test]
    fn a_directory_that_others_may_change_holds_no_socket() {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let path = directory.path().join("api.sock");
        assert_eq!(bind(&path, 0o777, false).unwrap_err().code, "E0317");
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o1777)).unwrap();
        assert!(bind(&path, 0o777, false).is_ok());
    }

    #[test]
    fn what_is_no_socket_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("api.sock");
        fs::write(&path, "precious").unwrap();
        assert_eq!(bind(&path, 0o777, false).unwrap_err().code, "E0302");
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        assert_eq!(bind(&path.join("x"), 0o777, false).unwrap_err().code, "E0303");
        let long = directory.path().join("x".repeat(108));
        assert_eq!(bind(&long, 0o777, false).unwrap_err().code, "E0304");
    }
}
