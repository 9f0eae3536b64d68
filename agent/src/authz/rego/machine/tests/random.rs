//! Policies of what is on the list, in all shapes, decided by both.

use std::cell::Cell;

use proptest::{
    collection::vec,
    prelude::*,
    sample::select,
    strategy::{BoxedStrategy, Union},
    test_runner::TestRunner,
};

use super::*;

const NAMES: [&str; 15] = [
    "input.a",
    "input.a",
    "input.b",
    "input.c.d",
    "input.e[0]",
    "input.e",
    "input[input.b]",
    "alias",
    "c.d",
    "data.doc.x",
    "data.doc.xs",
    "data.doc.none",
    "data.lib.safe",
    "v",
    "input",
];

const LITERALS: [&str; 16] = [
    "\"x\"",
    "\"y\"",
    "\"a=b\"",
    "\"a\"",
    "\"=\"",
    "1",
    "1.0",
    "2",
    "true",
    "false",
    "null",
    "[\"x\"]",
    "{\"x\", 1}",
    "{\"d\": \"x\"}",
    "`x`",
    "[]",
];

const VALUES: [&str; 18] = [
    "\"x\"",
    "\"y\"",
    "\"a=b\"",
    "\"a\"",
    "1",
    "1.0",
    "\"1\"",
    "true",
    "false",
    "null",
    "[\"x\"]",
    "[]",
    "{}",
    "{\"d\": \"x\"}",
    "\"\"",
    "{\"0\": \"x\"}",
    "[1, \"x\", [2]]",
    "\"b\"",
];

/// Functions of the engine and of ours, of one argument and of two.
const ONE: [&str; 8] =
    ["count", "upper", "is_string", "type_name", "to_number", "sum", "json.marshal", "sort"];
const TWO: [&str; 8] =
    ["concat", "startswith", "split", "contains", "format_int", "trim", "regex.match", "array.concat"];

/// Statements and values that may need some rules.
#[derive(Clone)]
struct Grammar {
    term: BoxedStrategy<String>,
    statement: BoxedStrategy<String>,
}

impl Grammar {
    fn new(rules: &[&'static str]) -> Self {
        let names: Vec<&'static str> = NAMES.iter().chain(rules).chain(rules).copied().collect();
        let term = term(names.clone()).boxed();
        let statement = statement(&names, &term);
        Self { term, statement }
    }

    fn body(&self) -> BoxedStrategy<String> {
        let first = prop_oneof![3 => Just("v := input.b".to_owned()), 1 => Just("v = input.a".to_owned())];
        let statements = vec(self.statement.clone(), 0..4);
        (first, statements).prop_map(|(first, rest)| format!("{first}; {}", rest.join("; "))).boxed()
    }

    fn rule(&self, name: &'static str) -> BoxedStrategy<String> {
        let value = prop_oneof![self.term.clone(), Just("v".to_owned())];
        let default = select(vec!["", "default NAME := \"y\"\n", "default NAME := [1]\n"]);
        (value, self.body(), default, any::<bool>())
            .prop_map(move |(value, body, default, has_body)| {
                let body = if has_body {
                    format!(" if {{ {} }}", body.trim_end_matches("; "))
                } else {
                    String::new()
                };
                let value = if has_body { value } else { value.replace('v', "input.a") };
                format!("{}{name} := {value}{body}\n", default.replace("NAME", name))
            })
            .boxed()
    }
}

fn term(names: Vec<&'static str>) -> impl Strategy<Value = String> {
    let literals = LITERALS.to_vec();
    let simple = prop_oneof![select(names).prop_map(str::to_owned), select(literals).prop_map(str::to_owned)];
    simple.prop_recursive(2, 6, 2, |inner| {
        let pair = (inner.clone(), inner.clone());
        prop_oneof![
            (select(&ONE[..]), inner.clone()).prop_map(|(function, x)| format!("{function}({x})")),
            (select(&TWO[..]), pair.clone()).prop_map(|(function, (x, y))| format!("{function}({x}, {y})")),
            pair.clone().prop_map(|(x, y)| format!("[{x}, {y}]")),
            pair.clone().prop_map(|(x, y)| format!("{{\"k\": {x}, \"d\": {y}}}")),
            pair.clone().prop_map(|(x, y)| format!("({x} + {y})")),
            pair.clone().prop_map(|(x, y)| format!("({x} == {y})")),
            pair.prop_map(|(x, y)| format!("({x} in {y})")),
            inner.prop_map(|x| format!("{{{x}}}")),
        ]
    })
}

fn statement(names: &[&'static str], term: &BoxedStrategy<String>) -> BoxedStrategy<String> {
    let pair = || (term.clone(), term.clone());
    let operator = || select(&["==", "!=", "<", "<=", ">", ">=", "in"][..]);
    let compared = || {
        (term.clone(), operator(), term.clone())
            .prop_map(|(one, operator, other)| format!("{one} {operator} {other}"))
            .boxed()
    };
    let name = || select(names.to_vec());
    Union::new_weighted(vec![
        (4, (name(), select(&LITERALS[..])).prop_map(|(one, other)| format!("{one} == {other}")).boxed()),
        (4, (name(), select(&LITERALS[..])).prop_map(|(one, other)| format!("not {one} == {other}")).boxed()),
        (3, compared()),
        (3, compared().prop_map(|compared| format!("not {compared}")).boxed()),
        (2, term.clone()),
        (2, term.clone().prop_map(|term| format!("not {term}")).boxed()),
        (1, (name(), term.clone()).prop_map(|(one, other)| format!("{one} = {other}")).boxed()),
        (1, term.clone().prop_map(|term| format!("_ = {term}")).boxed()),
        (1, term.clone().prop_map(|term| format!("_ := {term}")).boxed()),
        (1, pair().prop_map(|(text, by)| format!("[_, _] := split({text}, {by})")).boxed()),
        (1, pair().prop_map(|(text, by)| format!("[_, p] := split({text}, {by}); not p == \"b\"")).boxed()),
        (1, term.clone().prop_map(|text| format!("[\"a\", q] = split({text}, \"=\"); not q == 1")).boxed()),
        (1, term.clone().prop_map(|term| format!("unused := {term}")).boxed()),
    ])
    .boxed()
}

fn document() -> impl Strategy<Value = String> {
    (vec(select(&VALUES[..]), 4), any::<[bool; 4]>()).prop_map(|(values, absent)| {
        let fields = ["\"a\": ", "\"b\": ", "\"c\": {\"d\": ", "\"e\": ["];
        let closes = ["", "", "}", "]"];
        let is_present = |at: &usize| !absent[*at] || *at == 1;
        let fields =
            (0..4).filter(is_present).map(|at| format!("{}{}{}", fields[at], values[at], closes[at]));
        format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
    })
}

fn load(rules: &str) -> Option<Policy> {
    let value = json(r#"{"x": "x", "xs": ["x", 1]}"#);
    let doc = Data { name: "doc.json".into(), path: vec!["doc".into()], value };
    let lib = "package lib\ndefault safe := false\nsafe if input.a == \"x\"\nsafe if input.b == 1\n";
    let sources = [source("a.rego", &format!("package envoy.authz\n{rules}\n")), source("lib.rego", lib)];
    Policy::compile(&sources, &[doc], &entrypoint(), &patient()).ok()
}

/// How often something came of a random policy.
#[derive(Default)]
struct Seen {
    machines: Cell<usize>,
    decisions: Cell<usize>,
    allowed: Cell<usize>,
    denied: Cell<usize>,
}

fn add(count: &Cell<usize>, more: bool) {
    count.set(count.get() + usize::from(more));
}

#[test]
fn the_machine_decides_as_the_engine_does() {
    let cases = std::env::var("VOUCH_RANDOM_POLICIES").map_or(2_048, |count| count.parse().unwrap());
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let (all, two, one) = (["r0", "r1", "data.envoy.authz.r2"], ["r1", "r2"], ["r2"]);
    let strategy = (
        vec(Grammar::new(&all).body(), 1..4),
        (Grammar::new(&two).rule("r0"), Grammar::new(&one).rule("r1"), Grammar::new(&[]).rule("r2")),
        select(vec!["", "default allow := false\n", "default allow := {\"allowed\": false}\n"]),
        vec(document(), 1..8),
    );
    let seen = Seen::default();
    let ran = TestRunner::new(config).run(&strategy, |(bodies, helpers, otherwise, inputs)| {
        let rules: Vec<String> =
            bodies.iter().map(|body| format!("allow if {{ {} }}\n", body.trim_end_matches("; "))).collect();
        let (r0, r1, r2) = helpers;
        let text =
            format!("import input.c as c\nalias := input.a\n{otherwise}{}{r0}{r1}{r2}", rules.concat());
        let Some(mut policy) = load(&text).filter(Policy::has_machine) else { return Ok(()) };
        add(&seen.machines, true);
        for input in inputs {
            let plain = policy.evaluate_whole(json(&input));
            prop_assert_eq!(&alone(&mut policy, &input), &plain, "{} with {}", text, input);
            prop_assert_eq!(&policy.evaluate(json(&input)), &plain, "{} with {}", text, input);
            let machine = policy.machine_mut().as_ref().expect("a machine");
            let bodies: Vec<usize> = (0..machine.bodies).collect();
            let holds = machine.evaluate(json(&input), Some(&bodies)) == Ok(Value::from(true));
            prop_assert_eq!(holds, plain == Ok(Value::from(true)), "{} with {}", text, input);
            add(&seen.decisions, true);
            add(&seen.allowed, holds);
            add(&seen.denied, plain.is_ok() && !holds);
        }
        Ok(())
    });
    ran.unwrap();
    let (machines, decisions) = (seen.machines.get(), seen.decisions.get());
    println!("{machines} machines, {} of {decisions} allowed", seen.allowed.get());
    assert!(machines > cases as usize / 25, "only {machines} of {cases} have a machine");
    assert!(seen.allowed.get() > decisions / 20, "only {} of {decisions} are allowed", seen.allowed.get());
    assert!(seen.denied.get() > decisions / 20, "only {} of {decisions} are denied", seen.denied.get());
}
