//! Where each process comes from: what it was last seen to execute, and what its maker executed.
//!
//! A process may replace what the kernel calls its executable, once it has user namespaces to play with, and gets another
//! parent when its own leaves. So the exec hook notes the file while nobody but the kernel has a say, a fork hands the
//! note on, and every record has it beside the file and the parent of that moment. The agent notes all who were there
//! before.

use core::mem::MaybeUninit;

use vouch_abi::{ExecutedFile, Origin, names::counter, origin};

use crate::{
    identity::{device, executable_inode, pid_inode},
    kernel::{clear, cleared, copy, field, offset},
    maps::{ORIGINS, count},
};

/// `task`, the first thread of its group, has just executed a file. Its launcher stays what it was.
#[inline(always)]
pub fn note(task: u64) {
    let group = pid_inode(task);
    if group == 0 {
        return;
    }
    let mut memory = MaybeUninit::uninit();
    let note: &mut Origin = cleared(&mut memory);
    if let Some(known) = ORIGINS.get_ptr(&group) {
        // SAFETY: a value of the map.
        unsafe { copy(&raw const (*known).launcher, &raw mut note.launcher) };
    }
    describe(task, &mut note.executed);
    keep(group, note);
}

/// `child` begins with what `parent` was last seen to execute, which is also what launched it; with nothing if that is
/// not known.
#[inline(always)]
pub fn inherit(parent: u64, child: u64) {
    let (from, to) = (pid_inode(parent), pid_inode(child));
    if to == 0 {
        return;
    }
    let Some(known) = ORIGINS.get_ptr(&from) else { return };
    let mut memory = MaybeUninit::uninit();
    let note: &mut Origin = cleared(&mut memory);
    // SAFETY: a value of the map. An exec of the parent's group puts another in its place and leaves this one alone.
    unsafe {
        copy(&raw const (*known).executed, &raw mut note.executed);
        copy(&raw const (*known).executed, &raw mut note.launcher);
    }
    keep(to, note);
}

#[inline(always)]
pub fn forget(task: u64) {
    let _ = ORIGINS.remove(&pid_inode(task));
}

/// Copies what is noted of the group of `task` into `origin`, which the caller has cleared.
///
/// An exec of another task puts a new note in the place of the old one, whose memory may at once hold that of somebody
/// else. If the note is still in the same place afterwards, what was copied is of this group.
#[inline(always)]
pub fn recall(task: u64, origin: &mut Origin) {
    let group = pid_inode(task);
    let Some(known) = ORIGINS.get_ptr(&group) else { return };
    // SAFETY: a value of the map.
    unsafe { copy(known, origin) };
    if ORIGINS.get_ptr(&group) != Some(known) {
        // SAFETY: the caller's. Zero is "unknown".
        unsafe { clear(origin) };
    }
}

#[inline(always)]
fn describe(task: u64, file: &mut ExecutedFile) {
    let inode = executable_inode(task);
    if inode != 0 {
        file.inode = field(inode, offset!(inode_ino));
        file.ctime_sec = field(inode, offset!(inode_ctime_sec));
        file.ctime_nsec = field(inode, offset!(inode_ctime_nsec));
        file.generation = field(inode, offset!(inode_generation));
        file.device = device(inode);
    }
    file.kind = origin::EXECUTED;
}

#[inline(always)]
fn keep(group: u64, note: &Origin) {
    if ORIGINS.insert(&group, note, 0).is_err() {
        count(counter::ORIGINS_LOST);
    }
}
