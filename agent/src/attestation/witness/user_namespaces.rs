//! Whose a user namespace is.
#![expect(unsafe_code, reason = "nix does not know the ioctls of namespaces")]

use std::{
    fs::File,
    io,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::fs::MetadataExt as _,
    },
};

/// Deeper nesting the kernel refuses.
const MAX_DEPTH: usize = 33;

// ioctl_ns(2).
nix::ioctl_none_bad!(ns_get_parent, nix::request_code_none!(0xb7, 0x2));
nix::ioctl_read_bad!(ns_get_owner_uid, nix::request_code_none!(0xb7, 0x4), libc::uid_t);

/// A user namespace that is held.
#[derive(Debug)]
pub(super) struct UserNamespace(File);

impl UserNamespace {
    pub(super) fn of(pid: u32) -> io::Result<Self> {
        File::open(format!("/proc/{pid}/ns/user")).map(Self)
    }

    pub(super) fn ours() -> io::Result<Self> {
        File::open("/proc/self/ns/user").map(Self)
    }

    pub(super) fn is(&self, other: &Self) -> io::Result<bool> {
        let (one, two) = (self.0.metadata()?, other.0.metadata()?);
        Ok((one.dev(), one.ino()) == (two.dev(), two.ino()))
    }

    /// Whether `uid` made it, or one around it below `outer`: whoever makes a namespace rules all within.
    pub(super) fn lies_within_one_of(self, uid: u32, outer: &Self) -> io::Result<bool> {
        let mut namespace = self;
        for _ in 0..MAX_DEPTH {
            if namespace.is(outer)? {
                return Ok(false);
            }
            if namespace.owner()? == uid {
                return Ok(true);
            }
            match namespace.parent()? {
                Some(parent) => namespace = parent,
                None => return Ok(false),
            }
        }
        Ok(false)
    }

    fn owner(&self) -> io::Result<u32> {
        let mut uid: libc::uid_t = libc::uid_t::MAX;
        // SAFETY: the descriptor is open, and the kernel writes one uid_t into a live local.
        unsafe { ns_get_owner_uid(self.0.as_raw_fd(), &raw mut uid) }?;
        Ok(uid)
    }

    /// `None` when it is out of our sight.
    fn parent(&self) -> io::Result<Option<Self>> {
        // SAFETY: the descriptor is open, and the call takes no pointer.
        match unsafe { ns_get_parent(self.0.as_raw_fd()) } {
            // SAFETY: the kernel has just installed the descriptor for us; nobody else holds it.
            Ok(parent) => Ok(Some(Self(unsafe { OwnedFd::from_raw_fd(parent) }.into()))),
            Err(nix::errno::Errno::EPERM) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_namespace_is_within_none_of_its_owner() {
        let ours = UserNamespace::ours().unwrap();
        let again = UserNamespace::of(std::process::id()).unwrap();
        assert!(again.is(&ours).unwrap());
        let owner = again.owner().unwrap();
        assert!(!again.lies_within_one_of(owner, &ours).unwrap());
    }
}
