mod random;

use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use regorus::Value;

use super::*;
use crate::authz::rego::{
    Data, Difference, Policy,
    builtins::Exceeded,
    tests::{compile, entrypoint, json, patient, source},
};

fn policy(rules: &str) -> Policy {
    compile(rules).unwrap_or_else(|faults| panic!("{rules}: {}", faults[0]))
}

/// What the machine by itself says.
fn alone(policy: &mut Policy, input: &str) -> Result<Value, EvalError> {
    let machine = policy.machine_mut().as_ref().expect("a machine");
    Policy::within(machine.time, || machine.evaluate(json(input), None))
}

#[test]
fn the_policies_of_the_mesh_have_a_machine_in_both_syntaxes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/demos/opa-mesh/policies");
    for name in ["ec-backend", "ec-web", "news-backend", "news-web"] {
        for file in [format!("{name}.rego"), format!("v1/{name}.rego")] {
            let text = fs::read_to_string(folder.join(&file)).unwrap();
            let sources = [source(&file, &text)];
            let policy = Policy::compile(&sources, &[], &entrypoint(), &Limits::default()).unwrap();
            assert!(policy.has_machine(), "{file}");
        }
    }
}

#[test]
fn what_is_on_the_list_has_a_machine() {
    for rules in [
        "allow := true",
        "default allow := {\"allowed\": false}",
        "allow := input.x",
        "allow := {\"allowed\": input.x == 1, \"headers\": {\"a\": input.y}}",
        "allow if input.x\nallow if input.y\ndefault allow := false",
        "allow if { x := input.x; not x == 1 }",
        "allow if { x = input.x; 1 = x; _ = input.y }",
        "allow if { [\"a\", _, _, x] = split(input.x, \"/\"); x != \"\" }",
        "allow if { [_, claims, _] := io.jwt.decode(input.token); claims.sub == \"a\" }",
        "allow if input.roles[input.user] in {\"a\", \"b\"}",
        "allow if not input.x in input.xs",
        "allow if { count(input.xs) > 2; lower(input.x) < input.y; input.n + 1 == 2 }",
        "allow if regex.match(`^/a`, input.path)",
        "allow if split(input.x, \"/\")[1] == \"b\"",
        "allow if data.roles.admin == input.user",
        "allow if data.envoy.authz.other\nother if input.x",
        "allow if { input.x with_ == 1 }",
    ] {
        let rules = rules.replace("with_ ", "");
        assert!(policy(&rules).has_machine(), "{rules}");
    }
}

#[test]
fn what_is_not_on_the_list_is_left_to_the_engine() {
    for rules in [
        // Names that are known only in evaluation, and what is below them.
        "allow if p.a[1]\np.a contains 1 if input.x",
        "allow if p.a == 1\np[x] := 1 if x := input.x",
        "allow if p[\"a\"]\np[\"a\"] := 1",
        "allow contains input.x",
        "allow if p[1]\np contains 1 if input.x",
        // Functions of the policy, and their defaults.
        "allow if f(input.x)\nf(x) if x == 1",
        "allow if not f(input.x)\ndefault f(_) := true\nf(x) := false if x == 1",
        // Definitions that may disagree.
        "allow := true if input.x\nallow := false if input.y",
        "allow := input.x if input.x\nallow := input.y if input.y",
        "allow if not p\np := 1 if input.x\np := 2 if input.y",
        "allow if { input.x } else := 1 if input.y",
        "allow if input.x with input.x as 1",
        "allow if not p with input as {}\np if input.x",
        "allow if { walk(input, [_, x]); x == 1 }",
        "allow if print(input.x)",
        "allow if { some x in input.xs; x == 1 }",
        "allow if input.xs[_] == 1",
        "allow if { some i; input.xs[i] == 1 }",
        "allow if every x in input.xs { x == 1 }",
        "allow if count([x | x := input.xs[_]]) == 1",
        "allow if count({x | x := input.xs[_]}) == 1",
        "allow if {x: y | y := input.m[x]} == {}",
        // What is no array has a length, too.
        "allow if { [x] := input.x; x == 1 }",
        "allow if { [x] = input.x; x == 1 }",
        "allow if [] = input.x",
        "allow if split(input.x, \"/\", [\"a\"])",
        "allow if { _ := input.x }",
        // Another answer each time.
        "allow if time.now_ns() > input.x",
        "allow if rand.intn(\"a\", 3) == 1",
        // Texts that stand for numbers.
        "allow if data.roles[input.x] == 1",
        "allow if data.roles[0] == 1",
        "allow if { [[x]] = json.unmarshal(input.x) }",
    ] {
        assert!(!policy(rules).has_machine(), "{rules}");
    }
}

#[test]
fn what_is_refused_before_reaches_no_machine() {
    for (rules, reason) in [
        ("allow if p\np if q\nq if p", "needs itself"),
        ("allow if p.a.c[1]\np[x].c contains y if { some x, y in input.m }", "only the last part"),
        ("allow if { {\"a\": x} = input.x; x == 1 }", "an object as a pattern"),
    ] {
        let faults = compile(rules).unwrap_err();
        assert!(faults[0].reason.contains(reason), "{}", faults[0]);
    }
}

#[test]
fn a_document_where_a_rule_is_leaves_both_to_the_engine() {
    let load = |data: &str| {
        let data = Data { name: "data.json".into(), path: Vec::new(), value: json(data) };
        let sources = [source("policy.rego", "package envoy.authz\nallow if p == 1\np := 1 if input.x\n")];
        Policy::compile(&sources, &[data], &entrypoint(), &Limits::default())
    };
    assert!(load(r#"{"roles": {}, "envoy": {"other": 1}}"#).unwrap().has_machine());
    for data in [r#"{"envoy": {"authz": {"p": 2}}}"#, r#"{"envoy": {"authz": 1}}"#] {
        assert!(load(data).map_or(true, |policy| !policy.has_machine()), "{data}");
    }
}

#[test]
fn more_definitions_than_are_compiled_have_no_machine() {
    let rules = |count: usize| {
        let rules: Vec<String> = (0..count).map(|at| format!("allow if input.x == {at}")).collect();
        policy(&rules.join("\n"))
    };
    assert!(rules(admit::DEFINITIONS).has_machine());
    assert!(!rules(admit::DEFINITIONS + 1).has_machine());
}

#[test]
fn a_chain_of_rules_too_long_for_the_stack_has_no_machine() {
    let chain = |depth: usize| {
        let rules: Vec<String> = (2..depth).map(|at| format!("r{at} if not r{}", at + 1)).collect();
        policy(&format!("allow if r2\n{}\nr{depth} if input.x\nother if r2", rules.join("\n")))
    };
    let on_a_small_stack = thread::Builder::new().stack_size(2 << 20).spawn(move || {
        let mut longest = chain(code::DEPTH);
        assert_eq!(alone(&mut longest, r#"{"x": 1}"#), longest.evaluate_whole(json(r#"{"x": 1}"#)));
    });
    on_a_small_stack.unwrap().join().unwrap();
    assert!(!chain(code::DEPTH + 1).has_machine());
}

#[test]
fn a_name_without_a_value_ends_its_body() {
    let mut policy = policy("allow if { x := input.x; y := input.y; not x == 2 }");
    assert_eq!(alone(&mut policy, r#"{"x": 1, "y": false}"#), Ok(Value::from(true)));
    assert_eq!(alone(&mut policy, r#"{"x": 1}"#), Ok(Value::Undefined));
    assert_eq!(alone(&mut policy, r#"{"y": 1}"#), Ok(Value::Undefined));
}

#[test]
fn our_functions_are_called_unless_an_argument_is_undefined() {
    let mut policy = policy("allow if not startswith(upper(input.x), lower(input.y))");
    assert_eq!(alone(&mut policy, r#"{"x": "ab", "y": "AB"}"#), Ok(Value::from(true)));
    assert_eq!(alone(&mut policy, r#"{"x": "1b", "y": "1"}"#), Ok(Value::Undefined));
    assert_eq!(alone(&mut policy, r#"{"x": "ab"}"#), Ok(Value::Undefined));
}

#[test]
fn a_function_that_meets_a_limit_ends_the_evaluation_whichever_body_holds() {
    let rules = "allow if input.y\nallow if not count(numbers.range(0, input.x)) == 1";
    let mut policy = policy(rules);
    let met = Err(EvalError::Limit(Exceeded::Numbers));
    assert_eq!(alone(&mut policy, r#"{"x": 100000000}"#), met);
    assert_eq!(alone(&mut policy, r#"{"x": 100000000, "y": true}"#), met);
    assert_eq!(policy.evaluate(json(r#"{"x": 100000000}"#)), met);
    assert!(policy.has_machine());
}

#[test]
fn a_long_evaluation_ends_at_its_time_limit() {
    let calls: Vec<String> = (0..60).map(|at| format!("not p{at}")).collect();
    let rules: Vec<String> =
        (0..60).map(|at| format!("p{at} if count(numbers.range({at}, input.most)) == 1")).collect();
    let text = format!("package envoy.authz\nallow if {{ {} }}\n{}\n", calls.join("; "), rules.join("\n"));
    let took = |time: Duration| {
        let limits = Limits { time, ..Limits::default() };
        let mut policy = Policy::compile(&[source("a.rego", &text)], &[], &entrypoint(), &limits).unwrap();
        let machine = policy.machine_mut().as_ref().expect("a machine");
        let start = Instant::now();
        let value = machine.evaluate(json(r#"{"most": 50000}"#), None);
        (value, start.elapsed())
    };
    let (value, whole) = took(Duration::from_secs(60));
    assert_eq!(value, Ok(Value::from(true)));
    let (value, cut) = took(whole / 20);
    assert!(matches!(value, Err(EvalError::TimeLimit(_))), "{value:?}");
    assert!(cut < whole / 2, "{cut:?} of {whole:?}");
}

#[test]
fn a_machine_that_differs_is_found_and_asked_no_more() {
    let mut policy = policy("default allow := false\nallow if not input.x == 1");
    *policy.machine_mut() =
        self::policy("default allow := false\nallow if not input.y == 1").machine_mut().take();
    let said: Arc<Mutex<Vec<Difference>>> = Arc::default();
    let heard = Arc::clone(&said);
    policy.report_difference(move |difference| heard.lock().unwrap().push(difference.clone()));
    let (same, other) = (r#"{"x": 2}"#, r#"{"x": 1}"#);

    // The first decision is made twice, and then one of so many.
    assert_eq!(policy.evaluate(json(same)), Ok(Value::from(true)));
    for _ in 1..SAMPLE {
        assert_eq!(policy.evaluate(json(other)), Ok(Value::from(true)));
    }
    assert!(policy.has_machine());
    for _ in 0..3 {
        assert_eq!(policy.evaluate(json(other)), Ok(Value::from(false)));
    }
    assert!(!policy.has_machine());
    assert_eq!(*said.lock().unwrap(), [Difference { machine: "true", engine: "false" }]);
}

#[test]
fn a_machine_that_has_no_answer_leaves_the_question_to_the_engine() {
    let mut policy = policy("allow if not input.x == 1");
    let broken = rvm::Program { entry_points: Default::default(), ..rvm::Program::new() };
    let machine = policy.machine_mut().as_mut().unwrap();
    machine.program = Arc::new(broken);
    machine.spares = Mutex::default();
    // Not one of those that the engine makes, too.
    machine.asked = AtomicU64::new(1);
    assert_eq!(policy.evaluate(json("{}")), Ok(Value::from(true)));
    assert!(!policy.has_machine());
}

#[test]
fn bodies_that_the_index_leaves_are_asked_one_by_one() {
    let rules: Vec<String> =
        (0..100).map(|at| format!("allow if {{ input.path == \"/{at}\"; not input.id == {at} }}")).collect();
    let mut policy = policy(&format!("default allow := false\n{}", rules.join("\n")));
    let machine = policy.machine_mut().as_ref().unwrap();
    assert_eq!(machine.bodies, 100);
    let ask = |body: usize| machine.evaluate(json(r#"{"path": "/7", "id": 8}"#), Some(&[body]));
    assert_eq!(ask(7), Ok(Value::from(true)));
    assert_eq!(ask(8), Ok(Value::Undefined));
    for (input, value) in [(r#"{"path": "/7", "id": 8}"#, true), (r#"{"path": "/7", "id": 7}"#, false)] {
        for _ in 0..3 {
            assert_eq!(policy.evaluate(json(input)), Ok(Value::from(value)));
        }
    }
    assert!(policy.has_machine());
}
