//! Real container engines for the scenarios: Debian's packages, unpacked into the cache and never installed.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context, bail};

use crate::{cache, step};

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
    let name = format!("engines-{REVISION}-{}-{}", codename()?, std::env::consts::ARCH);
    cache::entry(&name, |draft| {
        // apt writes into its working directory.
        let draft = fs::canonicalize(draft)?;
        let packages = draft.join("packages");
        fs::create_dir(&packages)?;
        let mut download = Command::new("apt-get");
        download.args(["download", "--quiet"]).args(PACKAGES).current_dir(&packages);
        // Lists of packages age, and a fresh machine has none.
        step::run(&mut download)
            .or_else(|_| step::run(Command::new("apt-get").args(["update", "--quiet"])))
            .and_then(|()| if is_whole(&packages)? { Ok(()) } else { step::run(&mut download) })?;
        for package in fs::read_dir(&packages)? {
            step::run(Command::new("dpkg").arg("-x").arg(package?.path()).arg(&draft))?;
        }
        fs::remove_dir_all(&packages).context("removing the packages")
    })
}

fn is_whole(packages: &std::path::Path) -> anyhow::Result<bool> {
    Ok(fs::read_dir(packages)?.count() == PACKAGES.len())
}

/// Of the release, such as `bookworm`: libraries of another one have other names.
fn codename() -> anyhow::Result<String> {
    let text = fs::read_to_string("/etc/os-release").context("reading /etc/os-release")?;
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    if field("ID").map(|id| id.trim_matches('"')) != Some("debian") {
        bail!("container engines are taken from Debian's packages, and this is no Debian");
    }
    let codename = field("VERSION_CODENAME").context("this Debian has no code name")?;
    Ok(codename.trim_matches('"').to_owned())
}
