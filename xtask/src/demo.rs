//! Runs the meshes of deploy/demos/.

use anyhow::Context;
use clap::ValueEnum;

use crate::{interrupt, scenarios, step};

/// A folder below deploy/demos/.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum DemoName {
    /// Two services that speak mutual TLS, as the SPIFFE documentation has it
    Docs,
    /// Four services, each request judged by the Rego that was written for their OPAs
    OpaMesh,
    /// An edge proxy and a sidecar that are known by their containers' labels
    EdgeSidecar,
    /// Envoy's four TLS proxies, with certificates from the agent
    TlsSandbox,
}

/// Runs a demo in the foreground, or says which there are.
///
/// # Errors
/// When it cannot be built, this machine cannot run it, or it sees something else than was expected.
pub(crate) fn run(name: Option<DemoName>, keep: bool) -> anyhow::Result<()> {
    let Some(name) = name else {
        list();
        return Ok(());
    };
    let programs = ["build", "--package", "vouch-tests", "--bin", "demo", "--bin", "service"];
    let executables = scenarios::build(&programs, |_| true)?;
    // The services' program is looked for beside it.
    let demo = executables.iter().find(|path| path.ends_with("demo")).context("cargo built no demo")?;
    let stage = scenarios::Stage::new()?;
    let mut command = stage.command(demo)?;
    // Ctrl-C is for the demo; we clean up behind it.
    interrupt::ignore();
    let name = name.to_possible_value().context("every demo has a name")?;
    step::run(command.arg(name.get_name()).args(keep.then_some("--keep")))
}

fn list() {
    println!("cargo xtask demo NAME [--keep] runs one of");
    for name in DemoName::value_variants() {
        let value = name.to_possible_value().expect("every demo has a name");
        let about = value.get_help().map(ToString::to_string).unwrap_or_default();
        println!("  {:<14}{about}", value.get_name());
    }
}
