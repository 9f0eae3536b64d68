//! Text for people, JSON for programs.

use std::{
    io::{self, Write as _},
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};

use super::Output;
use crate::problem::Problem;

/// Whether somebody still reads what is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reader {
    There,
    /// As `head` does when it has enough. No error: what it wanted, it has.
    Gone,
}

/// Prints `value` as one JSON document, or what `text` writes.
///
/// # Errors
/// E0323 when it cannot be written, as on a full disk.
pub(super) fn print(
    output: Output,
    value: &Value,
    text: impl FnOnce(&mut String),
) -> Result<Reader, Problem> {
    let mut written = String::new();
    match output {
        Output::Json => written = format!("{value}\n"),
        Output::Text => text(&mut written),
    }
    data(written.as_bytes())
}

/// Writes `bytes` to standard output.
///
/// # Errors
/// E0323 when they cannot be written.
pub(super) fn data(bytes: &[u8]) -> Result<Reader, Problem> {
    deliver(&mut io::stdout().lock(), bytes).map_err(|error| {
        Problem::new("E0323", "the output cannot be written")
            .why(error.to_string())
            .fix("see where standard output leads: is that disk full?")
    })
}

fn deliver(out: &mut impl io::Write, bytes: &[u8]) -> io::Result<Reader> {
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Reader::Gone),
        written => written.map(|()| Reader::There),
    }
}

/// Writes a line to standard error. There is nobody to tell when that fails.
pub(super) fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Prints a refusal on standard error.
pub(super) fn problem(output: Output, problem: &Problem) {
    match output {
        Output::Text => say(&problem.to_string()),
        Output::Json => {
            let Problem { code, title, place, why, fix } = problem;
            let place =
                place.as_ref().map(|at| json!({ "file": at.file, "line": at.line, "column": at.column }));
            let error = json!({ "code": code, "title": title, "place": place, "why": why, "fix": fix });
            say(&json!({ "error": error }).to_string());
        }
    }
}

/// One line that does nothing to a terminal but stand there: what would is written as an escape.
pub(super) fn visible(text: &str) -> String {
    let acts = |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if acts(c) { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
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

    /// Fails each write in the same way.
    struct Broken(io::ErrorKind);

    impl io::Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_went_is_no_error_and_a_full_disk_is() {
        assert_eq!(deliver(&mut vec![], b"x").unwrap(), Reader::There);
        assert_eq!(deliver(&mut Broken(io::ErrorKind::BrokenPipe), b"x").unwrap(), Reader::Gone);
        assert!(deliver(&mut Broken(io::ErrorKind::StorageFull), b"x").is_err());
    }

    #[test]
    fn columns_stand_under_their_heads() {
        let mut out = String::new();
        let rows = [vec!["a".to_owned(), "bb".to_owned()], vec!["éé".to_owned(), "c".to_owned()]];
        table(&["ID", "NAME"], &rows, &mut out);
        assert_eq!(out, "ID  NAME\na   bb\néé  c\n");
    }
}
