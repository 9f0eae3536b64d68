//! What this kernel and this process's rights allow.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
};

use caps::{CapSet, Capability};
use nix::unistd::geteuid;

use super::{
    check::{Check, Verdict},
    plan::Plan,
};
use crate::{
    config::Hooks,
    health::KEPT_CAPABILITIES,
    kernel::{Capture, HookState, Options},
};

const BTF: &str = "/sys/kernel/btf/vmlinux";
/// `BTF_MAGIC`, in either order of bytes.
const BTF_MAGIC: [[u8; 2]; 2] = [[0x9f, 0xeb], [0xeb, 0x9f]];
/// Inode of the root of every kernfs, so also the id of the root cgroup.
const ROOT: u64 = 1;
/// A ring for a look that lasts a moment.
const RING_BYTES: u32 = 64 << 10;

/// For loading and attaching; each stands for itself or is part of CAP_SYS_ADMIN.
const TO_ATTACH: [(Capability, &str); 3] = [
    (Capability::CAP_BPF, "load kernel programs"),
    (Capability::CAP_PERFMON, "read the kernel's structures in them"),
    (Capability::CAP_NET_ADMIN, "attach them to sockets"),
];

/// Version, types and cgroups.
pub(super) fn look() -> Vec<Check> {
    let mut checks = vec![version(), btf()];
    checks.push(cgroups(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default()));
    checks
}

fn version() -> Check {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    judge_version(release.trim())
}

fn judge_version(release: &str) -> Check {
    let mut numbers = release.split(['.', '-', '+']).map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let said = format!("Linux {release}");
    match version {
        (0, _) => Check::fact("kernel", format!("{said}: its version is not known")),
        version if version < (5, 8) => {
            let fix = "use another kernel; until then [kernel] hooks = \"off\"";
            Check::warn("kernel", "E0704", format!("{said} is older than 5.8, which the hooks need"), fix)
        }
        version if version < (6, 7) => {
            let text = format!("{said} is older than 6.7: connects on Unix sockets cannot be recorded");
            Check::warn("kernel", "W0430", text, "use Linux 6.7 or later for evidence of grade kernel")
        }
        version if version < (6, 9) => {
            Check::ok("kernel", format!("{said} >= 6.7; pids have an inode of their own from 6.9 on"))
        }
        _ => Check::ok("kernel", format!("{said} >= 6.9")),
    }
}

fn btf() -> Check {
    let mut magic = [0; 2];
    match File::open(BTF).and_then(|mut file| file.read_exact(&mut magic)) {
        Ok(()) if BTF_MAGIC.contains(&magic) => Check::ok("kernel", format!("types at {BTF}")),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Check::unseen("kernel", format!("{BTF}: {error}"))
        }
        Ok(()) => Check::warn("kernel", "E0701", format!("{BTF} holds no types"), "use a kernel with BTF"),
        Err(error) => {
            let fix = "use a kernel built with CONFIG_DEBUG_INFO_BTF, or [kernel] hooks = \"off\"";
            Check::warn("kernel", "E0701", format!("{BTF}: {error}"), fix)
        }
    }
}

/// Unified, or hybrid with older hierarchies beside it: the whole tree of the host must be in view.
fn cgroups(mountinfo: &str) -> Check {
    let mounts = |kind: &str| -> Vec<(String, String)> {
        let of_kind = |line: &str| {
            let (before, after) = line.split_once(" - ")?;
            let mut fields = before.split(' ');
            let (root, point) = (fields.nth(3)?, fields.next()?);
            (after.split(' ').next() == Some(kind)).then(|| (root.to_owned(), point.to_owned()))
        };
        mountinfo.lines().filter_map(of_kind).collect()
    };
    let (unified, older) = (mounts("cgroup2"), mounts("cgroup"));
    let layout = if older.is_empty() { "unified" } else { "hybrid: older hierarchies beside it" };
    let is_whole = |point: &str| fs::metadata(point).is_ok_and(|found| found.ino() == ROOT);
    match unified.iter().find(|(root, point)| root == "/" && is_whole(point)) {
        Some((_, point)) => Check::ok("cgroup", format!("cgroup2 at {point} ({layout})")),
        None if unified.is_empty() => {
            let fix = "mount it: mount -t cgroup2 none /sys/fs/cgroup/unified";
            Check::warn("cgroup", "E0703", "no cgroup2 file system is mounted", fix)
        }
        None => {
            let text = format!("cgroup2 at {} is a part of the host's tree", unified[0].1);
            Check::warn(
                "cgroup",
                "E0703",
                text,
                "run the agent in the host's cgroup namespace, with its /sys/fs/cgroup",
            )
        }
    }
}

/// Loads and attaches what an agent would, and takes it away again: no other probe is as certain.
pub(super) fn try_hooks(plan: &Plan) -> Vec<Check> {
    let hooks = plan.config.kernel.hooks;
    if hooks == Hooks::Off {
        return vec![Check::warn(
            "kernel",
            "E0750",
            "hooks are switched off",
            "set [kernel] hooks = \"auto\"",
        )];
    }
    let bad = if hooks == Hooks::Require { Verdict::Fail } else { Verdict::Warn };
    let tcp = plan.config.authz.has_listeners();
    match Capture::attach(&Options { ring_bytes: RING_BYTES, tcp, ..Options::default() }) {
        Ok((capture, _events)) => {
            let off = capture.hooks().iter().filter_map(|hook| match &hook.state {
                HookState::Attached => None,
                HookState::Off(reason) => Some(Check::warn(
                    "kernel",
                    "E0751",
                    format!("hook {} stays off: {reason}", hook.name),
                    "a newer kernel or the missing right brings it",
                )),
            });
            let mut checks: Vec<Check> = off.collect();
            let attached = capture.hooks().len() - checks.len();
            checks.insert(
                0,
                Check::ok("kernel", format!("{attached} hooks were attached, and taken off again")),
            );
            checks
        }
        Err(error) if error.is_permission() && !geteuid().is_root() => {
            vec![Check::unseen("kernel", format!("whether hooks attach: {error}"))]
        }
        Err(error) => vec![Check::of_problem("kernel", bad, &error.problem())],
    }
}

/// Those of this process, which an agent that it starts would have.
pub(super) fn capabilities() -> Vec<Check> {
    let held = caps::read(None, CapSet::Effective).unwrap_or_default();
    let has = |capability| held.contains(&capability) || held.contains(&Capability::CAP_SYS_ADMIN);
    let lacks: Vec<Check> = TO_ATTACH
        .iter()
        .filter(|(capability, _)| !has(*capability))
        .chain(KEPT_CAPABILITIES.iter().filter(|(capability, _)| !held.contains(capability)))
        .map(|(capability, need)| {
            let text = format!("this process lacks {capability}: {need}");
            Check::warn("process", "W0431", text, "start the agent as root, or with that capability")
        })
        .collect();
    if lacks.is_empty() { vec![Check::ok("process", "all capabilities that an agent uses")] } else { lacks }
}

/// What else decides how far evidence reaches.
pub(super) fn settings() -> Vec<Check> {
    let mut checks = vec![];
    for (name, means) in [
        ("kernel/unprivileged_bpf_disabled", "0: anyone may load some kernel programs"),
        ("kernel/unprivileged_userns_clone", "1: anyone may have a user namespace"),
        ("user/max_user_namespaces", "0: nobody may have one"),
        ("kernel/yama/ptrace_scope", "0: whoever shares a uid may speak for its processes"),
    ] {
        if let Ok(value) = fs::read_to_string(format!("/proc/sys/{name}")) {
            let name = name.replace('/', ".");
            checks.push(Check::fact("system", format!("{name} = {} ({means})", value.trim())));
        }
    }
    checks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_says_what_it_allows() {
        for (release, code) in [
            ("6.18.5-1-amd64", ""),
            ("6.7.0", ""),
            ("6.9-rc1", ""),
            ("7.0.1+", ""),
            ("6.1.0-18-amd64", "W0430"),
            ("5.8.0", "W0430"),
            ("5.4.0-generic", "E0704"),
            ("4.19.12", "E0704"),
            ("strange", ""),
            ("", ""),
        ] {
            assert_eq!(judge_version(release).code, code, "{release}");
        }
    }

    #[test]
    fn a_part_of_the_tree_is_not_the_tree() {
        assert_eq!(cgroups("").code, "E0703");
        let part = "32 22 0:28 /docker/1 /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        assert!(cgroups(part).text.contains("a part of"));
        // Its root is no kernfs.
        let fake = "32 22 0:28 / /tmp rw - cgroup2 cgroup2 rw\n";
        assert_eq!(cgroups(fake).code, "E0703");
    }
}
