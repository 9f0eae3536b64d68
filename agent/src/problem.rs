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
#[derive(Debug)]
pub struct Problem {
    /// Such as `"E0105"`. A code is never reused: see `CODES`.
    pub code: &'static str,
    /// One lower-case clause without a full stop.
    pub title: String,
    /// Where in which file, when the cause is text that somebody wrote.
    pub place: Option<Place>,
    pub why: Option<String>,
    pub fix: Option<String>,
}

/// A stretch of one line of a file; lines and columns count from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub file: String,
    pub line: usize,
    pub column: usize,
    /// Text of that line, without its end.
    pub text: String,
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
        self.place = Some(place);
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
        let width = text[start..end.unwrap_or(line_end)].chars().count().max(1);
        Self {
            file: file.to_owned(),
            line: before.matches('\n').count() + 1,
            column: text[line_start..start].chars().count() + 1,
            text: text[line_start..line_end].trim_end_matches('\r').to_owned(),
            width,
            hint: String::new(),
        }
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error[{}]: {}", self.code, self.title)?;
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

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, column, text, width, hint } = self;
        let number = line.to_string();
        let margin = " ".repeat(number.len());
        // A tab keeps its width in the underline.
        let lead: String = text.chars().take(column - 1).map(|c| if c == '\t' { c } else { ' ' }).collect();
        writeln!(f, "{margin}--> {file}:{line}:{column}")?;
        writeln!(f, "{margin} |")?;
        writeln!(f, "{number} | {text}")?;
        write!(f, "{margin} | {lead}{} {hint}", "^".repeat(*width))
    }
}

impl StdError for Problem {}

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
    fn a_span_past_the_end_names_the_end() {
        let place = Place::of("f.toml", "a\n", 100..200);
        assert_eq!((place.line, place.column, place.width), (2, 1, 1));
    }
}
