//! `kernel:*` selectors: what the record of the `connect()` itself says.

use super::{
    container::Container,
    selector::{Selector, SelectorSet},
};
use crate::kernel::{Connect, Namespaces, Provenance};

/// What may be said of a record. `cgroup` is the path of its cgroup; `host` are the namespaces of the host.
/// What is not known is a gap.
pub(super) fn kernel_facts(
    connect: &Connect,
    cgroup: Option<&str>,
    host: Option<&Namespaces>,
    set: &mut SelectorSet,
) {
    let own = &connect.task.namespaces;
    let sides =
        [("userns", own.user, host.map(|host| host.user)), ("netns", own.net, host.map(|host| host.net))];
    for (name, own, host) in sides {
        match host {
            Some(host) if own != 0 => {
                let whose = if own == host { "host" } else { "own" };
                set.insert(Selector::new("kernel", format!("{name}:{whose}")));
            }
            _ => set.mark_gap(Selector::new("kernel", name)),
        }
    }
    match connect.task.exe.filter(|_| believes_executable(connect, host)) {
        Some(exe) => {
            let value = format!("exe:{}:{}:{}", exe.major, exe.minor, exe.inode);
            set.insert(Selector::new("kernel", value));
        }
        None => set.mark_gap(Selector::new("kernel", "exe")),
    }
    let Some(cgroup) = cgroup else {
        // Removed since the connect: nobody knows any more what it was.
        set.mark_gap(Selector::new("kernel", "cgroup"));
        set.mark_gap(Selector::new("kernel", "container"));
        return;
    };
    set.insert(Selector::new("kernel", format!("cgroup:{cgroup}")));
    match Container::of_cgroup(cgroup) {
        Some(container) => set.insert(Selector::new("kernel", format!("container:{}", container.runtime))),
        None if host.is_some_and(|host| own.pid == host.pid) => {
            set.insert(Selector::new("kernel", "container:none"));
        }
        // A pid namespace of its own, by a runtime that is not known: neither "none" nor a name.
        None => set.mark_gap(Selector::new("kernel", "container")),
    }
}

/// Whether what the kernel calls the executable was really executed. A process with a user namespace of its own may
/// replace that file (prctl PR_SET_MM_MAP), also on behalf of one that it shares its memory with. Of a process that
/// was there before the hooks only its own namespace can be asked.
pub(super) fn believes_executable(connect: &Connect, host: Option<&Namespaces>) -> bool {
    match connect.executable {
        Provenance::Executed => true,
        Provenance::Before => host.is_some_and(|host| connect.task.namespaces.user == host.user),
        Provenance::Replaced | Provenance::Lost => false,
    }
}
