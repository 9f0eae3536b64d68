use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use regorus::Value;

use super::*;

pub(super) fn source(name: &str, text: &str) -> Source {
    Source { name: name.into(), text: text.into() }
}

pub(super) fn json(text: &str) -> Value {
    Value::from_json_str(text).unwrap()
}

/// Compiles one file of package `envoy.authz` for `envoy/authz/allow`.
pub(super) fn compile(rules: &str) -> Result<Policy, Vec<Fault>> {
    compile_text(&format!("package envoy.authz\n{rules}\n"))
}

fn compile_text(text: &str) -> Result<Policy, Vec<Fault>> {
    Policy::compile(&[source("policy.rego", text)], &[], &entrypoint(), &patient())
}

/// Time enough for any policy of these tests, whatever else the machine does.
pub(super) fn patient() -> Limits {
    Limits { time: Duration::from_secs(20), ..Limits::default() }
}

pub(super) fn entrypoint() -> Entrypoint {
    "envoy/authz/allow".parse().unwrap()
}

fn decide(rules: &str, input: &str) -> Result<Value, EvalError> {
    compile(rules).unwrap_or_else(|faults| panic!("{}", faults[0])).evaluate(json(input))
}

/// The only fault of a policy.
fn refusal(rules: &str) -> Fault {
    let faults = compile(rules).err().unwrap_or_else(|| panic!("loaded: {rules}"));
    faults.into_iter().next().unwrap()
}

fn slow(rules: &str) -> EvalError {
    let limits = Limits { time: Duration::from_millis(20), ..Limits::default() };
    let text = format!("package envoy.authz\n{rules}\n");
    let policy = Policy::compile(&[source("policy.rego", &text)], &[], &entrypoint(), &limits).unwrap();
    let start = Instant::now();
    let error = policy.evaluate(json(&wide(400))).unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(2), "took {:?}", start.elapsed());
    error
}

/// An input with an array of that many numbers.
fn wide(items: usize) -> String {
    let items: Vec<String> = (0..items).map(|item| item.to_string()).collect();
    format!("{{\"xs\": [{}]}}", items.join(","))
}

#[test]
fn a_policy_in_todays_syntax_decides() {
    let rules = "default allow := false\nallow if input.method == \"GET\"";
    assert_eq!(decide(rules, r#"{"method": "GET"}"#).unwrap(), Value::from(true));
    assert_eq!(decide(rules, r#"{"method": "PUT"}"#).unwrap(), Value::from(false));
}

#[test]
fn without_a_default_no_rule_means_undefined() {
    assert_eq!(decide("allow if input.x", "{}").unwrap(), Value::Undefined);
}

#[test]
fn both_syntaxes_stand_side_by_side_and_the_old_one_is_remarked_on() {
    let old = "package lib.old\nsafe { input.method == \"GET\" }";
    let new = "package envoy.authz\nimport data.lib.old\nallow if old.safe";
    let sources = [source("old.rego", old), source("new.rego", new)];
    let policy = Policy::compile(&sources, &[], &entrypoint(), &Limits::default()).unwrap();

    assert_eq!(policy.evaluate(json(r#"{"method": "GET"}"#)).unwrap(), Value::from(true));
    let [warning] = policy.warnings() else { panic!("{:?}", policy.warnings()) };
    assert_eq!((warning.file.as_str(), warning.line), ("old.rego", 0));
    assert!(warning.reason.contains("before OPA 1.0"), "{warning}");
}

#[test]
fn a_file_that_says_rego_v1_is_not_read_in_the_old_syntax() {
    let faults = compile_text("package envoy.authz\nimport rego.v1\nallow { true }\n").unwrap_err();
    assert!(faults[0].reason.contains("`if` keyword"), "{}", faults[0]);
}

#[test]
fn a_fault_shows_its_line_with_a_caret() {
    let fault = refusal("allow if {\n  nope(input.x)\n}");
    let shown = "policy.rego:3:3: no function nope is defined here, and none of that name is built in\n\
                 3 |   nope(input.x)\n  |   ^";
    assert_eq!(fault.to_string(), shown);
}

#[test]
fn a_text_of_the_old_syntax_that_fails_in_both_says_so_for_both() {
    let faults = compile_text("package envoy.authz\nallow { input.x }\nallow { input.y == }\n").unwrap_err();
    assert_eq!(faults.iter().map(|fault| fault.line).collect::<Vec<_>>(), [3, 2]);
    assert!(faults[0].reason.starts_with("in the syntax before OPA 1.0: "), "{}", faults[0]);
}

/// What the probes are about is in their names. The answers of OPA 1.22 are written in them.
#[test]
fn probes_are_decided_as_opa_decides_them_or_refused() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/policies/probes");
    let mut seen = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "rego") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let note =
            |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).unwrap().trim().to_owned();
        let (expected, opa) = (note("# expect:"), note("# opa:"));
        let ours = compile_text(&text)
            .map(|policy| policy.evaluate(json(&fs::read_to_string(path.with_extension("json")).unwrap())));
        let is_right = match (expected.as_str(), opa.as_str(), &ours) {
            ("refused", _, ours) => ours.is_err(),
            (_, "error", Ok(ours)) => ours.is_err(),
            (_, "undefined", Ok(ours)) => ours == &Ok(Value::Undefined),
            (_, value, Ok(ours)) => ours == &Ok(json(value)),
            (_, _, Err(_)) => false,
        };
        assert!(is_right, "{}: {expected}, OPA: {opa}, ours: {ours:?}", path.display());
        seen += 1;
    }
    assert!(seen > 100, "{seen}");
}

#[test]
fn http_send_is_refused_with_what_to_do_instead() {
    let fault = refusal("allow if not blocked\nblocked if http.send({\"url\": \"x\"}).status_code == 200");
    assert_eq!(fault.line, 3);
    assert!(fault.reason.contains("context_extensions"), "{fault}");
}

#[test]
fn an_unknown_function_is_refused_where_nothing_reaches_it() {
    assert!(refusal("allow if true\nunused if f(1)").reason.contains("no function f"));
    assert!(refusal("allow if true\nunused if count(1, 2, 3)").reason.contains("takes 1 arguments, not 3"));
    assert!(refusal("allow if true\nunused if g(1, 2, 3)\ng(x) := x").reason.contains("takes 1 arguments"));
    assert!(refusal("allow if true\nunused if data.lib.f(1)").reason.contains("no function data.lib.f"));
}

#[test]
fn keywords_from_the_future_are_refused() {
    for import in ["rego.v2", "rego.v9", "future.keywords.and", "rego", "future.keywords.in.x"] {
        assert_eq!(refusal(&format!("import {import}\nallow if true")).line, 2, "{import}");
    }
    for import in ["rego.v1", "future.keywords", "future.keywords.in", "data.lib", "input.attributes as a"] {
        assert!(compile(&format!("import {import}\nallow if true")).is_ok(), "{import}");
    }
}

#[test]
fn an_import_named_as_a_rule_is_refused() {
    assert!(
        refusal("import data.lib.helper\nallow if helper\nhelper if input.x")
            .reason
            .contains("another name with `as`")
    );
    assert!(compile("import data.lib.helper as other\nallow if helper\nhelper if input.x").is_ok());
}

#[test]
fn functions_that_meet_a_limit_end_the_evaluation_even_where_another_definition_holds() {
    let rules = "f(x) := 1 if count(numbers.range(0, x)) > 5\nf(x) := 2 if x > 5\nallow if f(input.x) == 2";
    let error = decide(rules, r#"{"x": 100000000}"#).unwrap_err();
    assert_eq!(error.reason(), "function_limit");
}

#[test]
fn a_policy_decides_the_same_however_often_it_is_asked() {
    let policy = compile("allow if { some x in input.xs; x > 2; print(x) }").unwrap();
    for _ in 0..3 {
        assert_eq!(policy.evaluate(json(r#"{"xs": [1, 2, 3]}"#)).unwrap(), Value::from(true));
        assert_eq!(policy.evaluate(json(r#"{"xs": [1, 2]}"#)).unwrap(), Value::Undefined);
    }
}

#[test]
fn a_document_that_nothing_defines_is_a_warning() {
    let policy = compile("allow if data.roles.admin == input.user").unwrap();
    let [warning] = policy.warnings() else { panic!("{:?}", policy.warnings()) };
    assert_eq!((warning.line, warning.column), (2, 10));
    assert!(warning.reason.contains("nothing defines data.roles.admin"), "{warning}");
    assert_eq!(policy.evaluate(json(r#"{"user": "a"}"#)).unwrap(), Value::Undefined);
}

#[test]
fn data_documents_are_below_data_and_do_not_overlap() {
    let roles =
        |name: &str, value: &str| Data { name: name.into(), path: vec!["roles".into()], value: json(value) };
    let text = source("policy.rego", "package envoy.authz\nallow if data.roles[input.user] == \"admin\"\n");
    let load =
        |data: &[Data]| Policy::compile(std::slice::from_ref(&text), data, &entrypoint(), &Limits::default());

    let policy =
        load(&[roles("a.json", r#"{"ann": "admin"}"#), roles("b.json", r#"{"bob": "guest"}"#)]).unwrap();
    assert_eq!(policy.evaluate(json(r#"{"user": "ann"}"#)).unwrap(), Value::from(true));
    assert_eq!(policy.evaluate(json(r#"{"user": "bob"}"#)).unwrap(), Value::Undefined);
    assert!(policy.warnings().is_empty());

    let faults = load(&[roles("a.json", r#"{"ann": 1}"#), roles("b.json", r#"{"ann": 2}"#)]).unwrap_err();
    assert_eq!(faults[0].file, "b.json");
}

#[test]
fn data_larger_than_its_limit_is_refused() {
    let data = Data { name: "d.json".into(), path: vec!["d".into()], value: json(&wide(100)) };
    let limits = Limits { data_bytes: 50, ..Limits::default() };
    let sources = [source("policy.rego", "package envoy.authz\nallow if true\n")];
    let faults = Policy::compile(&sources, &[data], &entrypoint(), &limits).unwrap_err();
    assert!(faults[0].reason.contains("more than 50 bytes"), "{}", faults[0]);
}

#[test]
fn a_decision_that_no_rule_gives_is_refused_with_those_there_are() {
    let text = source("policy.rego", "package mesh\nallow if true\n");
    let faults = Policy::compile(&[text], &[], &entrypoint(), &Limits::default()).unwrap_err();
    assert!(faults[0].reason.contains("mesh/allow: set `path`"), "{}", faults[0]);
}

#[test]
fn objects_and_packages_are_decisions_too() {
    let rules = "allow[\"allowed\"] := input.x == 1\nallow[\"http_status\"] := 401";
    let value = decide(rules, r#"{"x": 1}"#).unwrap();
    assert_eq!(value, json(r#"{"allowed": true, "http_status": 401}"#));

    let package = "envoy/authz".parse().unwrap();
    let sources = [source("policy.rego", "package envoy.authz\nallowed := input.x == 1\n")];
    let policy = Policy::compile(&sources, &[], &package, &Limits::default()).unwrap();
    assert_eq!(policy.evaluate(json(r#"{"x": 2}"#)).unwrap(), json(r#"{"allowed": false}"#));
}

#[test]
fn definitions_that_disagree_are_a_conflict() {
    let error = decide("allow := true if input.a\nallow := false if input.a", r#"{"a": 1}"#).unwrap_err();
    assert_eq!(error.reason(), "conflict");
    assert!(error.to_string().contains("policy.rego:"), "{error}");
}

#[test]
fn rules_that_need_themselves_are_refused() {
    assert!(refusal("allow if p\np if q\nq if p").reason.contains("needs itself"));
    assert!(refusal("allow if f(1)\nf(x) if g(x)\ng(x) if f(x)").reason.contains("needs itself"));
    assert!(refusal("allow if data.envoy").reason.contains("needs itself"));
}

#[test]
fn a_chain_of_rules_deeper_than_its_limit_is_refused() {
    let chain = |depth: usize| {
        let rules: Vec<String> = (1..depth).map(|at| format!("r{at} if r{}", at + 1)).collect();
        format!("allow if r1\n{}\nr{depth} if input.x", rules.join("\n"))
    };
    assert_eq!(decide(&chain(98), r#"{"x": 1}"#).unwrap(), Value::from(true));
    assert!(refusal(&chain(101)).reason.contains("the limit is 100"));
}

#[test]
fn a_file_that_is_too_large_is_refused_unread() {
    let big = format!("package envoy.authz\nallow if true\n{}", "# filler\n".repeat(600_000));
    let start = Instant::now();
    let faults = compile_text(&big).unwrap_err();
    assert!(faults[0].reason.contains("the limit is 1048576"), "{}", faults[0]);
    assert!(start.elapsed() < Duration::from_secs(1));

    let faults =
        compile_text(&format!("package envoy.authz\nallow if true\n{}", "\n".repeat(20_001))).unwrap_err();
    assert!(faults[0].reason.contains("more than 20000 lines"), "{}", faults[0]);
}

#[test]
fn a_line_that_is_too_long_is_refused_at_its_limit() {
    let fault = refusal(&format!("allow if input.x == \"{}\"", "x".repeat(2000)));
    assert_eq!((fault.line, fault.column), (2, 1025));
    assert!(fault.reason.contains("more than 1024 columns"), "{fault}");
}

#[test]
fn deep_and_long_expressions_are_refused_before_they_are_read() {
    let deep = [
        format!("allow if {}1{}", "(\n".repeat(10_000), ")".repeat(10_000)),
        format!("allow := {}1{}", "[\n".repeat(10_000), "]".repeat(10_000)),
        format!("allow := {}1{}", "{\"a\":\n".repeat(10_000), "}".repeat(10_000)),
        format!("allow := {}1{}", "[".repeat(40), "]".repeat(40)),
        format!("allow if input.x == {}1", "-\n".repeat(10_000)),
        format!("allow if input.x == 1{}", "\n+ 1".repeat(10_000)),
        format!("allow if input.x{}", ".a".repeat(200)),
        format!("allow if input.x{}", "\nin [1]".repeat(10_000)),
        format!("allow if {}input.x", "not\n".repeat(10_000)),
    ];
    for rules in deep {
        let start = Instant::now();
        let fault = refusal(&rules);
        assert!(start.elapsed() < Duration::from_secs(5), "{:?} for {}", start.elapsed(), &rules[..20]);
        assert!(fault.line > 0, "{fault}");
    }
}

#[test]
fn an_evaluation_ends_at_its_time_limit_wherever_it_is() {
    let loops = [
        "allow if { some a in input.xs; some b in input.xs; some c in input.xs; a + b + c == -1 }",
        "allow if count([1 | a := input.xs[_]; b := input.xs[_]; c := input.xs[_]; a + b + c == -1]) == 1",
        "allow if count({[a, b, c] | a := input.xs[_]; b := input.xs[_]; c := input.xs[_]}) == 1",
        "allow if { every a in input.xs { every b in input.xs { every c in input.xs { a + b + c >= 0 } } } }",
        "allow if { some a in input.xs; some b in input.xs; walk(input, [_, c]); a + b == c - 1000 }",
        "f(a) if { some b in input.xs; some c in input.xs; a + b + c == -1 }\nf(a) if a == -1\n\
         allow if { some a in input.xs; f(a) }",
    ];
    for rules in loops {
        assert_eq!(slow(rules).reason(), "time_limit", "{rules}");
    }
}

#[test]
fn several_threads_decide_by_one_policy() {
    let policy = compile("allow if input.x > 10").unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let policy = &policy;
            scope.spawn(move || {
                for x in 0..20 {
                    let wanted = if x > 10 { Value::from(true) } else { Value::Undefined };
                    assert_eq!(
                        policy.evaluate(json(&format!("{{\"x\": {x}}}"))).unwrap(),
                        wanted,
                        "{thread}"
                    );
                }
            });
        }
    });
}

#[test]
fn a_panic_inside_ends_one_evaluation_only() {
    let policy = compile("allow if true").unwrap();
    let error = Policy::within(Duration::from_secs(1), || panic!("on purpose")).unwrap_err();
    assert_eq!(error.reason(), "internal");
    assert_eq!(policy.evaluate(json("{}")).unwrap(), Value::from(true));
}

#[test]
fn the_deepest_policies_evaluate_on_half_the_stack_of_the_thread_that_answers() {
    const STACK: usize = crate::authz::STACK / 2;
    let chain = |depth: usize, step: &dyn Fn(usize) -> String| {
        let rules: Vec<String> =
            (0..depth).map(|at| format!("r{at} := x if {{ {} }}", step(at + 1))).collect();
        format!("allow if r0\n{}\nr{depth} := 1", rules.join("\n"))
    };
    let sum = |terms: usize| format!("{}1", "1 + ".repeat(terms));
    let policies = [
        chain(48, &|at| format!("x := r{at} + 0")),
        chain(48, &|at| format!("some x in [r{at}]")),
        chain(30, &|at| format!("x := [y | y := r{at}][0]")),
        chain(3, &|at| format!("x := r{at} + {}", sum(100))),
        chain(3, &|at| format!("x := ({}) + r{at}", sum(60))),
        format!("allow if {{\n{}}}", "some _ in [1]\n".repeat(95)),
        format!("allow if {}true{}", "[x | x := ".repeat(10), "]".repeat(10)),
        format!("f(x) := x\nallow if {}1{}", "f(".repeat(40), ")".repeat(40)),
    ];
    for rules in policies {
        let policy = compile(&rules).unwrap_or_else(|faults| panic!("{}", faults[0]));
        let thread = std::thread::Builder::new().stack_size(STACK);
        let value = thread.spawn(move || policy.evaluate(json("{}"))).unwrap().join().unwrap();
        assert!(
            value.as_ref().is_ok_and(|value| value != &Value::Undefined),
            "{value:?} of {}",
            &rules[..60]
        );
    }
}

/// Whether OPA would let through what a policy denies by a rule that is only looked at under `not`.
fn allows(rules: &str, input: &str) -> bool {
    compile(rules)
        .is_ok_and(|policy| policy.evaluate(json(input)).is_ok_and(|value| value == Value::from(true)))
}

#[test]
fn a_package_that_imports_itself_knows_its_rules() {
    for import in ["data.envoy.authz", "data.envoy.authz as me", "data.envoy as e", "data as d"] {
        let name = match import.rsplit_once(" as ") {
            Some((_, "me")) => "me",
            Some((_, "e")) => "e.authz",
            Some(_) => "d.envoy.authz",
            None => "authz",
        };
        let rules =
            format!("import {import}\ndeny if {name}.blocked\nblocked if input.x == 1\nallow if not deny");
        assert!(!allows(&rules, r#"{"x": 1}"#), "{import}");
        assert!(allows(&rules, r#"{"x": 2}"#), "{import}");
    }
}

#[test]
fn what_opa_reads_otherwise_or_refuses_is_refused() {
    for rules in [
        "import future.keywords\ndeny if not {input.x == 1}\nallow if not deny",
        "import future.keywords\nand if input.x\nallow if and",
        "import input.x\nimport input.y as x\nallow if x",
        "f(input) if true\nallow if f(1)",
        "f([data]) if true\nallow if f([1])",
        "default f(input) := true\nf(x) := x if x\nallow if f(1)",
        "allow if every input in [1] { input == 1 }",
        "f(x) if { some x; x = 2 }\nallow if f(1)",
        "a.b := 1 if input.x\nallow if not data.envoy.authz[input.k]",
        "a.b := 1 if input.x\nallow if not object.get(data.envoy, \"authz\", false)",
        "h.b.c := 1 if input.x\nallow if not h[input.k]",
        "# \0\nallow if true",
    ] {
        assert!(compile(rules).is_err(), "{rules}");
    }
    for rules in
        ["import future.keywords\nallow if input.x == 1", "import future.keywords.if\nallow if not input.y"]
    {
        assert!(allows(rules, r#"{"x": 1}"#), "{rules}");
    }
}

#[test]
fn numbers_that_lose_digits_end_the_evaluation() {
    let rules = "deny if json.unmarshal(input.a) == json.unmarshal(input.b)\nallow if not deny";
    let two = r#"{"a": "123456789012345678901234567890", "b": "123456789012345678901234567891"}"#;
    let met = compile(rules).unwrap().evaluate(json(two));
    assert!(matches!(met, Err(EvalError::Limit(_))), "{met:?}");
    assert!(allows(rules, r#"{"a": "1", "b": "2"}"#));
}
