//! The outcome for people, and for programs.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::{Context as _, Result};
use serde_json::json;
use vouch_bench::numbers::Spread;

use super::{
    Outcome,
    asked::Round,
    goals::{self, Goal},
};

/// Of OPA-Envoy, from another day and without Vouch beside it: our own measurement of the plugin rebuilt on OPA 1.22.2.
const PUBLISHED: &str = "published, measured on another day: OPA-Envoy on OPA 1.22.2 takes 259 to 276 µs of CPU for a \
     Check at 2,000/s (p99 4.0 to 5.3 ms), 341 µs with one outstanding, and 45 to 51 MiB a sidecar";

pub(crate) fn publish(outcome: &Outcome, json: Option<&Path>) -> Result<()> {
    let goals = goals::of(outcome);
    print!("{}", text(outcome, &goals)?);
    if let Some(path) = json {
        let text = serde_json::to_string_pretty(&json!({
            "kind": "authz",
            "started": outcome.started,
            "command": std::env::args().collect::<Vec<_>>(),
            "commit": crate::machine::commit(),
            "machine": outcome.machine,
            "settings": outcome.settings,
            "goals": goals,
            "decisions": outcome.decisions,
            "input": outcome.input,
            "whole": outcome.whole,
            "memory": outcome.memory,
            "reloads": outcome.reloads,
        }))?;
        fs::write(path, text + "\n").with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

fn text(outcome: &Outcome, goals: &[Goal]) -> Result<String> {
    let mut out = String::new();
    writeln!(out, "{}", outcome.surroundings)?;
    decisions(&mut out, outcome)?;
    whole(&mut out, outcome)?;
    rest(&mut out, outcome)?;
    writeln!(out, "\n{:<46} {:>10} {:>8} {:>8}", "goal", "found", "must", "try for")?;
    for goal in goals {
        let bound = |bound: f64| if bound.is_finite() { number(bound) } else { "-".into() };
        let found = goal.found.map_or_else(|| "-".into(), |found| format!("{} {}", number(found), goal.unit));
        let (must, try_for) = (bound(goal.must), bound(goal.try_for));
        writeln!(out, "{:<46} {found:>10} {must:>8} {try_for:>8}  {}", goal.what, goal.verdict())?;
    }
    writeln!(out, "{PUBLISHED}")?;
    Ok(out)
}

fn decisions(out: &mut String, outcome: &Outcome) -> Result<()> {
    writeln!(out, "\n{:<30} {:>9} {:>9} {:>22}", "decision, CPU µs", "Vouch", "OPA", "Vouch ÷ OPA")?;
    for row in &outcome.decisions {
        let (ours, theirs) = (median(row.ours_us.iter().copied()), median(row.opa_us.iter().copied()));
        let ratio = row.ratio().map_or_else(|| "-".into(), spread);
        writeln!(out, "{:<30} {:>9} {:>9} {ratio:>22}", row.name, number(ours), number(theirs))?;
    }
    let input = &outcome.input;
    let of = |values: &[f64]| number(median(values.iter().copied()));
    writeln!(out, "{:<30} {:>9}", "input alone", of(&input.build_us))?;
    writeln!(out, "{:<30} {:>9}", "input, and ec-backend", of(&input.build_and_decide_us))?;
    Ok(())
}

fn whole(out: &mut String, outcome: &Outcome) -> Result<()> {
    writeln!(
        out,
        "\n{:<22} {:>8} {:>8} {:>9} {:>9} {:>10} {:>10} {:>10}",
        "whole Check", "CPU µs", "× plain", "p50 µs", "p99 µs", "one: p50", "one: p99", "disturbed"
    )?;
    for row in &outcome.whole {
        let floor = if row.server.ends_with("TCP") { "plain tonic, TCP" } else { "plain tonic" };
        let floor = outcome.whole.iter().find(|row| row.server == floor);
        let cpu = |rounds: &[Round]| rounds.iter().map(|round| round.cpu_us_per_call).collect::<Vec<_>>();
        let ratio = floor.and_then(|floor| Spread::of_ratios(&cpu(&row.at_rate), &cpu(&floor.at_rate)));
        let at = |value: fn(&Round) -> f64| number(median(row.at_rate.iter().map(value)));
        let one = |value: fn(&Round) -> f64| number(median(row.one_by_one.iter().map(value)));
        let disturbed = row.at_rate.iter().chain(&row.one_by_one).filter(|round| round.disturbed).count();
        writeln!(
            out,
            "{:<22} {:>8} {:>8} {:>9} {:>9} {:>10} {:>10} {:>7} of {}",
            row.server,
            at(|round| round.cpu_us_per_call),
            ratio.map_or_else(|| "-".into(), |ratio| format!("{:.2}", ratio.median)),
            at(|round| round.p50_us),
            at(|round| round.p99_us),
            one(|round| round.p50_us),
            one(|round| round.p99_us),
            disturbed,
            row.at_rate.len() + row.one_by_one.len()
        )?;
    }
    Ok(())
}

fn rest(out: &mut String, outcome: &Outcome) -> Result<()> {
    let memory = &outcome.memory;
    let kib = |values: &[u64]| number(median(values.iter().map(|&kib| kib as f64)));
    writeln!(
        out,
        "\nanonymous memory: {} KiB without policies, {} with four, {} after {} s of questions",
        kib(&memory.without_policies_kib),
        kib(&memory.with_policies_kib),
        kib(&memory.after_load_kib),
        memory.asked_seconds
    )?;
    let reloads = &outcome.reloads;
    let p99 = |rounds: &[Round]| number(median(rounds.iter().map(|round| round.p99_us)));
    let sum = |value: fn(&Round) -> u64| reloads.changing.iter().map(value).sum::<u64>();
    writeln!(
        out,
        "{} reloads at {}/s, {} times: {} failed, {} wrong of {}; p99 {} µs, steady {} µs",
        reloads.reloads,
        reloads.rate,
        reloads.changing.len(),
        sum(|round| round.failed),
        sum(|round| round.wrong),
        sum(|round| round.calls),
        p99(&reloads.changing),
        p99(&reloads.steady)
    )?;
    Ok(())
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    Spread::of(values).map_or(f64::NAN, |spread| spread.median)
}

fn spread(spread: Spread) -> String {
    format!("{:.2} ({:.2} to {:.2})", spread.median, spread.min, spread.max)
}

fn number(value: f64) -> String {
    match value {
        value if value.is_nan() => "-".into(),
        value if value == 0.0 || value >= 1_000.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}
