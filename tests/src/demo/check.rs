//! What was expected beside what was seen.

use std::fmt::Write as _;

/// Longer cells are cut.
const MAX_CELL: usize = 60;

/// One line of a demo's table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    what: String,
    expected: String,
    seen: String,
    holds: bool,
}

impl Check {
    /// Holds when `seen` is what was `expected`.
    pub fn equal(what: impl Into<String>, expected: impl Into<String>, seen: impl Into<String>) -> Self {
        let (expected, seen) = (expected.into(), seen.into());
        let holds = expected == seen;
        Self { what: what.into(), expected, seen, holds }
    }

    /// Holds when `seen` is `least` or more.
    pub fn at_least(what: impl Into<String>, least: u64, seen: u64) -> Self {
        let expected = format!("at least {least}");
        Self { what: what.into(), expected, seen: seen.to_string(), holds: seen >= least }
    }

    pub fn holds(&self) -> bool {
        self.holds
    }
}

/// All of `checks` below each other.
pub fn table(checks: &[Check]) -> String {
    let heading = ["check", "expected", "seen", "ok"].map(str::to_owned);
    let rows: Vec<[String; 4]> = checks.iter().map(row).collect();
    let widths: [usize; 4] = std::array::from_fn(|column| {
        rows.iter().chain([&heading]).map(|row| row[column].chars().count()).max().unwrap_or_default()
    });
    let mut text = String::new();
    for row in [&heading].into_iter().chain(&rows) {
        let cells: Vec<_> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        writeln!(text, "{}", cells.join("  ").trim_end()).expect("a string takes every line");
    }
    text
}

fn row(check: &Check) -> [String; 4] {
    let verdict = if check.holds { "ok" } else { "DIFFERS" };
    [cell(&check.what), cell(&check.expected), cell(&check.seen), verdict.to_owned()]
}

/// On one line, and not too long.
fn cell(text: &str) -> String {
    let line = text.replace('\n', "\\n");
    if line.chars().count() <= MAX_CELL {
        return line;
    }
    line.chars().take(MAX_CELL - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_told_apart() {
        let checks = [Check::equal("a", "1", "1"), Check::equal("a", "1", "2"), Check::at_least("n", 2, 1)];
        assert_eq!(checks.iter().map(Check::holds).collect::<Vec<_>>(), [true, false, false]);
        let table = table(&checks);
        assert_eq!(table.matches("DIFFERS").count(), 2, "{table}");
        assert_eq!(table.lines().count(), 4);
    }

    #[test]
    fn a_long_cell_is_cut_and_stays_on_one_line() {
        let table = table(&[Check::equal("a\nb", "x".repeat(500), "")]);
        assert!(table.contains("a\\nb"));
        assert!(table.lines().all(|line| line.chars().count() < 90), "{table}");
    }
}
