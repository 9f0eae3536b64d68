//! Whether a later run is better or worse than an earlier one, or only different by chance.
//!
//! `METHOD` says how that is decided.

mod command;
mod pair;
mod rank;
mod row;

use std::fmt::{self, Display, Formatter};

use anyhow::{Result, ensure};

pub use command::Compare;
pub use row::{Row, Verdict};

use crate::{
    compare::{pair::Pair, row::Judge},
    report::scene::OURS,
    results::{Machine, Results},
};

/// As it is printed below each comparison, and in `--help`.
pub const METHOD: &str = "\
Numbers of rounds (CPU, ratios to the anchor) are compared by the two-sided Mann-Whitney U test on
the counted rounds of both runs, exact up to 80 rounds in all without ties; p-values are corrected
by Holm's method over all rows that are tested. A change is outside the noise when the corrected p
is below 0.05 AND the medians differ by more than 5 %; for CPU in µs by 5 % more than the anchor's
own CPU changed, which is the same program in both runs. Where so few rounds cannot reach 0.05, the
row says so. Memory and connect CPU are single numbers of a run: they are outside the noise when
they differ by more than 10 % and 25 %. Less is better in every row.";

/// Two runs, row by row.
#[derive(Debug)]
pub struct Comparison {
    server: String,
    old: String,
    new: String,
    /// Why the two machines are not the same; then only ratios are compared.
    pub other_machine: Option<String>,
    pub rows: Vec<Row>,
    /// Scenarios that only one of the runs has.
    pub unpaired: Vec<String>,
}

/// Compares `server` in both runs, scenario by scenario: paired are those of the same id, N, streams per connection
/// and size of ACK.
///
/// # Errors
/// When there is nothing that both hold.
pub fn compare(old: &Results, new: &Results, server: &str) -> Result<Comparison> {
    let (pairs, unpaired) = Pair::of(old, new, server);
    let other_machine = difference(&old.machine, &new.machine);
    let mut judge = Judge::new(other_machine.is_none());
    pairs.iter().for_each(|pair| judge.add(pair));
    let rows = judge.rows();
    ensure!(!rows.is_empty(), "the runs have no scenario in common in which {server} has numbers");
    Ok(Comparison {
        server: server.to_owned(),
        old: title(old),
        new: title(new),
        other_machine,
        rows,
        unpaired,
    })
}

impl Comparison {
    /// Of what is worse than before, and not by chance.
    pub fn worse(&self) -> usize {
        self.rows.iter().filter(|row| row.verdict == Verdict::Worse).count()
    }

    /// Whether any row could be decided at all.
    pub fn is_decided(&self) -> bool {
        self.rows.iter().any(|row| row.verdict != Verdict::TooFew)
    }
}

impl Display for Comparison {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let line = |text: &str| crate::report::plain_line(text);
        writeln!(f, "{}", line(&format!("{}: {} → {}", self.server, self.old, self.new)))?;
        if let Some(difference) = &self.other_machine {
            writeln!(
                f,
                "{}",
                line(&format!("warning: other machine, so only ratios are compared: {difference}"))
            )?;
        }
        let mut scenario = "";
        for row in &self.rows {
            if row.scenario != scenario {
                scenario = &row.scenario;
                writeln!(f, "\n{}", line(scenario))?;
            }
            writeln!(f, "{}", line(&row.to_string()))?;
        }
        writeln!(f)?;
        for unpaired in &self.unpaired {
            writeln!(f, "{}", line(&format!("only in one run: {unpaired}")))?;
        }
        let better = self.rows.iter().filter(|row| row.verdict == Verdict::Better).count();
        let total = self.rows.len();
        writeln!(
            f,
            "{} worse, {better} better, {} not outside the noise\n",
            self.worse(),
            total - self.worse() - better
        )?;
        writeln!(f, "{METHOD}")
    }
}

fn title(results: &Results) -> String {
    match results.commit.as_str() {
        "" => results.started.clone(),
        commit => format!("{} ({})", commit.chars().take(20).collect::<String>(), results.started),
    }
}

/// What keeps times and CPU of two machines from being compared.
fn difference(old: &Machine, new: &Machine) -> Option<String> {
    let facts = |machine: &Machine| {
        let places = format!("servers on {:?}, load on {:?}", machine.server_cpus, machine.load_cpus);
        [machine.cpu.clone(), format!("{} CPUs", machine.cpus), format!("Linux {}", machine.kernel), places]
    };
    let (old, new) = (facts(old), facts(new));
    let different = old.iter().zip(&new).find(|(old, new)| old != new);
    different.map(|(old, new)| format!("{old} → {new}"))
}

/// Whose numbers are compared when nobody says.
pub(crate) const SERVER: &str = OURS;

#[cfg(test)]
mod tests;
