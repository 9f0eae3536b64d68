//! Whether a process is in our user namespace.

use std::{fs, io, os::unix::fs::MetadataExt as _};

/// Whether process `pid` is in the user namespace of the agent now; not, when it cannot be seen.
///
/// In one of its own a process may choose what the kernel calls its executable (prctl PR_SET_MM_MAP), and from there
/// it never comes back: who is here after its executable was read had not chosen it there. A process that shares its
/// memory with another one can have it chosen by that one; only the hooks of the kernel catch it.
pub(super) fn is_ours(pid: u32) -> bool {
    let namespace = |process: &str| -> io::Result<(u64, u64)> {
        let seen = fs::metadata(format!("/proc/{process}/ns/user"))?;
        Ok((seen.dev(), seen.ino()))
    };
    match (namespace("self"), namespace(&pid.to_string())) {
        (Ok(ours), Ok(its)) => ours == its,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn we_are_in_our_own_namespace_and_nobody_is_not() {
        assert!(is_ours(std::process::id()));
        // Above the largest pid that Linux gives.
        assert!(!is_ours((1 << 22) + 1));
    }
}
