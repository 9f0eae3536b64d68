//! The selectors that attestors make, or will, and how they write the values.

use crate::{
    attestation::{CAPABILITIES, Container, Selector},
    problem::nearest,
};

/// What the values of some selectors start with. A new fact is one more line of [`WORDS`].
struct Word {
    kind: &'static str,
    field: &'static str,
    /// An attestor of this version makes it.
    made: bool,
    /// A process has just one: two entries that require different ones never match together.
    single: bool,
    /// Most workloads of a node share it.
    shared: bool,
}

const WORDS: &[Word] = &[
    word("unix", "uid").single().shared(),
    word("unix", "user").single().shared(),
    word("unix", "gid").single().shared(),
    word("unix", "group").single().shared(),
    word("unix", "supplementary_gid").shared(),
    word("unix", "supplementary_group").shared(),
    word("unix", "path").single(),
    word("unix", "sha256").single(),
    word("kernel", "cgroup").single(),
    word("kernel", "container").single().shared(),
    word("kernel", "exe").single(),
    word("kernel", "userns").single().shared(),
    word("kernel", "netns").single().shared(),
    word("kernel", "fsverity").single(),
    word("kernel", "pidns").single().shared(),
    word("kernel", "mntns").single().shared(),
    word("kernel", "no_new_privs").single().shared(),
    word("kernel", "seccomp").single().shared(),
    word("kernel", "cap").shared(),
    word("kernel", "parent_exe").single(),
    word("k8s", "sa").single().later(),
    word("k8s", "ns").single().later(),
    word("k8s", "node-name").single().shared().later(),
    word("k8s", "pod-uid").single().later(),
    word("k8s", "pod-name").single().later(),
    word("k8s", "pod-image-count").shared().later(),
    word("k8s", "pod-init-image-count").shared().later(),
    word("k8s", "pod-image").later(),
    word("k8s", "pod-init-image").later(),
    word("k8s", "pod-label").later(),
    word("k8s", "pod-owner").later(),
    word("k8s", "pod-owner-uid").later(),
    word("k8s", "container-name").single().later(),
    word("k8s", "container-image").later(),
    word("k8s", "ns-label").later(),
    word("k8s", "image-signature").later(),
    word("k8s", "image-attestations").later(),
    word("k8s", "image-signature-subject").later(),
    word("k8s", "image-signature-issuer").later(),
    word("k8s", "image-signature-value").later(),
    word("k8s", "image-signature-log-id").later(),
    word("k8s", "image-signature-log-index").later(),
    word("k8s", "image-signature-integrated-time").later(),
    word("k8s", "image-signature-signed-entry-timestamp").later(),
    word("docker", "label"),
    word("docker", "env"),
    word("docker", "image_id").single(),
    word("docker", "image_config_digest").single(),
    word("docker", "image-signature").later(),
    word("docker", "image-attestations").later(),
    word("docker", "image-signature-subject").later(),
    word("docker", "image-signature-issuer").later(),
    word("docker", "image-signature-value").later(),
    word("docker", "image-signature-log-id").later(),
    word("docker", "image-signature-log-index").later(),
    word("docker", "image-signature-integrated-time").later(),
    word("docker", "image-signature-signed-entry-timestamp").later(),
    word("systemd", "id").single(),
    word("systemd", "fragment_path").single(),
    word("slurm", "job_id").single(),
    word("slurm", "sluid").single(),
    word("slurm", "step").single(),
];

const fn word(kind: &'static str, field: &'static str) -> Word {
    Word { kind, field, made: true, single: false, shared: false }
}

impl Word {
    const fn single(self) -> Self {
        Self { single: true, ..self }
    }

    const fn shared(self) -> Self {
        Self { shared: true, ..self }
    }

    /// A word of the standards or of other agents that no attestor of this version makes.
    const fn later(self) -> Self {
        Self { made: false, ..self }
    }
}

/// Facts of the user or group that runs a process.
const OF_USER: &[&str] = &["uid", "user", "gid", "group", "supplementary_gid", "supplementary_group"];

pub(super) fn types() -> Vec<&'static str> {
    let mut kinds: Vec<&str> = WORDS.iter().map(|word| word.kind).collect();
    kinds.dedup();
    kinds
}

pub(super) fn fields_of(kind: &str) -> Vec<&'static str> {
    WORDS.iter().filter(|word| word.kind == kind).map(|word| word.field).collect()
}

/// Whether an attestor of this version makes such selectors; `field` is empty for the whole type.
pub(super) fn is_made(kind: &str, field: &str) -> bool {
    WORDS.iter().any(|word| word.kind == kind && (field.is_empty() || word.field == field) && word.made)
}

/// Whether a process has at most one selector of this type and field.
pub(super) fn is_single(kind: &str, field: &str) -> bool {
    lookup(kind, field).is_some_and(|word| word.single)
}

pub(super) fn is_shared(selector: &Selector) -> bool {
    lookup(selector.kind(), field_of(selector)).is_some_and(|word| word.shared)
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
    let absolute =
        |example: &str| (!value.starts_with('/')).then(|| format!("an absolute path, such as {example}"));
    match (kind, field) {
        ("unix", "uid" | "gid" | "supplementary_gid") => {
            let canonical = value.parse::<u32>().is_ok_and(|number| number.to_string() == value);
            (!canonical).then(|| format!("a decimal number, such as unix:{field}:1000"))
        }
        ("docker", "label") => {
            value.split_once(':').is_none().then(|| "name and value: docker:label:app:web".to_owned())
        }
        ("docker", "image_config_digest") => {
            (!value.starts_with("sha256:")).then(|| "a digest that begins with sha256:".to_owned())
        }
        // A unit that no file describes.
        ("systemd", "fragment_path") if value.is_empty() => None,
        ("systemd", "fragment_path") => absolute("systemd:fragment_path:/etc/systemd/system/web.service"),
        ("slurm", "job_id") => {
            let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
            (!digits).then(|| "a decimal number, such as slurm:job_id:42".to_owned())
        }
        ("unix", "path") => absolute("unix:path:/usr/bin/web"),
        ("systemd", "id") => {
            (!value.contains('.')).then(|| format!("a unit's whole name, such as systemd:id:{value}.service"))
        }
        ("kernel", "cgroup") => match value.strip_prefix("/sys/fs/cgroup/") {
            Some(rest) => Some(format!("from the root of cgroup2, such as kernel:cgroup:/{rest}")),
            None => absolute("kernel:cgroup:/system.slice/web.service"),
        },
        ("unix", "sha256") => {
            let hex = value.len() == 64 && is_hex(value);
            (!hex).then(|| "64 hexadecimal digits in lower case".to_owned())
        }
        ("kernel", "userns" | "netns" | "pidns" | "mntns") => one_of(&["host", "own"]),
        ("kernel", "no_new_privs") => one_of(&["true", "false"]),
        ("kernel", "seccomp") => one_of(&["off", "strict", "filter"]),
        ("kernel", "cap") => {
            let near = nearest(value, CAPABILITIES).filter(|_| !CAPABILITIES.contains(&value));
            near.map(|near| format!("did you mean `kernel:cap:{near}`?")).or_else(|| one_of(&CAPABILITIES))
        }
        ("kernel", "parent_exe") => absolute("kernel:parent_exe:/usr/lib/systemd/systemd"),
        ("kernel", "fsverity") => {
            let digits = match value.split_once(':') {
                Some(("sha256", hex)) if is_hex(hex) => hex.len() == 64,
                Some(("sha512", hex)) if is_hex(hex) => hex.len() == 128,
                _ => false,
            };
            (!digits).then(|| "sha256: or sha512: and the digest, as `fsverity measure` prints it".to_owned())
        }
        ("kernel", "container") => {
            let known: Vec<&str> = Container::RUNTIMES.into_iter().chain(["none"]).collect();
            let near = nearest(value, known.iter().copied()).filter(|_| !known.contains(&value));
            near.map(|near| format!("did you mean `kernel:container:{near}`?")).or_else(|| one_of(&known))
        }
        ("kernel", "exe") => {
            let numbers: Vec<&str> = value.split(':').collect();
            let plain = numbers.len() == 3 && numbers.iter().all(|number| number.parse::<u64>().is_ok());
            (!plain).then(|| "major:minor:inode, as stat prints them".to_owned())
        }
        _ if value.is_empty() => Some(format!("a value behind `{kind}:{field}:`")),
        _ => None,
    }
}

fn is_hex(text: &str) -> bool {
    text.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'))
}

fn lookup(kind: &str, field: &str) -> Option<&'static Word> {
    WORDS.iter().find(|word| word.kind == kind && word.field == field)
}
