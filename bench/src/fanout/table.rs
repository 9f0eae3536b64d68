//! What a run found, as a table for people and as JSON with every raw sample.

use std::{
    fmt::{self, Display, Formatter},
    fs,
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::{
    agent::RAISED_LIMITS,
    fanout::{Measure, Outcome, Round, say},
    numbers::{Percentiles, Spread},
    probe::Share,
};

/// Prints the table, and writes the samples to `file`.
pub(crate) fn publish(outcome: &Outcome, file: Option<&Path>) -> Result<()> {
    print!("{}", Report::of(outcome)?);
    if let Some(file) = file {
        let text = serde_json::to_string(&raw(outcome))?;
        fs::write(file, text).with_context(|| format!("writing {}", file.display()))?;
        say(&format!("raw samples are in {}", file.display()));
    }
    Ok(())
}

/// The counted rounds of a run, summed up.
#[derive(Debug)]
struct Report<'a> {
    outcome: &'a Outcome,
    agent: Summary,
    anchor: Summary,
    /// Agent by anchor, round by round.
    cpu_ratio: Spread,
    last_ratio: Spread,
    disturbed: usize,
    /// Rounds in which a server did not come to rest before the next.
    restless: usize,
    /// Milliseconds behind the schedule.
    latest_start: f64,
}

/// One server, over its counted rounds. Times in milliseconds, CPU in microseconds per stream.
#[derive(Debug)]
struct Summary {
    delivery: Percentiles,
    last_delivery: Spread,
    last_ack: Spread,
    server_cpu: Spread,
    load_cpu: Spread,
}

impl<'a> Report<'a> {
    fn of(outcome: &'a Outcome) -> Result<Self> {
        let (agent, anchor) = (counted(outcome, &outcome.agent), counted(outcome, &outcome.anchor));
        let ratio = |number: fn(&Round) -> f64| {
            let each = |rounds: &[Round]| rounds.iter().map(number).collect::<Vec<_>>();
            Spread::of_ratios(&each(agent), &each(anchor)).context("no round was counted")
        };
        let late = agent.iter().chain(anchor).map(|round| round.started_late).max();
        Ok(Self {
            outcome,
            latest_start: late.unwrap_or_default().as_secs_f64() * 1e3,
            agent: Summary::of(agent, outcome.streams)?,
            anchor: Summary::of(anchor, outcome.streams)?,
            cpu_ratio: ratio(|round| round.server_cpu.as_secs_f64())?,
            last_ratio: ratio(|round| round.last_delivery().as_secs_f64())?,
            disturbed: agent.iter().zip(anchor).filter(|(a, b)| a.is_disturbed() || b.is_disturbed()).count(),
            restless: agent.iter().zip(anchor).filter(|(a, b)| !a.ended_quiet || !b.ended_quiet).count(),
        })
    }

    fn rows(&self) -> [(&'static str, String, String); 7] {
        let (agent, anchor) = (&self.agent, &self.anchor);
        let percentiles = |summary: &Summary| {
            let Percentiles { p50, p90, p99, max } = summary.delivery;
            format!("{p50:.1} / {p90:.1} / {p99:.1} / {max:.1}")
        };
        [
            ("delivery p50 / p90 / p99 / max, ms", percentiles(agent), percentiles(anchor)),
            ("last stream delivered, ms", spread(&agent.last_delivery), spread(&anchor.last_delivery)),
            ("last ACK written, ms", spread(&agent.last_ack), spread(&anchor.last_ack)),
            ("server CPU per stream, us", spread(&agent.server_cpu), spread(&anchor.server_cpu)),
            ("load CPU per stream, us", spread(&agent.load_cpu), spread(&anchor.load_cpu)),
            ("server CPU, agent / anchor", spread(&self.cpu_ratio), String::new()),
            ("last delivered, agent / anchor", spread(&self.last_ratio), String::new()),
        ]
    }
}

impl Display for Report<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Outcome { machine, places, streams, memory, connect, .. } = self.outcome;
        let (rounds, n) = (self.outcome.agent.rounds.len() - self.outcome.warmup, f64::from(*streams));
        writeln!(
            f,
            "{streams} streams on {streams} connections, one secret; {rounds} rotations counted after {} not \
             counted, one every {} ms",
            self.outcome.warmup,
            self.outcome.interval.as_millis()
        )?;
        writeln!(
            f,
            "agent {} (evidence {}, kernel.hooks {}) on cpu {}, load on cpu {}; limits raised by configuration: {}",
            self.outcome.agent_version,
            self.outcome.grade,
            self.outcome.hooks,
            places.server,
            places.load,
            RAISED_LIMITS.join(", ")
        )?;
        writeln!(
            f,
            "{} CPUs of {}, Linux {}; a secret is {} bytes on the wire, an ACK {}",
            places.all.len(),
            machine.cpu_model,
            machine.kernel,
            self.outcome.message_bytes,
            self.outcome.ack_bytes
        )?;
        if cfg!(debug_assertions) {
            writeln!(f, "the load is a debug build: its share of these numbers is too large")?;
        }
        writeln!(f, "\n{:<36}{:<34}raw anchor", "median (min-max) of the rotations", "agent")?;
        for (name, agent, anchor) in self.rows() {
            writeln!(f, "{}", format!("{name:<36}{agent:<34}{anchor}").trim_end())?;
        }
        let per_stream = |kib: u64| (kib as f64 - memory.before_kib as f64) / n;
        writeln!(
            f,
            "\nconnect until first secret, {} unanswered at most: {:.0} ms in all, {:.1} us of agent CPU per stream",
            self.outcome.unanswered,
            connect.took.as_secs_f64() * 1e3,
            micros(connect.agent_cpu) / n
        )?;
        writeln!(
            f,
            "agent RSS per stream: {:.1} KiB connected, {:.1} KiB after all rotations ({} KiB before)",
            per_stream(memory.connected_kib),
            per_stream(memory.rotated_kib),
            memory.before_kib
        )?;
        writeln!(f, "agent when idle: {:.2} % of a core", self.outcome.agent.idle_share * 100.0)?;
        writeln!(
            f,
            "spin probe: {} before, {} after; of {rounds} rounds {} were disturbed by other processes, {} did not end \
             in quiet",
            shares(&self.outcome.probe_before),
            shares(&self.outcome.probe_after),
            self.disturbed,
            self.restless
        )?;
        writeln!(f, "rotations began {:.2} ms after their moment at the latest", self.latest_start)?;
        writeln!(f, "every stream got every version once, with the same secret as all others")
    }
}

impl Summary {
    fn of(rounds: &[Round], streams: u32) -> Result<Self> {
        let spread = |number: &dyn Fn(&Round) -> f64| {
            Spread::of(rounds.iter().map(number)).context("no round was counted")
        };
        let per_stream = |cpu: Duration| micros(cpu) / f64::from(streams);
        Ok(Self {
            delivery: Percentiles::of(rounds.iter().flat_map(|round| &round.delivered))?,
            last_delivery: spread(&|round| round.last_delivery().as_secs_f64() * 1e3)?,
            last_ack: spread(&|round| round.last_ack.as_secs_f64() * 1e3)?,
            server_cpu: spread(&|round| per_stream(round.server_cpu))?,
            load_cpu: spread(&|round| per_stream(round.load_cpu))?,
        })
    }
}

fn counted<'a>(outcome: &Outcome, measure: &'a Measure) -> &'a [Round] {
    &measure.rounds[outcome.warmup..]
}

fn raw(outcome: &Outcome) -> Value {
    let probe = |shares: &[Share]| -> Vec<Value> {
        let share =
            |share: &Share| json!({ "cpu": share.cpu, "share": share.share, "gaps_over_500_us": share.gaps });
        shares.iter().map(share).collect()
    };
    json!({
        "scenario": "one secret, N connections with one stream each, small ACK",
        "machine": {
            "kernel": outcome.machine.kernel,
            "cpu_model": outcome.machine.cpu_model,
            "cpus": outcome.places.all,
        },
        "versions": { "agent": outcome.agent_version, "bench": env!("CARGO_PKG_VERSION") },
        "bench_is_debug_build": cfg!(debug_assertions),
        "settings": {
            "streams": outcome.streams,
            "warmup_rounds": outcome.warmup,
            "interval_ms": outcome.interval.as_millis() as u64,
            "unanswered": outcome.unanswered,
            "kernel_hooks": outcome.hooks,
            "evidence": outcome.grade,
            "limits_raised": RAISED_LIMITS,
            "server_cpu": outcome.places.server,
            "load_cpu": outcome.places.load,
        },
        "message_bytes": outcome.message_bytes,
        "ack_bytes": outcome.ack_bytes,
        "spin_probe": { "before": probe(&outcome.probe_before), "after": probe(&outcome.probe_after) },
        "connect": {
            "took_us": micros(outcome.connect.took),
            "agent_cpu_us": micros(outcome.connect.agent_cpu),
        },
        "agent_rss": {
            "before_kib": outcome.memory.before_kib,
            "connected_kib": outcome.memory.connected_kib,
            "rotated_kib": outcome.memory.rotated_kib,
        },
        "agent": measure(outcome, &outcome.agent),
        "anchor": measure(outcome, &outcome.anchor),
    })
}

fn measure(outcome: &Outcome, measure: &Measure) -> Value {
    let rounds = measure.rounds.iter().enumerate().map(|(number, round)| {
        json!({
            "counted": number >= outcome.warmup,
            "disturbed": round.is_disturbed(),
            "ended_quiet": round.ended_quiet,
            "started_late_us": micros(round.started_late),
            "delivery_us": round.delivered.iter().copied().map(micros).collect::<Vec<_>>(),
            "last_ack_us": micros(round.last_ack),
            "server_cpu_us": micros(round.server_cpu),
            "load_cpu_us": micros(round.load_cpu),
            "server_waited_us": micros(round.server_waited),
            "load_waited_us": micros(round.load_waited),
        })
    });
    json!({ "idle_share": measure.idle_share, "rounds": rounds.collect::<Vec<_>>() })
}

fn micros(duration: Duration) -> f64 {
    duration.as_nanos() as f64 / 1e3
}

fn spread(spread: &Spread) -> String {
    format!("{:.1} ({:.1}-{:.1})", spread.median, spread.min, spread.max)
}

fn shares(shares: &[Share]) -> String {
    let each: Vec<_> = shares.iter().map(|share| format!("{:.0} %", share.share * 100.0)).collect();
    each.join(" and ")
}
