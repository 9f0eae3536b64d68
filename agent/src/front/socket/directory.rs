//! The way to a socket: no directory on it may be changed by anyone but root and us.

use std::{
    fs::{self, DirBuilder, Metadata},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Component, Path, PathBuf},
};

use nix::unistd::geteuid;

use crate::problem::Problem;

/// Most symbolic links on the way, as many as the kernel follows.
const MAX_LINKS: usize = 40;
const STICKY: u32 = 0o1000;
const OTHERS_WRITE: u32 = 0o022;
const OTHERS: u32 = 0o077;

/// Goes to `directory` step by step and makes what is missing: 0755, the last one 0700 when it is `private`. Returns
/// where it got to, which is `directory` without links.
///
/// Each directory on the way belongs to root or to us and cannot be written by others, unless it is sticky, as /tmp
/// is: then what is ours in it stays in place. A link is followed only if root or we made it. A `private` directory
/// that is there already is ours and closed to everyone else.
///
/// # Errors
/// Outer: what the kernel says. Inner: E0317 when others may change the way, E0318 when a private directory is open.
pub(super) fn reach(directory: &Path, private: bool) -> io::Result<Result<PathBuf, Problem>> {
    let mut at = PathBuf::from("/");
    if let Some(problem) = changeable(&at, &fs::symlink_metadata(&at)?) {
        return Ok(Err(problem));
    }
    let mut links = 0;
    // What is left of the way, its next step last.
    let mut ahead = steps(&std::path::absolute(directory)?);
    while let Some(step) = ahead.pop() {
        if step == ".." {
            // `at` has no links in it, so its parent is the directory above it.
            at.pop();
            continue;
        }
        let next = at.join(step);
        let found = match fs::symlink_metadata(&next) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make(&next, private && ahead.is_empty())?;
                fs::symlink_metadata(&next)?
            }
            found => found?,
        };
        if found.is_symlink() {
            if !is_ours(&found) {
                return Ok(Err(strangers_link(&next, &found)));
            }
            links += 1;
            if links > MAX_LINKS {
                return Err(io::Error::from_raw_os_error(libc::ELOOP));
            }
            let target = fs::read_link(&next)?;
            if target.is_absolute() {
                at = PathBuf::from("/");
            }
            ahead.extend(steps(&target));
            continue;
        }
        if !found.is_dir() {
            return Err(io::Error::from_raw_os_error(libc::ENOTDIR));
        }
        if let Some(problem) = changeable(&next, &found) {
            return Ok(Err(problem));
        }
        at = next;
    }
    let found = fs::symlink_metadata(&at)?;
    if private && (found.uid() != geteuid().as_raw() || found.mode() & OTHERS != 0) {
        return Ok(Err(open(&at, &found)));
    }
    Ok(Ok(at))
}

/// The names on `path`, last one first.
fn steps(path: &Path) -> Vec<std::ffi::OsString> {
    let names = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    let mut steps: Vec<_> = names.collect();
    steps.reverse();
    steps
}

fn make(directory: &Path, private: bool) -> io::Result<()> {
    let mode = if private { 0o700 } else { 0o755 };
    match DirBuilder::new().mode(mode).create(directory) {
        // Somebody else was faster; whose it is, is looked at next.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
        // Whatever the umask.
        Ok(()) => fs::set_permissions(directory, std::os::unix::fs::PermissionsExt::from_mode(mode)),
    }
}

fn is_ours(found: &Metadata) -> bool {
    [0, geteuid().as_raw()].contains(&found.uid())
}

fn changeable(directory: &Path, found: &Metadata) -> Option<Problem> {
    let closed = found.mode() & OTHERS_WRITE == 0 || found.mode() & STICKY != 0;
    if is_ours(found) && closed {
        return None;
    }
    Some(
        Problem::new("E0317", format!("directory {} may be changed by others", directory.display()))
            .why(format!("it belongs to uid {} and has mode {:o}", found.uid(), found.mode() & 0o7777))
            .fix("choose a directory of your own, or take the right to write from group and others"),
    )
}

fn strangers_link(link: &Path, found: &Metadata) -> Problem {
    Problem::new("E0317", format!("directory {} is a link that others made", link.display()))
        .why(format!("it belongs to uid {}, who may lead it elsewhere", found.uid()))
        .fix("remove the link, or choose a directory of your own")
}

fn open(directory: &Path, found: &Metadata) -> Problem {
    let (uid, mode) = (found.uid(), found.mode() & 0o7777);
    Problem::new("E0318", format!("directory {} of the admin socket is open to others", directory.display()))
        .why(format!("it belongs to uid {uid} and has mode {mode:o}"))
        .fix(format!(
            "make it the agent's own: chmod 700 {}; or name another: --admin-socket",
            directory.display()
        ))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

    use tempfile::TempDir;

    use super::*;

    const STRANGER: u32 = 4711;

    #[test]
    fn what_is_missing_is_made_and_only_the_last_is_private() {
        let top = top();
        let admin = top.path().join("a/admin");
        assert_eq!(reach(&admin, true).unwrap().unwrap(), admin);
        assert_eq!((mode(&top.path().join("a")), mode(&admin)), (0o755, 0o700));
    }

    #[test]
    fn every_directory_on_the_way_is_closed_to_others() {
        let top = top();
        let (middle, last) = (top.path().join("middle"), top.path().join("middle/public"));
        fs::create_dir_all(&last).unwrap();
        for (open, allowed) in [(0o777, false), (0o775, false), (0o1777, true), (0o755, true)] {
            fs::set_permissions(&middle, fs::Permissions::from_mode(open)).unwrap();
            assert_eq!(code(&last), (!allowed).then_some("E0317"), "{open:o}");
        }
    }

    #[test]
    fn a_directory_of_somebody_else_is_never_passed() {
        if !geteuid().is_root() {
            return eprintln!("skipped: only root can give a directory away");
        }
        let top = top();
        let (theirs, ours) = (top.path().join("theirs"), top.path().join("theirs/public"));
        fs::create_dir_all(&ours).unwrap();
        chown(&theirs, Some(STRANGER), None).unwrap();
        assert_eq!(code(&ours), Some("E0317"));
        assert_eq!(code(&theirs.join("new")), Some("E0317"));
        assert!(!theirs.join("new").exists(), "nothing is made in it");
    }

    #[test]
    fn a_link_is_followed_only_if_it_is_ours() {
        let top = top();
        let (target, link) = (top.path().join("target"), top.path().join("link"));
        fs::create_dir(&target).unwrap();
        symlink("./x/../target", &link).unwrap();
        fs::create_dir(top.path().join("x")).unwrap();
        assert_eq!(reach(&link, false).unwrap().unwrap(), target);
        assert_eq!(reach(&link.join("new"), false).unwrap().unwrap(), target.join("new"));
        fs::set_permissions(&target, fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(code(&link), Some("E0317"), "what it leads to is looked at");
        fs::set_permissions(&target, fs::Permissions::from_mode(0o755)).unwrap();
        if geteuid().is_root() {
            std::os::unix::fs::lchown(&link, Some(STRANGER), None).unwrap();
            assert_eq!(code(&link), Some("E0317"));
        }
    }

    #[test]
    fn links_in_a_circle_end() {
        let top = top();
        symlink(top.path().join("b"), top.path().join("a")).unwrap();
        symlink(top.path().join("a"), top.path().join("b")).unwrap();
        assert_eq!(reach(&top.path().join("a"), false).unwrap_err().raw_os_error(), Some(libc::ELOOP));
    }

    #[test]
    fn a_private_directory_that_is_there_is_ours_alone() {
        let top = top();
        let admin = top.path().join("admin");
        fs::create_dir(&admin).unwrap();
        for open in [0o755, 0o710, 0o701] {
            fs::set_permissions(&admin, fs::Permissions::from_mode(open)).unwrap();
            assert_eq!(reach(&admin, true).unwrap().unwrap_err().code, "E0318", "{open:o}");
        }
        fs::set_permissions(&admin, fs::Permissions::from_mode(0o700)).unwrap();
        reach(&admin, true).unwrap().unwrap();
    }

    fn code(directory: &Path) -> Option<&'static str> {
        reach(directory, false).unwrap().err().map(|problem| problem.code)
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    fn top() -> TempDir {
        tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o755)).tempdir().unwrap()
    }
}
