use proptest::{collection::vec, prelude::*, sample::select};

use super::*;
use crate::authz::rego::{
    EvalError, Policy,
    tests::{compile, json},
};

/// How many bodies are left to try; none when one is known to hold.
fn left(policy: &Policy, input: &str) -> usize {
    match policy.index().expect("an index").narrow(&json(input)) {
        Left::Nothing(_) => 0,
        Left::Few(bodies) => bodies.len(),
        Left::Many => usize::MAX,
    }
}

/// One rule for each of a hundred paths and identities.
fn hundred(test: impl Fn(usize) -> String) -> Policy {
    let rules: Vec<String> = (0..100).map(|at| format!("allow if {{ {} }}", test(at))).collect();
    compile(&format!("default allow := false\n{}", rules.join("\n"))).unwrap()
}

#[test]
fn of_a_hundred_rules_the_one_with_that_path_is_left() {
    let policy = hundred(|at| {
        format!(
            "input.method == \"GET\"; input.path == \"/p{at}\"; not input.no; input.id == \"spiffe://d/{at}\""
        )
    });
    assert_eq!(left(&policy, r#"{"method": "GET", "path": "/p42", "id": "spiffe://d/42"}"#), 1);
    assert_eq!(left(&policy, r#"{"method": "GET", "path": "/p42", "id": "spiffe://d/41"}"#), 0);
    assert_eq!(left(&policy, r#"{"method": "GET"}"#), 0);
    assert_eq!(left(&policy, "{}"), 0);
}

#[test]
fn beginnings_sets_and_names_for_parts_of_the_input_count() {
    let rules = "import input.attributes.request.http as http
path := http.path
allow if { not input.no; startswith(path, \"/a/\"); http.method in {\"GET\", \"HEAD\"} }
allow if { not input.no; startswith(path, \"/a/b/\"); http.method == \"PUT\" }
allow if { not input.no; \"POST\" == http.method; input.parsed_path[0] == \"b\" }";
    let policy = compile(rules).unwrap();
    let input = |method: &str, path: &str, first: &str| {
        format!(
            r#"{{"attributes": {{"request": {{"http": {{"method": "{method}", "path": "{path}"}}}}}}, "parsed_path": ["{first}"]}}"#
        )
    };
    assert_eq!(left(&policy, &input("HEAD", "/a/x", "a")), 1);
    assert_eq!(left(&policy, &input("PUT", "/a/x", "a")), 0);
    assert_eq!(left(&policy, &input("PUT", "/a/b/c", "a")), 1);
    assert_eq!(left(&policy, &input("POST", "/c", "b")), 1);
    assert_eq!(left(&policy, &input("POST", "/c", "a")), 0);
}

#[test]
fn a_body_of_nothing_but_conditions_needs_no_evaluation() {
    let policy =
        compile("allow if { input.a == 1; startswith(input.b, \"x\") }\nallow if f(input)\nf(x) if x.c")
            .unwrap();
    assert_eq!(left(&policy, r#"{"a": 1, "b": "xy"}"#), 0);
    assert_eq!(policy.evaluate(json(r#"{"a": 1, "b": "xy"}"#)).unwrap(), Value::from(true));
    assert_eq!(left(&policy, r#"{"a": 1, "b": "y", "c": true}"#), 1);
    assert_eq!(policy.evaluate(json(r#"{"a": 1, "b": "y", "c": true}"#)).unwrap(), Value::from(true));
}

#[test]
fn a_body_that_may_end_the_evaluation_is_evaluated_though_another_one_holds() {
    let rules = "x := 1 if input.a\nx := 2 if input.a\nallow if x == 1\nallow if input.b == 1";
    let policy = compile(rules).unwrap();
    let conflict = policy.evaluate(json(r#"{"a": true, "b": 1}"#));
    assert!(matches!(conflict, Err(EvalError::Conflict(_))), "{conflict:?}");
    assert_eq!(policy.evaluate(json(r#"{"b": 1}"#)).unwrap(), Value::from(true));
}

#[test]
fn a_body_without_conditions_is_always_left() {
    let rules = "allow if input.a == 1\nallow if input.a == 2\nallow if not input.b";
    assert_eq!(left(&compile(rules).unwrap(), r#"{"a": 3}"#), 1);
}

#[test]
fn a_body_that_may_err_is_always_left() {
    let rules = "value := 1 if input.b\nvalue := 2 if input.c
allow if { value == 1; input.a == 1 }\nallow if input.a == 2\nallow if input.a == 3";
    let policy = compile(rules).unwrap();
    assert_eq!(left(&policy, r#"{"a": 4, "b": 1, "c": 1}"#), 1);
    assert_eq!(policy.evaluate(json(r#"{"a": 4, "b": 1, "c": 1}"#)).unwrap_err().reason(), "conflict");
}

#[test]
fn rules_that_the_index_does_not_understand_have_none() {
    for rules in [
        "allow := 1 if input.a == 1\nallow := 2 if input.a == 2",
        "allow := input.a if input.a == 1",
        "allow := true",
        "allow if { input.a == 1 } else := false\nallow if input.a == 2\nallow if input.a == 3",
        "allow contains 1 if input.a == 1\nallow contains 2 if input.a == 2\nallow contains 3 if input.a == 3",
        "allow if not input.a == 1\nallow if input.a != 2\nallow if input.a with input as {}",
        "allow if f(input.a) == 1\nallow if { a := input.a; a == 1 }\nallow if input.a == input.b\nf(x) := x",
    ] {
        assert!(compile(rules).unwrap().index().is_none(), "{rules}");
    }
}

/// Statements over a small world, so that they hold often.
fn statement() -> impl Strategy<Value = String> {
    let name = || select(vec!["input.a", "input.b", "input.c.d", "alias", "c.d", "input.e[0]"]);
    let value = || select(vec!["\"x\"", "\"y\"", "\"xy\"", "1", "1.0", "true", "null", "[\"x\"]", "\"\""]);
    prop_oneof![
        4 => (name(), value()).prop_map(|(name, value)| format!("{name} == {value}")),
        1 => (name(), value()).prop_map(|(name, value)| format!("{value} == {name}")),
        1 => (name(), value()).prop_map(|(name, value)| format!("{name} = {value}")),
        3 => (name(), select(vec!["", "x", "xy", "y"])).prop_map(|(name, text)| format!("startswith({name}, \"{text}\")")),
        2 => (name(), value(), value()).prop_map(|(name, one, other)| format!("{name} in [{one}, {other}]")),
        1 => (name(), value()).prop_map(|(name, value)| format!("not {name} == {value}")),
        1 => (name(), value()).prop_map(|(name, value)| format!("{name} != {value}")),
        1 => name().prop_map(str::to_owned),
        1 => (name(), value()).prop_map(|(name, value)| format!("helper({name}, {value})")),
        1 => value().prop_map(|value| format!("some item in input.e; item == {value}")),
        1 => (value(), value()).prop_map(|(one, other)| format!("input.a == {one} with input.a as {other}")),
    ]
}

fn document() -> impl Strategy<Value = String> {
    let value = || {
        select(vec![
            "\"x\"", "\"y\"", "\"xy\"", "\"xyz\"", "1", "1.0", "true", "null", "[\"x\"]", "\"\"", "{}",
        ])
    };
    (vec(value(), 4), any::<[bool; 4]>()).prop_map(|(values, present)| {
        let fields = ["\"a\": ", "\"b\": ", "\"c\": {\"d\": ", "\"e\": ["];
        let closes = ["", "", "}", "]"];
        let fields =
            (0..4).filter(|at| present[*at]).map(|at| format!("{}{}{}", fields[at], values[at], closes[at]));
        format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn the_index_decides_as_plain_evaluation_does(
        bodies in vec(vec(statement(), 1..4), 1..31),
        otherwise in select(vec!["", "default allow := false\n", "default allow := {\"allowed\": false}\n"]),
        inputs in vec(document(), 1..8),
    ) {
        let rules: Vec<String> = bodies.iter().map(|body| format!("allow if {{ {} }}", body.join("; "))).collect();
        let text = format!(
            "import input.c as c\nalias := input.a\nhelper(x, y) if x == y\n{otherwise}{}",
            rules.join("\n")
        );
        // Some random bodies declare a variable twice.
        if let Ok(policy) = compile(&text) {
            for input in inputs {
                let plain = policy.evaluate_whole(json(&input));
                prop_assert_eq!(policy.evaluate(json(&input)), plain.clone(), "{} with {}", text, input);
                let read = policy.reads().cut(&json(&input)).unwrap_or_else(|| json("{}"));
                prop_assert_eq!(policy.evaluate_whole(read), plain, "{} with no more of {}", text, input);
            }
        }
    }
}
