//! What a node without a configuration file makes up: a trust domain, and an entry for whoever called.

use std::{fs, io, io::Write as _, os::unix::fs::OpenOptionsExt as _, path::Path};

use nix::unistd::{Uid, User, geteuid};

use crate::{problem::Problem, spiffe::TrustDomain};

/// The trust domain that a host name gives: `build7` becomes `build7.local`.
pub(super) fn trust_domain_of_host() -> Result<TrustDomain, Problem> {
    let name = nix::unistd::gethostname().unwrap_or_default();
    trust_domain_of(&name.to_string_lossy()).map_err(|error| {
        Problem::new("E0116", format!("host name {name:?} makes no trust domain"))
            .why(error.to_string())
            .fix("choose one: vouch up --trust-domain example.org")
    })
}

fn trust_domain_of(host: &str) -> Result<TrustDomain, crate::spiffe::IdError> {
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    if name.is_empty() || name.contains('.') { name.parse() } else { format!("{name}.local").parse() }
}

/// Writes the file of entries if there is none: with an entry for the calling user, or with none.
pub(super) fn write(path: &Path, trust_domain: &TrustDomain, demo: bool) -> Result<(), Problem> {
    let caller =
        std::env::var("SUDO_UID").ok().and_then(|uid| uid.parse().ok()).unwrap_or(geteuid().as_raw());
    let name = User::from_uid(Uid::from_raw(caller)).ok().flatten().map(|user| user.name);
    let text = text(trust_domain, caller, name.as_deref(), demo);
    match create(path, &text) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(Problem::new("E0117", format!("{} cannot be written", path.display()))
                .why(error.to_string())
                .fix("choose another directory: vouch up --state-dir DIR"))
        }
        _ => Ok(()),
    }
}

/// Whole or not at all, and never over a file that is there.
fn create(path: &Path, text: &str) -> io::Result<()> {
    let staged = path.with_added_extension("new");
    let _ = fs::remove_file(&staged);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(&staged)?;
    let written = file
        .write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::hard_link(&staged, path));
    let _ = fs::remove_file(&staged);
    written
}

fn text(trust_domain: &TrustDomain, uid: u32, name: Option<&str>, demo: bool) -> String {
    let mut text = String::from("# Who gets which identity. Read again whenever it changes.\n");
    if demo {
        // A user's name may hold what a SPIFFE ID may not.
        let fits = |name: &&str| {
            format!("spiffe://{trust_domain}/user/{name}").parse::<crate::spiffe::SpiffeId>().is_ok()
        };
        let name = name.filter(fits).map_or_else(|| format!("uid-{uid}"), str::to_owned);
        text.push_str(
            "#\n# A user alone is met inside containers too, which `vouch entry lint` remarks (W0613). Where kernel hooks are\n\
             # attached, add \"kernel:container:none\" to the selectors to keep containers out.\n",
        );
        text.push_str(&format!(
            "\n[[entries]]\nspiffe_id = \"spiffe://{trust_domain}/user/{name}\"\nselectors = [\"unix:uid:{uid}\"]\n"
        ));
    } else {
        text.push_str("# To give one, put [[entries]] sections in place of the next line.\n\nentries = []\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_name_becomes_a_trust_domain() {
        for (host, trust_domain) in [("build7", "build7.local"), ("Web-1.Example.ORG.", "web-1.example.org")]
        {
            assert_eq!(trust_domain_of(host).unwrap().name(), trust_domain);
        }
        assert!(trust_domain_of("").is_err() && trust_domain_of("büro").is_err());
    }

    #[test]
    fn a_file_that_is_there_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("entries.toml");
        let trust_domain = "example.org".parse().unwrap();
        write(&path, &trust_domain, true).unwrap();
        let first = fs::read_to_string(&path).unwrap();
        assert!(first.contains("unix:uid:"));
        write(&path, &trust_domain, false).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), first);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_written_is_read_with_its_entry_or_with_none() {
        let directory = tempfile::tempdir().unwrap();
        let trust_domain = "example.org".parse().unwrap();
        for (name, demo) in [("with.toml", true), ("without.toml", false)] {
            let path = directory.path().join(name);
            write(&path, &trust_domain, demo).unwrap();
            let loaded = crate::registration::load(&[path], &trust_domain).unwrap();
            assert_eq!(loaded.entries.len(), usize::from(demo));
        }
    }

    #[test]
    fn an_odd_user_name_becomes_a_number() {
        let trust_domain = "example.org".parse().unwrap();
        assert!(text(&trust_domain, 7, Some("DOM\\ana"), true).contains("/user/uid-7\""));
        assert!(!text(&trust_domain, 7, Some("ana"), false).contains("spiffe_id"));
    }
}
