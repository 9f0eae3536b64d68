//! Debian's packages, unpacked into the cache and never installed.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, bail};

use crate::step;

/// Unpacks `packages` into `draft`.
///
/// # Errors
/// When they cannot be fetched or unpacked.
pub(crate) fn unpack(packages: &[&str], draft: &Path) -> anyhow::Result<()> {
    // apt writes into its working directory.
    let draft = fs::canonicalize(draft)?;
    let folder = draft.join("packages");
    fs::create_dir(&folder)?;
    let mut download = Command::new("apt-get");
    download.args(["download", "--quiet"]).args(packages).current_dir(&folder);
    let is_whole = || anyhow::Ok(fs::read_dir(&folder)?.count() == packages.len());
    // Lists of packages age, and a fresh machine has none.
    step::run(&mut download)
        .or_else(|_| step::run(Command::new("apt-get").args(["update", "--quiet"])))
        .and_then(|()| if is_whole()? { Ok(()) } else { step::run(&mut download) })?;
    for package in fs::read_dir(&folder)? {
        step::run(Command::new("dpkg").arg("-x").arg(package?.path()).arg(&draft))?;
    }
    fs::remove_dir_all(&folder).context("removing the packages")
}

/// Of the release, such as `bookworm`: libraries of another one have other names.
///
/// # Errors
/// Where packages do not come from Debian.
pub(crate) fn codename() -> anyhow::Result<String> {
    let text = fs::read_to_string("/etc/os-release").context("reading /etc/os-release")?;
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    if field("ID").map(|id| id.trim_matches('"')) != Some("debian") {
        bail!("it is taken from Debian's packages, and this is no Debian");
    }
    let codename = field("VERSION_CODENAME").context("this Debian has no code name")?;
    Ok(codename.trim_matches('"').to_owned())
}
