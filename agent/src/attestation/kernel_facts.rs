//! `kernel:*` selectors: what the record of the `connect()` itself says, and what files tell about it.

use super::{
    capabilities,
    container::Containment,
    files::{Executable, PathRule},
    fsverity,
    selector::{Selector, SelectorSet},
};
use crate::kernel::{Capture, Namespaces, Provenance, Seccomp, Sighting, Task};

/// The value of `container` for a process of the host.
const NO_CONTAINER: &str = "none";

/// What may be said of a record. `cgroup` is the path of its cgroup, unless that was removed since, and
/// `containment` what the path says; `host` are the namespaces of the host, and `only_root_adds_to` tells whether root
/// alone makes cgroups in a given one. What is not known is a gap.
///
/// A new fact is one more line of the table, a function of what is known, a line of `vocabulary.rs`, and one of
/// the table in the tests below.
pub(super) fn kernel_facts(
    sighting: &Sighting,
    cgroup: Option<&str>,
    containment: &Containment,
    host: Option<&Namespaces>,
    only_root_adds_to: impl FnOnce(&str) -> bool,
    set: &mut SelectorSet,
) {
    let (task, own) = (&sighting.task, &sighting.task.namespaces);
    let container = container(containment, own, host);
    match (containment, container.as_deref()) {
        // That its container's cgroup has no name of the host's is a fact as well.
        (Containment::Contained(_), _) => {}
        (_, Some(NO_CONTAINER)) => {
            say("cgroup_name", cgroup.and_then(|path| cgroup_name(path, only_root_adds_to)), set);
        }
        _ => say("cgroup_name", None, set),
    }
    let facts = [
        ("userns", side(own.user, host.map(|host| host.user))),
        ("netns", side(own.net, host.map(|host| host.net))),
        ("pidns", side(own.pid, host.map(|host| host.pid))),
        ("mntns", side(own.mnt, host.map(|host| host.mnt))),
        ("no_new_privs", Some(task.no_new_privs.to_string())),
        ("seccomp", seccomp(task.seccomp)),
        ("exe", executable(sighting, host)),
        ("cgroup", cgroup.map(str::to_owned)),
        ("container", container),
    ];
    for (name, value) in facts {
        say(name, value, set);
    }
    match capabilities(task, host) {
        Some(names) => names.for_each(|name| say("cap", Some(name), set)),
        None => say("cap", None, set),
    }
}

/// What is said of files: the executable's fs-verity digest and, if `parent` is wanted, what the process was launched by.
/// `executable` is the opened file if it is the recorded one and believed.
///
/// May wait for a file system, so it belongs off the async threads.
pub(super) fn file_facts(
    sighting: &Sighting,
    executable: Option<&Executable>,
    capture: &Capture,
    parent: bool,
    set: &mut SelectorSet,
) {
    match executable.map(|executable| fsverity::digest(executable.file())) {
        // That there is none is a fact as well.
        Some(Ok(None)) => {}
        Some(Ok(digest)) => say("fsverity", digest, set),
        Some(Err(_)) | None => say("fsverity", None, set),
    }
    say("parent_exe", parent.then(|| parent_executable(sighting, capture)).flatten(), set);
}

fn say(name: &str, value: Option<String>, set: &mut SelectorSet) {
    match value {
        Some(value) => set.insert(Selector::new("kernel", format!("{name}:{value}"))),
        None => set.mark_gap(Selector::new("kernel", name)),
    }
}

/// Where the agent finds the file that the process's maker executed when it made the process. Only while that maker is
/// still the parent and still executes that file: an orphan's parent is somebody else.
fn parent_executable(sighting: &Sighting, capture: &Capture) -> Option<String> {
    let (launcher, recorded) = (sighting.launcher?, sighting.task.parent);
    let opened = Executable::of(recorded.pid).ok().filter(|opened| opened.is(&launcher))?;
    // Afterwards: so that it was the parent's, and not that of a later process with its number.
    let parent = capture.inspect(recorded.pid).ok().flatten()?.task;
    let executes = parent.exe.is_some_and(|exe| exe.is_same_file(&launcher));
    let still_there = parent.start_time == recorded.start_time && executes;
    opened.path(PathRule::Verified).filter(|_| still_there).map(str::to_owned)
}

fn seccomp(mode: Seccomp) -> Option<String> {
    let name = match mode {
        Seccomp::Off => "off",
        Seccomp::Strict => "strict",
        Seccomp::Filter => "filter",
        Seccomp::Unknown => return None,
    };
    Some(name.to_owned())
}

/// Only what counts on the host: whoever makes a user namespace has every capability in it, and none outside.
fn capabilities(task: &Task, host: Option<&Namespaces>) -> Option<impl Iterator<Item = String>> {
    let own = task.namespaces.user;
    let effective = if own == host?.user { task.capabilities } else { 0 };
    (own != 0).then(|| capabilities::names(effective))
}

/// Whether a namespace is the host's; 0 is one that is not known.
fn side(own: u32, host: Option<u32>) -> Option<String> {
    let whose = if own == host? { "host" } else { "own" };
    (own != 0).then(|| whose.to_owned())
}

fn executable(sighting: &Sighting, host: Option<&Namespaces>) -> Option<String> {
    let exe = sighting.task.exe.filter(|_| believes_executable(sighting, host))?;
    Some(format!("{}:{}:{}", exe.major, exe.minor, exe.inode))
}

/// The last name of a path. Only where root alone gives names: to whom a part of the tree is delegated, as to a user's
/// session, may call a cgroup of it like any other. (The whole path tells where it lies.)
fn cgroup_name(path: &str, only_root_adds_to: impl FnOnce(&str) -> bool) -> Option<String> {
    let (above, name) = path.rsplit_once('/')?;
    (!name.is_empty() && only_root_adds_to(above)).then(|| name.to_owned())
}

/// Runtimes that are not known leave a trace: a namespace of processes, cgroups or users of its own, or an id in the
/// path. `none` is said of whoever has none of these; one trace is enough for doubt.
fn container(containment: &Containment, own: &Namespaces, host: Option<&Namespaces>) -> Option<String> {
    match (containment, host) {
        (Containment::Contained(container), _) => Some(container.runtime.to_owned()),
        (Containment::Unnamed, Some(host)) => ((own.pid, own.cgroup, own.user)
            == (host.pid, host.cgroup, host.user))
            .then(|| NO_CONTAINER.to_owned()),
        (Containment::Unsure, _) | (Containment::Unnamed, None) => None,
    }
}

/// Whether what the kernel calls the executable was really executed. A process with a user namespace of its own may
/// replace that file (prctl PR_SET_MM_MAP), also on behalf of one that it shares its memory with. Of a process that
/// was there before the hooks only its own namespace can be asked.
pub(super) fn believes_executable(sighting: &Sighting, host: Option<&Namespaces>) -> bool {
    match sighting.executable {
        Provenance::Executed => true,
        Provenance::Before => host.is_some_and(|host| sighting.task.namespaces.user == host.user),
        Provenance::Replaced | Provenance::Lost => false,
    }
}

#[cfg(test)]
mod tests {
    use vouch_abi::{Identity, seccomp};

    use super::*;

    const HOST: Namespaces = Namespaces { pid: 1, mnt: 2, net: 3, user: 4, cgroup: 5 };

    /// A process of the host that runs 8:1:42.
    fn of_host() -> Identity {
        Identity {
            exe_device: 8 << 20 | 1,
            exe_inode: 42,
            pid_namespace: HOST.pid,
            net_namespace: HOST.net,
            user_namespace: HOST.user,
            mnt_namespace: HOST.mnt,
            cgroup_namespace: HOST.cgroup,
            seccomp: seccomp::OFF,
            ..Identity::default()
        }
    }

    /// What is said under `name`; `None` when it is a gap.
    fn said(
        name: &str,
        identity: Identity,
        executable: Provenance,
        cgroup: Option<&str>,
        host: Option<&Namespaces>,
    ) -> Option<String> {
        let sighting = Sighting { task: Task::from(&identity), executable, launcher: None };
        let containment = cgroup.map_or(Containment::Unsure, |path| Containment::of_cgroup(path, |_| true));
        let mut set = SelectorSet::default();
        let roots_alone = |above: &str| !above.starts_with("/user.slice");
        kernel_facts(&sighting, cgroup, &containment, host, roots_alone, &mut set);
        let found = set.iter().find_map(|selector| selector.value().strip_prefix(name)?.strip_prefix(':'));
        let gap = set.gaps().any(|gap| gap.value() == name);
        assert!(found.is_some() != gap, "{name} is either known or a gap");
        found.map(str::to_owned)
    }

    #[test]
    fn each_fact_has_a_value_or_is_a_gap() {
        let id = "0123456789abcdef".repeat(4);
        let docker = format!("/docker/{id}");
        let unknown_runtime = format!("/foo/{id}");
        let (ssh, here) = (Some("/ssh.service"), Provenance::Executed);
        let own = Identity {
            pid_namespace: 91,
            mnt_namespace: 92,
            net_namespace: 93,
            user_namespace: 94,
            cgroup_namespace: 95,
            ..of_host()
        };
        let gone = Identity { net_namespace: 0, user_namespace: 0, ..of_host() };
        let host = Some(&HOST);
        for (name, identity, executable, cgroup, host, expected) in [
            ("userns", of_host(), here, ssh, host, Some("host")),
            ("userns", own, here, ssh, host, Some("own")),
            ("userns", gone, here, ssh, host, None),
            ("userns", own, here, ssh, None, None),
            ("netns", of_host(), here, ssh, host, Some("host")),
            ("netns", own, here, ssh, host, Some("own")),
            ("netns", gone, here, ssh, host, None),
            ("pidns", of_host(), here, ssh, host, Some("host")),
            ("pidns", own, here, ssh, host, Some("own")),
            ("pidns", own, here, ssh, None, None),
            ("mntns", of_host(), here, ssh, host, Some("host")),
            ("mntns", own, here, ssh, host, Some("own")),
            ("mntns", Identity { mnt_namespace: 0, ..own }, here, ssh, host, None),
            ("no_new_privs", of_host(), here, ssh, host, Some("false")),
            ("no_new_privs", Identity { no_new_privs: 1, ..of_host() }, here, ssh, host, Some("true")),
            ("seccomp", of_host(), here, ssh, host, Some("off")),
            ("seccomp", Identity { seccomp: seccomp::STRICT, ..own }, here, ssh, host, Some("strict")),
            ("seccomp", Identity { seccomp: seccomp::FILTER, ..own }, here, ssh, host, Some("filter")),
            ("seccomp", Identity { seccomp: seccomp::UNKNOWN, ..own }, here, ssh, host, None),
            ("seccomp", Identity { seccomp: 9, ..own }, here, ssh, host, None),
            ("cap", Identity { capabilities: 1 << 12, ..of_host() }, here, ssh, host, Some("net_admin")),
            ("cap", Identity { capabilities: 1 << 12, ..of_host() }, here, ssh, None, None),
            ("cap", Identity { capabilities: 1 << 12, ..gone }, here, ssh, host, None),
            ("exe", of_host(), here, ssh, host, Some("8:1:42")),
            ("exe", of_host(), Provenance::Replaced, ssh, host, None),
            ("exe", Identity { exe_inode: 0, ..of_host() }, here, ssh, host, None),
            ("cgroup", of_host(), here, ssh, host, Some("/ssh.service")),
            ("cgroup", of_host(), here, None, host, None),
            ("cgroup_name", of_host(), here, ssh, host, Some("ssh.service")),
            ("cgroup_name", of_host(), here, Some("/a/b/web"), host, Some("web")),
            ("cgroup_name", of_host(), here, Some("/user.slice/user-7.slice/web"), host, None),
            ("cgroup_name", of_host(), here, Some("/"), host, None),
            ("cgroup_name", of_host(), here, None, host, None),
            ("cgroup_name", of_host(), here, ssh, None, None),
            ("cgroup_name", of_host(), here, Some(&*unknown_runtime), host, None),
            ("cgroup_name", Identity { cgroup_namespace: 95, ..of_host() }, here, ssh, host, None),
            ("container", of_host(), here, ssh, host, Some("none")),
            ("container", own, here, Some(&*docker), host, Some("docker")),
            ("container", own, here, Some(&*docker), None, Some("docker")),
            ("container", of_host(), here, Some(&*unknown_runtime), host, None),
            ("container", of_host(), here, None, host, None),
            ("container", of_host(), here, ssh, None, None),
            ("container", Identity { pid_namespace: 91, ..of_host() }, here, ssh, host, None),
            ("container", Identity { cgroup_namespace: 95, ..of_host() }, here, ssh, host, None),
            ("container", Identity { user_namespace: 94, ..of_host() }, here, ssh, host, None),
        ] {
            let found = said(name, identity, executable, cgroup, host);
            assert_eq!(found.as_deref(), expected, "{name} of {identity:?} in {cgroup:?}");
        }
    }

    #[test]
    fn a_contained_process_surely_has_no_name_of_a_cgroup() {
        let path = format!("/docker/{}/web.service", "0123456789abcdef".repeat(4));
        let containment = Containment::of_cgroup(&path, |_| true);
        let sighting =
            Sighting { task: Task::from(&of_host()), executable: Provenance::Executed, launcher: None };
        let mut set = SelectorSet::default();
        kernel_facts(&sighting, Some(&path), &containment, Some(&HOST), |_| true, &mut set);
        assert!(set.surely_lacks(&Selector::new("kernel", "cgroup_name:web.service")));
    }

    #[test]
    fn capabilities_count_on_the_host_alone_and_their_absence_is_a_fact() {
        let said = |identity: Identity| {
            let sighting =
                Sighting { task: Task::from(&identity), executable: Provenance::Executed, launcher: None };
            let mut set = SelectorSet::default();
            kernel_facts(&sighting, None, &Containment::Unsure, Some(&HOST), |_| true, &mut set);
            assert!(set.surely_lacks(&Selector::new("kernel", "cap:sys_admin")));
            let names = set.iter().filter_map(|selector| selector.value().strip_prefix("cap:"));
            names.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(said(of_host()), [""; 0]);
        let two = Identity { capabilities: 1 << 5 | 1 << 39, ..of_host() };
        assert_eq!(said(two), ["bpf", "kill"]);
        assert_eq!(said(Identity { user_namespace: 94, capabilities: u64::MAX, ..two }), [""; 0]);
    }
}
