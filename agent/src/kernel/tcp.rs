//! The hooks of TCP: all of them or none.

use std::{io, os::fd::BorrowedFd};

use aya::{
    Ebpf,
    programs::{
        CgroupAttachMode, CgroupSockAddr, Program, ProgramError, SockOps,
        links::{FdLink, LinkError},
    },
};
use vouch_abi::names::program;

/// In the order in which they are attached: a record that nobody hands over would be of no use.
pub(super) const PROGRAMS: [&str; 3] = [program::ESTABLISH_TCP, program::CONNECT_TCP6, program::CONNECT_TCP4];

/// Entries of the map between both ends when there are hooks, and when there are none.
pub(super) const FLOWS: u32 = 1 << 14;
pub(super) const NO_FLOWS: u32 = 1;

/// The links of all programs. Each is detached when its link is dropped.
///
/// # Errors
/// The program that could not be attached, and why.
pub(super) fn attach(
    ebpf: &mut Ebpf,
    cgroup: BorrowedFd<'_>,
) -> Result<Vec<FdLink>, (&'static str, ProgramError)> {
    let attach = |name| match ebpf.program_mut(name) {
        Some(program) => attach_one(program, cgroup).map_err(|error| (name, error)),
        None => Err((name, ProgramError::NotLoaded)),
    };
    PROGRAMS.into_iter().map(attach).collect()
}

fn attach_one(program: &mut Program, cgroup: BorrowedFd<'_>) -> Result<FdLink, ProgramError> {
    // Links are always beside one another; another mode is refused with them.
    const MODE: CgroupAttachMode = CgroupAttachMode::Single;
    if let Program::SockOps(_) = program {
        let program: &mut SockOps = program.try_into()?;
        program.load()?;
        let link = program.attach(cgroup, MODE)?;
        program.take_link(link)?.try_into().map_err(no_link)
    } else {
        let program: &mut CgroupSockAddr = program.try_into()?;
        program.load()?;
        let link = program.attach(cgroup, MODE)?;
        program.take_link(link)?.try_into().map_err(no_link)
    }
}

/// Before Linux 5.7 attaching makes no link that could be held.
fn no_link(error: LinkError) -> ProgramError {
    ProgramError::IOError(io::Error::other(error))
}
