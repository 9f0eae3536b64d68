//! What each process was last seen to execute.
//!
//! A process may replace what the kernel calls its executable, once it has user namespaces to play with. So the exec
//! hook notes the file while nobody but the kernel has a say, a fork hands the note on, and the connect hook puts it
//! into its record beside the file of that moment. The agent notes all who were there before.

use vouch_abi::{Identity, Origin, names::counter, origin};

use crate::{
    identity::{describe_executable, pid_inode},
    maps::{ORIGINS, count},
};

/// `task`, the first thread of its group, has just executed a file.
#[inline(always)]
pub fn note(task: u64) {
    let inode = pid_inode(task);
    if inode == 0 {
        return;
    }
    let mut identity = Identity::default();
    describe_executable(task, &mut identity);
    let executed = Origin {
        exe_inode: identity.exe_inode,
        exe_device: identity.exe_device,
        exe_generation: identity.exe_generation,
        kind: origin::EXECUTED,
        padding: 0,
    };
    keep(inode, &executed);
}

/// `child` begins with what `parent` was last seen to execute; with nothing if that is not known.
#[inline(always)]
pub fn inherit(parent: u64, child: u64) {
    let (from, to) = (pid_inode(parent), pid_inode(child));
    if to == 0 {
        return;
    }
    let Some(known) = ORIGINS.get_ptr(&from) else { return };
    // SAFETY: a value of the map, which is read whole; another task of the same group may only replace it by exec.
    let known = unsafe { *known };
    keep(to, &known);
}

#[inline(always)]
pub fn forget(task: u64) {
    let _ = ORIGINS.remove(&pid_inode(task));
}

/// Of the group of `task`; unknown when nothing was noted.
#[inline(always)]
pub fn of(task: u64) -> Origin {
    match ORIGINS.get_ptr(&pid_inode(task)) {
        // SAFETY: as in `inherit`.
        Some(known) => unsafe { *known },
        None => Origin { exe_inode: 0, exe_device: 0, exe_generation: 0, kind: origin::UNKNOWN, padding: 0 },
    }
}

#[inline(always)]
fn keep(inode: u64, known: &Origin) {
    if ORIGINS.insert(&inode, known, 0).is_err() {
        count(counter::ORIGINS_LOST);
    }
}
