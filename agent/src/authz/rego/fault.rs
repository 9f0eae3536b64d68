//! What is wrong with a policy, and where.

use std::fmt;

use regorus::unstable::Span;

/// One reason why a policy is not loaded, or one remark on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub file: String,
    /// Counts from 1; 0 when the whole file is meant.
    pub line: u32,
    /// In characters, counts from 1; 0 when the whole file is meant.
    pub column: u32,
    /// A clause that says what is wrong and, where it can, what to write instead.
    pub reason: String,
    /// The line of the source with a caret below it; empty when the whole file is meant.
    pub excerpt: String,
}

impl Fault {
    /// At the first character of `span`: its own line and column are those of its last part.
    pub(super) fn at(span: &Span, reason: impl Into<String>) -> Self {
        let text = span.source.contents();
        let before = text.get(..span.start as usize).unwrap_or_default();
        let line = before.matches('\n').count() as u32 + 1;
        let from = before.rfind('\n').map_or(0, |at| at + 1);
        let column = before[from..].chars().count() as u32 + 1;
        let shown = text[from..].lines().next().unwrap_or_default();
        Self::on_line(span.source.file(), shown, line, column, reason)
    }

    /// `text` is that line of the source.
    pub(super) fn on_line(file: &str, text: &str, line: u32, column: u32, reason: impl Into<String>) -> Self {
        Self { file: file.into(), line, column, reason: reason.into(), excerpt: excerpt(text, line, column) }
    }

    pub(super) fn in_file(file: &str, reason: impl Into<String>) -> Self {
        Self { file: file.into(), line: 0, column: 0, reason: reason.into(), excerpt: String::new() }
    }

    /// Reads an error of the engine, which carries its place in its text: `--> file:line:column`, the line with a caret
    /// below it, `error: reason`.
    pub(super) fn of_engine(file: &str, text: &str, error: &impl fmt::Display) -> Self {
        let message = error.to_string();
        let Some((name, line, column)) = place(&message) else {
            return Self::in_file(file, message.trim().to_owned());
        };
        let reason = message.split_once("error: ").map_or(message.as_str(), |(_, reason)| reason);
        let reason = reason.lines().next().unwrap_or_default().trim().to_owned();
        let shown = if name == file { text.lines().nth(line as usize - 1).unwrap_or_default() } else { "" };
        Self::on_line(name, shown, line, column, reason)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 {
            return write!(f, "{}: {}", self.file, self.reason);
        }
        write!(f, "{}:{}:{}: {}\n{}", self.file, self.line, self.column, self.reason, self.excerpt)
    }
}

/// File, line and column of the first place that an engine's message names.
fn place(message: &str) -> Option<(&str, u32, u32)> {
    let line = message.lines().find_map(|line| line.strip_prefix("--> "))?;
    let (rest, column) = line.rsplit_once(':')?;
    let (file, line) = rest.rsplit_once(':')?;
    Some((file, line.parse().ok().filter(|line| *line > 0)?, column.parse().ok()?))
}

/// Of a long line only what is near the column.
fn excerpt(text: &str, line: u32, column: u32) -> String {
    const SHOWN: usize = 100;
    let at = (column as usize).saturating_sub(1);
    let from = at.saturating_sub(SHOWN / 2);
    let shown: String =
        text.chars().skip(from).take(SHOWN).map(|c| if c.is_control() { ' ' } else { c }).collect();
    let number = line.to_string();
    let (gutter, indent) = (number.len(), at - from);
    format!("{number} | {shown}\n{:gutter$} | {:indent$}^", "", "")
}
