//! Programs, maps and links as things in the kernel: pinned under a name, found again, asked what they are.

#![expect(unsafe_code, reason = "bpf(2) has no safe form")]

use std::{
    ffi::{CStr, CString},
    fmt, fs, io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use aya_obj::generated::{bpf_cmd, bpf_link_type};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

use super::system::{bpf, command};

/// Longest name of a tracepoint that is told from others.
const TRACEPOINT_BYTES: usize = 128;
/// Bytes of a program's name that the kernel keeps, the closing NUL not counted.
const NAME_BYTES: usize = 15;

/// What a descriptor is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Map,
    Program,
    Link,
}

/// A link, as the kernel describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LinkFacts {
    pub(super) program_id: u32,
    pub(super) target: Target,
}

/// What a link joins its program to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    Tracepoint(String),
    Cgroup {
        /// 0 when it has been removed.
        id: u64,
        attach_type: u32,
    },
    /// `BPF_LINK_TYPE_*`
    Other(u32),
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Map => "map",
            Self::Program => "program",
            Self::Link => "link",
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tracepoint(name) => write!(f, "the tracepoint {name}"),
            Self::Cgroup { id, attach_type } => write!(f, "hook {attach_type} of cgroup {id}"),
            Self::Other(kind) => write!(f, "something of kind {kind}"),
        }
    }
}

/// Gives the thing behind `descriptor` a name on a bpffs, which keeps it.
///
/// # Errors
/// `AlreadyExists` when the name is taken.
pub(super) fn pin(descriptor: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = text(path)?;
    let attributes = PathAttributes {
        path: path.as_ptr().addr() as u64,
        descriptor: descriptor.as_raw_fd() as u32,
        flags: 0,
    };
    // SAFETY: the path is a string that outlives the call.
    unsafe { command(bpf_cmd::BPF_OBJ_PIN, &attributes) }.map(drop)
}

/// What is pinned at `path`, and what it is.
///
/// # Errors
/// `NotFound` when there is nothing.
pub(super) fn open(path: &Path) -> io::Result<(OwnedFd, Kind)> {
    let text = text(path)?;
    let attributes = PathAttributes { path: text.as_ptr().addr() as u64, descriptor: 0, flags: 0 };
    // SAFETY: as in `pin`.
    let descriptor = unsafe { bpf(bpf_cmd::BPF_OBJ_GET, &attributes) }?;
    let link = fs::read_link(format!("/proc/self/fd/{}", descriptor.as_raw_fd()))?;
    let kind = match link.as_os_str().as_bytes() {
        b"anon_inode:bpf-map" => Kind::Map,
        b"anon_inode:bpf-prog" => Kind::Program,
        b"anon_inode:bpf_link" | b"anon_inode:bpf-link" => Kind::Link,
        _ => return Err(io::Error::other("neither a map nor a program nor a link")),
    };
    Ok((descriptor, kind))
}

/// Puts another program of the same kind under a link of a cgroup, in one step.
pub(super) fn update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    #[repr(C)]
    #[derive(IntoBytes, Immutable)]
    struct Attributes {
        link: u32,
        program: u32,
        flags: u32,
        old_program: u32,
    }
    let attributes = Attributes {
        link: link.as_raw_fd() as u32,
        program: program.as_raw_fd() as u32,
        flags: 0,
        old_program: 0,
    };
    // SAFETY: no addresses in it.
    unsafe { command(bpf_cmd::BPF_LINK_UPDATE, &attributes) }.map(drop)
}

/// `descriptor` is of a link.
pub(super) fn link_facts(descriptor: BorrowedFd<'_>) -> io::Result<LinkFacts> {
    let mut facts = LinkInfo::new_zeroed();
    ask(descriptor, &mut facts)?;
    let target = if facts.kind == bpf_link_type::BPF_LINK_TYPE_CGROUP as u32 {
        Target::Cgroup { id: facts.first, attach_type: facts.second }
    } else if facts.kind == bpf_link_type::BPF_LINK_TYPE_RAW_TRACEPOINT as u32 {
        Target::Tracepoint(tracepoint(descriptor)?)
    } else {
        Target::Other(facts.kind)
    };
    Ok(LinkFacts { program_id: facts.program, target })
}

/// The link is known to be of a tracepoint, whose name goes to where the question says.
fn tracepoint(link: BorrowedFd<'_>) -> io::Result<String> {
    let mut name = [0_u8; TRACEPOINT_BYTES];
    let mut facts = LinkInfo {
        first: name.as_mut_ptr().addr() as u64,
        second: TRACEPOINT_BYTES as u32,
        ..LinkInfo::new_zeroed()
    };
    ask(link, &mut facts)?;
    Ok(until_nul(&name))
}

/// The name of a program, of which the kernel keeps 15 bytes.
///
/// # Errors
/// `PermissionDenied` without CAP_SYS_ADMIN.
pub(super) fn program_name(id: u32) -> io::Result<String> {
    let attributes = IdAttributes { id, next: 0, flags: 0 };
    // SAFETY: no addresses in it.
    let program = unsafe { bpf(bpf_cmd::BPF_PROG_GET_FD_BY_ID, &attributes) }?;
    let mut facts = ProgramInfo::new_zeroed();
    ask(program.as_fd(), &mut facts)?;
    Ok(until_nul(&facts.name))
}

/// `name` as far as the kernel keeps the name of a program.
pub(super) fn kept_of(name: &str) -> &str {
    name.get(..NAME_BYTES).unwrap_or(name)
}

/// The thing's own description, as far as `facts` has room for it.
fn ask<F: FromBytes>(descriptor: BorrowedFd<'_>, facts: &mut F) -> io::Result<()> {
    #[repr(C)]
    #[derive(IntoBytes, Immutable)]
    struct Attributes {
        descriptor: u32,
        length: u32,
        facts: u64,
    }
    let attributes = Attributes {
        descriptor: descriptor.as_raw_fd() as u32,
        length: size_of::<F>() as u32,
        facts: (&raw mut *facts).addr() as u64,
    };
    // SAFETY: `facts` is borrowed for us alone, and any bytes are one of its plain integers. A name in it is of a
    // live buffer of the length beside it, and is asked for of tracepoints alone.
    unsafe { command(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &attributes) }.map(drop)
}

#[repr(C)]
#[derive(IntoBytes, Immutable)]
struct PathAttributes {
    path: u64,
    descriptor: u32,
    flags: u32,
}

#[repr(C)]
#[derive(IntoBytes, Immutable)]
struct IdAttributes {
    id: u32,
    next: u32,
    flags: u32,
}

/// The beginning of `struct bpf_link_info`, with the first two members of a tracepoint's or cgroup's part.
#[repr(C)]
#[derive(FromBytes)]
struct LinkInfo {
    kind: u32,
    id: u32,
    program: u32,
    padding: u32,
    first: u64,
    second: u32,
    rest: u32,
}

/// The beginning of `struct bpf_prog_info`.
#[repr(C)]
#[derive(FromBytes)]
struct ProgramInfo {
    before: [u64; 8],
    name: [u8; NAME_BYTES + 1],
}

fn until_nul(bytes: &[u8]) -> String {
    let text = CStr::from_bytes_until_nul(bytes).map(CStr::to_bytes).unwrap_or(bytes);
    String::from_utf8_lossy(text).into_owned()
}

fn text(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}
