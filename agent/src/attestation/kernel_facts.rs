//! `kernel:*` selectors: what the record of the `connect()` itself says.

use super::{
    container::Containment,
    selector::{Selector, SelectorSet},
};
use crate::kernel::{Namespaces, Provenance, Sighting};

/// What may be said of a record. `cgroup` is the path of its cgroup, unless that was removed since, and
/// `containment` what the path says; `host` are the namespaces of the host. What is not known is a gap.
///
/// A new fact is one more line of the table, a function of what is known, a line of `vocabulary.rs`, and one of
/// the table in the tests below.
pub(super) fn kernel_facts(
    sighting: &Sighting,
    cgroup: Option<&str>,
    containment: &Containment,
    host: Option<&Namespaces>,
    set: &mut SelectorSet,
) {
    let own = &sighting.task.namespaces;
    let facts = [
        ("userns", side(own.user, host.map(|host| host.user))),
        ("netns", side(own.net, host.map(|host| host.net))),
        ("exe", executable(sighting, host)),
        ("cgroup", cgroup.map(str::to_owned)),
        ("container", container(containment, own, host)),
    ];
    for (name, value) in facts {
        match value {
            Some(value) => set.insert(Selector::new("kernel", format!("{name}:{value}"))),
            None => set.mark_gap(Selector::new("kernel", name)),
        }
    }
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

/// Runtimes that are not known leave a trace: a namespace of processes, cgroups or users of its own, or an id in the
/// path. `none` is said of whoever has none of these; one trace is enough for doubt.
fn container(containment: &Containment, own: &Namespaces, host: Option<&Namespaces>) -> Option<String> {
    match (containment, host) {
        (Containment::Contained(container), _) => Some(container.runtime.to_owned()),
        (Containment::Unnamed, Some(host)) => {
            ((own.pid, own.cgroup, own.user) == (host.pid, host.cgroup, host.user)).then(|| "none".to_owned())
        }
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
    use vouch_abi::Identity;

    use super::*;
    use crate::kernel::Task;

    const HOST: Namespaces = Namespaces { pid: 1, mnt: 2, net: 3, user: 4, cgroup: 5 };

    /// A process of the host that runs 8:1:42.
    fn of_host() -> Identity {
        Identity {
            exe_device: 8 << 20 | 1,
            exe_inode: 42,
            pid_namespace: HOST.pid,
            net_namespace: HOST.net,
            user_namespace: HOST.user,
            cgroup_namespace: HOST.cgroup,
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
        kernel_facts(&sighting, cgroup, &containment, host, &mut set);
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
            ("exe", of_host(), here, ssh, host, Some("8:1:42")),
            ("exe", of_host(), Provenance::Replaced, ssh, host, None),
            ("exe", Identity { exe_inode: 0, ..of_host() }, here, ssh, host, None),
            ("cgroup", of_host(), here, ssh, host, Some("/ssh.service")),
            ("cgroup", of_host(), here, None, host, None),
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
}
