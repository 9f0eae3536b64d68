//! One entry held against one process, condition by condition.

use std::{fmt, sync::Arc, time::SystemTime};

use super::{lacks, spoke};
use crate::{
    attestation::{Selector, SelectorSet},
    registration::{EntryId, Placeholder, Refusal, RegistrationEntry, TemplateEntry, lint},
};

/// Most selectors of the process that are named beside one condition.
const MAX_INSTEAD: usize = 4;

/// One entry and one process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    pub entry: EntryId,
    /// The SPIFFE ID that it gives, or the template by which it gives one.
    pub gives: Arc<str>,
    /// In the order of the entry: what it is named by, what it requires, excludes, by whom it is attested, until when it
    /// holds.
    pub lines: Vec<Line>,
}

/// One condition of an entry, and what the process has to say to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub condition: Condition,
    pub verdict: Verdict,
    /// What the process has of the same sort, the likeliest first; of an exclusion, what is excluded.
    pub instead: Vec<Selector>,
    /// No attestor writes a selector so: the author's slip.
    pub misspelt: bool,
    /// What else an operator should know, such as how the selector is really written.
    pub note: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    Has(Selector),
    Named(Placeholder),
    /// A template gives another identity only while fewer than so many are in use.
    Room(usize),
    Lacks(Selector),
    AttestedBy(Box<str>),
    Until(SystemTime),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Met,
    Unmet,
    /// The process has what no SPIFFE ID may hold, or several that could stand there.
    Refused,
    /// It could not be learned, and what is not known is not met.
    Unknown,
}

impl Comparison {
    pub fn of(entry: &RegistrationEntry, process: &SelectorSet, now: SystemTime) -> Self {
        let lines = Self::conditions(entry, process, now).collect();
        Self { entry: entry.id.clone(), gives: entry.spiffe_id.as_str().into(), lines }
    }

    /// The same for what names by a template.
    pub fn of_template(template: &TemplateEntry, process: &SelectorSet, now: SystemTime) -> Self {
        let whole = template.spiffe_id.name(process).err();
        let named = template.spiffe_id.values(process).map(|(of, value)| {
            let refusal = value.err().or_else(|| whole.clone().filter(|refusal| refusal.placeholder == *of));
            Line::named(of, refusal, process)
        });
        let lines = named.chain(Self::conditions(template, process, now)).collect();
        Self { entry: template.id.clone(), gives: template.spiffe_id.as_str().into(), lines }
    }

    /// Says that the template of the entry has given as many identities as it may.
    #[must_use]
    pub fn without_room(mut self, limit: usize) -> Self {
        let note =
            "as many identities of its template are in use: see [limits] template_identities".to_owned();
        self.lines.push(Line { note: Some(note), ..Line::new(Condition::Room(limit), Verdict::Unmet) });
        self
    }

    fn conditions<N>(
        entry: &RegistrationEntry<N>,
        process: &SelectorSet,
        now: SystemTime,
    ) -> impl Iterator<Item = Line> {
        let has = entry.selectors.iter().map(|selector| Line::has(selector, process));
        let lacks = entry.exclude.iter().map(|excluded| Line::lacks(excluded, process));
        let attested = entry.attested_by.iter().map(|kind| Line::attested_by(kind, process));
        let until = entry.expires_at.iter().map(move |end| Line::until(*end, now));
        has.chain(lacks).chain(attested).chain(until)
    }

    /// How many of the selectors that the entry asks for, by value or by name, the process has.
    pub fn met(&self) -> usize {
        let met = |line: &&Line| {
            matches!(line.condition, Condition::Has(_) | Condition::Named(_)) && line.verdict == Verdict::Met
        };
        self.lines.iter().filter(met).count()
    }

    /// How many conditions are not met, for whatever reason. With none the entry is earned.
    pub fn unmet(&self) -> usize {
        self.lines.iter().filter(|line| line.verdict != Verdict::Met).count()
    }

    /// How many of the missing selectors the process has with another value, or might if they were written right.
    pub(super) fn differs(&self) -> usize {
        let differs = |line: &&Line| {
            let missing = matches!(line.condition, Condition::Has(_)) && line.verdict != Verdict::Met;
            missing && (line.misspelt || !line.instead.is_empty())
        };
        self.lines.iter().filter(differs).count()
    }
}

impl Line {
    fn new(condition: Condition, verdict: Verdict) -> Self {
        Self { condition, verdict, instead: vec![], misspelt: false, note: None }
    }

    fn has(selector: &Selector, process: &SelectorSet) -> Self {
        let condition = Condition::Has(selector.clone());
        if process.contains(selector) {
            return Self::new(condition, Verdict::Met);
        }
        if !process.surely_lacks(selector) {
            return Self { note: Some(unknown(selector)), ..Self::new(condition, Verdict::Unknown) };
        }
        let instead = same_sort(selector, process);
        let nothing_alike = || {
            let none_of_kind = process.surely_lacks_kind(selector.kind());
            none_of_kind.then(|| format!("process has no {} selector at all", selector.kind()))
        };
        let slip = lint::how_it_is_written(selector);
        let misspelt = slip.is_some();
        let note = slip.or_else(|| instead.is_empty().then(nothing_alike).flatten());
        Self { instead, misspelt, note, ..Self::new(condition, Verdict::Unmet) }
    }

    fn named(placeholder: &Placeholder, refusal: Option<Refusal>, process: &SelectorSet) -> Self {
        let line = |verdict| Self::new(Condition::Named(placeholder.clone()), verdict);
        if let Some(refusal) = refusal {
            return Self { note: Some(refusal.reason.to_string()), ..line(Verdict::Refused) };
        }
        let name = Selector::new(placeholder.kind(), placeholder.name());
        let Some(values) = process.behind(placeholder.kind(), placeholder.name()) else {
            return Self { note: Some(unknown(&name)), ..line(Verdict::Unknown) };
        };
        let instead: Vec<Selector> =
            values.map(|value| placeholder.selector(value)).take(MAX_INSTEAD).collect();
        let verdict = if instead.is_empty() { Verdict::Unmet } else { Verdict::Met };
        let note = instead
            .is_empty()
            .then(|| format!("process has no {}:{}", placeholder.kind(), placeholder.name()));
        Self { instead, note, ..line(verdict) }
    }

    fn lacks(excluded: &Selector, process: &SelectorSet) -> Self {
        let condition = Condition::Lacks(excluded.clone());
        if lacks(process, excluded) {
            return Self::new(condition, Verdict::Met);
        }
        let hit = |selector: &&Selector| {
            selector.kind() == excluded.kind()
                && (excluded.value().is_empty() || selector.value() == excluded.value())
        };
        let instead: Vec<Selector> = process.iter().filter(hit).take(MAX_INSTEAD).cloned().collect();
        if instead.is_empty() {
            return Self { note: Some(unknown(excluded)), ..Self::new(condition, Verdict::Unknown) };
        }
        Self { instead, ..Self::new(condition, Verdict::Unmet) }
    }

    fn attested_by(kind: &str, process: &SelectorSet) -> Self {
        let condition = Condition::AttestedBy(kind.into());
        match spoke(process, kind) {
            Some(true) => Self::new(condition, Verdict::Met),
            Some(false) => Self {
                note: Some(format!("no attestor says anything of type {kind} about this process")),
                ..Self::new(condition, Verdict::Unmet)
            },
            None => Self {
                note: Some(format!("the attestor of {kind} could not be heard")),
                ..Self::new(condition, Verdict::Unknown)
            },
        }
    }

    fn until(end: SystemTime, now: SystemTime) -> Self {
        let verdict = if now < end { Verdict::Met } else { Verdict::Unmet };
        Self::new(Condition::Until(end), verdict)
    }

    /// The word for condition and verdict together, as `explain` prints it.
    pub fn word(&self) -> &'static str {
        match (&self.condition, self.verdict) {
            (Condition::Lacks(_), Verdict::Met) => "lacks",
            (_, Verdict::Met) => "have",
            (_, Verdict::Unknown) => "GAP",
            (Condition::Lacks(_), Verdict::Unmet) => "EXCL",
            (Condition::Until(_), Verdict::Unmet) => "PAST",
            (Condition::Room(_), Verdict::Unmet) => "FULL",
            (_, Verdict::Refused) => "BAD",
            (_, Verdict::Unmet) => "MISS",
        }
    }

    /// What the process has, or what else there is to say; empty when there is nothing.
    pub fn remark(&self) -> String {
        let instead: Vec<String> = self.instead.iter().map(ToString::to_string).collect();
        let has = (!instead.is_empty()).then(|| format!("process has {}", instead.join(" ")));
        let parts: Vec<String> = has.into_iter().chain(self.note.clone()).collect();
        parts.join("; ")
    }
}

/// What the process has of the sort of `selector`: the same type, and as many leading words of the value in common as
/// any other of its selectors, one at least.
fn same_sort(selector: &Selector, process: &SelectorSet) -> Vec<Selector> {
    let words =
        |selector: &Selector| -> Vec<String> { selector.value().split(':').map(Into::into).collect() };
    let wanted = words(selector);
    let common = |other: &Selector| {
        words(other).iter().zip(&wanted).take_while(|(other, wanted)| other == wanted).count()
    };
    let of_kind = || process.iter().filter(|other| other.kind() == selector.kind());
    let most = of_kind().map(common).max().unwrap_or(0);
    if most == 0 {
        return vec![];
    }
    let mut alike: Vec<&Selector> = of_kind().filter(|other| common(other) == most).collect();
    let likeness = |other: &Selector| {
        // Long values are no slips, and the comparison costs the product of both lengths.
        let comparable = other.value().len() <= 256 && selector.value().len() <= 256;
        if comparable { strsim::jaro_winkler(other.value(), selector.value()) } else { 0.0 }
    };
    alike.sort_by(|a, b| likeness(b).total_cmp(&likeness(a)));
    alike.into_iter().take(MAX_INSTEAD).cloned().collect()
}

fn unknown(selector: &Selector) -> String {
    let field = selector.value().split(':').next().unwrap_or_default();
    match field {
        "" => format!("{} is not known, and that does not count", selector.kind()),
        field => format!("{}:{field} is not known, and that does not count", selector.kind()),
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Has(selector) => selector.fmt(f),
            Self::Named(placeholder) => placeholder.fmt(f),
            Self::Room(limit) => write!(f, "fewer than {limit} identities in use"),
            Self::Lacks(excluded) if excluded.value().is_empty() => write!(f, "exclude {}", excluded.kind()),
            Self::Lacks(excluded) => write!(f, "exclude {excluded}"),
            Self::AttestedBy(kind) => write!(f, "attested_by {kind}"),
            Self::Until(end) => write!(f, "until {}", humantime::format_rfc3339_seconds(*end)),
        }
    }
}

/// `MISS  unix:uid:1000   process has unix:uid:1001`
impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<5} {}", self.word(), self.condition)?;
        let remark = self.remark();
        if remark.is_empty() { Ok(()) } else { write!(f, "   {remark}") }
    }
}
