//! Names of capabilities, as capabilities(7) has them, in lower case and without `CAP_`.

/// In the order of their numbers.
pub const CAPABILITIES: [&str; 41] = [
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
];

/// Of each bit that is set. One without a name is said by its number.
pub(super) fn names(set: u64) -> impl Iterator<Item = String> {
    (0..u64::BITS as usize)
        .filter(move |bit| set >> bit & 1 == 1)
        .map(|bit| CAPABILITIES.get(bit).map_or_else(|| bit.to_string(), |name| (*name).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_names_of_the_manual() {
        let named = |bit: u32| names(1 << bit).collect::<Vec<_>>();
        for (bit, name) in
            [(0, "chown"), (12, "net_admin"), (21, "sys_admin"), (40, "checkpoint_restore"), (63, "63")]
        {
            assert_eq!(named(bit), [name]);
        }
        assert_eq!(names(u64::MAX).count(), 64);
        assert_eq!(names(0).count(), 0);
    }
}
