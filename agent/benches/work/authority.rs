//! An authority in a folder that goes with it.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    time::{Duration, SystemTime},
};

use tempfile::TempDir;
use vouch::authority::{Authority, AuthorityConfig, AuthoritySource, KeyType};

pub(crate) fn embedded() -> (Authority, TempDir) {
    let private = fs::Permissions::from_mode(0o700);
    let dir = tempfile::Builder::new().permissions(private).tempdir().expect("a folder");
    let source = AuthoritySource::Embedded {
        state_dir: dir.path().to_owned(),
        ca_ttl: Duration::from_secs(365 * 24 * 3600),
    };
    let config = AuthorityConfig {
        trust_domain: "example.org".parse().expect("a trust domain"),
        svid_ttl: Duration::from_secs(3600),
        key_type: KeyType::EcP256,
        source,
    };
    (Authority::open(config, SystemTime::now()).expect("an authority"), dir)
}
