//! A bpffs of a scenario's own.

use std::{
    ffi::CString,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    path::Path,
};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tempfile::TempDir;

use crate::agent::temporary_dir;

/// A mounted bpffs that root alone may enter. It is unmounted when this is dropped, and takes all that is pinned there
/// with it.
#[derive(Debug)]
pub struct Bpffs(TempDir);

impl Bpffs {
    /// # Panics
    /// When the kernel refuses; [`crate::require!`] comes first.
    pub fn mount() -> Self {
        let at = temporary_dir();
        let kind = Some("bpf");
        mount(kind, at.path(), kind, MsFlags::empty(), Some("mode=0700")).expect("a bpffs can be mounted");
        Self(at)
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Bpffs {
    fn drop(&mut self) {
        // Whoever still has something open in it keeps it, but nobody finds it any more.
        umount2(self.path(), MntFlags::MNT_DETACH).ok();
    }
}

/// Pins at `path` a link of somebody else's program, which does nothing, to the tracepoint `event`.
///
/// # Panics
/// When the kernel refuses.
#[expect(unsafe_code, reason = "bpf(2) has no safe form")]
pub fn pin_stranger(event: &str, path: &Path) {
    const LOAD: libc::c_long = 5;
    const PIN: libc::c_long = 6;
    const OPEN_TRACEPOINT: libc::c_long = 17;
    const RAW_TRACEPOINT: u64 = 17;
    /// `r0 = 0; exit`
    const PROGRAM: [u64; 2] = [0xb7, 0x95];
    let text = |text: &str| CString::new(text).expect("no NUL in it");
    let (licence, event, path) =
        (text("GPL"), text(event), text(path.to_str().expect("a temporary path is text")));
    let bpf = |command: libc::c_long, attributes: &[u64]| -> OwnedFd {
        // SAFETY: the attributes are as long as it says, and every address in them is of memory that lives on.
        let result =
            unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_ptr(), size_of_val(attributes)) };
        assert!(result >= 0, "bpf({command}): {}", std::io::Error::last_os_error());
        // SAFETY: a new descriptor. Pinning gives none, but 0, which is never closed.
        unsafe { OwnedFd::from_raw_fd(result as i32) }
    };
    let address = |text: &CString| text.as_ptr().addr() as u64;
    // Two numbers of 32 bits each in the first: the kind, and how many instructions.
    let first = RAW_TRACEPOINT | (PROGRAM.len() as u64) << 32;
    let program = bpf(LOAD, &[first, PROGRAM.as_ptr().addr() as u64, address(&licence)]);
    let link = bpf(OPEN_TRACEPOINT, &[address(&event), program.as_raw_fd() as u64]);
    std::mem::forget(bpf(PIN, &[address(&path), link.as_raw_fd() as u64]));
}
