//! Builds a fuzz target of tests/fuzz/ with libFuzzer and runs it for a while.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::SystemTime,
};

use anyhow::{Context, ensure};

use crate::step;

/// What is fuzzed.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(crate) enum Target {
    /// `sds::RequestReader`: the bytes that an Envoy sends.
    Request,
    /// `authz::xfcc`: the header that proxies write about their clients.
    Xfcc,
}

/// Longer inputs cost more than they find.
const MAX_INPUT_BYTES: usize = 4096;
/// An input that takes longer never ends. By the clock on the wall, so a machine that stalls must not look like it.
const MAX_INPUT_SECONDS: usize = 120;

impl Target {
    fn name(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Xfcc => "xfcc",
        }
    }
}

/// Fuzzes `target` for `seconds`, from its seeds and what earlier runs learned.
///
/// # Errors
/// When an input breaks a rule: its file is named. When it cannot be built, or the fuzzer saw no branch.
pub(crate) fn run(target: Target, seconds: u64) -> anyhow::Result<()> {
    let target_folder = env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    let program = build(target, &target_folder)?;
    let folder = target_folder.join("fuzz").join(target.name());
    let (corpus, findings) = (folder.join("corpus"), folder.join("findings"));
    for folder in [&corpus, &findings] {
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    }
    let mut fuzzer = Command::new(program);
    // Findings of earlier runs are asked again first.
    fuzzer.args([&corpus, &findings]).args([
        format!("-artifact_prefix={}/", findings.display()),
        format!("-max_total_time={seconds}"),
        format!("-max_len={MAX_INPUT_BYTES}"),
        format!("-timeout={MAX_INPUT_SECONDS}"),
        format!("-report_slow_units={MAX_INPUT_SECONDS}"),
        "-print_final_stats=1".to_owned(),
    ]);
    let start = SystemTime::now();
    if let Err(error) = step::run(&mut fuzzer) {
        let Some(input) = written_since(start, &findings)? else { return Err(error) };
        let (input, binary) = (input.display(), binary(target));
        return Err(error.context(format!(
            "an input breaks a rule: {input}\n\
             Ask it again: cargo run --package vouch-fuzz --bin {binary} {input}"
        )));
    }
    // It names what it learned by a hash; seeds have words.
    let is_learned = |file: &Path| {
        let name = file.file_name().unwrap_or_default().as_encoded_bytes();
        name.len() == 40 && name.iter().all(u8::is_ascii_hexdigit)
    };
    ensure!(
        files(&corpus)?.iter().any(|file| is_learned(file)),
        "the fuzzer learned nothing: it does not see the branches of our code, so tests/fuzz/rustc.sh has no effect"
    );
    Ok(())
}

fn build(target: Target, target_folder: &Path) -> anyhow::Result<PathBuf> {
    has_cxx_compiler()?;
    let binary = binary(target);
    let wrapper = fs::canonicalize("tests/fuzz/rustc.sh").context("tests/fuzz/rustc.sh")?;
    let arguments = ["build", "--package", "vouch-fuzz", "--features", "libfuzzer", "--bin", &binary];
    // libFuzzer itself need not be slow where our code is built for tests.
    let cxxflags = format!("{} -O2", env::var("CXXFLAGS").unwrap_or_default());
    step::run(step::cargo(&arguments).env("RUSTC_WORKSPACE_WRAPPER", wrapper).env("CXXFLAGS", cxxflags))?;
    Ok(target_folder.join("debug").join(binary))
}

fn binary(target: Target) -> String {
    format!("fuzz-{}", target.name())
}

/// Cargo's own word for it is long and names neither the cause nor the cure.
fn has_cxx_compiler() -> anyhow::Result<()> {
    let compiler = env::var_os("CXX").unwrap_or_else(|| "c++".into());
    let answer = Command::new(&compiler).arg("--version").stdout(Stdio::null()).status();
    ensure!(
        answer.is_ok_and(|status| status.success()),
        "libFuzzer is C++, and there is no compiler `{}`: install one (Debian: apt-get install g++), or name yours in CXX",
        compiler.display()
    );
    Ok(())
}

fn written_since(start: SystemTime, folder: &Path) -> anyhow::Result<Option<PathBuf>> {
    for file in files(folder)? {
        if fs::metadata(&file)?.modified()? >= start {
            return Ok(Some(file));
        }
    }
    Ok(None)
}

fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries: io::Result<_> =
        fs::read_dir(folder).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
    entries.with_context(|| format!("reading {}", folder.display()))
}
