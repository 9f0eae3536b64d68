//! `build-ebpf`: the kernel object, from Rust source to bytes that do not depend on the folder.
//!
//! rustc gives LLVM bitcode for BPF and goes no further, so the object is made by the BPF back end of the very
//! libLLVM that this rustc is linked with. No linker, no LLVM package, no headers.

mod btf;
mod codegen;
mod toolchain;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};
use ring::digest;

use toolchain::Toolchain;

const OBJECT: &str = "vouch.bpf.o";
const RECORD: &str = "vouch.bpf.toml";
const TARGET: &str = "bpfel-unknown-none";
/// Name of the binary in `agent-ebpf/Cargo.toml`.
const BINARY: &str = "vouch";
/// What of `agent-ebpf/` the compiler needs.
const SOURCES: [&str; 4] = ["Cargo.toml", "Cargo.lock", "src", "abi"];

/// Builds `agent-ebpf/vouch.bpf.o` and records its digest and compiler beside it.
///
/// With `check` nothing in the tree changes. The toolchain is installed when it is absent, and the object is
/// built elsewhere: by the recorded compiler it must come out byte for byte as committed; by another compiler,
/// two builds in two folders must agree with each other, and a line says that the committed object is due.
pub(crate) fn build(check: bool) -> Result<()> {
    let tree = Tree::here()?;
    if check { tree.check() } else { tree.rebuild() }
}

struct Tree {
    /// `agent-ebpf/`
    source: PathBuf,
    /// Where builds may leave what they like.
    scratch: PathBuf,
}

impl Tree {
    fn here() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask/ has no parent folder")?;
        Ok(Self { source: root.join("agent-ebpf"), scratch: root.join("target") })
    }

    fn rebuild(&self) -> Result<()> {
        let toolchain = Toolchain::find()?;
        let object = self.build_in(&self.scratch.join("build-ebpf"), &toolchain)?;
        fs::write(self.source.join(OBJECT), &object)?;
        fs::write(self.source.join(RECORD), Record::of(&object, &toolchain).to_toml())?;
        println!("{OBJECT}: {} bytes, sha256 {}", object.len(), sha256(&object));
        Ok(())
    }

    fn check(&self) -> Result<()> {
        let committed = fs::read(self.source.join(OBJECT)).context("the committed object cannot be read")?;
        let record = Record::read(&self.source.join(RECORD))?;
        ensure!(
            sha256(&committed) == record.sha256,
            "{OBJECT} does not have the digest in {RECORD}: run `cargo xtask build-ebpf` and commit both files"
        );
        let toolchain = Toolchain::find_or_install()?;
        let folder = self.scratch.join("check-ebpf");
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        let built = self.build_in(&folder.join("one"), &toolchain)?;
        if toolchain.compiler == record.compiler {
            ensure!(
                built == committed,
                "{OBJECT} is not what its source gives with {}: run `cargo xtask build-ebpf` and commit the \
                 result (sha256 committed {}, built {})",
                record.compiler,
                record.sha256,
                sha256(&built)
            );
            println!("{OBJECT}: the same {} bytes again, with {}", built.len(), toolchain.compiler);
        } else {
            let again = self.build_in(&folder.join("another folder with a longer name"), &toolchain)?;
            ensure!(built == again, "two builds of {OBJECT} with {} differ", toolchain.compiler);
            println!(
                "NOTE: {OBJECT} is due: it was built with {}, this machine has {}. Two builds here agree with \
                 each other. Run `cargo xtask build-ebpf` and commit the result.",
                record.compiler, toolchain.compiler
            );
        }
        fs::remove_dir_all(&folder)?;
        Ok(())
    }

    /// The finished object, from a copy of the source in `folder`.
    fn build_in(&self, folder: &Path, toolchain: &Toolchain) -> Result<Vec<u8>> {
        let source = folder.join("source");
        if source.exists() {
            fs::remove_dir_all(&source)?;
        }
        for name in SOURCES {
            copy(&self.source.join(name), &source.join(name))?;
        }
        let bitcode = compile(&source, &folder.join("target"), toolchain)?;
        let mut object = codegen::object(&toolchain.libllvm, &bitcode)?;
        btf::make_names_acceptable(&mut object)?;
        btf::compare_layouts(&object)?;
        Ok(object)
    }
}

/// Path of the bitcode of the whole program, core included.
fn compile(source: &Path, target: &Path, toolchain: &Toolchain) -> Result<PathBuf> {
    let manifest = source.join("Cargo.toml");
    run(cargo().args(["fetch", "--locked", "--manifest-path"]).arg(&manifest))?;
    let deps = target.join(TARGET).join("release/deps");
    // What an earlier build left here must not be taken for this one's.
    for stale in bitcode_files(&deps)? {
        fs::remove_file(stale)?;
    }
    run(cargo()
        .args(["rustc", "--quiet", "--locked", "--release", "--target", TARGET, "--bin", BINARY])
        .arg("--manifest-path")
        .arg(&manifest)
        .args(["--", "--emit=llvm-bc"])
        .env("RUSTC", toolchain.rustc)
        // The target is not a stable one, and aya-ebpf uses features that its crate asks for by name.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_TARGET_DIR", target)
        .env("CARGO_ENCODED_RUSTFLAGS", flags(source, target)?.join("\u{1f}")))?;
    match bitcode_files(&deps)?.as_slice() {
        [one] => Ok(one.clone()),
        files => bail!("rustc left {} files of bitcode in {} instead of one", files.len(), deps.display()),
    }
}

/// Flags for the BPF side only: with `--target`, build scripts and macros do not get them.
fn flags(source: &Path, target: &Path) -> Result<Vec<String>> {
    let mut flags: Vec<String> =
        ["-Clinker=/bin/true", "-Clto=fat", "-Cembed-bitcode=yes", "-Cdebuginfo=2"].map(Into::into).into();
    // Paths end up in debug info. The folder of a registry is named after the registry, so each is remapped.
    let registries = cargo_home()?.join("registry/src");
    let unreadable = || format!("{} cannot be read", registries.display());
    for entry in fs::read_dir(&registries).with_context(unreadable)? {
        flags.extend(remap(&entry?.path(), "/crates")?);
    }
    flags.extend(remap(source, "/vouch-ebpf")?);
    flags.extend(remap(target, "/target")?);
    Ok(flags)
}

/// By the name that we use, and by the one behind symbolic links: the compiler sees either.
fn remap(folder: &Path, name: &str) -> Result<Vec<String>> {
    fs::create_dir_all(folder)?;
    let real = fs::canonicalize(folder)?;
    Ok([folder, &real].map(|path| format!("--remap-path-prefix={}={name}", path.display())).into())
}

fn bitcode_files(folder: &Path) -> Result<Vec<PathBuf>> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let prefix = format!("{BINARY}-");
    let paths = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    let is_ours = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(&prefix) && name.ends_with(".bc")
    };
    Ok(paths.into_iter().filter(is_ours).collect())
}

/// Cargo, without the settings of the cargo that runs us.
fn cargo() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_")
            && text != "CARGO_HOME"
            && !text.starts_with("CARGO_REGISTR")
            && !text.starts_with("CARGO_SOURCE")
            && !text.starts_with("CARGO_HTTP")
            && !text.starts_with("CARGO_NET")
            || text.starts_with("RUSTC")
            || text == "RUSTFLAGS"
            || text == "RUSTDOCFLAGS"
        {
            cargo.env_remove(&name);
        }
    }
    cargo
}

fn cargo_home() -> Result<PathBuf> {
    match env::var_os("CARGO_HOME") {
        Some(home) => Ok(home.into()),
        None => {
            Ok(Path::new(&env::var_os("HOME").context("neither CARGO_HOME nor HOME is set")?).join(".cargo"))
        }
    }
}

fn run(command: &mut Command) -> Result<()> {
    let status =
        command.status().with_context(|| format!("{:?} cannot be started", command.get_program()))?;
    ensure!(status.success(), "{command:?} failed: {status}");
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if from.is_dir() {
        fs::create_dir_all(to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            copy(&entry.path(), &to.join(entry.file_name()))?;
        }
    } else {
        fs::create_dir_all(to.parent().context("a file without a folder")?)?;
        fs::copy(from, to).with_context(|| format!("{} cannot be copied", from.display()))?;
    }
    Ok(())
}

/// What is committed beside the object.
struct Record {
    sha256: String,
    compiler: String,
}

impl Record {
    fn of(object: &[u8], toolchain: &Toolchain) -> Self {
        Self { sha256: sha256(object), compiler: toolchain.compiler.clone() }
    }

    fn to_toml(&self) -> String {
        format!(
            "# Written by `cargo xtask build-ebpf`, with {OBJECT}; compared by `cargo xtask build-ebpf --check`.\n\
             sha256 = \"{}\"\ncompiler = \"{}\"\n",
            self.sha256, self.compiler
        )
    }

    fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
        let table: toml::Table = text.parse().with_context(|| format!("{} is not TOML", path.display()))?;
        let value = |key: &str| {
            let value = table.get(key).and_then(|value| value.as_str());
            value.map(str::to_owned).with_context(|| format!("{} has no `{key}`", path.display()))
        };
        Ok(Self { sha256: value("sha256")?, compiler: value("compiler")? })
    }
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(digest::digest(&digest::SHA256, bytes))
}
