//! One of the demos, its checks as a table: `cargo xtask demo NAME [--keep]` runs it.

use std::{env, process::ExitCode};

use anyhow::{Context, Result};
use vouch_tests::{
    Demo,
    demo::{Network, Shown, table},
};

fn main() -> Result<ExitCode> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let Some(demo) = arguments.first().and_then(|name| Demo::named(name)) else {
        eprintln!("which demo?");
        Demo::ALL.iter().for_each(|demo| eprintln!("  {:<14}{}", demo.name(), demo.about()));
        return Ok(ExitCode::FAILURE);
    };
    let missing: Vec<_> = demo.needs().iter().filter_map(|need| need.missing()).collect();
    if !missing.is_empty() {
        eprintln!("the demo cannot run here: {}", missing.join("; "));
        return Ok(ExitCode::FAILURE);
    }
    let keep = arguments.iter().any(|argument| argument == "--keep");
    let service = env::current_exe().context("where this program is")?.with_file_name("service");
    let mut ended = Ok(ExitCode::FAILURE);
    demo.run(&service, Network::Shared, |shown| ended = present(demo, shown, keep));
    ended
}

fn present(demo: Demo, shown: &Shown, keep: bool) -> Result<ExitCode> {
    print!("{}", table(&shown.checks));
    let differing = shown.differing().len();
    println!("{}: {} of {} checks hold", demo.name(), shown.checks.len() - differing, shown.checks.len());
    if keep {
        println!("\nLook further while it runs:");
        shown.hints.iter().for_each(|hint| println!("  {hint}"));
        println!("Ctrl-C ends it.");
        wait_for_interrupt()?;
    }
    Ok(if differing == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn wait_for_interrupt() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(tokio::signal::ctrl_c()).context("waiting for Ctrl-C")
}
