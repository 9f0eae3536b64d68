//! The policies of `tests/policies/probes`: each says in its first lines whether we answer as OPA does, `equal`, or refuse
//! to load it, `refused`, and what OPA says. Beside each is the input it is asked with. Those whose name begins with `v0_` are in the syntax
//! before OPA 1.0.

use vouch_tests::{
    Judge, Need,
    opa::{Answer, Policy, Syntax},
    require,
};

use super::{
    ours::{self, Relation},
    texts,
};

struct File {
    name: String,
    policy: Policy,
    input: String,
    /// `equal` or `refused`.
    expect: String,
    /// A value, `undefined`, `error` or `refused`.
    opa: String,
}

#[test]
fn what_the_policies_under_probes_say_of_both_engines_is_so() {
    require!(Need::Opa);
    let files = files();
    assert!(files.len() >= 100, "{}", files.len());
    let questions: Vec<_> = files.iter().map(|file| (&file.policy, Some(file.input.as_str()))).collect();
    let answers = Judge::start().ask(&questions);
    let found: Vec<_> =
        files.iter().zip(&answers).filter_map(|(file, judge)| file.difference(judge)).collect();
    assert!(found.is_empty(), "{} differences:\n{}", found.len(), found.join("\n"));
}

fn files() -> Vec<File> {
    let texts = texts::of("policies/probes");
    let policies = texts.iter().filter_map(|(name, text)| Some((name.strip_suffix(".rego")?, text)));
    policies
        .map(|(name, text)| {
            let input = texts.get(&format!("{name}.json"));
            read(name, text, input.unwrap_or_else(|| panic!("{name} has an input beside it")))
        })
        .collect()
}

fn read(name: &str, text: &str, input: &str) -> File {
    let said = |what: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("# {what}: ")));
        line.unwrap_or_else(|| panic!("{name} has no line `# {what}: …`")).to_owned()
    };
    let syntax = if name.starts_with("v0_") { Syntax::V0 } else { Syntax::V1 };
    let policy = Policy::new(syntax, text, "data.envoy.authz.allow");
    File { name: name.to_owned(), policy, input: input.to_owned(), expect: said("expect"), opa: said("opa") }
}

impl File {
    fn difference(&self, judge: &Answer) -> Option<String> {
        let told = match judge {
            Answer::Value(value) => value.to_string(),
            Answer::Undefined => "undefined".to_owned(),
            Answer::Error(_) => "error".to_owned(),
            Answer::LoadError(_) => "refused".to_owned(),
        };
        let ours = ours::decide(&ours::load(&self.policy), ours::input(&self.input));
        let relation = ours.to(judge);
        let expected = match (self.expect.as_str(), self.opa.as_str()) {
            ("refused", _) | ("equal", "refused") => Relation::Refused,
            ("equal", _) => Relation::Equal,
            (other, _) => panic!("{}: expects {other:?}", self.name),
        };
        let fine = relation == expected && told == self.opa;
        (!fine).then(|| format!("{relation:?} | {}\n  judge: {judge:?}\n  ours: {ours}", self.name))
    }
}
