//! What a hostile user costs an honest one: the time from `connect()` to the first secret, again and again, while somebody
//! else attacks the agent's socket, over the same time without.
//!
//! The agent runs with the limits that are its defaults, on one CPU; attacker and honest caller share the other one. The
//! attacker's own work is not the agent's fault, so the honest caller has a real-time priority and is never kept
//! waiting by it; a round in which the attacker only spins shows whether that holds.

mod agent;
mod player;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use clap::{Args, value_parser};
use serde_json::{Value, json};
use vouch_bench::{attack::Attack, numbers::Spread};

use self::{
    agent::HostAgent,
    player::{Attacker, Honest},
};
use crate::{child, cpus, cpus::Places};

pub(crate) use self::player::{Player, play};

/// Users that nobody else is, with numbers that no distribution gives.
const HONEST: u32 = 64_201;
const HOSTILE: u32 = 64_202;
/// What a p99 under attack may be of a quiet one.
const ALLOWED: f64 = 3.0;
/// Enough for the first burst of each rate to be over.
const WARM_UP: Duration = Duration::from_millis(500);

#[derive(Debug, Args)]
pub(crate) struct Hostile {
    /// Rounds; each is a quiet one, one beside a spinning neighbour, and one under each attack
    #[arg(long, default_value_t = 3, value_parser = value_parser!(u32).range(1..=50))]
    rounds: u32,
    /// How long each measurement lasts
    #[arg(long, default_value_t = 3, value_parser = value_parser!(u64).range(1..=60))]
    seconds: u64,
    /// Connections that the attacker keeps
    #[arg(long, default_value_t = 128, value_parser = value_parser!(u32).range(1..=1_000))]
    connections: u32,
    /// Only these attacks; may be given more than once
    #[arg(long = "attack", value_name = "NAME", value_parser = attack)]
    attacks: Vec<Attack>,
    /// The agent; the one beside this program when not given
    #[arg(long, value_name = "PATH")]
    agent: Option<PathBuf>,
    /// Where the numbers go
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn attack(name: &str) -> Result<Attack, String> {
    Attack::named(name).ok_or_else(|| {
        let names: Vec<_> = Attack::ALL.into_iter().map(Attack::name).collect();
        format!("one of: {}", names.join(", "))
    })
}

/// Times of one measurement.
#[derive(Debug)]
struct Sample {
    /// Sorted.
    micros: Vec<f64>,
    failed: u64,
    /// The agent's CPU time over that of the clock.
    agent_cpu: f64,
}

impl Sample {
    fn p(&self, share: f64) -> f64 {
        let at = (self.micros.len() as f64 * share).ceil() as usize;
        self.micros.get(at.saturating_sub(1)).copied().unwrap_or(f64::NAN)
    }
}

/// What a neighbour does while the honest caller is timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Neighbour {
    Quiet,
    Spins,
    Attacks(usize),
}

impl Neighbour {
    fn name(self, attacks: &[Attack]) -> &'static str {
        match self {
            Self::Quiet => "quiet",
            Self::Spins => "spin",
            Self::Attacks(number) => attacks[number].name(),
        }
    }
}

/// Fails when an honest call was not served. That a ratio is above what is allowed is said, and left to who reads it: one
/// run on a busy machine proves nothing.
pub(crate) fn run(args: &Hostile) -> Result<()> {
    child::clean_up_on_interrupt()?;
    let attacks = if args.attacks.is_empty() { Attack::ALL.to_vec() } else { args.attacks.clone() };
    let places = Places::choose()?;
    cpus::pin(places.load)?;
    let agent = places.at_the_server(|| HostAgent::start(args.agent.as_deref(), HONEST))?;
    let neighbours: Vec<_> = [Neighbour::Quiet, Neighbour::Spins]
        .into_iter()
        .chain((0..attacks.len()).map(Neighbour::Attacks))
        .collect();
    let mut samples: BTreeMap<Neighbour, Vec<Sample>> = BTreeMap::new();
    for round in 1..=args.rounds {
        for &neighbour in &neighbours {
            eprintln!("round {round} of {}: {}", args.rounds, neighbour.name(&attacks));
            let sample = measure(args, &agent, neighbour, &attacks)
                .with_context(|| agent.log())
                .with_context(|| neighbour.name(&attacks))?;
            samples.entry(neighbour).or_default().push(sample);
        }
    }
    publish(&samples, &attacks, args.json.as_deref())?;
    let failed: u64 = samples.values().flatten().map(|sample| sample.failed).sum();
    ensure!(failed == 0, "{failed} honest calls were not served");
    Ok(())
}

fn measure(args: &Hostile, agent: &HostAgent, neighbour: Neighbour, attacks: &[Attack]) -> Result<Sample> {
    let attacker = match neighbour {
        Neighbour::Quiet => None,
        Neighbour::Spins => Some(Attacker::start(agent.socket(), None, args.connections)?),
        Neighbour::Attacks(number) => {
            Some(Attacker::start(agent.socket(), Some(attacks[number]), args.connections)?)
        }
    };
    std::thread::sleep(WARM_UP);
    let (before, began) = (agent.cpu()?, std::time::Instant::now());
    let (micros, failed) = Honest::start(agent.socket(), Duration::from_secs(args.seconds))?.finish()?;
    let agent_cpu = (agent.cpu()? - before).as_secs_f64() / began.elapsed().as_secs_f64();
    drop(attacker);
    ensure!(!micros.is_empty(), "no honest call was served");
    Ok(Sample { micros, failed, agent_cpu })
}

fn publish(
    samples: &BTreeMap<Neighbour, Vec<Sample>>,
    attacks: &[Attack],
    json: Option<&Path>,
) -> Result<()> {
    let quiet = &samples[&Neighbour::Quiet];
    println!(
        "connect() to first secret of an honest caller, µs; medians over {} rounds\n\n\
         {:<16} {:>8} {:>8} {:>8} {:>7} {:>9} {:>6}",
        quiet.len(),
        "neighbour",
        "p50",
        "p99",
        "p99.9",
        "p99 ×",
        "agent CPU",
        "failed"
    );
    let mut rows = Vec::new();
    for (&neighbour, rounds) in samples {
        let of = |value: &dyn Fn(&Sample) -> f64| median(rounds.iter().map(value));
        let ratio = median(rounds.iter().zip(quiet).map(|(sample, quiet)| sample.p(0.99) / quiet.p(0.99)));
        let failed: u64 = rounds.iter().map(|sample| sample.failed).sum();
        let (p50, p99, p999) = (of(&|s| s.p(0.5)), of(&|s| s.p(0.99)), of(&|s| s.p(0.999)));
        let (name, cpu) = (neighbour.name(attacks), of(&|s| s.agent_cpu));
        let mark = if ratio > ALLOWED { "  above what is allowed" } else { "" };
        println!(
            "{name:<16} {p50:>8.0} {p99:>8.0} {p999:>8.0} {ratio:>7.2} {:>8.0}% {failed:>6}{mark}",
            cpu * 100.0
        );
        let raw: Vec<Value> = rounds
            .iter()
            .map(|s| json!({ "samples": s.micros.len(), "p50_us": s.p(0.5), "p99_us": s.p(0.99), "p999_us": s.p(0.999),
                "max_us": s.p(1.0), "failed": s.failed, "agent_cpu": s.agent_cpu }))
            .collect();
        rows.push(json!({ "neighbour": name, "p99_ratio": ratio, "rounds": raw }));
    }
    if let Some(path) = json {
        let text = serde_json::to_string_pretty(&json!({ "allowed_p99_ratio": ALLOWED, "rows": rows }))?;
        fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    Spread::of(values).map_or(f64::NAN, |spread| spread.median)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_samples_that_were_taken() {
        let sample = Sample { micros: (1..=1_000).map(f64::from).collect(), failed: 0, agent_cpu: 0.0 };
        assert_eq!(
            (sample.p(0.5), sample.p(0.99), sample.p(0.999), sample.p(1.0)),
            (500.0, 990.0, 999.0, 1000.0)
        );
    }

    #[test]
    fn attacks_are_asked_for_by_name() {
        assert_eq!(attack("ping"), Ok(Attack::Ping));
        assert!(attack("pong").unwrap_err().contains("ping"));
    }
}
