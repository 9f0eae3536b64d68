//! Debian's rustc with the prebuilt `core` for BPF, and the libLLVM it is linked with.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};

use super::TARGET;

const RUSTC: &str = "/usr/bin/rustc";
const PACKAGES: [&str; 2] = ["rustc-web", "libstd-rust-web-dev-bpf"];

pub(super) struct Toolchain {
    pub(super) rustc: &'static str,
    pub(super) libllvm: PathBuf,
    /// Everything that decides about the bytes: versions of compiler, LLVM and their packages.
    pub(super) compiler: String,
}

enum Found {
    Ready,
    /// Nothing at `/usr/bin/rustc`, or ours without the `core` for BPF.
    Absent,
    /// Somebody else's rustc; its version line.
    Foreign(String),
}

impl Toolchain {
    pub(super) fn find() -> Result<Self> {
        match look()? {
            Found::Ready => Self::describe(),
            Found::Absent => bail!(
                "no BPF toolchain: {RUSTC} or its `core` for {TARGET} is missing; as root, run\n  {}",
                install_command()
            ),
            Found::Foreign(version) => bail!(
                "{RUSTC} is {version}, which has no `core` for {TARGET}; on Debian, remove the package that owns \
                 it and, as root, run\n  {}",
                install_command()
            ),
        }
    }

    pub(super) fn find_or_install() -> Result<Self> {
        if let Found::Absent = look()? {
            install()?;
        }
        Self::find()
    }

    fn describe() -> Result<Self> {
        let version = output(Command::new(RUSTC).arg("-vV"))?;
        let first = version.lines().next().context("rustc prints no version")?;
        let llvm = version
            .lines()
            .find_map(|line| line.strip_prefix("LLVM version: "))
            .context("rustc does not say which LLVM it has")?;
        let mut compiler = format!("{}, LLVM {llvm}", first.replace(" (built from a source tarball)", ""));
        let major = llvm.split('.').next().unwrap_or(llvm);
        for package in PACKAGES.into_iter().chain([format!("libllvm{major}").as_str()]) {
            if let Some(version) = package_version(package) {
                compiler.push_str(&format!(", {package} {version}"));
            }
        }
        Ok(Self { rustc: RUSTC, libllvm: libllvm()?, compiler })
    }
}

fn look() -> Result<Found> {
    if !Path::new(RUSTC).exists() {
        return Ok(Found::Absent);
    }
    let folder = Command::new(RUSTC)
        .args(["--print", "target-libdir", "--target", TARGET])
        .output()
        .with_context(|| format!("{RUSTC} cannot be started"))?;
    let folder = PathBuf::from(String::from_utf8_lossy(&folder.stdout).trim());
    let has_core = folder.read_dir().is_ok_and(|mut entries| {
        entries
            .any(|entry| entry.is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with("libcore-")))
    });
    if has_core {
        return Ok(Found::Ready);
    }
    if package_version(PACKAGES[0]).is_some() {
        return Ok(Found::Absent);
    }
    Ok(Found::Foreign(output(Command::new(RUSTC).arg("--version"))?.trim().to_owned()))
}

fn install() -> Result<()> {
    println!("installing the BPF toolchain: {}", PACKAGES.join(", "));
    let apt = |arguments: &[&str]| {
        let status =
            Command::new("apt-get").args(arguments).env("DEBIAN_FRONTEND", "noninteractive").status();
        match status {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => bail!("apt-get {}: {status}", arguments.join(" ")),
            Err(error) => bail!("apt-get cannot be started: {error}"),
        }
    };
    let missing = || {
        format!("the BPF toolchain is missing and cannot be installed; as root, run\n  {}", install_command())
    };
    apt(&["update", "--quiet"]).with_context(missing)?;
    let mut arguments = vec!["install", "--yes", "--quiet", "--no-install-recommends"];
    arguments.extend(PACKAGES);
    apt(&arguments).with_context(missing)
}

fn install_command() -> String {
    format!("apt-get update && apt-get install --no-install-recommends {}", PACKAGES.join(" "))
}

/// The libLLVM that the dynamic loader gives this rustc.
fn libllvm() -> Result<PathBuf> {
    let libraries = output(Command::new("ldd").arg(RUSTC))?;
    let path = libraries.lines().find_map(|line| {
        let (name, path) = line.trim().split_once(" => ")?;
        name.starts_with("libLLVM").then(|| PathBuf::from(path.split(" (").next().unwrap_or(path)))
    });
    path.with_context(|| {
        format!("{RUSTC} is not linked with a shared libLLVM, so its BPF back end is out of reach")
    })
}

/// Version of an installed Debian package.
fn package_version(package: &str) -> Option<String> {
    let output = Command::new("dpkg-query").args(["-W", "-f=${Version}", package]).output().ok()?;
    let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (output.status.success() && !version.is_empty()).then_some(version)
}

fn output(command: &mut Command) -> Result<String> {
    let output =
        command.output().with_context(|| format!("{:?} cannot be started", command.get_program()))?;
    ensure!(
        output.status.success(),
        "{command:?} failed: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
