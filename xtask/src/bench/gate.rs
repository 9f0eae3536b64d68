//! Counts what the steps cost that are taken most often, and refuses what costs more than was recorded.
//!
//! Instructions and allocations, never time: a busy machine makes no difference.

mod counts;
mod tools;
mod verdict;

use std::{fs, path::Path};

use anyhow::{Context, bail};

use crate::step;
use counts::{Record, Records};

const RECORDED: &str = "bench/gate.json";
/// Its counts are not those of a build for use: see Cargo.toml. The library alone, so the program's allocator is not built.
const BENCH: [&str; 6] = ["bench", "--profile", "gate", "--package", "vouch", "--no-default-features"];

/// Measures, and compares with what is recorded for this kind of processor; with `record`, replaces that.
///
/// # Errors
/// When a count exceeds the recorded one by more than its tolerance, when steps are not those that are recorded, and when
/// something cannot be fetched, built or run.
pub(crate) fn run(record: bool) -> anyhow::Result<()> {
    let text = fs::read_to_string(RECORDED).with_context(|| format!("reading {RECORDED}"))?;
    let mut records = Records::parse(&text).with_context(|| format!("{RECORDED} is not what we write"))?;
    let measured = measure()?;
    let known = records.get(std::env::consts::ARCH);
    if let Some(known) = known {
        println!("{}", verdict::table(known, &measured));
    }
    if record {
        records.set(std::env::consts::ARCH, measured);
        fs::write(RECORDED, records.to_text()?).with_context(|| format!("writing {RECORDED}"))?;
        println!("recorded in {RECORDED}");
        return Ok(());
    }
    let known = known.with_context(|| {
        format!("no counts of {} are recorded: `cargo xtask bench gate --record`", std::env::consts::ARCH)
    })?;
    let faults = verdict::faults(known, &measured);
    for remark in verdict::remarks(known, &measured) {
        println!("{remark}");
    }
    if !faults.is_empty() {
        bail!(
            "{}\nmake it cheaper, or record what it costs now and say why: `cargo xtask bench gate --record`",
            faults.join("\n")
        );
    }
    println!("gate: {} steps cost no more than recorded", known.steps.len());
    Ok(())
}

fn measure() -> anyhow::Result<Record> {
    let valgrind = std::path::absolute(tools::valgrind()?)?;
    let runner = std::path::absolute(tools::runner()?)?;
    let mut build = step::cargo(&BENCH);
    step::run(build.args(["--bench", "allocations", "--bench", "instructions", "--no-run"]))?;
    let mut bench = step::cargo(&BENCH);
    let allocations = step::read(bench.args(["--quiet", "--bench", "allocations"]))?;
    let instructions = instructions(&valgrind, &runner)?;
    let steps = counts::read(&allocations, &instructions)?;
    Ok(Record { compiler: compiler()?, steps })
}

/// One line of JSON for each step.
fn instructions(valgrind: &Path, runner: &Path) -> anyhow::Result<String> {
    let mut bench = step::cargo(&BENCH);
    bench.args(["--quiet", "--bench", "instructions", "--", "--output-format=json", "--envs=VALGRIND_LIB"]);
    bench.env("GUNGRAUN_RUNNER", runner.join("bin/gungraun-runner"));
    // Not the script beside it, which wants to know about debug symbols.
    bench.env("GUNGRAUN_VALGRIND_BIN", valgrind.join("usr/bin/valgrind.bin"));
    step::read(bench.env("VALGRIND_LIB", valgrind.join("usr/libexec/valgrind")))
}

/// Such as `rustc 1.95.0`.
fn compiler() -> anyhow::Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = step::read(std::process::Command::new(rustc).arg("--version"))?;
    Ok(version.split_whitespace().take(2).collect::<Vec<_>>().join(" "))
}
