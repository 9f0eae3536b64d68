//! Small policies, each about one thing that could be understood otherwise.
//!
//! `tests/policies/expressions` has one expression a line; each is asked for its value, below `not`, and as what
//! blocks. `tests/policies/rules` has whole modules under headings. What is not to be equal says so: a line that
//! begins with `refused: `, a heading that ends with `(refused)` or with `(stricter)`. A line that begins with
//! `different: ` is about how numbers are written: ours have no text of their own, so 1.0 is 1.

use serde_json::json;
use vouch_tests::{
    Judge, Need,
    opa::{Answer, Policy, Syntax},
    require,
};

use super::{
    ours::{self, Ours, Relation},
    texts,
};

const INPUTS: [&str; 4] = [
    r#"{"n": 1, "path": "/data", "list": ["a", "b"], "object": {"x": "y", "z": "w"}, "no": false, "null": null, "user": {"name": "ann"}}"#,
    r#"{"n": 2, "path": "", "list": [], "object": {}, "no": true, "user": {"name": "bob", "admin": true}}"#,
    r#"{"n": "1", "path": 7, "list": "ab", "object": ["y"], "no": null, "user": null}"#,
    "{}",
];

/// One policy, what it is about, and how our answers should stand to the judge's.
struct Probe {
    about: String,
    policy: Policy,
    expected: Relation,
}

#[test]
fn an_expression_has_the_value_that_it_has_for_the_judge_and_allows_nothing_more_under_not() {
    require!(Need::Opa);
    let probes: Vec<_> = texts::of("policies/expressions")
        .into_iter()
        .flat_map(|(file, text)| text.lines().flat_map(|line| expression(&file, line)).collect::<Vec<_>>())
        .collect();
    assert!(probes.len() > 1900, "{}", probes.len());
    judged(&probes);
}

#[test]
fn a_module_means_what_it_means_to_the_judge_or_is_refused() {
    require!(Need::Opa);
    let mut texts = texts::of("policies/rules");
    texts.remove("shapes.txt").expect("they are asked for below");
    let probes: Vec<_> = texts.into_iter().flat_map(|(file, text)| modules(&file, &text)).collect();
    assert!(probes.len() > 350, "{}", probes.len());
    judged(&probes);
}

#[test]
fn what_envoy_is_told_is_what_the_judge_would_have_it_told() {
    require!(Need::Opa);
    let probes = modules("shapes", &texts::of("policies/rules")["shapes.txt"]);
    assert!(probes.len() >= 44, "{}", probes.len());
    judged(&probes);
}

fn expression(file: &str, line: &str) -> Vec<Probe> {
    let (expression, expected) = match line.split_once(": ") {
        Some(("refused", expression)) => (expression, Relation::Refused),
        Some(("different", expression)) => (expression, Relation::Different),
        _ => (line, Relation::Equal),
    };
    let forms = [
        ("the value of", format!("allow := {expression}")),
        ("not", format!("allow if not {expression}")),
        ("blocked by", format!("allow if not blocked\nblocked if {expression}")),
        ("not equal to", format!("allow if {expression} != \"no such value\"")),
    ];
    let probe = |(form, rules): (&str, String)| Probe {
        about: format!("{file}: {form} {expression}"),
        policy: policy(Syntax::V1, &rules),
        expected,
    };
    forms.map(probe).into()
}

fn modules(file: &str, text: &str) -> Vec<Probe> {
    let sections = text.split("\n## ").map(|section| section.strip_prefix("## ").unwrap_or(section));
    sections
        .map(|section| {
            let (heading, rules) = section.split_once('\n').expect("a heading has rules below it");
            let syntax = if heading.contains("(v0)") { Syntax::V0 } else { Syntax::V1 };
            let expected = match heading {
                heading if heading.ends_with("(refused)") => Relation::Refused,
                heading if heading.ends_with("(stricter)") => Relation::Stricter,
                _ => Relation::Equal,
            };
            Probe { about: format!("{file}: {heading}"), policy: policy(syntax, rules), expected }
        })
        .collect()
}

/// Modules are divided by `---`; one that names no package is in `p`.
fn policy(syntax: Syntax, rules: &str) -> Policy {
    let texts = rules.split("\n---\n").map(|text| {
        if text.starts_with("package ") { text.to_owned() } else { format!("package p\n{text}") }
    });
    let modules = texts.enumerate().map(|(index, text)| (format!("{index}.rego"), text)).collect();
    let data = json!({"numbers": {"one": 1, "two": 2}});
    Policy { syntax, modules, data, query: "data.p.allow".to_owned() }
}

impl Probe {
    /// One is enough where nothing of it is asked for.
    fn inputs(&self) -> &'static [&'static str] {
        let asks = self.policy.modules.values().any(|text| text.contains("input"));
        if asks { &INPUTS } else { &INPUTS[..1] }
    }
}

/// Asks both for each input.
///
/// # Panics
/// When one answer does not stand to the other as expected.
fn judged(probes: &[Probe]) {
    let questions: Vec<_> = probes
        .iter()
        .flat_map(|probe| probe.inputs().iter().map(move |input| (&probe.policy, Some(*input))))
        .collect();
    let mut answers = Judge::start().ask(&questions).into_iter();
    let mut found = Vec::new();
    for probe in probes {
        let loaded = ours::load(&probe.policy);
        for (input, judge) in probe.inputs().iter().zip(answers.by_ref()) {
            let ours = ours::decide(&loaded, ours::input(input));
            found.extend(difference(probe, input, &ours, &judge));
        }
    }
    assert!(found.is_empty(), "{} differences:\n{}", found.len(), found.join("\n"));
}

fn difference(probe: &Probe, input: &str, ours: &Ours, judge: &Answer) -> Option<String> {
    let relation = ours.to(judge);
    // What the judge does not load needs no remark, unless we do.
    let both_refuse = relation == Relation::Refused && matches!(judge, Answer::LoadError(_));
    let as_different = probe.expected == Relation::Different && relation == Relation::Equal;
    let fine = relation == probe.expected || both_refuse || as_different;
    (!fine).then(|| format!("{relation:?} | {} | {input}\n  judge: {judge:?}\n  ours: {ours}", probe.about))
}
