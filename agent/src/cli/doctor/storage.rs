//! Before a start: the state directory, the entry files, descriptors.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt as _,
    path::Path,
    time::SystemTime,
};

use nix::{
    sys::{
        resource::{Resource, getrlimit},
        statvfs::statvfs,
    },
    unistd::geteuid,
};

use super::{
    check::{Check, Verdict},
    plan::Plan,
};
use crate::{
    attestation::PathRule,
    config::IssuerKind,
    registration::{self, EntryIndex, Surroundings},
};

/// Below it a CA may not be able to write its successor.
const LITTLE_SPACE: u64 = 64 << 20;

pub(super) fn look(plan: &Plan) -> Vec<Check> {
    let mut checks = vec![];
    match plan.config.issuer.kind {
        IssuerKind::Embedded { .. } => checks.extend(state(&plan.config.state_dir)),
        IssuerKind::Intermediate { .. } => {
            checks.push(Check::fact("state", "none: an intermediate from files signs"));
        }
    }
    checks.extend(entries(plan));
    let (public, authz) = plan.config.connections();
    checks.push(descriptors(public.saturating_add(authz)));
    checks
}

fn state(path: &Path) -> Vec<Check> {
    let shown = path.display();
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return vec![Check::ok("state", format!("{shown} will be made"))]
                .into_iter()
                .chain(space(path))
                .collect();
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return vec![Check::unseen("state", format!("{shown}: {error}"))];
        }
        Err(error) => {
            return vec![Check::fail("state", "E0201", format!("{shown}: {error}"), "choose another")];
        }
    };
    let mode = found.mode() & 0o7777;
    let mut checks = vec![];
    if !found.is_dir() {
        checks.push(Check::fail(
            "state",
            "E0201",
            format!("{shown} is no directory"),
            "choose another state_dir",
        ));
    } else if found.uid() != geteuid().as_raw() || mode & 0o077 != 0 {
        let text = format!("{shown} belongs to uid {} and has mode {mode:o}", found.uid());
        checks.push(Check::fail("state", "E0202", text, "give it to the agent's user alone: chmod 0700"));
    } else {
        checks.push(Check::ok("state", format!("{shown}, mode {mode:o}")));
        checks.extend(lock(path));
    }
    checks.extend(space(path));
    checks
}

/// Takes the agent's lock for a moment, if there is one to take.
fn lock(directory: &Path) -> Option<Check> {
    let lock = File::options().read(true).open(directory.join("lock")).ok()?;
    match lock.try_lock() {
        Ok(()) => None,
        Err(fs::TryLockError::WouldBlock) => {
            let text = format!("{} is in use by another agent", directory.display());
            Some(Check::fail("state", "E0203", text, "stop it, or choose another state_dir"))
        }
        Err(fs::TryLockError::Error(error)) => Some(Check::fail(
            "state",
            "E0201",
            format!("its lock: {error}"),
            "see whether the file system has locks",
        )),
    }
}

/// Of the file system that it is on, or would be.
fn space(path: &Path) -> Option<Check> {
    let there = path.ancestors().find(|ancestor| ancestor.exists())?;
    let free = statvfs(there).map(|disk| disk.blocks_available() * disk.fragment_size()).ok()?;
    let text = format!("{} MiB free", free >> 20);
    Some(match free {
        0 => Check::fail("state", "E0204", text, "make room"),
        1..LITTLE_SPACE => {
            Check::warn("state", "W0432", text, "make room: the CA writes its successors there")
        }
        _ => Check::ok("state", text),
    })
}

fn entries(plan: &Plan) -> Vec<Check> {
    let files = &plan.config.entries.files;
    if !plan.is_configured {
        return vec![Check::fact("entries", "no configuration: `vouch up` makes a first entry")];
    }
    let loaded = match registration::load(files, &plan.config.trust_domain) {
        Ok(loaded) => loaded,
        Err(problem) => return vec![Check::of_problem("entries", Verdict::Fail, &problem)],
    };
    let count = loaded.entries.len() + loaded.templates.len();
    if count == 0 {
        let fix = "write one into a file of [entries] files";
        return vec![Check::warn("entries", "W0650", "there are none, so nobody has an identity", fix)];
    }
    let mut checks = vec![Check::ok("entries", format!("{count} in {} files", files.len()))];
    // Which evidence this node will have, the hooks tell.
    let node = Surroundings { grade: None, path: PathRule::Verified };
    let found = registration::lint(
        &EntryIndex::with_templates(loaded.entries, loaded.templates),
        SystemTime::now(),
        node,
    );
    let remarks = loaded.warnings.len() + found.len();
    if remarks > 0 {
        checks.push(Check::fact("entries", format!("{remarks} remarks: vouch entry lint")));
    }
    checks
}

/// The agent raises its own limit as far as it may.
fn descriptors(connections: usize) -> Check {
    let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return Check::warn("process", "W0723", "the limit of descriptors cannot be read", "");
    };
    let text = format!("{hard} descriptors, two for each of {connections} connections");
    match u64::try_from(connections).unwrap_or(u64::MAX).saturating_mul(2) <= hard {
        true => Check::ok("process", text),
        false => Check::warn(
            "process",
            "W0724",
            text,
            "raise LimitNOFILE, or lower [limits] or [authz] connections",
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn codes(path: &Path) -> Vec<String> {
        let bad = |check: &Check| matches!(check.verdict, Verdict::Fail | Verdict::Warn);
        state(path).into_iter().filter(bad).map(|check| check.code).collect()
    }

    #[test]
    fn a_state_directory_is_the_agents_alone() {
        let above = tempfile::tempdir().unwrap();
        let path = above.path().join("state");
        assert_eq!(codes(&path), [""; 0], "it will be made");
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(codes(&path), ["E0202"]);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(codes(&path), [""; 0]);
        let held = File::create(path.join("lock")).unwrap();
        held.lock().unwrap();
        assert_eq!(codes(&path), ["E0203"]);
        drop(held);
        fs::write(above.path().join("file"), "").unwrap();
        assert_eq!(codes(&above.path().join("file")), ["E0201"]);
    }

    #[test]
    fn descriptors_must_be_enough_for_connections() {
        assert_eq!(descriptors(1).verdict, Verdict::Ok);
        assert_eq!(descriptors(usize::MAX).code, "W0724");
    }
}
