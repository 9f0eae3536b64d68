//! A new program takes the place of the one before.

use std::{
    fs, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use aya::programs::links::FdLink;

use super::{PinFault, Pins, directory};
use crate::kernel::object::{self, Kind, LinkFacts, Target};

/// Names of links begin with it.
pub(super) const LINK: &str = "link_";
const NEXT: &str = "_next";

impl Pins {
    pub(super) fn is_pinned(&self, program: &str) -> bool {
        fs::symlink_metadata(self.link(program)).is_ok()
    }

    /// # Errors
    /// [`PinFault::Foreign`] when something else is pinned there than a link of that program to that target.
    pub(super) fn check_link(&self, program: &str, wanted: &Target) -> Result<(), PinFault> {
        let path = self.link(program);
        match examine(&path, program, wanted) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(PinFault::Foreign { path, found: error.to_string() }),
        }
    }

    /// Keeps the link of a tracepoint, in place of the one that was kept before. Both are attached in between.
    pub(in crate::kernel) fn keep_tracing(&self, program: &str, link: FdLink) -> Result<(), PinFault> {
        let next = self.vacant(program)?;
        link.pin(&next).map_err(|error| PinFault::cannot(&next, &io::Error::other(error)))?;
        self.take_place(program)
    }

    /// Keeps the link of a cgroup, as [`Pins::keep_tracing`] does.
    pub(in crate::kernel) fn keep_cgroup(&self, program: &str, link: BorrowedFd<'_>) -> Result<(), PinFault> {
        let next = self.vacant(program)?;
        object::pin(link, &next).map_err(|error| PinFault::cannot(&next, &error))?;
        self.take_place(program)
    }

    /// The link of a cgroup that was kept before, with `program` in place of the earlier one. `None` when there is
    /// none, and when its cgroup is gone.
    pub(in crate::kernel) fn update_cgroup(&self, name: &str, program: BorrowedFd<'_>) -> Option<OwnedFd> {
        let (link, _) = object::open(&self.link(name)).ok()?;
        object::update(link.as_fd(), program).ok()?;
        Some(link)
    }

    /// Detaches the program, unless somebody holds its link.
    pub(super) fn forget(&self, program: &str) -> Result<(), PinFault> {
        self.vacant(program)?;
        directory::remove(&self.link(program))
    }

    fn link(&self, program: &str) -> PathBuf {
        self.here.join(format!("{LINK}{program}"))
    }

    /// Where a link is pinned until it takes its place. An interrupted start may have left one there.
    fn vacant(&self, program: &str) -> Result<PathBuf, PinFault> {
        let next = self.here.join(format!("{LINK}{program}{NEXT}"));
        directory::remove(&next)?;
        Ok(next)
    }

    fn take_place(&self, program: &str) -> Result<(), PinFault> {
        let (next, place) = (self.here.join(format!("{LINK}{program}{NEXT}")), self.link(program));
        fs::rename(&next, &place).map_err(|error| PinFault::cannot(&place, &error))
    }
}

fn examine(path: &Path, program: &str, wanted: &Target) -> io::Result<()> {
    let (link, kind) = object::open(path)?;
    if kind != Kind::Link {
        return Err(io::Error::other(format!("it is a {kind}")));
    }
    let LinkFacts { program_id, target } = object::link_facts(link.as_fd())?;
    // The cgroup of a link may be gone.
    let is_ours = match (&target, wanted) {
        (Target::Cgroup { id: 0, attach_type }, Target::Cgroup { attach_type: wanted, .. }) => {
            attach_type == wanted
        }
        _ => target == *wanted,
    };
    if !is_ours {
        return Err(io::Error::other(format!("it is a link to {target}, not to {wanted}")));
    }
    match object::program_name(program_id) {
        Ok(name) if name != object::kept_of(program) => {
            Err(io::Error::other(format!("it is a link of the program {name:?}")))
        }
        // Without CAP_SYS_ADMIN names are not told; the target is known all the same.
        Ok(_) | Err(_) => Ok(()),
    }
}
