//! One number, before and after.

use std::fmt::{self, Display, Formatter};

use crate::{
    compare::{
        pair::{Half, Pair},
        rank::{holm, least_p, mann_whitney},
    },
    numbers::Spread,
    report::words,
    results::Round,
};

/// Corrected p-values below this are not called chance.
const CHANCE: f64 = 0.05;
/// Two runs of the same program differ by so much without a cause: placement in memory, neighbours, the clock.
const RUN_TO_RUN: f64 = 0.05;
const MEMORY_TOLERANCE: f64 = 0.10;
const CONNECT_TOLERANCE: f64 = 0.25;

/// One number, before and after.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub scenario: String,
    pub name: &'static str,
    pub old: f64,
    pub new: f64,
    /// After Holm's correction; `None` for single numbers.
    pub p: Option<f64>,
    pub verdict: Verdict,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Worse,
    Better,
    Noise,
    /// So few rounds could not tell a difference from chance.
    TooFew,
}

/// Rows are tested together: each test more makes a seeming difference more likely.
#[derive(Debug)]
pub(crate) struct Judge {
    with_absolutes: bool,
    rows: Vec<(Row, Test)>,
}

#[derive(Debug, Clone, Copy)]
enum Test {
    /// Its p, the least that so many rounds can have, and a change that is none.
    Rounds {
        p: f64,
        least_p: f64,
        tolerance: f64,
    },
    Single {
        tolerance: f64,
    },
}

impl Judge {
    /// Of two runs on one machine, or of two whose ratios alone can be compared.
    pub(crate) fn new(with_absolutes: bool) -> Self {
        Self { with_absolutes, rows: Vec::new() }
    }

    pub(crate) fn add(&mut self, pair: &Pair) {
        let cpu = |round: &Round| round.server_cpu_us_per_update;
        let last = |round: &Round| round.last_delivery_us;
        let both = |rounds: &dyn Fn(&Half) -> Vec<f64>| (rounds(&pair.old), rounds(&pair.new));
        if self.with_absolutes {
            let tolerance = RUN_TO_RUN + drift(&both(&|half| half.anchor_rounds(cpu)));
            self.rounds(pair, "CPU per update, µs", &both(&|half| half.rounds(cpu)), tolerance);
        }
        self.rounds(pair, "CPU ÷ anchor", &both(&|half| half.ratios(cpu)), RUN_TO_RUN);
        if pair.old.has_times() && pair.new.has_times() {
            self.rounds(pair, "last delivery ÷ anchor", &both(&|half| half.ratios(last)), RUN_TO_RUN);
        }
        if self.with_absolutes {
            self.single(pair, "memory per stream, KB", |half| half.memory(), MEMORY_TOLERANCE);
            self.single(pair, "connect CPU, µs", |half| half.connect(), CONNECT_TOLERANCE);
        } else {
            self.single(pair, "connect CPU ÷ anchor", |half| half.connect_ratio(), CONNECT_TOLERANCE);
        }
    }

    /// All rows with their verdicts, in the order in which they were added.
    pub(crate) fn rows(self) -> Vec<Row> {
        let p_values = self.rows.iter().filter_map(|(_, test)| match test {
            Test::Rounds { p, .. } => Some(*p),
            Test::Single { .. } => None,
        });
        let corrected = holm(&p_values.collect::<Vec<_>>());
        let tests = corrected.len() as f64;
        let mut corrected = corrected.into_iter();
        let judged = self.rows.into_iter().map(|(mut row, test)| {
            let (tolerance, is_chance) = match test {
                Test::Single { tolerance } => (tolerance, false),
                Test::Rounds { least_p, tolerance, .. } => {
                    row.p = corrected.next();
                    row.verdict = if least_p * tests >= CHANCE { Verdict::TooFew } else { Verdict::Noise };
                    (tolerance, row.p.is_none_or(|p| p >= CHANCE))
                }
            };
            let change = row.change();
            if !is_chance && change.abs() > tolerance {
                row.verdict = if change > 0.0 { Verdict::Worse } else { Verdict::Better };
            }
            row
        });
        judged.collect()
    }

    fn rounds(&mut self, pair: &Pair, name: &'static str, (old, new): &(Vec<f64>, Vec<f64>), tolerance: f64) {
        let medians = Spread::of(old.iter().copied()).zip(Spread::of(new.iter().copied()));
        let Some((before, after)) = medians else { return };
        let test =
            Test::Rounds { p: mann_whitney(old, new), least_p: least_p(old.len(), new.len()), tolerance };
        self.push(pair, name, (before.median, after.median), test);
    }

    fn single(&mut self, pair: &Pair, name: &'static str, number: fn(&Half) -> Option<f64>, tolerance: f64) {
        let finite = |half| number(half).filter(|number| number.is_finite());
        if let Some(numbers) = finite(&pair.old).zip(finite(&pair.new)) {
            self.push(pair, name, numbers, Test::Single { tolerance });
        }
    }

    fn push(&mut self, pair: &Pair, name: &'static str, (old, new): (f64, f64), test: Test) {
        let scenario = pair.scenario.clone();
        self.rows.push((Row { scenario, name, old, new, p: None, verdict: Verdict::Noise }, test));
    }
}

impl Row {
    /// By which share the number grew.
    pub fn change(&self) -> f64 {
        match self.old == self.new {
            true => 0.0,
            false => (self.new - self.old) / self.old.abs(),
        }
    }
}

impl Display for Row {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Worse => "WORSE",
            Verdict::Better => "better",
            Verdict::Noise => "noise",
            Verdict::TooFew => "too few rounds to tell",
        };
        let change = match self.change() {
            change if change.is_finite() => format!("{:+.1} %", change * 100.0),
            _ => "from 0".to_owned(),
        };
        let p = match self.p {
            Some(p) if p < 0.001 => "p < 0.001".to_owned(),
            Some(p) => format!("p = {p:.3}"),
            None => String::new(),
        };
        let numbers = format!("{} → {}", words::figure(self.old), words::figure(self.new));
        write!(f, "  {:<24}{numbers:<22}{change:>9}  {p:<11} {verdict}", self.name)
    }
}

/// How much the anchor's own median changed.
fn drift((old, new): &(Vec<f64>, Vec<f64>)) -> f64 {
    let medians = Spread::of(old.iter().copied()).zip(Spread::of(new.iter().copied()));
    let change = medians.map_or(0.0, |(old, new)| (new.median / old.median - 1.0).abs());
    if change.is_finite() { change } else { 0.0 }
}
