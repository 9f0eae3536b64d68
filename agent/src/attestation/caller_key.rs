//! Whom a limit counts.

use super::container::Containment;
use crate::kernel::{ConnectorKey, Task};

/// One who has one share of each limit, however many processes, uids and user namespaces it comes with.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum CallerKey {
    /// A container, by its cgroup: its processes may share a uid with others.
    Container(String),
    /// A user namespace that root made, by its inode.
    UserNamespace(u32),
    /// A user, by a uid of the initial user namespace.
    Uid(u32),
    /// All of whom nothing is known for certain: they might take one uid after the other.
    Unknown,
}

impl CallerKey {
    /// Of a process of `uid`, by the kernel's `record` of it where there is one. Without one nothing tells whose user
    /// namespace it is in: each subordinate uid counts for itself then, as at grades pidfd and peercred.
    ///
    /// The container only if root named it, so that nobody chooses whom a limit counts. Its uids are not told apart:
    /// root inside may take any, and would multiply its share.
    pub(super) fn of(containment: &Containment, record: Option<&Task>, uid: u32) -> Self {
        match containment {
            Containment::Contained(container) => Self::Container(container.cgroup.clone()),
            Containment::Unsure | Containment::Unnamed => record.map_or(Self::Uid(uid), Self::of_task),
        }
    }

    /// What its connects are known by, one of which has the key `connector`: in a container no uid tells anybody apart.
    pub fn known_by(&self, connector: ConnectorKey) -> ConnectorKey {
        match self {
            Self::Container(_) => connector.of_whole_cgroup(),
            Self::UserNamespace(_) | Self::Uid(_) | Self::Unknown => connector,
        }
    }

    /// Of a process outside containers.
    ///
    /// Whoever makes a user namespace gets nothing into it but its own uid and its subordinate ones, and may make as many
    /// namespaces as it likes, also within: the maker of the outermost one is counted for all. Only root gives others
    /// away, and root decides how many namespaces of that kind there are.
    pub fn of_task(task: &Task) -> Self {
        match task.connector_key() {
            ConnectorKey { user_namespace: 0, uid, .. } => Self::Uid(uid),
            ConnectorKey { user_namespace, .. } => Self::UserNamespace(user_namespace),
        }
    }
}

#[cfg(test)]
mod tests {
    use vouch_abi::Identity;

    use super::*;

    const USER: u32 = 1000;
    const SUBORDINATE: u32 = 300_000;

    fn task(outer_user_namespace: u32, owner: u32, euid: u32) -> Task {
        Task::from(&Identity {
            uid: USER,
            euid,
            outer_user_namespace,
            outer_user_namespace_owner: owner,
            ..Identity::default()
        })
    }

    #[test]
    fn a_user_is_one_caller_whatever_uids_its_namespaces_have() {
        assert_eq!(CallerKey::of_task(&task(0, 0, USER)), CallerKey::Uid(USER));
        for (namespace, euid) in [(7, USER), (7, SUBORDINATE), (8, SUBORDINATE + 1)] {
            assert_eq!(CallerKey::of_task(&task(namespace, USER, euid)), CallerKey::Uid(USER));
        }
    }

    #[test]
    fn a_namespace_that_root_made_is_one_caller_whatever_uids_it_has() {
        for euid in [0, USER, SUBORDINATE] {
            assert_eq!(CallerKey::of_task(&task(7, 0, euid)), CallerKey::UserNamespace(7));
        }
        assert_eq!(CallerKey::of_task(&task(8, 0, USER)), CallerKey::UserNamespace(8));
    }

    #[test]
    fn a_container_is_one_caller_if_root_named_it() {
        let path = format!("/docker/{}/below", "0123456789abcdef".repeat(4));
        let inside = task(7, 0, SUBORDINATE);
        let named = Containment::of_cgroup(&path, |_| true);
        let container = CallerKey::Container(path.trim_end_matches("/below").to_owned());
        assert_eq!(CallerKey::of(&named, Some(&inside), SUBORDINATE), container);
        assert_eq!(CallerKey::of(&named, None, SUBORDINATE), container);
        for made_up in [Containment::of_cgroup(&path, |_| false), Containment::Unnamed] {
            assert_eq!(CallerKey::of(&made_up, Some(&inside), SUBORDINATE), CallerKey::UserNamespace(7));
        }
    }

    #[test]
    fn without_a_record_each_uid_is_a_caller() {
        assert_eq!(CallerKey::of(&Containment::Unnamed, None, SUBORDINATE), CallerKey::Uid(SUBORDINATE));
    }
}
