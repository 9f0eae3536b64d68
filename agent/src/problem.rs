//! What an operator reads when something is refused: a number, a sentence, the cause and the fix.

use std::{error::Error as StdError, fmt};

/// A refusal that an operator can act on. Prints as
///
/// ```text
/// error[E0105]: unknown key `trust_domian`
///  --> vouch.toml:2:1
///   |
/// 2 | trust_domian = "example.org"
///   | ^^^^^^^^^^^^ did you mean `trust_domain`?
///   why: ...
///   fix: ...
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Such as `"E0105"`. A code is never reused: see `CODES`.
    pub code: &'static str,
    /// One lower-case clause without a full stop.
    pub title: String,
    /// Where in which file, when the cause is text that somebody wrote.
    pub place: Option<Box<Place>>,
    pub why: Option<String>,
    pub fix: Option<String>,
}

/// Most characters of a line that are kept and printed before and behind the start of a place: a file without
/// line ends is not repeated whole in a message.
const MAX_CONTEXT: usize = 100;

/// A stretch of one line of a file; lines and columns count from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub file: String,
    pub line: usize,
    pub column: usize,
    /// Text of that line, without its end; of a very long line, the stretch around the place.
    pub text: String,
    /// How many characters of the line come before `text`.
    pub skipped: usize,
    /// How many characters to underline; at least 1.
    pub width: usize,
    /// Printed behind the underline.
    pub hint: String,
}

impl Problem {
    pub fn new(code: &'static str, title: impl Into<String>) -> Self {
        Self { code, title: title.into(), place: None, why: None, fix: None }
    }

    pub fn at(mut self, place: Place) -> Self {
        self.place = Some(Box::new(place));
        self
    }

    pub fn why(mut self, why: impl Into<String>) -> Self {
        self.why = Some(why.into());
        self
    }

    pub fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }
}

impl Place {
    /// The place of the bytes `span` in `text`, the content of `file`. A span past the end names the end.
    pub fn of(file: &str, text: &str, span: std::ops::Range<usize>) -> Self {
        let start = (0..=span.start.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        let before = &text[..start];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        let end = (span.end.clamp(start, line_end)..=line_end).find(|at| text.is_char_boundary(*at));
        let width = text[start..end.unwrap_or(line_end)].chars().count().clamp(1, MAX_CONTEXT);
        let column = text[line_start..start].chars().count() + 1;
        let skipped = (column - 1).saturating_sub(MAX_CONTEXT);
        let line = text[line_start..line_end].trim_end_matches('\r');
        Self {
            file: file.to_owned(),
            line: before.matches('\n').count() + 1,
            column,
            text: line.chars().skip(skipped).take(2 * MAX_CONTEXT).collect(),
            skipped,
            width,
            hint: String::new(),
        }
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }
}

impl Problem {
    /// Writes it as what `word` says it is: an error, or a warning.
    pub(crate) fn write(&self, f: &mut fmt::Formatter<'_>, word: &str) -> fmt::Result {
        write!(f, "{word}[{}]: {}", self.code, self.title)?;
        if let Some(place) = &self.place {
            write!(f, "\n{place}")?;
        }
        if let Some(why) = &self.why {
            write!(f, "\n  why: {why}")?;
        }
        if let Some(fix) = &self.fix {
            write!(f, "\n  fix: {fix}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, "error")
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, column, text, skipped, width, hint } = self;
        let number = line.to_string();
        let margin = " ".repeat(number.len());
        // A tab keeps its width in the underline.
        let lead: String =
            text.chars().take(column - 1 - skipped).map(|c| if c == '\t' { c } else { ' ' }).collect();
        writeln!(f, "{margin}--> {file}:{line}:{column}")?;
        writeln!(f, "{margin} |")?;
        writeln!(f, "{number} | {text}")?;
        write!(f, "{margin} | {lead}{}", "^".repeat(*width))?;
        if hint.is_empty() { Ok(()) } else { write!(f, " {hint}") }
    }
}

impl StdError for Problem {}

/// The one of `choices` that `name` is most likely a slip of; `None` when nothing is near.
pub fn nearest<'a>(name: &str, choices: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const NEAR: f64 = 0.8;
    // Longer names are no slips of ours, and the comparison costs the product of both lengths.
    if name.len() > 64 {
        return None;
    }
    choices
        .into_iter()
        .map(|choice| (strsim::jaro_winkler(&name.to_lowercase(), &choice.to_lowercase()), choice))
        .filter(|(likeness, _)| *likeness >= NEAR)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, choice)| choice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_names_line_column_and_width() {
        let text = "a = 1\nbé = \"x\"\nc = 2";
        let at = text.find("\"x\"").unwrap();
        let place = Place::of("f.toml", text, at..at + 3);
        assert_eq!((place.line, place.column, place.width), (2, 6, 3));
        assert_eq!(place.text, "bé = \"x\"");
    }

    #[test]
    fn a_very_long_line_is_shown_around_the_place() {
        let text = format!("{}\"x\"{}", "a".repeat(5000), "b".repeat(5000));
        let place = Place::of("f.json", &text, 5000..5003);
        assert_eq!((place.line, place.column, place.width), (1, 5001, 3));
        assert_eq!(place.text.chars().count(), 2 * MAX_CONTEXT);
        let printed = place.to_string();
        let lines: Vec<&str> = printed.lines().collect();
        assert_eq!(lines[2].find("\"x\""), lines[3].find("^^^"));
    }

    #[test]
    fn a_slip_finds_its_name_and_a_stranger_none() {
        let choices = ["trust_domain", "state_dir"];
        assert_eq!(nearest("trust_domian", choices), Some("trust_domain"));
        assert_eq!(nearest("zzz", choices), None);
    }

    #[test]
    fn a_span_past_the_end_names_the_end() {
        let place = Place::of("f.toml", "a\n", 100..200);
        assert_eq!((place.line, place.column, place.width), (2, 1, 1));
    }
}
