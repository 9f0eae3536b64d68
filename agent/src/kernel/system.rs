//! The doors to the kernel: the few calls that neither the standard library nor aya has.

#![expect(
    unsafe_code,
    reason = "bpf(2), open_by_handle_at(2), clock_gettime(2) and malloc_trim(3) have no safe form"
)]

use std::{
    ffi::CStr,
    fs::File,
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    time::Duration,
};

use aya_obj::generated::{bpf_attach_type, bpf_cmd, bpf_insn, bpf_prog_type};
use tokio::io::{Interest, unix::AsyncFd};
use zerocopy::{Immutable, IntoBytes};

/// Bytes of the verifier's log that are asked for; the kernel keeps the end of a longer one.
const LOG_BYTES: usize = 64 << 10;
const LOG_LINES: usize = 20;
/// `BPF_OBJ_NAME_LEN`
const NAME_BYTES: usize = 16;

/// A cgroup program that was refused.
pub(super) struct Refused {
    pub(super) error: io::Error,
    /// The last lines of the verifier's log.
    pub(super) verifier: String,
}

/// Gives freed memory back to the system: the kernel's types are some twenty megabytes that are needed once. The C library
/// keeps them otherwise; jemalloc, where it is built in, gives them back by itself some seconds later.
pub(super) fn give_memory_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it may be called at any time, by any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Loads a `BPF_PROG_TYPE_CGROUP_SOCK_ADDR` program for `attach_type`.
pub(super) fn load_sock_addr(
    name: &str,
    attach_type: bpf_attach_type,
    instructions: &[bpf_insn],
    license: &CStr,
) -> Result<OwnedFd, Refused> {
    #[repr(C)]
    #[derive(IntoBytes, Immutable)]
    struct Attributes {
        program_type: u32,
        instruction_count: u32,
        instructions: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log: u64,
        kernel_version: u32,
        flags: u32,
        name: [u8; NAME_BYTES],
        interface: u32,
        attach_type: u32,
    }
    let mut attributes = Attributes {
        program_type: bpf_prog_type::BPF_PROG_TYPE_CGROUP_SOCK_ADDR as u32,
        instruction_count: instructions.len() as u32,
        instructions: instructions.as_ptr().addr() as u64,
        license: license.as_ptr().addr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
        name: [0; NAME_BYTES],
        interface: 0,
        attach_type: attach_type as u32,
    };
    // The last byte stays 0.
    for (to, from) in attributes.name[..NAME_BYTES - 1].iter_mut().zip(name.bytes()) {
        *to = from;
    }
    // SAFETY: the addresses are of live memory of the lengths given.
    let error = match unsafe { bpf(bpf_cmd::BPF_PROG_LOAD, &attributes) } {
        Ok(descriptor) => return Ok(descriptor),
        Err(error) => error,
    };
    let mut log = vec![0_u8; LOG_BYTES];
    attributes.log_level = 1;
    attributes.log_size = LOG_BYTES as u32;
    attributes.log = log.as_mut_ptr().addr() as u64;
    // SAFETY: as above, and the log is as long as it says.
    let _ = unsafe { bpf(bpf_cmd::BPF_PROG_LOAD, &attributes) };
    Err(Refused { error, verifier: last_lines(&String::from_utf8_lossy(&log)) })
}

/// The end of a verifier's log, where the reason stands.
pub(super) fn last_lines(log: &str) -> String {
    let lines: Vec<&str> = log.trim_matches(['\0', '\n']).lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
}

#[repr(C)]
#[derive(IntoBytes, Immutable, Default)]
struct LinkAttributes {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
    iterator: u64,
    iterator_size: u32,
    padding: u32,
}

/// Attaches a program to a cgroup; it is detached when the link is closed.
pub(super) fn link(
    program: BorrowedFd<'_>,
    cgroup: BorrowedFd<'_>,
    attach_type: bpf_attach_type,
) -> io::Result<OwnedFd> {
    let attributes = LinkAttributes {
        program: program.as_raw_fd() as u32,
        target: cgroup.as_raw_fd() as u32,
        attach_type: attach_type as u32,
        ..LinkAttributes::default()
    };
    // SAFETY: no addresses in it.
    unsafe { bpf(bpf_cmd::BPF_LINK_CREATE, &attributes) }
}

/// A fresh run of an `iter/task` program, to be read to its end: over all tasks, or over the one task `only`.
///
/// Kernels before 6.1 cannot restrict it and run over all tasks in either case.
pub(super) fn iterate(program: BorrowedFd<'_>, only: Option<u32>) -> io::Result<File> {
    /// `bpf_iter_link_info.task`
    #[repr(C)]
    struct Restriction {
        tid: u32,
        tgid: u32,
        pidfd: u32,
        padding: u32,
    }
    #[repr(C)]
    #[derive(IntoBytes, Immutable)]
    struct IteratorAttributes {
        link: u32,
        flags: u32,
    }
    let restriction = only.map(|tid| Restriction { tid, tgid: 0, pidfd: 0, padding: 0 });
    let mut attributes = LinkAttributes {
        program: program.as_raw_fd() as u32,
        attach_type: bpf_attach_type::BPF_TRACE_ITER as u32,
        ..LinkAttributes::default()
    };
    if let Some(restriction) = &restriction {
        attributes.iterator = (&raw const *restriction).addr() as u64;
        attributes.iterator_size = size_of::<Restriction>() as u32;
    }
    // SAFETY: the restriction lives until the call is over, and has the size given.
    let link = unsafe { bpf(bpf_cmd::BPF_LINK_CREATE, &attributes) }?;
    let attributes = IteratorAttributes { link: link.as_raw_fd() as u32, flags: 0 };
    // SAFETY: no addresses in it. The iterator holds the link by itself.
    Ok(File::from(unsafe { bpf(bpf_cmd::BPF_ITER_CREATE, &attributes) }?))
}

/// # Safety
/// As for [`command`], and it is one that returns a new descriptor.
pub(super) unsafe fn bpf<A: IntoBytes + Immutable>(which: bpf_cmd, attributes: &A) -> io::Result<OwnedFd> {
    // SAFETY: as the caller promised.
    let descriptor = unsafe { command(which, attributes) }?;
    // SAFETY: just returned by the kernel, so nobody else holds it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// `bpf(2)`.
///
/// # Safety
/// Every address in `attributes` is of live memory of the length that goes with it, and what the kernel writes there
/// is written while nobody else looks.
pub(super) unsafe fn command<A: IntoBytes + Immutable>(which: bpf_cmd, attributes: &A) -> io::Result<i32> {
    // SAFETY: `attributes` is initialized through and through; the kernel takes its size into account.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, which as libc::c_long, &raw const *attributes, size_of::<A>())
    };
    let result = i32::try_from(result).map_err(io::Error::other)?;
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The directory of the cgroup with that id, opened with `O_PATH`. Needs CAP_DAC_READ_SEARCH.
///
/// `mount` is any directory of the cgroup2 file system.
pub(super) fn open_cgroup(mount: BorrowedFd<'_>, id: u64) -> io::Result<OwnedFd> {
    /// `FILEID_KERNFS`: the handle is the id.
    const KERNFS: i32 = 0xfe;
    /// `struct file_handle`
    #[repr(C)]
    struct Handle {
        bytes: u32,
        kind: i32,
        id: [u8; 8],
    }
    let mut handle = Handle { bytes: 8, kind: KERNFS, id: id.to_ne_bytes() };
    // SAFETY: the handle is as long as it says; the call changes nothing in it.
    let descriptor = unsafe {
        libc::syscall(
            libc::SYS_open_by_handle_at,
            mount.as_raw_fd(),
            &raw mut handle,
            libc::O_PATH | libc::O_CLOEXEC,
        )
    };
    let descriptor = i32::try_from(descriptor).map_err(io::Error::other)?;
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just returned by the kernel, so nobody else holds it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Lets a descriptor be waited for until it is readable.
///
/// # Panics
/// Outside of a tokio runtime with I/O.
pub(super) fn readable(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor is owned by what is returned, which neither closes nor changes it before its end.
    Ok(unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) }?)
}

/// Time since boot, suspended time included: the clock of every record.
pub fn since_boot() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes one timespec. It cannot fail: the clock exists on every kernel that has BPF.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) };
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}
