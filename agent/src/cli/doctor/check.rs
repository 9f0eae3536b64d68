//! One thing that was looked at, and how all of them are shown.

use std::fmt::Write as _;

use serde_json::{Value, json};
use vouch_proto::admin;

use crate::problem::Problem;

/// What stands first; other groups follow in the order in which they were looked at.
const ORDER: [&str; 12] = [
    "agent",
    "kernel",
    "cgroup",
    "process",
    "sockets",
    "state",
    "entries",
    "attestors",
    "issuer",
    "clock",
    "metrics",
    "system",
];

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Check {
    pub(super) group: String,
    pub(super) verdict: Verdict,
    /// Empty unless it warns or fails.
    pub(super) code: String,
    pub(super) text: String,
    pub(super) fix: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Ok,
    Warn,
    Fail,
    /// Good to know, and neither good nor bad.
    Fact,
    /// This user may not look.
    Unseen,
}

impl Check {
    fn new(group: &str, verdict: Verdict, code: &str, text: impl Into<String>, fix: &str) -> Self {
        Self { group: group.into(), verdict, code: code.into(), text: text.into(), fix: fix.into() }
    }

    pub(super) fn ok(group: &str, text: impl Into<String>) -> Self {
        Self::new(group, Verdict::Ok, "", text, "")
    }

    pub(super) fn fact(group: &str, text: impl Into<String>) -> Self {
        Self::new(group, Verdict::Fact, "", text, "")
    }

    pub(super) fn unseen(group: &str, text: impl Into<String>) -> Self {
        Self::new(group, Verdict::Unseen, "", text, "run it as root: sudo")
    }

    pub(super) fn warn(group: &str, code: &str, text: impl Into<String>, fix: &str) -> Self {
        Self::new(group, Verdict::Warn, code, text, fix)
    }

    pub(super) fn fail(group: &str, code: &str, text: impl Into<String>, fix: &str) -> Self {
        Self::new(group, Verdict::Fail, code, text, fix)
    }

    pub(super) fn of_problem(group: &str, verdict: Verdict, problem: &Problem) -> Self {
        let place = problem.place.as_ref().map(|place| format!("{}:{}", place.file, place.line));
        let parts = [place, Some(problem.title.clone()), problem.why.clone()];
        let text: Vec<String> = parts.into_iter().flatten().collect();
        Self::new(group, verdict, problem.code, text.join(": "), problem.fix.as_deref().unwrap_or_default())
    }
}

impl From<admin::Check> for Check {
    fn from(check: admin::Check) -> Self {
        let verdict = match check.verdict.as_str() {
            "ok" => Verdict::Ok,
            "warn" => Verdict::Warn,
            "fail" => Verdict::Fail,
            _ => Verdict::Fact,
        };
        Self { group: check.group, verdict, code: check.code, text: check.text, fix: check.fix }
    }
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
            Self::Fact => "fact",
            Self::Unseen => "unseen",
        }
    }

    fn mark(self) -> &'static str {
        match self {
            Self::Fail => "FAIL",
            Self::Fact => "-",
            Self::Unseen => "?",
            other => other.word(),
        }
    }
}

/// By group, in the order of [`ORDER`]; within one as they came.
pub(super) fn grouped(checks: Vec<Check>) -> Vec<(String, Vec<Check>)> {
    let mut groups: Vec<(String, Vec<Check>)> = ORDER.map(|name| (name.to_owned(), vec![])).to_vec();
    for check in checks {
        match groups.iter_mut().find(|(name, _)| *name == check.group) {
            Some((_, group)) => group.push(check),
            None => groups.push((check.group.clone(), vec![check])),
        }
    }
    groups.retain(|(_, checks)| !checks.is_empty());
    groups
}

pub(super) fn page(groups: &[(String, Vec<Check>)], exit: u8, out: &mut String) {
    for (name, checks) in groups {
        let _ = writeln!(out, "{name}");
        for check in checks {
            let code = if check.code.is_empty() { String::new() } else { format!("{} ", check.code) };
            let text = check.text.replace('\n', "\n        ");
            let _ = writeln!(out, "  {:<5} {code}{text}", check.verdict.mark());
            if !check.fix.is_empty() && check.verdict != Verdict::Ok {
                let _ = writeln!(out, "        fix: {}", check.fix.replace('\n', "\n        "));
            }
        }
    }
    let count = |verdict| {
        groups.iter().flat_map(|(_, checks)| checks).filter(|check| check.verdict == verdict).count()
    };
    let (ok, warn, fail) = (count(Verdict::Ok), count(Verdict::Warn), count(Verdict::Fail));
    let unseen = match count(Verdict::Unseen) {
        0 => String::new(),
        unseen => format!(", {unseen} could not be looked at"),
    };
    let all = ok + warn + fail;
    let _ = writeln!(out, "{all} checks: {ok} ok, {warn} warn, {fail} FAIL{unseen}  (exit {exit})");
}

/// deploy/schemas/doctor.schema.json
pub(super) fn json(groups: &[(String, Vec<Check>)], exit: u8) -> Value {
    let checks: Vec<Value> = groups
        .iter()
        .flat_map(|(_, checks)| checks)
        .map(|check| {
            let some = |text: &String| (!text.is_empty()).then(|| text.clone());
            json!({
                "group": check.group,
                "verdict": check.verdict.word(),
                "code": some(&check.code),
                "text": check.text,
                "fix": some(&check.fix),
            })
        })
        .collect();
    json!({ "schema": 1, "exit": exit, "checks": checks })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_names_each_finding_with_its_fix_and_counts_them() {
        let groups = grouped(vec![
            Check::ok("clock", "right"),
            Check::fail("sockets", "E0301", "held", "stop it"),
            Check::ok("kernel", "new"),
            Check::unseen("kernel", "hidden"),
            Check::warn("kernel", "W0430", "weak", ""),
            Check::fact("system", "so it is"),
        ]);
        let mut out = String::new();
        page(&groups, 5, &mut out);
        assert_eq!(
            out,
            "kernel\n  ok    new\n  ?     hidden\n        fix: run it as root: sudo\n  warn  W0430 weak\n\
             sockets\n  FAIL  E0301 held\n        fix: stop it\nclock\n  ok    right\nsystem\n  -     so it is\n\
             4 checks: 2 ok, 1 warn, 1 FAIL, 1 could not be looked at  (exit 5)\n"
        );
    }
}
