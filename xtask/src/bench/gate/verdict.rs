//! What was counted beside what is recorded.

use std::fmt::Write as _;

use super::counts::{Counts, Record, Steps};

/// Other code around a step moves some of its instructions; a randomly keyed hash table moves one in a hundred.
const INSTRUCTIONS: f64 = 5.0;
const ALLOCATIONS: f64 = 0.0;
/// A signature in DER is some bytes longer or shorter each time.
const BYTES: f64 = 1.0;
/// Another compiler arranges everything anew, and leaves out other allocations than the one before.
const OF_ANOTHER_COMPILER: f64 = 25.0;

/// Costs that mean something beside each other: the first goes up with the size of what it is given.
const RATIOS: [(&str, &str); 2] =
    [("matching.entries_100000", "matching.entries_1000"), ("ack.with_node", "ack.without_node")];

/// One count in both.
struct Line<'a> {
    step: &'a str,
    unit: &'static str,
    recorded: u64,
    now: u64,
    /// In percent of `recorded`.
    tolerance: f64,
}

impl Line<'_> {
    /// In percent of what is recorded.
    fn change(&self) -> f64 {
        let (recorded, now) = (self.recorded as f64, self.now as f64);
        if self.recorded == self.now { 0.0 } else { (now - recorded) / recorded * 100.0 }
    }

    fn is_above(&self) -> bool {
        self.change() > self.tolerance
    }

    fn is_below(&self) -> bool {
        self.change() < -self.tolerance
    }
}

/// All that both know, and the ratios.
pub(super) fn table(recorded: &Record, now: &Record) -> String {
    let mut text =
        format!("{:<26} {:<12} {:>10} {:>10} {:>9}  at most\n", "step", "unit", "recorded", "now", "change");
    for line in lines(recorded, now) {
        let mark = if line.is_above() { "  <== above" } else { "" };
        let Line { step, unit, recorded, now, tolerance } = line;
        let change = line.change();
        writeln!(
            text,
            "{step:<26} {unit:<12} {recorded:>10} {now:>10} {change:>+8.1}%  +{tolerance} %{mark}"
        )
        .expect("a string takes everything");
    }
    for (large, small) in RATIOS {
        let [before, after] = [&recorded.steps, &now.steps].map(|steps| ratio(steps, large, small));
        writeln!(text, "instructions of {large} to those of {small}: recorded {before}, now {after}")
            .expect("a string takes everything");
    }
    text
}

/// What must not pass; nothing when all is well.
pub(super) fn faults(recorded: &Record, now: &Record) -> Vec<String> {
    let above = lines(recorded, now).filter(Line::is_above).map(|line| {
        let Line { step, unit, recorded, now, tolerance } = line;
        format!("{step} takes {now} {unit}; recorded are {recorded}, and {tolerance} % more are tolerated")
    });
    let gone = missing(&recorded.steps, &now.steps)
        .map(|name| format!("{name} is recorded and not counted any more"));
    let new = missing(&now.steps, &recorded.steps).map(|name| format!("{name} is counted and not recorded"));
    above.chain(gone).chain(new).collect()
}

/// What is worth knowing though it may pass.
pub(super) fn remarks(recorded: &Record, now: &Record) -> Vec<String> {
    let below = lines(recorded, now).filter(Line::is_below).map(|line| {
        let Line { step, unit, recorded, now, .. } = line;
        format!("{step} takes {now} {unit}, well below the {recorded} recorded: `cargo xtask bench gate --record` keeps it there")
    });
    let compiler = (recorded.compiler != now.compiler).then(|| {
        format!(
            "recorded with {}, and this is {}: {OF_ANOTHER_COMPILER} % more of everything is tolerated",
            recorded.compiler, now.compiler
        )
    });
    compiler.into_iter().chain(below).collect()
}

fn lines<'a>(recorded: &'a Record, now: &'a Record) -> impl Iterator<Item = Line<'a>> {
    let same_compiler = recorded.compiler == now.compiler;
    let pairs = recorded.steps.iter().filter_map(|(step, before)| Some((step, before, now.steps.get(step)?)));
    pairs.flat_map(move |(step, before, after)| {
        let both = units(before).into_iter().zip(units(after));
        both.filter_map(move |((unit, own, recorded), (_, _, now))| {
            let tolerance = if same_compiler { own } else { OF_ANOTHER_COMPILER };
            Some(Line { step, unit, recorded: recorded?, now: now?, tolerance })
        })
    })
}

/// Each unit with its tolerance.
fn units(counts: &Counts) -> [(&'static str, f64, Option<u64>); 3] {
    [
        ("instructions", INSTRUCTIONS, counts.instructions),
        ("allocations", ALLOCATIONS, Some(counts.allocations)),
        ("bytes", BYTES, Some(counts.bytes)),
    ]
}

/// The names of what is in `these` and not in `those`.
fn missing(these: &Steps, those: &Steps) -> impl Iterator<Item = String> {
    let names = |name: &String, counts: &Counts| {
        let instructions = counts.instructions.map(|_| format!("{name} in instructions"));
        [Some(name.clone()), instructions]
    };
    let known: Vec<String> = those.iter().flat_map(|(name, counts)| names(name, counts)).flatten().collect();
    let all: Vec<String> = these.iter().flat_map(|(name, counts)| names(name, counts)).flatten().collect();
    all.into_iter().filter(move |name| !known.contains(name))
}

fn ratio(steps: &Steps, large: &str, small: &str) -> String {
    let count = |step: &str| steps.get(step)?.instructions;
    match (count(large), count(small)) {
        (Some(large), Some(small)) => format!("{:.2}", large as f64 / small as f64),
        _ => "nothing".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORDED: Counts = Counts { allocations: 8, bytes: 1000, instructions: Some(1000) };

    fn record(counts: Counts) -> Record {
        Record { compiler: "rustc 1".into(), steps: Steps::from([("ack.with_node".into(), counts)]) }
    }

    fn faults_of(now: Counts) -> Vec<String> {
        faults(&record(RECORDED), &record(now))
    }

    #[test]
    fn what_costs_as_much_or_a_little_more_passes() {
        assert_eq!(faults_of(RECORDED), [""; 0]);
        let little_more = Counts { bytes: 1010, instructions: Some(1050), ..RECORDED };
        assert_eq!(faults_of(little_more), [""; 0]);
    }

    #[test]
    fn what_costs_more_than_is_tolerated_does_not_pass() {
        let words = faults_of(Counts { instructions: Some(1051), ..RECORDED });
        assert_eq!(
            words,
            ["ack.with_node takes 1051 instructions; recorded are 1000, and 5 % more are tolerated"]
        );
        let (recorded, now) = (record(RECORDED), record(Counts { instructions: Some(1051), ..RECORDED }));
        assert!(table(&recorded, &now).contains("+5.1%  +5 %  <== above"));
        assert_eq!(faults_of(Counts { allocations: 9, ..RECORDED }).len(), 1);
        assert_eq!(faults_of(Counts { bytes: 1011, ..RECORDED }).len(), 1);
        let none = Counts { allocations: 0, ..RECORDED };
        assert_eq!(faults(&record(none), &record(RECORDED)).len(), 1, "from none to some");
    }

    #[test]
    fn what_costs_much_less_is_worth_a_word() {
        let now = record(Counts { allocations: 7, bytes: 500, instructions: Some(900) });
        assert_eq!(faults(&record(RECORDED), &now), [""; 0]);
        assert_eq!(remarks(&record(RECORDED), &now).len(), 3);
        assert_eq!(remarks(&record(RECORDED), &record(RECORDED)), [""; 0]);
    }

    #[test]
    fn another_compiler_may_need_a_quarter_more() {
        let other = |counts| Record { compiler: "rustc 2".into(), ..record(counts) };
        let quarter_more = Counts { allocations: 10, bytes: 1250, instructions: Some(1250) };
        assert_eq!(faults(&record(RECORDED), &other(quarter_more)), [""; 0]);
        let more = Counts { allocations: 11, bytes: 1251, instructions: Some(1251) };
        assert_eq!(faults(&record(RECORDED), &other(more)).len(), 3);
        assert_eq!(remarks(&record(RECORDED), &other(RECORDED)).len(), 1);
    }

    #[test]
    fn a_step_that_is_not_counted_or_not_recorded_does_not_pass() {
        let nothing = Record { compiler: "rustc 1".into(), steps: Steps::new() };
        assert!(!faults(&record(RECORDED), &nothing).is_empty());
        assert!(!faults(&nothing, &record(RECORDED)).is_empty());
        assert_eq!(faults_of(Counts { instructions: None, ..RECORDED }).len(), 1);
    }

    #[test]
    fn the_ratios_are_of_steps_that_are_recorded() {
        let recorded = include_str!("../../../../bench/gate.json");
        for (large, small) in RATIOS {
            assert!(recorded.contains(&format!("\"{large}\"")) && recorded.contains(&format!("\"{small}\"")));
        }
    }
}
