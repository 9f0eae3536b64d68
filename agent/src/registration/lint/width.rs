//! Entries that more processes meet than their author may think: above all those of containers.

use std::fmt;

use super::{Remark, Surroundings};
use crate::{
    attestation::{Grade, PathRule, Selector},
    registration::{RegistrationEntry, vocabulary},
};

/// What an entry goes by says nothing about which container it is in, or whether it is in one. The user, group and
/// bytes of a program can be had in any image. Its path cannot, while the agent looks for the same file there itself.
pub(super) fn too_wide(name: &dyn fmt::Display, goes_by: &[Selector], node: Surroundings) -> Option<Remark> {
    let is_path = |selector: &Selector| field(selector) == "path" && selector.kind() == "unix";
    let claimed = |selector: &Selector| node.path == PathRule::Spire && is_path(selector);
    let in_any_image = |selector: &Selector| vocabulary::is_shared(selector) || is_hash(selector);
    if !goes_by.iter().all(|selector| in_any_image(selector) || claimed(selector)) {
        return None;
    }
    // Where containers are told apart from the host, all this is the host's own.
    let of_host = goes_by.iter().any(|selector| selector.to_string() == "kernel:container:none");
    // Who names the runtime has thought of its containers; a user is not told apart by it, a program is.
    let of_runtime = goes_by.iter().any(|selector| field(selector) == "container");
    if let Some(path) = goes_by.iter().find(|selector| claimed(selector)) {
        let why = "[attest.unix] path = \"spire\" takes a process's word for its path, so any container may have it";
        let title = format!("the entry of {name} goes by {path}, inside containers as well");
        let fix = "for a process of the host add kernel:container:none; or set path = \"verified\"";
        return (!of_runtime).then(|| ("W0621", title, why, fix.into()));
    }
    let user = goes_by.iter().find(|selector| vocabulary::is_of_user(selector));
    let hash = goes_by.iter().find(|selector| is_hash(selector));
    if user.is_none() && hash.is_none() {
        return Some((
            "W0614",
            format!("the entry of {name} says nothing about which workload it is for"),
            "many workloads of a node meet all of its selectors",
            "add a selector of the workload itself, such as unix:path or kernel:cgroup".into(),
        ));
    }
    if of_host || (hash.is_some() && of_runtime) {
        return None;
    }
    let (by, why) = match (hash, user) {
        (Some(_), _) => ("unix:sha256", "whoever puts the same program into a container meets it too"),
        (None, Some(root)) if is_root(root) => {
            (&*root.to_string(), "root inside any container without a user namespace of its own meets it too")
        }
        (None, user) => (
            &*user.map(ToString::to_string).unwrap_or_default(),
            "a process of that user or group inside any container meets it too",
        ),
    };
    let title = format!("the entry of {name} goes by {by} alone, inside containers as well");
    let fix = "for a process of the host add kernel:container:none; for a container add what names it";
    Some(("W0613", title, why, fix.into()))
}

/// Below grade kernel every condition on `kernel:*` is open for good, so the entry matches nobody.
pub(super) fn out_of_reach<N: fmt::Display>(
    entry: &RegistrationEntry<N>,
    goes_by: &[Selector],
    node: Surroundings,
) -> Option<Remark> {
    let grade = node.grade.filter(|grade| *grade < Grade::Kernel)?;
    let conditions =
        goes_by.iter().chain(&entry.exclude).map(|selector| (selector.kind(), selector.to_string()));
    let attested = entry.attested_by.iter().map(|kind| (&**kind, format!("attested_by {kind}")));
    let (_, condition) = conditions.chain(attested).find(|(kind, _)| *kind == "kernel")?;
    Some((
        "W0622",
        format!("the entry of {} asks about {condition}, which grade {grade} never settles", entry.spiffe_id),
        "kernel:* is known at grade kernel only; what is not known satisfies neither selectors nor exclude",
        "see what keeps this node from grade kernel: vouch doctor; or say it with unix:* alone".into(),
    ))
}

fn field(selector: &Selector) -> &str {
    vocabulary::field_of(selector)
}

fn is_hash(selector: &Selector) -> bool {
    selector.kind() == "unix" && field(selector) == "sha256"
}

fn is_root(selector: &Selector) -> bool {
    matches!(selector.value(), "uid:0" | "gid:0" | "user:root" | "group:root")
}
