//! Engines of users: which of them may speak about a process, and about whom it may not.
//!
//! A user's engine says whatever its user wants. So it is heard about the user's own processes only, and only where
//! the operator wants that: a label that it tells is then a word of the user's.

use std::{
    collections::HashSet,
    fs,
    io::{self, Read as _},
    os::fd::{AsFd as _, OwnedFd},
    sync::{Mutex, MutexGuard, PoisonError},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{Containment, Silence, Subject, user_namespaces::UserNamespace};

/// Linux allows 340 lines, of at most three numbers.
const MAX_UID_MAP: u64 = 64 << 10;

/// Users whose engines are asked at once.
const MAX_USERS: usize = 8;

/// Whose engine is being asked: one question for each user, so that nobody's engine that hangs takes the place of all
/// others.
#[derive(Debug, Default)]
pub(super) struct UsersTurns(Mutex<HashSet<u32>>);

/// One user's turn, for as long as it is held.
#[derive(Debug)]
pub(super) struct UsersTurn<'a> {
    turns: &'a UsersTurns,
    uid: u32,
}

impl UsersTurns {
    /// # Errors
    /// When the user's engine, or too many others, are being asked.
    pub(super) fn take(&self, uid: u32) -> Result<UsersTurn<'_>, Silence> {
        let mut asked = self.lock();
        if asked.len() >= MAX_USERS || !asked.insert(uid) {
            return Err(Silence::new(format!(
                "the engine of uid {uid} is not asked while others wait for theirs"
            )));
        }
        Ok(UsersTurn { turns: self, uid })
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for UsersTurn<'_> {
    fn drop(&mut self) {
        self.turns.lock().remove(&self.uid);
    }
}

/// A container of a user's Podman, as the path of a cgroup names it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct UsersContainer {
    pub(super) uid: u32,
    pub(super) id: String,
}

impl UsersContainer {
    /// Beneath `/user.slice/user-<uid>.slice`, which root alone names; what follows is the user's choice.
    pub(super) fn of_cgroup(path: &str, only_root_adds_to: impl FnOnce(&str) -> bool) -> Option<Self> {
        let (user, rest) = path.strip_prefix("/user.slice/user-")?.split_once('/')?;
        let digits = user.strip_suffix(".slice")?;
        let uid = digits.parse::<u32>().ok().filter(|uid| uid.to_string() == digits)?;
        match Containment::of_cgroup(&format!("/{rest}"), |_| true) {
            Containment::Contained(container) if container.runtime == "podman" => {
                only_root_adds_to("/user.slice").then_some(Self { uid, id: container.id })
            }
            _ => None,
        }
    }
}

/// Proves that `subject` is a process of `uid`: runs as `uid` on the host, or as a uid that is mapped in a user namespace
/// which `uid` made. A process of somebody else may stand in a cgroup of that user's all the same.
///
/// # Errors
/// When it is somebody else's, or cannot be told.
pub(super) fn check_owner(subject: &Subject, uid: u32) -> Result<(), Silence> {
    let untold = |error: io::Error| Silence::new(format!("whose process it is cannot be told: {error}"));
    let pidfd = subject.pidfd.as_deref();
    let pidfd =
        pidfd.ok_or_else(|| Silence::new("whose process it is cannot be told: Linux gives no pidfd"))?;
    let is_users = is_of(subject, uid).map_err(untold)?;
    // What was read was about this process only if it has been there all the time.
    if has_exited(pidfd).map_err(untold)? {
        return Err(Silence::new("the process has ended"));
    }
    if is_users {
        return Ok(());
    }
    Err(Silence::new(format!(
        "the container engine of uid {uid} may not speak for a process that is not of uid {uid}"
    )))
}

fn is_of(subject: &Subject, uid: u32) -> io::Result<bool> {
    let (its, ours) = (UserNamespace::of(subject.pid)?, UserNamespace::ours()?);
    if its.is(&ours)? {
        return Ok(subject.uid == uid);
    }
    let mut map = String::new();
    fs::File::open(format!("/proc/{}/uid_map", subject.pid))?.take(MAX_UID_MAP).read_to_string(&mut map)?;
    Ok(is_mapped(&map, subject.uid) && its.lies_within_one_of(uid, &ours)?)
}

/// Whether `uid` of ours stands in a `uid_map`: first within, first outside, how many. See `user_namespaces(7)`.
fn is_mapped(map: &str, uid: u32) -> bool {
    map.lines().any(|line| {
        let mut numbers = line.split_ascii_whitespace().skip(1).map(str::parse::<u32>);
        let (Some(Ok(first)), Some(Ok(count))) = (numbers.next(), numbers.next()) else { return false };
        uid.checked_sub(first).is_some_and(|place| place < count)
    })
}

/// A pidfd becomes readable when its process has ended.
fn has_exited(pidfd: &OwnedFd) -> io::Result<bool> {
    let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    Ok(poll(&mut fds, PollTimeout::ZERO)? > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn a_users_container_is_known_by_the_slice_that_root_named() {
        let path =
            format!("/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope/container");
        let mut asked = String::new();
        let container = UsersContainer::of_cgroup(&path, |above| {
            asked = above.to_owned();
            true
        });
        assert_eq!(container, Some(UsersContainer { uid: 1000, id: ID.into() }));
        assert_eq!(asked, "/user.slice");
        assert_eq!(UsersContainer::of_cgroup(&path, |_| false), None);
        for path in [
            format!("/user.slice/user-1000.slice/docker-{ID}.scope"),
            format!("/user.slice/user-01.slice/libpod-{ID}.scope"),
            format!("/user.slice/user-4294967296.slice/libpod-{ID}.scope"),
            format!("/user.slice/user-x.slice/libpod-{ID}.scope"),
            format!("/a/user.slice/user-1000.slice/libpod-{ID}.scope"),
            format!("/libpod-{ID}.scope"),
            "/user.slice/user-1000.slice/session-1.scope".to_owned(),
        ] {
            assert_eq!(UsersContainer::of_cgroup(&path, |_| true), None, "{path}");
        }
    }

    #[test]
    fn a_uid_is_mapped_by_what_is_outside() {
        let map = "         0       1000          1\n         1     100000      65536\n";
        for (uid, mapped) in
            [(1000, true), (100_000, true), (165_535, true), (0, false), (1, false), (165_536, false)]
        {
            assert_eq!(is_mapped(map, uid), mapped, "{uid}");
        }
        assert!(!is_mapped("", 0) && !is_mapped("0 0\n", 0) && !is_mapped("0 x 1\n", 0));
        assert!(is_mapped("0 0 4294967295\n", 7));
    }

    #[test]
    fn one_question_is_open_for_a_user_and_a_few_for_all() {
        let turns = UsersTurns::default();
        let first = turns.take(1).unwrap();
        assert!(turns.take(1).is_err());
        let others: Vec<_> = (2..=8).map(|uid| turns.take(uid).unwrap()).collect();
        assert!(turns.take(9).is_err());
        drop(first);
        assert!(turns.take(9).is_ok() && turns.take(1).is_ok());
        drop(others);
        assert!(turns.lock().is_empty());
    }

    #[test]
    fn without_a_pidfd_nothing_is_proved() {
        let ours = Subject {
            pid: std::process::id(),
            uid: nix::unistd::geteuid().as_raw(),
            cgroup: None,
            containment: Containment::Unsure,
            pidfd: None,
        };
        assert!(check_owner(&ours, ours.uid).is_err());
    }
}
