//! One task as the kernel sees it: who it is, what it runs, where it lives.

use aya_ebpf::helpers::{
    bpf_ktime_get_boot_ns, bpf_probe_read_kernel, generated::bpf_probe_read_kernel as read_bytes,
};
use vouch_abi::{Identity, MAX_GROUPS};

use crate::kernel::{field, kernel_has, offset};

/// Describes `task`, a trusted `struct task_struct *`, in `identity`, which the caller has cleared.
#[inline(always)]
pub fn describe(task: u64, identity: &mut Identity) {
    describe_with(task, field(task, offset!(task_real_cred)), identity);
}

/// The same of the task that runs this program, with the credentials that it acts with: a request to io_uring is carried
/// out by a worker in the name of whoever made it.
#[inline(always)]
pub fn describe_acting(task: u64, identity: &mut Identity) {
    describe_with(task, field(task, offset!(task_cred)), identity);
}

#[inline(always)]
fn describe_with(task: u64, credentials: u64, identity: &mut Identity) {
    // SAFETY: a helper without arguments.
    identity.recorded_ns = unsafe { bpf_ktime_get_boot_ns() };
    identity.tgid = field(task, offset!(task_tgid));
    identity.tid = field(task, offset!(task_tid));
    identity.exec_count = field(task, offset!(task_self_exec_id));
    identity.comm = field(task, offset!(task_comm));
    describe_parent(task, identity);
    describe_credentials(credentials, identity);
    describe_executable(task, identity);
    describe_cgroup(task, identity);
    describe_namespaces(task, identity);
    describe_thread_group(task, identity);
    // Last, here and wherever a task is described: the verifier follows each way out of the loop through all that comes
    // after, and each typed load there costs it a search through all types of the kernel, a third of a millisecond.
    describe_outer_user_namespace(credentials, identity);
}

/// The parent may be any thread of its group; the group began with the first.
#[inline(always)]
fn describe_parent(task: u64, identity: &mut Identity) {
    let parent: u64 = field(task, offset!(task_real_parent));
    if parent == 0 {
        return;
    }
    identity.parent_tgid = field(parent, offset!(task_tgid));
    let leader: u64 = field(parent, offset!(task_group_leader));
    if leader != 0 {
        identity.parent_start_time_ns = field(leader, offset!(task_start_boottime));
    }
}

#[inline(always)]
fn describe_credentials(credentials: u64, identity: &mut Identity) {
    if credentials == 0 {
        return;
    }
    identity.uid = field(credentials, offset!(cred_uid));
    identity.gid = field(credentials, offset!(cred_gid));
    identity.euid = field(credentials, offset!(cred_euid));
    identity.egid = field(credentials, offset!(cred_egid));
    let user: u64 = field(credentials, offset!(cred_user_ns));
    if user != 0 {
        identity.user_namespace = field(user, offset!(user_ns_inum));
    }
    describe_groups(credentials, identity);
}

/// From the user namespace of `credentials` outwards to the last one before the initial one, whose level is 0.
///
/// Read by helper, for the same reason.
#[inline(always)]
fn describe_outer_user_namespace(credentials: u64, identity: &mut Identity) {
    /// `create_user_ns` makes none within one that is deeper than 32.
    const DEEPEST: u32 = 33;
    if credentials == 0 {
        return;
    }
    let mut namespace: u64 = field(credentials, offset!(cred_user_ns));
    if namespace == 0 {
        return;
    }
    let level: u32 = field(namespace, offset!(user_ns_level));
    let parent = offset!(user_ns_parent);
    for step in 1..DEEPEST {
        if step >= level {
            break;
        }
        // SAFETY: the helper checks the address itself, and leaves a zero where it cannot read.
        namespace = unsafe { bpf_probe_read_kernel((namespace + parent) as *const u64) }.unwrap_or(0);
    }
    let (inode, owner) = (namespace + offset!(user_ns_inum), namespace + offset!(user_ns_owner));
    // SAFETY: as above.
    let read =
        unsafe { (bpf_probe_read_kernel(inode as *const u32), bpf_probe_read_kernel(owner as *const u32)) };
    // All ones but in the initial one: a branch here, and the verifier would follow all that comes after once more.
    let within = ((level as i32).wrapping_neg() >> 31) as u32;
    identity.outer_user_namespace = read.0.unwrap_or(0) & within;
    identity.outer_user_namespace_owner = read.1.unwrap_or(0) & within;
}

/// An array of variable length at the end of its structure, so it is read by helper: so much of it and no more.
#[inline(always)]
fn describe_groups(credentials: u64, identity: &mut Identity) {
    let groups: u64 = field(credentials, offset!(cred_group_info));
    if groups == 0 {
        return;
    }
    let count: u32 = field(groups, offset!(group_info_ngroups));
    identity.group_count = count;
    let recorded = if count > MAX_GROUPS as u32 { MAX_GROUPS as u32 } else { count };
    if recorded == 0 {
        return;
    }
    let (to, from) = ((&raw mut identity.groups).cast(), groups + offset!(group_info_gid));
    // SAFETY: there is room for so many; the helper checks the address that it reads.
    let result = unsafe { read_bytes(to, recorded * 4, from as *const _) };
    if result != 0 {
        // More than anybody has room for: whoever reads this knows that they are not all here.
        identity.group_count = u32::MAX;
    }
}

#[inline(always)]
fn describe_executable(task: u64, identity: &mut Identity) {
    let inode = executable_inode(task);
    if inode == 0 {
        return;
    }
    identity.exe_inode = field(inode, offset!(inode_ino));
    identity.exe_generation = field(inode, offset!(inode_generation));
    identity.exe_ctime_sec = field(inode, offset!(inode_ctime_sec));
    identity.exe_ctime_nsec = field(inode, offset!(inode_ctime_nsec));
    identity.exe_device = device(inode);
}

/// The `struct inode` of what the kernel calls the executable; 0 for kernel threads, which have none.
#[inline(always)]
pub fn executable_inode(task: u64) -> u64 {
    let memory: u64 = field(task, offset!(task_mm));
    if memory == 0 {
        return 0;
    }
    let file: u64 = field(memory, offset!(mm_exe_file));
    if file == 0 { 0 } else { field(file, offset!(file_inode)) }
}

#[inline(always)]
pub fn device(inode: u64) -> u32 {
    let superblock: u64 = field(inode, offset!(inode_sb));
    if superblock == 0 { 0 } else { field(superblock, offset!(sb_dev)) }
}

#[inline(always)]
fn describe_cgroup(task: u64, identity: &mut Identity) {
    let set: u64 = field(task, offset!(task_cgroups));
    if set == 0 {
        return;
    }
    let cgroup: u64 = field(set, offset!(css_set_dfl_cgrp));
    if cgroup == 0 {
        return;
    }
    let node: u64 = field(cgroup, offset!(cgroup_kn));
    if node != 0 {
        identity.cgroup_id = field(node, offset!(kernfs_node_id));
    }
}

#[inline(always)]
fn describe_namespaces(task: u64, identity: &mut Identity) {
    let proxy: u64 = field(task, offset!(task_nsproxy));
    if proxy == 0 {
        return;
    }
    let mount: u64 = field(proxy, offset!(nsproxy_mnt_ns));
    if mount != 0 {
        identity.mnt_namespace = field(mount, offset!(mnt_ns_inum));
    }
    let network: u64 = field(proxy, offset!(nsproxy_net_ns));
    if network != 0 {
        identity.net_namespace = field(network, offset!(net_ns_inum));
    }
    let cgroup: u64 = field(proxy, offset!(nsproxy_cgroup_ns));
    if cgroup != 0 {
        identity.cgroup_namespace = field(cgroup, offset!(cgroup_ns_inum));
    }
}

/// Inode of the thread group's pid; 0 on kernels that give it none.
#[inline(always)]
pub fn pid_inode(task: u64) -> u64 {
    if kernel_has!(pid_inode) == 0 {
        return 0;
    }
    let leader: u64 = field(task, offset!(task_group_leader));
    if leader == 0 {
        return 0;
    }
    let pid: u64 = field(leader, offset!(task_thread_pid));
    if pid == 0 { 0 } else { field(pid, offset!(pid_ino)) }
}

/// The leader's `struct pid` is the thread group's, and is what a pidfd names.
#[inline(always)]
fn describe_thread_group(task: u64, identity: &mut Identity) {
    let leader: u64 = field(task, offset!(task_group_leader));
    if leader == 0 {
        return;
    }
    identity.start_time_ns = field(leader, offset!(task_start_boottime));
    describe_confinement(leader, identity);
    let pid: u64 = field(leader, offset!(task_thread_pid));
    if pid == 0 {
        return;
    }
    if kernel_has!(pid_inode) != 0 {
        identity.pid_inode = field(pid, offset!(pid_ino));
    }
    describe_innermost_pid(pid, identity);
}

/// What a process may do and may come to do. Each thread has its own; the first one's are the process's, as in procfs,
/// so that what is recorded of any thread compares with what is listed.
#[inline(always)]
fn describe_confinement(leader: u64, identity: &mut Identity) {
    /// The bit `PFA_NO_NEW_PRIVS` of `task_struct.atomic_flags`.
    const NO_NEW_PRIVS: u64 = 1 << 0;
    let credentials: u64 = field(leader, offset!(task_real_cred));
    if credentials != 0 {
        identity.capabilities = field(credentials, offset!(cred_cap_effective));
    }
    let flags: u64 = field(leader, offset!(task_atomic_flags));
    identity.no_new_privs = u32::from(flags & NO_NEW_PRIVS != 0);
    if kernel_has!(seccomp) != 0 {
        identity.seccomp = field::<u32>(leader, offset!(task_seccomp_mode)) + 1;
    }
}

/// `pid.numbers` is indexed by the depth of the namespace. The verifier allows no variable offset on a typed
/// pointer, so this one is read by helper.
#[inline(always)]
fn describe_innermost_pid(pid: u64, identity: &mut Identity) {
    /// The kernel nests pid namespaces no deeper than this (`MAX_PID_NS_LEVEL`).
    const DEEPEST: u64 = 32;
    let level = u64::from(field::<u32>(pid, offset!(pid_level)));
    if level > DEEPEST {
        return;
    }
    let number = pid + offset!(pid_numbers) + level * u64::from(kernel_has!(upid_size));
    let (tgid, namespace) = (number + offset!(upid_nr), number + offset!(upid_ns));
    // SAFETY: the helper checks the address itself.
    if let Ok(tgid) = unsafe { bpf_probe_read_kernel(tgid as *const u32) } {
        identity.namespace_tgid = tgid;
    }
    // SAFETY: as above.
    let Ok(namespace) = (unsafe { bpf_probe_read_kernel(namespace as *const u64) }) else { return };
    let inode = namespace + offset!(pid_ns_inum);
    // SAFETY: as above.
    if let Ok(inode) = unsafe { bpf_probe_read_kernel(inode as *const u32) } {
        identity.pid_namespace = inode;
    }
}
