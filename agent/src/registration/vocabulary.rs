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
    shape: Shape,
}

/// How the values behind a field look, where one is to be a part of a SPIFFE ID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// One word, which may be a legal one.
    Word,
    /// A name, a colon, and a word.
    Keyed,
    /// None can ever be legal: each holds this, or several at once.
    Barred(&'static str),
}

const WORDS: &[Word] = &[
    word("unix", "uid").single().shared(),
    word("unix", "user").single().shared(),
    word("unix", "gid").single().shared(),
    word("unix", "group").single().shared(),
    word("unix", "supplementary_gid").shared(),
    word("unix", "supplementary_group").shared(),
    word("unix", "path").single().barred("a slash"),
    word("unix", "sha256").single(),
    word("kernel", "cgroup").single().barred("a slash"),
    word("kernel", "cgroup_name").single(),
    word("kernel", "container").single().shared(),
    word("kernel", "exe").single().barred("a colon"),
    word("kernel", "userns").single().shared(),
    word("kernel", "netns").single().shared(),
    word("kernel", "fsverity").single().keyed(),
    word("kernel", "pidns").single().shared(),
    word("kernel", "mntns").single().shared(),
    word("kernel", "no_new_privs").single().shared(),
    word("kernel", "seccomp").single().shared(),
    word("kernel", "cap").shared(),
    word("kernel", "parent_exe").single().barred("a slash"),
    word("k8s", "sa").single().later(),
    word("k8s", "ns").single().later(),
    word("k8s", "node-name").single().shared().later(),
    word("k8s", "pod-uid").single().later(),
    word("k8s", "pod-name").single().later(),
    word("k8s", "pod-image-count").shared().later(),
    word("k8s", "pod-init-image-count").shared().later(),
    word("k8s", "pod-image").later().barred("a slash or a colon"),
    word("k8s", "pod-init-image").later().barred("a slash or a colon"),
    word("k8s", "pod-label").later().keyed(),
    word("k8s", "pod-owner").later().keyed(),
    word("k8s", "pod-owner-uid").later().keyed(),
    word("k8s", "container-name").single().later(),
    word("k8s", "container-image").later().barred("a slash or a colon"),
    word("k8s", "ns-label").later().keyed(),
    word("k8s", "image-signature").later(),
    word("k8s", "image-attestations").later(),
    word("k8s", "image-signature-subject").later(),
    word("k8s", "image-signature-issuer").later(),
    word("k8s", "image-signature-value").later(),
    word("k8s", "image-signature-log-id").later(),
    word("k8s", "image-signature-log-index").later(),
    word("k8s", "image-signature-integrated-time").later(),
    word("k8s", "image-signature-signed-entry-timestamp").later(),
    word("docker", "label").keyed(),
    word("docker", "env").barred("an equals sign"),
    word("docker", "image_id").single(),
    word("docker", "image_config_digest").single().keyed(),
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
    word("systemd", "fragment_path").single().barred("a slash"),
    word("slurm", "job_id").single(),
    word("slurm", "sluid").single(),
    word("slurm", "step").single(),
];

const fn word(kind: &'static str, field: &'static str) -> Word {
    Word { kind, field, made: true, single: false, shared: false, shape: Shape::Word }
}

impl Word {
    const fn single(self) -> Self {
        Self { single: true, ..self }
    }

    const fn shared(self) -> Self {
        Self { shared: true, ..self }
    }

    const fn keyed(self) -> Self {
        Self { shape: Shape::Keyed, ..self }
    }

    const fn barred(self, holds: &'static str) -> Self {
        Self { shape: Shape::Barred(holds), ..self }
    }

    /// A word of the standards or of other agents that no attestor of this version makes.
    const fn later(self) -> Self {
        Self { made: false, ..self }
    }
}

/// Where no label is meant: of a digest.
const KEY_OF_OTHERS: &str = "sha256";

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
        ("kernel", "cgroup_name") => {
            let fix = || "one name, such as kernel:cgroup_name:web.service".to_owned();
            (value.is_empty() || value.contains('/')).then(fix)
        }
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

/// What keeps the values behind `kind:field:`, or `kind:field:key:`, from ever being a part of a SPIFFE ID, as a clause,
/// and what to write instead.
pub(super) fn fault_of_name(kind: &str, field: &str, key: Option<&str>) -> Option<(String, String)> {
    let fields = fields_of(kind);
    let known = |word: &str, known: &[&str]| match nearest(word, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("known: {}", known.join(", ")),
    };
    if fields.is_empty() {
        return Some((format!("selector type `{kind}` is unknown"), known(kind, &types())));
    }
    let Some(word) = lookup(kind, field) else {
        return Some((format!("no selector begins with `{kind}:{field}:`"), known(field, &fields)));
    };
    match (word.shape, key) {
        (Shape::Word, None) => None,
        (Shape::Word, Some(_)) => {
            Some((format!("`{kind}:{field}` has no parts with names"), format!("write {{{kind}:{field}}}")))
        }
        (Shape::Keyed, Some(key)) if !key.is_empty() && !key.contains(':') => None,
        (Shape::Keyed, _) => {
            let example = if field.ends_with("label") { "app" } else { KEY_OF_OTHERS };
            let fix = format!("name one of them, such as {{{kind}:{field}:{example}}}");
            Some((format!("behind `{kind}:{field}:` stand names, each with its value"), fix))
        }
        (Shape::Barred(holds), _) => {
            let instead = match (kind, field) {
                ("kernel", "cgroup") => "{kernel:cgroup_name}, the last name of that path",
                ("unix", "path") | ("kernel", "exe" | "parent_exe") => {
                    "{unix:user}, {systemd:id} or {unix:sha256}"
                }
                ("systemd", _) => "{systemd:id}",
                _ => "a label, or what names the workload",
            };
            let why = format!(
                "each value behind `{kind}:{field}:` holds {holds}, which no part of a SPIFFE ID may"
            );
            Some((why, format!("write {instead}")))
        }
    }
}

/// Whether a process commonly has several selectors of this type and field, of which a SPIFFE ID cannot take one.
pub(super) fn are_several(kind: &str, field: &str) -> bool {
    lookup(kind, field).is_some_and(|word| !word.single && word.shape == Shape::Word)
}

/// Whether the value is the choice of whoever starts the workload.
pub(super) fn is_chosen(kind: &str, field: &str) -> bool {
    matches!(
        (kind, field),
        ("docker", "label" | "image_id") | ("k8s", "pod-label" | "pod-name" | "container-name")
    )
}

fn is_hex(text: &str) -> bool {
    text.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'))
}

fn lookup(kind: &str, field: &str) -> Option<&'static Word> {
    WORDS.iter().find(|word| word.kind == kind && word.field == field)
}
