//! `/proc/PID/status`, as far as selectors need it.

use std::io::{self, Read as _};

/// Linux allows 65,536 supplementary groups of at most 11 characters each.
const MAX_STATUS: u64 = 1 << 20;

/// Credentials of one process, as procfs shows them: numbers of the reader's user namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Status {
    pub(super) euid: u32,
    pub(super) egid: u32,
    pub(super) groups: Vec<u32>,
}

impl Status {
    pub(super) fn read(pid: u32) -> io::Result<Self> {
        let mut text = String::new();
        std::fs::File::open(format!("/proc/{pid}/status"))?.take(MAX_STATUS).read_to_string(&mut text)?;
        Self::parse(&text)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "status of a process cannot be parsed"))
    }

    /// `Name:` comes first and is escaped by the kernel, so a process cannot forge a line.
    fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let effective = |name| field(name)?.split_ascii_whitespace().nth(1)?.parse().ok();
        let groups =
            field("Groups")?.split_ascii_whitespace().map(|gid| gid.parse().ok()).collect::<Option<_>>()?;
        Some(Self { euid: effective("Uid")?, egid: effective("Gid")?, groups })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn effective_ids_and_groups_are_read() {
        let text =
            "Name:\tsh\nUmask:\t0022\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nGroups:\t10 20 \nNStgid:\t1\n";
        assert_eq!(Status::parse(text), Some(Status { euid: 2, egid: 6, groups: vec![10, 20] }));
        assert_eq!(Status::parse("Uid:\t1\t2\nGid:\t1\t2\nGroups:\t \n").unwrap().groups, Vec::<u32>::new());
    }

    #[test]
    fn what_is_not_a_status_says_nothing() {
        for text in
            ["", "Uid:\t1\n", "Uid:\t1\tx\nGid:\t1\t1\nGroups:\n", "Uid:\t1\t1\nGid:\t1\t1\nGroups:\tx\n"]
        {
            assert_eq!(Status::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn our_own_status_is_readable() {
        let status = Status::read(std::process::id()).unwrap();
        assert_eq!(status.euid, nix::unistd::geteuid().as_raw());
    }
}
