//! The answer for people.

use std::{
    fmt::Write as _,
    time::{Duration, UNIX_EPOCH},
};

use vouch_proto::admin::{Applicant, Comparison, Decision, ExplainResponse};

use super::{Answer, number::Number};
use crate::cli::output;

/// Column in which values begin.
const INDENT: &str = "          ";

pub(super) fn write(answer: &Answer, out: &mut String) {
    if let Some(number) = &answer.number {
        describe_number(number, out);
    }
    if let Some(owners) = &answer.owners {
        let pids: Vec<String> = owners.pids.iter().map(|pid| format!("pid {pid}")).collect();
        line(out, "socket", &format!("{} of {}", answer.about, pids.join(", ")));
    }
    if let Some(check) = &answer.check {
        describe_check(check, out);
    }
    for (at, agent) in answer.agent.iter().enumerate() {
        if at > 0 || answer.owners.is_some() {
            out.push('\n');
        }
        describe(agent, out);
    }
}

/// What was decided first, and then everything that was asked and said. Who asks is a stranger where nobody could tell.
fn describe_check(check: &serde_json::Value, out: &mut String) {
    let text = |pointer: &str| {
        output::visible(check.pointer(pointer).and_then(|value| value.as_str()).unwrap_or("-"))
    };
    let _ = writeln!(out, "check     {}, {}", upper(&text("/answer")), text("/timestamp"));
    line(out, "policy", &format!("{} ({}, revision {})", text("/policy"), text("/path"), text("/revision")));
    if text("/reason") != "policy" {
        line(out, "reason", &format!("{}: {}", text("/reason"), text("/error/message")));
    }
    let listener = check.get("listener").map(|_| format!(" at {}", text("/listener"))).unwrap_or_default();
    let asker = check.get("pid").map_or_else(|| "a stranger".to_owned(), |pid| format!("pid {pid}"));
    line(out, "asked by", &format!("{asker}{listener}"));
    let http = "/input/attributes/request/http";
    let (method, path) = (text(&format!("{http}/method")), text(&format!("{http}/path")));
    line(out, "request", &format!("{method} {path}"));
    line(out, "source", &text("/input/attributes/source/principal"));
    for part in ["result", "input"] {
        if let Some(value) = check.get(part) {
            line(out, part, &output::visible(&value.to_string()));
        }
    }
}

fn describe_number(number: &Number, out: &mut String) {
    let Number { number, group, says, cause, fix } = number;
    let _ = writeln!(out, "{number}  {says}   ({})", group.to_lowercase());
    line(out, "cause", cause);
    line(out, "fix", fix);
}

fn describe(agent: &ExplainResponse, out: &mut String) {
    for entry in &agent.entries {
        let conditions = entry.selectors.join(" ");
        line(out, "entry", &format!("{}  {}  {conditions}", entry.id, entry.spiffe_id));
    }
    if let Some(now) = &agent.now {
        let pid = now.applicant.as_ref().map_or(0, |applicant| applicant.pid);
        let _ = writeln!(out, "now       pid {pid}, asked now, would be {}", upper(&now.outcome));
        describe_decision(now, out);
        if agent.decisions.is_empty() {
            let _ = writeln!(out, "\nno decision about pid {pid} is remembered");
        }
    }
    for decision in &agent.decisions {
        separate(out);
        title(decision, out);
        describe_decision(decision, out);
    }
    if !agent.nearest.is_empty() {
        separate(out);
        out.push_str("those who did not get it and came closest\n");
    }
    for decision in &agent.nearest {
        separate(out);
        title(decision, out);
        describe_decision(decision, out);
    }
}

fn separate(out: &mut String) {
    if !out.is_empty() && !out.ends_with("\n\n") {
        out.push('\n');
    }
}

fn title(decision: &Decision, out: &mut String) {
    let what = match decision.outcome.as_str() {
        "denied" if decision.asked.is_empty() => "no identity issued".to_owned(),
        "denied" => format!("asked for {}", decision.asked.join(", ")),
        "lost" => format!("after a change of {}", decision.change),
        "refused" => format!("{}: {}", decision.code, decision.reason),
        _ => String::new(),
    };
    let times = match decision.count {
        0 | 1 => String::new(),
        count => format!("   {count} times, last {}", date(decision.last_at)),
    };
    let head = format!(
        "decision  {}  {}  {}  {what}{times}",
        decision.id,
        date(decision.first_at),
        upper(&decision.outcome)
    );
    let _ = writeln!(out, "{}", output::visible(head.trim_end()));
}

fn describe_decision(decision: &Decision, out: &mut String) {
    if let Some(applicant) = &decision.applicant {
        describe_applicant(applicant, !decision.id.is_empty(), out);
    }
    for identity in &decision.identities {
        line(out, "identity", &format!("{}  by entry {}", identity.spiffe_id, identity.entry_id));
    }
    if decision.cut {
        line(out, "selectors", "too many to be remembered");
    }
    if !decision.selectors.is_empty() {
        let costs: Vec<String> = decision
            .costs
            .iter()
            .map(|cost| format!("{} {}", cost.attestor, milliseconds(cost.took_ns)))
            .collect();
        line(out, &format!("selectors ({})", decision.selectors.len()), &costs.join("  "));
        for selector in &decision.selectors {
            let _ = writeln!(out, "{INDENT}{}", output::visible(selector));
        }
    }
    for gap in &decision.gaps {
        line(out, "not known", gap);
    }
    for cost in decision.costs.iter().filter(|cost| !cost.gap.is_empty()) {
        line(out, "because", &format!("{}: {}", cost.attestor, cost.gap));
    }
    let newly: Vec<_> = decision.matches.iter().filter(|now| !decision.identities.contains(now)).collect();
    for identity in newly {
        line(
            out,
            "by now",
            &format!("these selectors earn {} by entry {}", identity.spiffe_id, identity.entry_id),
        );
    }
    if !decision.closest.is_empty() {
        out.push_str("closest entries\n");
        for comparison in &decision.closest {
            describe_comparison(comparison, out);
        }
        for fix in decision.closest.iter().take(1).flat_map(|closest| &closest.fixes) {
            line(out, "fix", fix);
        }
    } else if decision.outcome == "denied" && decision.matches.is_empty() && !decision.selectors.is_empty() {
        line(out, "entries", "there are none");
        line(out, "fix", "write one into a file of [entries] files");
    }
}

fn describe_applicant(applicant: &Applicant, made: bool, out: &mut String) {
    let grade =
        if applicant.grade.is_empty() { String::new() } else { format!("   grade {}", applicant.grade) };
    let ids = if made { format!(" uid {} gid {}", applicant.uid, applicant.gid) } else { String::new() };
    line(out, "caller", &format!("pid {}{ids}{grade}   proof: {}", applicant.pid, applicant.proof));
    if !applicant.executable.is_empty() {
        let execs = match applicant.exec_count {
            count if count >= 0 => format!("   exec {count}"),
            _ => String::new(),
        };
        line(out, "program", &format!("{} (device, inode){execs}", applicant.executable));
    }
    if !applicant.cgroup.is_empty() {
        line(out, "cgroup", &applicant.cgroup);
    }
    if !applicant.container.is_empty() {
        line(out, "container", &applicant.container);
    }
}

fn describe_comparison(comparison: &Comparison, out: &mut String) {
    let Comparison { entry_id, spiffe_id, file, line, unmet, conditions, .. } = comparison;
    let place = if file.is_empty() { String::new() } else { format!("   {file}:{line}") };
    let state = match unmet {
        0 => "met".to_owned(),
        _ => format!("{unmet} of {} missing", conditions.len()),
    };
    let _ = writeln!(out, "  entry {entry_id}  {spiffe_id}   {state}{place}");
    for condition in conditions {
        let has =
            (!condition.instead.is_empty()).then(|| format!("process has {}", condition.instead.join(" ")));
        let note = (!condition.note.is_empty()).then(|| condition.note.clone());
        let remark: Vec<String> = has.into_iter().chain(note).collect();
        let shown =
            format!("     {:<6} {:<38} {}", condition.verdict, condition.condition, remark.join("; "));
        let _ = writeln!(out, "{}", output::visible(shown.trim_end()));
    }
}

fn line(out: &mut String, name: &str, value: &str) {
    let shown = format!("{name:<9} {value}");
    let _ = writeln!(out, "{}", output::visible(shown.trim_end()));
}

fn upper(word: &str) -> String {
    word.to_uppercase()
}

fn milliseconds(nanos: u64) -> String {
    format!("{:.2}ms", Duration::from_nanos(nanos).as_secs_f64() * 1000.0)
}

fn date(millis: i64) -> String {
    output::date(UNIX_EPOCH + Duration::from_millis(u64::try_from(millis).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use vouch_proto::admin::{Condition, Cost};

    use super::*;

    fn denied() -> Decision {
        let condition = |verdict: &str, condition: &str, instead: &[&str]| Condition {
            verdict: verdict.into(),
            condition: condition.into(),
            instead: instead.iter().map(|text| (*text).to_owned()).collect(),
            note: String::new(),
        };
        Decision {
            id: "0197b2c4-6e11".into(),
            first_at: 1_751_000_000_000,
            last_at: 1_751_000_060_000,
            count: 3,
            outcome: "denied".into(),
            applicant: Some(Applicant {
                pid: 20117,
                uid: 1001,
                gid: 1001,
                grade: "kernel".into(),
                proof: "kernel record".into(),
                executable: "8:1:42".into(),
                exec_count: 1,
                ..Default::default()
            }),
            selectors: vec!["unix:gid:1001".into(), "unix:uid:1001".into()],
            gaps: vec!["unix:sha256".into()],
            costs: vec![Cost { attestor: "unix".into(), took_ns: 100_000, gap: "no entry asks".into() }],
            closest: vec![Comparison {
                entry_id: "3f1e".into(),
                spiffe_id: "spiffe://example.org/cart".into(),
                file: "/etc/vouch/entries.toml".into(),
                line: 12,
                unmet: 1,
                conditions: vec![
                    condition("have", "unix:gid:1001", &[]),
                    condition("MISS", "unix:uid:1000", &["unix:uid:1001"]),
                ],
                fixes: vec!["edit it".into()],
            }],
            ..Default::default()
        }
    }

    #[test]
    fn words_of_strangers_are_no_commands_to_a_terminal() {
        let forged = "a\u{1b}]0;x\u{7}\ndecision  0  SERVED\u{202e}";
        let mut decision = Decision { asked: vec![forged.into()], cut: false, ..denied() };
        decision.selectors.push(forged.into());
        decision.closest[0].conditions[1].instead.push(forged.into());
        let applicant = Applicant { cgroup: forged.into(), ..Default::default() };
        decision.applicant = Some(applicant);
        let agent = vec![ExplainResponse { decisions: vec![decision], ..Default::default() }];
        let mut page = String::new();
        write(&Answer { agent, ..Answer::default() }, &mut page);
        assert!(!page.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{page}");
        assert!(page.lines().filter(|line| line.starts_with("decision")).count() == 1, "{page}");
        assert_eq!(page.matches("a\\u{1b}]0;x\\u{7}\\ndecision  0  SERVED\\u{202e}").count(), 4, "{page}");
    }

    #[test]
    fn a_denial_is_one_page() {
        let answer = Answer {
            about: "0197b2c4-6e11".into(),
            kind: "decision",
            agent: vec![ExplainResponse { decisions: vec![denied()], ..Default::default() }],
            ..Answer::default()
        };
        let mut page = String::new();
        write(&answer, &mut page);
        let expected = "\
decision  0197b2c4-6e11  2025-06-27T04:53:20Z  DENIED  no identity issued   3 times, last 2025-06-27T04:54:20Z
caller    pid 20117 uid 1001 gid 1001   grade kernel   proof: kernel record
program   8:1:42 (device, inode)   exec 1
selectors (2) unix 0.10ms
          unix:gid:1001
          unix:uid:1001
not known unix:sha256
because   unix: no entry asks
closest entries
  entry 3f1e  spiffe://example.org/cart   1 of 2 missing   /etc/vouch/entries.toml:12
     have   unix:gid:1001
     MISS   unix:uid:1000                          process has unix:uid:1001
fix       edit it
";
        assert_eq!(page, expected);
    }

    #[test]
    fn a_number_needs_no_agent() {
        let answer = Answer {
            about: "e0412".into(),
            kind: "number",
            number: super::super::number::look_up("E0412"),
            ..Answer::default()
        };
        let mut page = String::new();
        write(&answer, &mut page);
        assert!(page.starts_with("E0412  no identity: no entry matches this process"), "{page}");
        assert!(page.contains("\ncause     ") && page.contains("\nfix       "), "{page}");
    }
}
