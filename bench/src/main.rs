//! Drives Vouch with Envoy-like load and reports what it cost: the load is a process of its own, single-threaded,
//! and starts the release agent itself.

mod admin;
mod agent;
mod anchor;
mod attest;
mod blocking;
mod child;
mod connection;
mod cpus;
mod fanout;
mod heap;
mod hooks;
mod hostile;
mod http2;
mod load;
mod machine;
mod probe;
mod process;
mod sds;
mod storms;
mod surroundings;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, value_parser};
use vouch_bench::{compare, numbers, report};

/// Drives Vouch with Envoy-like load and reports what it cost.
#[derive(Debug, Parser)]
#[command(version)]
enum Command {
    /// N connections with one SDS stream each: rotate, until the last stream has the new secret and has said so
    Run(Run),
    /// From the file of a run to a page that needs nothing but itself, and a summary for the terminal
    Report(report::Report),
    /// Two runs: what changed, and whether it is more than noise
    Compare(compare::Compare),
    /// Attestation beside a SPIRE agent: timings in turns, and the selectors of the same processes
    Attest(attest::Attest),
    /// A process that is attested; `attest` starts it
    #[command(hide = true)]
    AttestClient(attest::client::Client),
    /// Processes come and go as fast as the machine makes them: what is lost of it, and what the table costs
    Storm(Storm),
    /// What connect() costs with and without hooks, and each hook for itself
    Hooks(Hooks),
    /// What somebody who attacks the agent's socket costs an honest caller
    Hostile(hostile::Hostile),
    /// One of the callers of `hostile`
    #[command(hide = true)]
    HostilePlayer(hostile::Player),
    /// The other side of the raw sockets that the agent is compared with; `run` starts it
    #[command(hide = true)]
    Anchor(Anchor),
}

#[derive(Debug, Args)]
struct Run {
    /// Connections, each with one stream that asks for one secret
    #[arg(long, default_value_t = 1_000, value_parser = value_parser!(u32).range(1..=9_900))]
    streams: u32,
    /// Rotations that count
    #[arg(long, default_value_t = 12, value_parser = value_parser!(u32).range(1..=1_000))]
    rotations: u32,
    /// Rotations before those, which are kept as raw samples and counted nowhere
    #[arg(long, default_value_t = 3, value_parser = value_parser!(u32).range(0..=100))]
    warmup: u32,
    /// From one rotation to the next, fixed before the run; the anchor's rounds lie in the middle.
    /// Default: 500 and one more for each 5 streams
    #[arg(long, value_parser = value_parser!(u64).range(50..=60_000))]
    interval_ms: Option<u64>,
    /// While connecting, so many streams may wait for their first secret
    #[arg(long, default_value_t = 64, value_parser = value_parser!(u32).range(1..))]
    unanswered: u32,
    /// The agent's kernel.hooks: auto, off or require
    #[arg(long, default_value = "auto")]
    hooks: String,
    /// The agent; the one beside this program when not given
    #[arg(long, value_name = "PATH")]
    agent: Option<PathBuf>,
    /// Where raw samples go
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
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
struct Anchor {
    #[arg(long)]
    socket: PathBuf,
    #[arg(long)]
    streams: u32,
}

fn main() -> anyhow::Result<ExitCode> {
    match Command::parse() {
        Command::Run(run) => fanout::table::publish(&fanout::run(&run)?, run.json.as_deref())?,
        Command::Report(report) => report.run()?,
        Command::Compare(compare) => return Ok(compare.run()),
        Command::Attest(attest) => return attest::run(&attest),
        Command::AttestClient(client) => attest::client::run(&client)?,
        Command::Storm(storm) => storms::run(&storm)?,
        Command::Hooks(hooks) => hooks::run(&hooks)?,
        Command::Hostile(hostile) => hostile::run(&hostile)?,
        Command::HostilePlayer(player) => hostile::play(&player)?,
        Command::Anchor(anchor) => anchor::serve(&anchor)?,
    }
    Ok(ExitCode::SUCCESS)
}
