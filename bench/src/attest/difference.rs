//! Two sets of selectors of one process, side by side.

use std::{collections::BTreeSet, fmt};

use serde_json::{Value, json};

/// Type and value. Compared as the pair, never as the text.
pub(super) type Set = BTreeSet<(String, String)>;

/// What one process is to both agents, and whether that is as documented.
#[derive(Debug)]
pub(crate) struct Comparison {
    pub(super) subject: String,
    pub(super) pid: u32,
    pub(super) vouch: Set,
    pub(super) spire: Set,
    /// The agent cannot find the executable at the path that the process has for it: Vouch says nothing of
    /// `unix:path` then, and SPIRE repeats what the process's own mount namespace says.
    pub(super) path_unverified: bool,
}

/// Where one selector stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Both,
    VouchAlone,
    SpireAlone,
    /// On one side alone, and documented so.
    Meant,
}

impl Comparison {
    /// Selectors on one side alone that should be on both, and the other way round.
    pub(crate) fn differences(&self) -> Vec<String> {
        let mut found: Vec<_> = self
            .sides()
            .filter(|(_, side)| matches!(side, Side::VouchAlone | Side::SpireAlone))
            .map(|(selector, side)| format!("{}: {}", side.words(), text(selector)))
            .collect();
        let said = |set: &Set| set.iter().any(is_path);
        if self.path_unverified && (said(&self.vouch) || !said(&self.spire)) {
            found.push("unix:path should be on SPIRE's side alone".into());
        }
        if self.vouch.is_empty() || self.spire.is_empty() {
            found.push("a side without selectors proves nothing".into());
        }
        found
    }

    pub(crate) fn raw(&self) -> Value {
        let texts = |set: &Set| set.iter().map(text).collect::<Vec<_>>();
        json!({
            "process": self.subject,
            "pid": self.pid,
            "vouch": texts(&self.vouch),
            "spire": texts(&self.spire),
            "unix_path_is_verifiable": !self.path_unverified,
            "differences": self.differences(),
        })
    }

    fn sides(&self) -> impl Iterator<Item = (&(String, String), Side)> {
        self.vouch.union(&self.spire).map(|selector| {
            let side = match (self.vouch.contains(selector), self.spire.contains(selector)) {
                (true, true) => Side::Both,
                (true, false) if selector.0 == "kernel" || is_newer(selector) => Side::Meant,
                (true, false) => Side::VouchAlone,
                (false, _) if self.path_unverified && is_path(selector) => Side::Meant,
                (false, _) => Side::SpireAlone,
            };
            (selector, side)
        })
    }
}

impl Side {
    fn words(self) -> &'static str {
        match self {
            Self::Both => "both",
            Self::VouchAlone => "Vouch alone",
            Self::SpireAlone => "SPIRE alone",
            Self::Meant => "as documented",
        }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let differences = self.differences();
        let verdict = if differences.is_empty() { "equal" } else { "DIFFERENT" };
        writeln!(f, "{} (pid {}): {verdict}", self.subject, self.pid)?;
        for (selector, side) in self.sides() {
            let mark = |set: &Set| if set.contains(selector) { "yes" } else { "-" };
            let note = if side == Side::Both { "" } else { side.words() };
            let line =
                format!("  {:<5} {:<5} {}", mark(&self.vouch), mark(&self.spire), shortened(&text(selector)));
            writeln!(f, "{}", format!("{line:<78} {note}").trim_end())?;
        }
        Ok(())
    }
}

fn is_path((kind, value): &(String, String)) -> bool {
    kind == "unix" && value.starts_with("path:")
}

/// SPIRE has it in later releases than the one that is built here.
fn is_newer((kind, value): &(String, String)) -> bool {
    kind == "docker" && value.starts_with("image_config_digest:")
}

fn text((kind, value): &(String, String)) -> String {
    format!("{kind}:{value}")
}

/// A hash need not be read to its end.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(texts: &[&str]) -> Set {
        let split = |text: &&str| text.split_once(':').map(|(kind, value)| (kind.into(), value.into()));
        texts.iter().map(|text| split(text).unwrap()).collect()
    }

    fn of(vouch: &[&str], spire: &[&str], path_unverified: bool) -> Vec<String> {
        let (vouch, spire) = (set(vouch), set(spire));
        Comparison { subject: "x".into(), pid: 1, vouch, spire, path_unverified }.differences()
    }

    #[test]
    fn equal_sets_with_more_from_the_kernel_do_not_differ() {
        assert_eq!(of(&["unix:uid:0", "kernel:netns:host"], &["unix:uid:0"], false), [""; 0]);
    }

    #[test]
    fn what_only_later_releases_of_spire_have_may_be_missing_there() {
        let more = ["docker:image_config_digest:sha256:a", "docker:image_id:b"];
        assert_eq!(of(&more, &more[1..], false), [""; 0]);
        assert_eq!(of(&more[1..], &more, false).len(), 1);
        assert_eq!(of(&more, &more[..1], false), ["Vouch alone: docker:image_id:b"]);
    }

    #[test]
    fn any_other_selector_on_one_side_is_a_difference() {
        assert_eq!(of(&["unix:uid:0", "unix:gid:0"], &["unix:uid:0"], false), ["Vouch alone: unix:gid:0"]);
        assert_eq!(of(&["unix:uid:0"], &["unix:uid:0", "unix:gid:0"], false), ["SPIRE alone: unix:gid:0"]);
        assert_eq!(of(&["unix:uid:0"], &["unix:uid:1"], false).len(), 2);
        // SPIRE has no selectors of the kernel: if it had, they would be compared.
        assert_eq!(of(&["unix:uid:0"], &["unix:uid:0", "kernel:x"], false).len(), 1);
    }

    #[test]
    fn a_path_may_be_missing_only_where_it_cannot_be_verified() {
        let (with, without) = (["unix:path:/a", "unix:uid:0"], ["unix:uid:0"]);
        assert_eq!(of(&without, &with, true), [""; 0]);
        assert_eq!(of(&without, &with, false), ["SPIRE alone: unix:path:/a"]);
        assert_eq!(of(&with, &with, true), ["unix:path should be on SPIRE's side alone"]);
        assert_eq!(of(&without, &without, true).len(), 1);
    }

    #[test]
    fn two_empty_sets_are_no_proof() {
        assert_eq!(of(&[], &[], false).len(), 1);
    }

    #[test]
    fn a_colon_makes_no_two_facts_equal() {
        let vouch = [("unix".to_owned(), "a:b".to_owned())].into_iter().collect();
        let spire = [("unix:a".to_owned(), "b".to_owned())].into_iter().collect();
        let comparison = Comparison { subject: "x".into(), pid: 1, vouch, spire, path_unverified: false };
        assert_eq!(comparison.differences().len(), 2);
    }
}
