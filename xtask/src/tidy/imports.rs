//! Knowledge runs one way: a stage imports the standard's names and the stages that feed it.

use super::Finding;

/// Every stage in the order of the flow, and whose modules it may name. All may name those of
/// [`COMMON`], which name nobody.
const STAGES: [(&str, &[&str]); 25] = [
    ("spiffe", &[]),
    ("problem", &[]),
    ("open", &[]),
    ("plain_file", &[]),
    ("quiet", &[]),
    ("rate", &[]),
    ("share", &[]),
    ("kernel", &[]),
    ("process", &["kernel"]),
    ("attestation", &["kernel", "process"]),
    ("registration", &["attestation"]),
    ("decision", &["kernel", "attestation", "registration"]),
    ("authority", &[]),
    ("svid", &["attestation", "registration", "decision", "authority"]),
    ("caller", &["attestation", "decision", "svid"]),
    ("sds", &["attestation", "registration", "decision", "svid", "caller"]),
    ("workload_api", &["attestation", "registration", "decision", "svid", "caller"]),
    (
        "front",
        &["kernel", "attestation", "registration", "decision", "svid", "caller", "sds", "workload_api"],
    ),
    ("authz", &["kernel", "attestation", "registration", "decision", "svid", "caller"]),
    ("health", STAGES_THAT_SERVE),
    ("admin", STAGES_THAT_SERVE),
    ("config", STAGES_THAT_SERVE),
    ("telemetry", STAGES_THAT_SERVE),
    ("app", EVERYBODY),
    ("cli", EVERYBODY),
];

/// What health, settings, metrics and the operator's commands speak about; none of it speaks about them.
const STAGES_THAT_SERVE: &[&str] = &[
    "kernel",
    "process",
    "attestation",
    "registration",
    "decision",
    "authority",
    "svid",
    "caller",
    "sds",
    "workload_api",
    "front",
    "authz",
    "health",
    "config",
];
const EVERYBODY: &[&str] = &["*"];
/// What every stage may name.
const COMMON: [&str; 7] = ["spiffe", "problem", "open", "plain_file", "quiet", "rate", "share"];
const SOURCES: &str = "agent/src/";

/// Names of other stages in `text`, the content of `file`, that the table does not allow.
pub(super) fn check(file: &str, text: &str) -> Vec<Finding> {
    let Some(stage) = stage_of(file) else { return Vec::new() };
    let finding = |line, rule| Finding { file: file.to_owned(), line, rule };
    let Some((_, allowed)) = STAGES.iter().find(|(name, _)| *name == stage) else {
        let rule =
            format!("module `{stage}` has no place in the flow: give it one in xtask/src/tidy/imports.rs");
        return vec![finding(1, rule)];
    };
    let mut findings = Vec::new();
    for (line, target) in named_modules(text) {
        let known = STAGES.iter().any(|(name, _)| *name == target);
        let common = stage != "spiffe" && COMMON.contains(&target.as_str());
        let fed_by = allowed.contains(&target.as_str()) || *allowed == EVERYBODY;
        if known && target != stage && !common && !fed_by {
            findings.push(finding(line, format!("`{stage}` may not name `{target}`: it does not feed it (STAGES in xtask/src/tidy/imports.rs)")));
        }
    }
    findings
}

/// `agent/src/sds.rs` and everything below `agent/src/sds/` is the stage `sds`; `lib.rs` and `main.rs` are none.
fn stage_of(file: &str) -> Option<&str> {
    let inside = file.strip_prefix(SOURCES)?.strip_suffix(".rs")?;
    let stage = inside.split('/').next()?;
    (!["lib", "main", "bin"].contains(&stage)).then_some(stage)
}

/// The first segment of every `crate::` path outside comments, with its line, also from groups over many lines.
fn named_modules(text: &str) -> Vec<(usize, String)> {
    let code = without_comments(text);
    let mut named = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let line = code[..at].matches('\n').count() + 1;
        let path = &code[at + "crate::".len()..];
        match path.strip_prefix('{') {
            Some(group) => {
                let members = group_members(group).into_iter();
                named.extend(members.map(|(down, name)| (line + down, name)));
            }
            None => named.push((line, first_segment(path))),
        }
    }
    named
}

/// The first segments of `a::b, c::{d, e}, f}…`, up to the brace that closes the group, with their line below
/// the start.
fn group_members(group: &str) -> Vec<(usize, String)> {
    let mut members = Vec::new();
    let (mut depth, mut line, mut at_start) = (0_usize, 0, true);
    for (at, character) in group.char_indices() {
        match character {
            '\n' => line += 1,
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => at_start = true,
            other if depth == 0 && at_start && !other.is_whitespace() => {
                members.push((line, first_segment(&group[at..])));
                at_start = false;
            }
            _ => {}
        }
    }
    members
}

fn first_segment(path: &str) -> String {
    path.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// The same lines, cut where a comment starts. A `//` inside a string cuts too much, which hides nothing that is
/// written as an import.
fn without_comments(text: &str) -> String {
    text.lines()
        .map(|line| line.split_once("//").map_or(line, |(code, _)| code))
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(file: &str, text: &str) -> Vec<usize> {
        check(file, text).into_iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn a_stage_may_name_what_feeds_it() {
        let text =
            "use crate::{registration::RegistrationEntry, spiffe::{Bundle, X509Svid}};\nuse crate::svid::x;";
        assert_eq!(lines("agent/src/svid/snapshot.rs", text), [0; 0]);
    }

    #[test]
    fn a_stage_may_not_name_what_it_feeds() {
        assert_eq!(lines("agent/src/svid.rs", "\nuse crate::sds::Subscription;"), [2]);
    }

    #[test]
    fn a_member_of_a_group_is_found_on_its_own_line() {
        let text = "use crate::{\n    spiffe::{SpiffeId, TrustDomain},\n    sds::{self, front},\n};\n";
        assert_eq!(lines("agent/src/registration.rs", text), [3]);
    }

    #[test]
    fn a_path_in_the_middle_of_code_counts_as_an_import() {
        assert_eq!(
            lines("agent/src/kernel/ring.rs", "fn f() -> crate::app::App { crate::spiffe::x() }"),
            [1]
        );
    }

    #[test]
    fn a_comment_names_whom_it_likes() {
        assert_eq!(lines("agent/src/kernel.rs", "/// See [`crate::app`].\nfn f() {} // crate::cli"), [0; 0]);
    }

    #[test]
    fn a_module_without_a_place_in_the_flow_is_found() {
        assert_eq!(lines("agent/src/helpers.rs", ""), [1]);
    }

    #[test]
    fn the_standards_names_know_nobody() {
        assert_eq!(lines("agent/src/spiffe/id.rs", "use crate::problem::Problem;"), [1]);
    }

    #[test]
    fn files_outside_the_agent_have_no_stage() {
        assert_eq!(lines("bench/src/main.rs", "use crate::app;"), [0; 0]);
        assert_eq!(lines("agent/src/lib.rs", "use crate::app;"), [0; 0]);
    }
}
