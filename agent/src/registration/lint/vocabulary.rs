//! The selectors that attestors make, and how they write the values.

use crate::attestation::Selector;

/// Every selector type with the words its values start with.
pub(super) const TYPES: &[(&str, &[&str])] = &[
    ("unix", &["uid", "user", "gid", "group", "supplementary_gid", "supplementary_group", "path", "sha256"]),
    (
        "kernel",
        &[
            "cgroup",
            "container",
            "exe",
            "fsverity",
            "userns",
            "netns",
            "pidns",
            "mntns",
            "no_new_privs",
            "seccomp",
            "cap",
            "parent_exe",
        ],
    ),
    (
        "k8s",
        &[
            "sa",
            "ns",
            "node-name",
            "pod-uid",
            "pod-name",
            "pod-image-count",
            "pod-init-image-count",
            "pod-image",
            "pod-init-image",
            "pod-label",
            "pod-owner",
            "pod-owner-uid",
            "container-name",
            "container-image",
            "ns-label",
            "image-signature",
            "image-attestations",
            "image-signature-subject",
            "image-signature-issuer",
            "image-signature-value",
            "image-signature-log-id",
            "image-signature-log-index",
            "image-signature-integrated-time",
            "image-signature-signed-entry-timestamp",
        ],
    ),
    (
        "docker",
        &[
            "label",
            "env",
            "image_id",
            "image_config_digest",
            "image-signature",
            "image-attestations",
            "image-signature-subject",
            "image-signature-issuer",
            "image-signature-value",
            "image-signature-log-id",
            "image-signature-log-index",
            "image-signature-integrated-time",
            "image-signature-signed-entry-timestamp",
        ],
    ),
    ("systemd", &["id", "fragment_path"]),
    ("slurm", &["job_id", "sluid", "step"]),
];

/// Facts of which a process has just one: two entries that require different ones never match together.
const SINGLE: &[(&str, &[&str])] = &[
    ("unix", &["uid", "user", "gid", "group", "path", "sha256"]),
    (
        "kernel",
        &[
            "cgroup",
            "container",
            "exe",
            "userns",
            "netns",
            "pidns",
            "mntns",
            "no_new_privs",
            "seccomp",
            "parent_exe",
        ],
    ),
    ("k8s", &["sa", "ns", "node-name", "pod-uid", "pod-name", "container-name"]),
    ("docker", &["image_config_digest"]),
    ("systemd", &["id", "fragment_path"]),
    ("slurm", &["job_id", "sluid", "step"]),
];

/// Facts of the user or group that runs a process.
const OF_USER: &[&str] = &["uid", "user", "gid", "group", "supplementary_gid", "supplementary_group"];

/// Facts that most workloads of a node share.
const SHARED: &[(&str, &[&str])] = &[
    ("unix", OF_USER),
    ("kernel", &["container", "userns", "netns", "pidns", "mntns", "no_new_privs", "seccomp", "cap"]),
    ("k8s", &["node-name", "pod-image-count", "pod-init-image-count"]),
];

pub(super) fn fields_of(kind: &str) -> Option<&'static [&'static str]> {
    lookup(TYPES, kind)
}

pub(super) fn type_names() -> String {
    let names: Vec<&str> = TYPES.iter().map(|(kind, _)| *kind).collect();
    names.join(", ")
}

/// Whether a process has at most one selector of this type and field.
pub(super) fn is_single(kind: &str, field: &str) -> bool {
    lookup(SINGLE, kind).is_some_and(|fields| fields.contains(&field))
}

pub(super) fn is_shared(selector: &Selector) -> bool {
    lookup(SHARED, selector.kind()).is_some_and(|fields| fields.contains(&field_of(selector)))
}

pub(super) fn is_of_user(selector: &Selector) -> bool {
    selector.kind() == "unix" && OF_USER.contains(&field_of(selector))
}

/// The value up to its first colon.
pub(super) fn field_of(selector: &Selector) -> &str {
    selector.value().split(':').next().unwrap_or_default()
}

/// How the value should have been written, when no attestor writes it so.
pub(super) fn fault_of_value(kind: &str, field: &str, value: &str) -> Option<String> {
    let one_of = |words: &[&str]| (!words.contains(&value)).then(|| format!("one of: {}", words.join(", ")));
    match (kind, field) {
        ("unix", "uid" | "gid" | "supplementary_gid") => {
            let canonical = value.parse::<u32>().is_ok_and(|number| number.to_string() == value);
            (!canonical).then(|| format!("a decimal number, such as unix:{field}:1000"))
        }
        ("unix", "path") | ("kernel", "parent_exe" | "cgroup") => (!value.starts_with('/'))
            .then(|| format!("an absolute path, such as {kind}:{field}:/usr/bin/web")),
        ("unix", "sha256") => {
            let hex = value.len() == 64 && value.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'));
            (!hex).then(|| "64 hexadecimal digits in lower case".to_owned())
        }
        ("kernel", "userns" | "netns" | "pidns" | "mntns") => one_of(&["host", "own"]),
        ("kernel", "no_new_privs") => one_of(&["true", "false"]),
        ("kernel", "seccomp") => one_of(&["off", "strict", "filter"]),
        ("kernel", "exe") => {
            let numbers: Vec<&str> = value.split(':').collect();
            let plain = numbers.len() == 3 && numbers.iter().all(|number| number.parse::<u64>().is_ok());
            (!plain).then(|| "major:minor:inode, as stat prints them".to_owned())
        }
        _ if value.is_empty() => Some(format!("a value behind `{kind}:{field}:`")),
        _ => None,
    }
}

fn lookup(
    table: &'static [(&'static str, &'static [&'static str])],
    kind: &str,
) -> Option<&'static [&'static str]> {
    table.iter().find(|(name, _)| *name == kind).map(|(_, fields)| *fields)
}
