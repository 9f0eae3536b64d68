//! Drives Vouch with Envoy-like load and reports what it cost: the load is a process of its own, single-threaded,
//! and starts the release agent itself.

mod admin;
mod agent;
mod attest;
mod authz;
mod blocking;
mod child;
mod clock;
mod connection;
mod cpus;
mod envoy;
mod handshake;
mod heap;
mod histogram;
mod hooks;
mod hostile;
mod http2;
mod load;
mod machine;
mod node;
mod probe;
mod process;
mod progress;
mod roots;
mod run;
mod sds;
mod servers;
mod spire;
mod stand_in;
mod storms;
mod surroundings;
mod tap;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, value_parser};
use vouch_bench::{compare, numbers, report};

use run::Run;

/// Drives Vouch with Envoy-like load and reports what it cost.
#[derive(Debug, Parser)]
#[command(version)]
enum Command {
    /// Rotations to thousands of streams: Vouch, a raw anchor, a plain tonic server and others in turns
    Run(Box<Run>),
    /// From the file of a run to a page that needs nothing but itself, and a summary for the terminal
    Report(report::Report),
    /// Two runs: what changed, and whether it is more than noise
    Compare(compare::Compare),
    /// Attestation beside a SPIRE agent: timings in turns, and the selectors of the same processes
    Attest(attest::Attest),
    /// A process that is attested; `attest` starts it
    #[command(hide = true)]
    AttestClient(attest::client::Client),
    /// Authorization: decisions beside Open Policy Agent's library, whole questions beside a plain server, and reloads
    Authz(authz::Authz),
    /// The Envoy that asks; `authz` starts it
    #[command(hide = true)]
    AuthzCaller(authz::Caller),
    /// A plain server that allows everything; `authz` starts it
    #[command(hide = true)]
    AuthzPlain(authz::Plain),
    /// Processes come and go as fast as the machine makes them: what is lost of it, and what the table costs
    Storm(Storm),
    /// What connect() costs with and without hooks, and each hook for itself
    Hooks(Hooks),
    /// What somebody who attacks the agent's socket costs an honest caller
    Hostile(hostile::Hostile),
    /// One of the callers of `hostile`
    #[command(hide = true)]
    HostilePlayer(hostile::Player),
    /// All streams of one server; `run` starts it
    #[command(hide = true)]
    Load,
    /// The other side of the raw sockets that servers are compared with; `run` starts it
    #[command(hide = true)]
    Anchor(Served),
    /// A plain server; `run` starts it
    #[command(hide = true)]
    Tonic(Served),
}

#[derive(Debug, Args)]
struct Storm {
    #[arg(long, default_value_t = 10, value_parser = value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Threads that make processes; each waits for one before it makes the next
    #[arg(long, default_value_t = 4, value_parser = value_parser!(u32).range(1..=256))]
    threads: u32,
    /// Size of the event ring, a power of two
    #[arg(long, default_value_t = 4096, value_parser = value_parser!(u32).range(64..=262_144))]
    ring_kib: u32,
    /// Where the numbers go
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Hooks {
    /// Each is one without and one with hooks
    #[arg(long, default_value_t = 15, value_parser = value_parser!(u32).range(1..=1_000))]
    rounds: u32,
    /// Connects of each kind in half a round
    #[arg(long, default_value_t = 1_500, value_parser = value_parser!(u32).range(100..=100_000))]
    connects: u32,
    /// Where raw samples go
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Served {
    #[arg(long)]
    socket: PathBuf,
    #[arg(long)]
    streams: u32,
}

fn main() -> anyhow::Result<ExitCode> {
    match Command::parse() {
        Command::Run(run) => run::run(&run)?,
        Command::Report(report) => report.run()?,
        Command::Compare(compare) => return Ok(compare.run()),
        Command::Attest(attest) => return attest::run(&attest),
        Command::AttestClient(client) => attest::client::run(&client)?,
        Command::Authz(authz) => return authz::run(&authz),
        Command::AuthzCaller(caller) => authz::call(&caller)?,
        Command::AuthzPlain(plain) => authz::serve_plain(&plain)?,
        Command::Storm(storm) => storms::run(&storm)?,
        Command::Hooks(hooks) => hooks::run(&hooks)?,
        Command::Hostile(hostile) => hostile::run(&hostile)?,
        Command::HostilePlayer(player) => hostile::play(&player)?,
        Command::Load => load::child::run()?,
        Command::Anchor(served) => servers::anchor::serve(&served)?,
        Command::Tonic(served) => servers::tonic::serve(&served)?,
    }
    Ok(ExitCode::SUCCESS)
}
