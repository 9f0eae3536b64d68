//! What a run found, as tables for people and as JSON with every raw sample.

use std::{
    fmt::{self, Display, Formatter},
    fs,
    path::Path,
};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::{
    Outcome,
    histogram::Histogram,
    timing::{Executable, Phase, Row, Sample},
};
use crate::{
    numbers::{Percentiles, Spread},
    probe::Share,
    progress::say,
};

/// The goals: the 99th percentile of the attestation alone, in microseconds.
const WARM_GOAL_US: f64 = 10.0;
const COLD_GOAL_US: f64 = 150.0;

/// Prints the tables, and writes the samples to `file`.
pub(super) fn publish(outcome: &Outcome, file: Option<&Path>) -> Result<()> {
    print!("{}", Report(outcome));
    if let Some(file) = file {
        let text = serde_json::to_string(&raw(outcome))?;
        fs::write(file, text).with_context(|| format!("writing {}", file.display()))?;
        say(&format!("raw samples are in {}", file.display()));
    }
    Ok(())
}

struct Report<'a>(&'a Outcome);

impl Display for Report<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let outcome = self.0;
        self.selectors(f)?;
        if !outcome.rows.is_empty() {
            self.method(f)?;
            for phase in [Phase::Cold, Phase::Connection, Phase::Stream] {
                timings(f, outcome, phase)?;
            }
            own_words(f, &outcome.rows)?;
            goals(f, &outcome.rows)?;
        }
        if outcome.spire_version.is_none() {
            writeln!(
                f,
                "\nINCOMPLETE: there was no SPIRE here, so Vouch stands alone and no selectors were compared"
            )?;
        }
        Ok(())
    }
}

impl Report<'_> {
    fn selectors(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let comparisons = &self.0.comparisons;
        if comparisons.is_empty() {
            return Ok(());
        }
        writeln!(f, "selectors of the same processes\n\n  Vouch SPIRE selector")?;
        comparisons.iter().try_for_each(|comparison| write!(f, "{comparison}"))?;
        if let Some(why) = &self.0.without_hooks {
            writeln!(f, "Vouch's side had no hooks, so it has no selectors of the kernel: {why}")?;
        }
        let differing = comparisons.iter().filter(|comparison| !comparison.differences().is_empty());
        let count = differing.clone().count();
        writeln!(f, "{} processes compared, {count} differ", comparisons.len())?;
        for comparison in differing {
            for difference in comparison.differences() {
                writeln!(f, "  {}: {difference}", comparison.subject)?;
            }
        }
        Ok(())
    }

    fn method(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Outcome { machine, places, programs, .. } = self.0;
        writeln!(
            f,
            "\nVouch {} (evidence {}, kernel.hooks {}) and {}, in turns: {} rounds counted, one before them not",
            self.0.vouch_version,
            self.0.grade,
            self.0.hooks,
            self.0
                .spire_version
                .as_ref()
                .map_or("nobody else".to_owned(), |version| format!("SPIRE {version}")),
            self.0.rounds
        )?;
        writeln!(
            f,
            "agents on cpu {}, workloads on cpu {}, of {} CPUs of {}, Linux {}",
            places.server,
            places.load,
            places.all.len(),
            machine.cpu_model,
            machine.kernel
        )?;
        writeln!(
            f,
            "executables: small {:.1} MB, large {:.1} MB; not hashed: SPIRE without path and hash, Vouch with the path",
            programs.small.bytes as f64 / 1e6,
            programs.large.bytes as f64 / 1e6
        )?;
        let [before, after] = &self.0.probes;
        let [load_before, load_after] = &self.0.load_average;
        writeln!(
            f,
            "spin probe {} before, {} after; load average {load_before} before, {load_after} after",
            shares(before),
            shares(after)
        )?;
        let all = || self.0.rows.iter().flat_map(|row| row.samples.iter().flatten());
        let disturbed = all().filter(|sample| sample.is_disturbed()).count();
        writeln!(
            f,
            "of {} samples, {disturbed} had a server that waited for its CPU more than a tenth of the time",
            all().count()
        )?;
        let idle = |shares: &Vec<f64>| {
            let each = self.0.sides.iter().zip(shares);
            each.map(|(side, share)| format!("{side} {:.2} %", share * 100.0)).collect::<Vec<_>>().join(", ")
        };
        let stages: Vec<_> = self.0.idle_shares.iter().map(idle).collect();
        writeln!(f, "idle, of a core, taken off below: {}", stages.join("; "))?;
        if cfg!(debug_assertions) {
            writeln!(f, "the workloads are a debug build: their share of these numbers is too large")?;
        }
        Ok(())
    }
}

fn timings(f: &mut Formatter<'_>, outcome: &Outcome, phase: Phase) -> fmt::Result {
    writeln!(f, "\n{}", phase.words())?;
    let side = |number: usize| outcome.sides.get(number).copied().unwrap_or("-");
    writeln!(
        f,
        "{:<26}{:<19}{:<19}{:<21}{:<21}{:<23}ratio",
        "p50 / p99, us; CPU, us",
        side(0),
        side(1),
        "ratio of p50",
        format!("{} CPU", side(0)),
        format!("{} CPU", side(1)),
    )?;
    for row in outcome.rows.iter().filter(|row| row.phase == phase) {
        let name = format!("{}, {}", row.executable.words(), row.api);
        let latency = |samples: Option<&Vec<Sample>>| match samples.and_then(|samples| percentiles(samples)) {
            Some(Percentiles { p50, p99, .. }) => format!("{} / {}", number(p50 * 1e3), number(p99 * 1e3)),
            None => "-".into(),
        };
        let cpu = |samples: Option<&Vec<Sample>>| {
            let spread = samples.and_then(|samples| Spread::of(samples.iter().map(Sample::cpu_each)));
            spread.map_or("-".into(), |spread| range(&spread))
        };
        let (ours, theirs) = (row.samples.first(), row.samples.get(1));
        let line = format!(
            "{name:<26}{:<19}{:<19}{:<21}{:<21}{:<23}{}",
            latency(ours),
            latency(theirs),
            ratio(row, median_latency),
            cpu(ours),
            cpu(theirs),
            ratio(row, Sample::cpu_each),
        );
        writeln!(f, "{}", line.trim_end())?;
    }
    Ok(())
}

/// What the agent's own histogram says: the attestation alone, without the connection and the secret.
fn own_words(f: &mut Formatter<'_>, rows: &[Row]) -> fmt::Result {
    writeln!(
        f,
        "\nVouch's attestation alone, by its own metric (vouch_attestation_seconds); further streams need none"
    )?;
    writeln!(f, "{:<46}{:<14}{:<12}{:<18}p99, us", "", "attestations", "mean, us", "p50, us")?;
    for row in rows.iter().filter(|row| own(row).count() > 0) {
        let own = own(row);
        let name = format!("{}: {}, {}", row.phase.word(), row.executable.words(), row.api);
        let mean = own.mean_seconds().map_or("-".into(), |mean| number(mean * 1e6));
        let at = |quantile| own.quantile(quantile).map_or("-".into(), bounds);
        writeln!(f, "{name:<46}{:<14}{mean:<12}{:<18}{}", own.count(), at(0.5), at(0.99))?;
    }
    Ok(())
}

fn goals(f: &mut Formatter<'_>, rows: &[Row]) -> fmt::Result {
    let of = |wanted: &dyn Fn(&Row) -> bool| {
        let all: Vec<_> = rows.iter().filter(|row| wanted(row)).map(own).collect();
        Histogram::total(&all).quantile(0.99)
    };
    let warm = of(&|row| row.phase != Phase::Cold);
    let cold = of(&|row| row.phase == Phase::Cold && row.executable == Executable::NotHashed);
    let goals = [
        ("warm attestation, whatever the size", warm, WARM_GOAL_US),
        ("cold attestation without hashing", cold, COLD_GOAL_US),
    ];
    writeln!(f)?;
    for (what, found, goal) in goals {
        let found_text = found.map_or("not seen".to_owned(), |found| format!("{} us", bounds(found)));
        writeln!(f, "goal, {what}: p99 of at most {goal} us; {found_text}: {}", verdict(found, goal))?;
    }
    Ok(())
}

/// A bucket says that a quantile lies between two bounds, which may be on both sides of the goal.
fn verdict(found: Option<(f64, f64)>, goal_us: f64) -> &'static str {
    // Bounds in seconds lose their last digit when they become microseconds.
    let near = goal_us * 1e-9;
    match found.map(|(over, upto)| (over * 1e6, upto * 1e6)) {
        Some((_, upto)) if upto <= goal_us + near => "met",
        Some((over, _)) if over >= goal_us - near => "MISSED",
        _ => "cannot be told",
    }
}

impl Executable {
    fn words(self) -> &'static str {
        match self {
            Self::NotHashed => "not hashed",
            Self::Small => "small",
            Self::Large => "large",
            Self::Unseen => "unseen",
        }
    }
}

impl Phase {
    fn word(self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::Connection => "connection",
            Self::Stream => "stream",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Cold => {
                "cold: a process that has just started, from its connect() to its first secret; CPU from its start to its \
                 end\n(unseen: as large, and changed before each process)"
            }
            Self::Connection => {
                "warm: further connections of a known process, each from connect() to the secret"
            }
            Self::Stream => "warm: further streams over one connection, each from the call to the secret",
        }
    }
}

fn own(row: &Row) -> Histogram {
    Histogram::total(row.samples.iter().flatten().filter_map(|sample| sample.own.as_ref()))
}

fn percentiles(samples: &[Sample]) -> Option<Percentiles> {
    Percentiles::of(samples.iter().flat_map(|sample| &sample.took)).ok().filter(|_| !samples.is_empty())
}

fn median_latency(sample: &Sample) -> f64 {
    Spread::of(sample.took.iter().map(|took| took.as_secs_f64())).map_or(f64::NAN, |spread| spread.median)
}

/// The second side by the first, round by round.
fn ratio(row: &Row, of: fn(&Sample) -> f64) -> String {
    let [ours, theirs] = row.samples.as_slice() else { return "-".into() };
    let each = |samples: &[Sample]| samples.iter().map(of).collect::<Vec<_>>();
    Spread::of_ratios(&each(theirs), &each(ours)).map_or("-".into(), |spread| range(&spread))
}

fn range(Spread { median, min, max }: &Spread) -> String {
    format!("{} ({}-{})", number(*median), number(*min), number(*max))
}

fn bounds((over, upto): (f64, f64)) -> String {
    if upto.is_infinite() {
        return format!("over {}", number(over * 1e6));
    }
    format!("{}-{}", number(over * 1e6), number(upto * 1e6))
}

/// Three digits or so.
fn number(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn shares(shares: &[Share]) -> String {
    let each: Vec<_> = shares.iter().map(|share| format!("{:.0} %", share.share * 100.0)).collect();
    each.join(" and ")
}

fn raw(outcome: &Outcome) -> Value {
    let probe = |shares: &[Share]| -> Vec<Value> {
        shares
            .iter()
            .map(|share| json!({ "cpu": share.cpu, "share": share.share, "gaps_over_500_us": share.gaps }))
            .collect()
    };
    let rows = outcome.rows.iter().map(|row| {
        let sides = outcome.sides.iter().zip(&row.samples);
        let rounds: serde_json::Map<_, _> = sides
            .map(|(side, samples)| {
                ((*side).to_owned(), samples.iter().map(sample).collect::<Vec<_>>().into())
            })
            .collect();
        json!({
            "executable": row.executable.words(),
            "api": row.api.to_string(),
            "phase": row.phase.word(),
            "rounds": rounds,
        })
    });
    json!({
        "scenario": "attestation beside SPIRE",
        "machine": {
            "kernel": outcome.machine.kernel,
            "cpu_model": outcome.machine.cpu_model,
            "cpus": outcome.places.all,
        },
        "versions": {
            "vouch": outcome.vouch_version,
            "spire": outcome.spire_version,
            "bench": env!("CARGO_PKG_VERSION"),
        },
        "bench_is_debug_build": cfg!(debug_assertions),
        "settings": {
            "rounds": outcome.rounds,
            "kernel_hooks": outcome.hooks,
            "evidence": outcome.grade,
            "server_cpu": outcome.places.server,
            "load_cpu": outcome.places.load,
            "small_bytes": outcome.programs.small.bytes,
            "large_bytes": outcome.programs.large.bytes,
        },
        "load_average": outcome.load_average,
        "spin_probe": { "before": probe(&outcome.probes[0]), "after": probe(&outcome.probes[1]) },
        "idle_shares": outcome.idle_shares,
        "rows": rows.collect::<Vec<_>>(),
        "selectors": outcome.comparisons.iter().map(super::Comparison::raw).collect::<Vec<_>>(),
    })
}

fn sample(sample: &Sample) -> Value {
    let micros = |duration: &std::time::Duration| duration.as_nanos() as f64 / 1e3;
    let own = sample.own.as_ref().map(|own| {
        let finite = own.cumulative.iter().filter(|(bound, _)| bound.is_finite());
        json!({
            "attestations": own.count(),
            "sum_us": own.sum_seconds * 1e6,
            "cumulative_by_upper_bound_us": finite.map(|(bound, count)| (bound * 1e6, count)).collect::<Vec<_>>(),
        })
    });
    json!({
        "took_us": sample.took.iter().map(micros).collect::<Vec<_>>(),
        "cpu_us": micros(&sample.cpu),
        "lasted_us": micros(&sample.lasted),
        "waited_us": micros(&sample.waited),
        "disturbed": sample.is_disturbed(),
        "attestation_metric": own,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::attest::api::Api;

    fn of(took_us: &[u64], cpu_us: u64) -> Sample {
        Sample {
            took: took_us.iter().map(|us| Duration::from_micros(*us)).collect(),
            cpu: Duration::from_micros(cpu_us),
            waited: Duration::ZERO,
            lasted: Duration::from_millis(1),
            own: None,
        }
    }

    #[test]
    fn a_goal_between_the_bounds_of_a_bucket_is_not_called_met() {
        assert_eq!(verdict(Some((4e-6, 8e-6)), 10.0), "met");
        assert_eq!(verdict(Some((7.5 / 1e6, 1.0 / 1e5)), 10.0), "met");
        assert_eq!(verdict(Some((1.0 / 1e5, 1.5 / 1e5)), 10.0), "MISSED");
        assert_eq!(verdict(Some((8e-6, 16e-6)), 10.0), "cannot be told");
        assert_eq!(verdict(Some((16e-6, 32e-6)), 10.0), "MISSED");
        assert_eq!(verdict(None, 10.0), "cannot be told");
    }

    #[test]
    fn ratios_are_spires_by_vouchs_round_by_round() {
        let samples =
            vec![vec![of(&[10, 10], 20), of(&[10, 30], 40)], vec![of(&[50, 50], 200), of(&[80, 80], 800)]];
        let row = Row { executable: Executable::Small, api: Api::Sds, phase: Phase::Cold, samples };
        assert_eq!(ratio(&row, median_latency), "4.50 (4.00-5.00)");
        assert_eq!(ratio(&row, Sample::cpu_each), "15.0 (10.0-20.0)");
    }

    #[test]
    fn alone_there_is_no_ratio() {
        let row = Row {
            executable: Executable::Small,
            api: Api::Sds,
            phase: Phase::Cold,
            samples: vec![vec![of(&[10], 20)]],
        };
        assert_eq!(ratio(&row, Sample::cpu_each), "-");
    }
}
