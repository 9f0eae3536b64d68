//! Text for people, JSON for programs.

use std::{
    io::{self, Write as _},
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};

use super::Output;
use crate::problem::Problem;

/// Prints `value` as one JSON document, or what `text` writes. A reader that has gone is no error.
pub(super) fn print(output: Output, value: &Value, text: impl FnOnce(&mut String)) {
    let mut written = String::new();
    match output {
        Output::Json => written = format!("{value}\n"),
        Output::Text => text(&mut written),
    }
    let _ = io::stdout().write_all(written.as_bytes());
}

/// Prints a refusal on standard error.
pub(super) fn problem(output: Output, problem: &Problem) {
    match output {
        Output::Text => eprintln!("{problem}"),
        Output::Json => {
            let Problem { code, title, place, why, fix } = problem;
            let place =
                place.as_ref().map(|at| json!({ "file": at.file, "line": at.line, "column": at.column }));
            eprintln!(
                "{}",
                json!({ "error": { "code": code, "title": title, "place": place, "why": why, "fix": fix } })
            );
        }
    }
}

/// Rows in columns, two blanks apart, under their heads.
pub(super) fn table(heads: &[&str], rows: &[Vec<String>], out: &mut String) {
    let mut widths: Vec<usize> = heads.iter().map(|head| head.len()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let heads: Vec<String> = heads.iter().map(|head| (*head).to_owned()).collect();
    for row in std::iter::once(&heads).chain(rows) {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            line.push_str(&format!("{cell:width$}  "));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
}

/// Seconds since 1970; 0 before.
pub(super) fn unix(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// `2026-11-24T10:14:07Z`.
pub(super) fn date(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

/// `59m 30s` from now, or `expired`.
pub(super) fn left(until: SystemTime, now: SystemTime) -> String {
    match until.duration_since(now) {
        Ok(left) => humantime::format_duration(std::time::Duration::from_secs(left.as_secs())).to_string(),
        Err(_) => "expired".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_under_their_heads() {
        let mut out = String::new();
        let rows = [vec!["a".to_owned(), "bb".to_owned()], vec!["éé".to_owned(), "c".to_owned()]];
        table(&["ID", "NAME"], &rows, &mut out);
        assert_eq!(out, "ID  NAME\na   bb\néé  c\n");
    }
}
