//! Which container a cgroup belongs to.

/// A container, as its runtime named it in the cgroup tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    pub runtime: &'static str,
    pub id: String,
    /// Path from the cgroup2 root down to the runtime's own level.
    pub cgroup: String,
}

/// A container of a pod, whatever runs it.
const KUBERNETES: &str = "kubernetes";
/// Prefix of a cgroup's name → runtime. What follows is the container's id, perhaps with `.scope`.
const BY_PREFIX: [(&str, &str); 5] = [
    ("docker-", "docker"),
    ("libpod-", "podman"),
    ("cri-containerd-", "containerd"),
    ("crio-", "cri-o"),
    ("nerdctl-", "containerd"),
];
/// Name of the parent → runtime, where the container's cgroup is named by the bare id.
const BY_PARENT: [(&str, &str); 3] =
    [("docker", "docker"), ("libpod_parent", "podman"), ("k8s.io", "containerd")];

impl Container {
    /// Every runtime that may be named, sorted.
    pub const RUNTIMES: [&str; 5] = ["containerd", "cri-o", "docker", KUBERNETES, "podman"];
}

/// What the place of a process in the cgroup tree says about containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Containment {
    Contained(Container),
    /// It looks like a container's, but a runtime that is not known made it, or somebody other than root may have
    /// chosen the name: whoever a part of the tree was delegated to, as to a user's session or a rootless runtime.
    Unsure,
    /// No name on the way is one of a container's.
    Unnamed,
}

impl Containment {
    /// What the cgroup `path` says. `only_root_adds_to` tells whether root alone makes cgroups in a given one.
    ///
    /// Names below the runtime's own level are the container's to choose, so the topmost match counts.
    pub fn of_cgroup(path: &str, only_root_adds_to: impl FnOnce(&str) -> bool) -> Self {
        let mut parent = "";
        let (mut above, mut end) = (0, 0);
        for name in path.split('/') {
            end += name.len();
            if let Some((runtime, id)) = named(name, parent) {
                let container = Container { runtime, id: id.to_owned(), cgroup: path[..end].to_owned() };
                let believed = only_root_adds_to(&path[..above]);
                return if believed { Self::Contained(container) } else { Self::Unsure };
            }
            (parent, above, end) = (name, end, end + 1);
        }
        if path.split('/').any(holds_container_id) { Self::Unsure } else { Self::Unnamed }
    }
}

fn named<'a>(name: &'a str, parent: &str) -> Option<(&'static str, &'a str)> {
    let bare = name.strip_suffix(".scope").unwrap_or(name);
    if let Some((prefix, runtime)) = BY_PREFIX.iter().find(|(prefix, _)| bare.starts_with(prefix)) {
        return Some((*runtime, &bare[prefix.len()..])).filter(|(_, id)| is_container_id(id));
    }
    let kubernetes = parent.starts_with("pod") || parent.contains("-pod");
    let by_parent = BY_PARENT.iter().find(|(known, _)| *known == parent).map(|(_, runtime)| *runtime);
    let runtime = by_parent.or(kubernetes.then_some(KUBERNETES))?;
    is_container_id(bare).then_some((runtime, bare))
}

fn is_container_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// Whether 64 hexadecimal digits stand somewhere in a name, whatever stands around them.
fn holds_container_id(name: &str) -> bool {
    name.split(|c: char| !c.is_ascii_alphanumeric()).any(is_container_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const OTHER: &str = "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff";

    fn contained(path: &str) -> Container {
        match Containment::of_cgroup(path, |_| true) {
            Containment::Contained(container) => container,
            other => panic!("{path}: {other:?}"),
        }
    }

    #[test]
    fn runtimes_are_known_by_their_own_level() {
        for (path, runtime) in [
            (format!("/docker/{ID}"), "docker"),
            (format!("/system.slice/docker-{ID}.scope"), "docker"),
            (format!("/libpod_parent/libpod-{ID}"), "podman"),
            (
                format!(
                    "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope/container"
                ),
                "podman",
            ),
            (format!("/kubepods.slice/kubepods-pod1_2.slice/cri-containerd-{ID}.scope"), "containerd"),
            (format!("/kubepods/burstable/pod12-34/{ID}"), "kubernetes"),
            (format!("/k8s.io/{ID}"), "containerd"),
        ] {
            let container = contained(&path);
            assert_eq!((container.runtime, &*container.id), (runtime, ID), "{path}");
            assert!(path.starts_with(&container.cgroup));
        }
    }

    #[test]
    fn the_list_of_runtimes_is_whole() {
        let mut named: Vec<&str> = BY_PREFIX.iter().chain(&BY_PARENT).map(|(_, runtime)| *runtime).collect();
        named.push(KUBERNETES);
        named.sort_unstable();
        named.dedup();
        assert_eq!(named, Container::RUNTIMES);
    }

    #[test]
    fn a_nested_name_never_wins() {
        let path = format!("/docker/{ID}/docker/{OTHER}/libpod-{OTHER}");
        let container = contained(&path);
        assert_eq!((&*container.id, container.cgroup), (ID, format!("/docker/{ID}")));
    }

    #[test]
    fn the_host_is_no_container() {
        for path in
            ["/", "", "/system.slice/ssh.service", "/docker", "/docker/short", "/user.slice/docker-x.scope"]
        {
            assert_eq!(Containment::of_cgroup(path, |_| true), Containment::Unnamed, "{path}");
        }
    }

    #[test]
    fn a_name_counts_only_where_root_alone_gives_names() {
        let path = format!("/user.slice/user@1000.service/docker-{ID}.scope/docker/{OTHER}");
        let mut asked = String::new();
        let containment = Containment::of_cgroup(&path, |above| {
            asked = above.to_owned();
            false
        });
        assert_eq!((containment, &*asked), (Containment::Unsure, "/user.slice/user@1000.service"));
    }

    #[test]
    fn an_id_in_a_shape_that_is_not_known_leaves_doubt() {
        for path in [format!("/foo/{ID}"), format!("/foo/new-runtime-{ID}.scope/x"), format!("/foo:{ID}:bar")]
        {
            assert_eq!(Containment::of_cgroup(&path, |_| true), Containment::Unsure, "{path}");
        }
    }
}
