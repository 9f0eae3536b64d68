//! The file's text, and the words for what is wrong with its form.

use std::ops::Range;

use serde::Deserialize;
use toml::de::{DeTable, Deserializer, Error};

use super::raw::RawConfig;
use crate::problem::{Place, Problem, nearest};

#[derive(Debug, Clone, Copy)]
pub(super) struct FileText<'t> {
    pub(super) name: &'t str,
    pub(super) text: &'t str,
}

impl FileText<'_> {
    pub(super) fn parse(&self) -> Result<RawConfig, Problem> {
        let table = DeTable::parse(self.text).map_err(|error| {
            let message = error.message().replace('\n', ", ");
            self.somewhere(Problem::new("E0102", format!("not valid TOML: {message}")), &error)
        })?;
        RawConfig::deserialize(Deserializer::from(table)).map_err(|error| self.misfit(&error))
    }

    pub(super) fn place(&self, span: &Range<usize>) -> Place {
        Place::of(self.name, self.text, span.clone())
    }

    /// `problem` with the place of `error`, if the parser knows one: of what nests too deeply, it does not.
    fn somewhere(&self, problem: Problem, error: &Error) -> Problem {
        match error.span().filter(|span| *span != (0..0) || self.text.is_empty()) {
            Some(span) => problem.at(self.place(&span)),
            None => problem.why(format!("somewhere in {}", self.name)),
        }
    }

    /// TOML that does not fit the sections. The words of the deserializer tell an unknown key from a wrong type.
    fn misfit(&self, error: &Error) -> Problem {
        let span = span(error);
        match error.message().strip_prefix("unknown field ") {
            Some(rest) => self.unknown_key(rest, &span),
            None => self.wrong_type(error.message(), &span),
        }
    }

    /// `rest` is such as "`a`, expected one of `b`, `c`".
    fn unknown_key(&self, rest: &str, span: &Range<usize>) -> Problem {
        let (key, known) = rest.split_once(", expected").unwrap_or((rest, ""));
        let key = key.trim_matches('`');
        let known: Vec<&str> = known.split('`').skip(1).step_by(2).collect();
        let place = self.place(span);
        let noun = if place.text.trim_start().starts_with('[') { "section" } else { "key" };
        let hint = match nearest(key, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "not known here".to_owned(),
        };
        Problem::new("E0105", format!("unknown {noun} `{key}`"))
            .at(place.hint(hint))
            .fix(format!("known here: {}", known.join(", ")))
    }

    /// `message` is such as "invalid type: integer `5`, expected a string".
    fn wrong_type(&self, message: &str, span: &Range<usize>) -> Problem {
        let (found, wanted) = match message.split_once(", expected ") {
            Some((found, wanted)) => (found, wanted.replace("a sequence", "a list")),
            None => (message, "something else".to_owned()),
        };
        let found = found.trim_start_matches("invalid type: ").trim_start_matches("invalid value: ");
        let fix = match wanted.as_str() {
            "a string" => "write it in quotes; durations and sizes carry a unit: \"1h\", \"16KiB\"",
            _ => "see how it is written: vouch config show prints every key",
        };
        Problem::new("E0106", format!("expected {wanted}, found {found}")).at(self.place(span)).fix(fix)
    }
}

fn span(error: &Error) -> Range<usize> {
    error.span().unwrap_or(0..0)
}
