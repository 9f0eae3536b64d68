//! Rules that no compiler checks. Each finding names its place, its rule and what to do.

mod hygiene;
mod imports;
mod numbers;
mod traces;

use std::{fmt, fs, process::Command};

use anyhow::bail;

use crate::step;

/// One place that breaks one rule.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    file: String,
    /// Counts from 1.
    line: usize,
    rule: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.rule)
    }
}

/// Reads every tracked file that is text and prints what breaks a rule.
///
/// # Errors
/// When there is a finding, or git does not answer.
pub(crate) fn run() -> anyhow::Result<()> {
    let listing = step::read(Command::new("git").args(["ls-files", "-z"]))?;
    let mut findings = Vec::new();
    let mut numbers = numbers::Numbers::default();
    let mut files = 0;
    for file in listing.split('\0').filter(|file| !file.is_empty()) {
        // Neither a file that is deleted but not yet committed, nor one that is no text, has lines to judge.
        let Ok(text) = fs::read_to_string(file) else { continue };
        files += 1;
        findings.extend(imports::check(file, &text));
        findings.extend(traces::check(file, &text));
        findings.extend(hygiene::check(file, &text));
        numbers.read(file, &text);
    }
    findings.extend(numbers.check());
    for finding in &findings {
        println!("{finding}");
    }
    if !findings.is_empty() {
        bail!("{} places break a rule", findings.len());
    }
    println!("tidy: {files} files keep the rules");
    Ok(())
}
