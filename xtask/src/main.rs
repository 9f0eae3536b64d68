//! Everything that is done more than once in this repository: `cargo xtask ci | tidy | build-ebpf | test | fuzz | demo | bench`.

mod bench;
mod browser;
mod cache;
mod ci;
mod debian;
mod demo;
mod ebpf;
mod engines;
mod fuzz;
mod interrupt;
mod peers;
mod scenarios;
mod step;
mod tidy;

use std::path::Path;

use clap::Parser;

/// Everything that is done more than once in this repository.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask")]
enum Task {
    /// All that must hold before a change lands: format, lints, docs, tidy, deny, kernel object, fuzzing, gate, tests.
    Ci,
    /// Rules that no compiler checks: direction of imports, no path of one machine, nothing unfinished.
    Tidy,
    /// Builds the kernel programs from agent-ebpf/.
    BuildEbpf {
        /// Compare with the committed object instead of replacing it.
        #[arg(long)]
        check: bool,
    },
    /// Runs all tests: unit and doc tests, then the scenarios against a running agent, a real Envoy, real container engines and a real browser.
    Test {
        /// Leave out the unit tests and run only the scenarios whose name contains this.
        scenario: Option<String>,
    },
    /// Looks for bytes from outside that break a rule, with libFuzzer.
    Fuzz {
        target: fuzz::Target,
        /// For how long, after it is built.
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
    /// Builds for speed and runs a benchmark: `bench run --streams 1000`, `peer spire`, `full`, `attest`, `storm`,
    /// `hooks`, `hostile`, `gate`, `report` or `compare`, see bench/README.md.
    Bench {
        /// For the harness.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Runs one of the meshes of deploy/demos/ with real Envoys, and prints what was expected beside what was seen.
    Demo {
        /// Without one, says which there are.
        name: Option<demo::DemoName>,
        /// Leave it running until Ctrl-C.
        #[arg(long)]
        keep: bool,
    },
}

fn main() -> anyhow::Result<()> {
    let task = Task::parse();
    // Every path below is relative to the root of the repository.
    std::env::set_current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))?;
    match task {
        Task::Ci => ci::run(),
        Task::Tidy => tidy::run(),
        Task::BuildEbpf { check } => ebpf::build(check),
        Task::Test { scenario } => scenarios::test(scenario.as_deref()),
        Task::Fuzz { target, seconds } => fuzz::run(target, seconds),
        Task::Bench { arguments } => bench::run(&arguments),
        Task::Demo { name, keep } => demo::run(name, keep),
    }
}
