use crate::authz::rego::{
    Fault, Policy,
    tests::{compile, source},
};

/// The one fault of rules in package `envoy.authz`.
fn fault(rules: &str) -> Fault {
    let Err(faults) = compile(rules) else { panic!("{rules} is loaded") };
    let [fault] = faults.as_slice() else { panic!("{rules}: {faults:?}") };
    fault.clone()
}

fn is_loaded(rules: &str) {
    if let Err(faults) = compile(rules) {
        panic!("{rules} is refused: {faults:?}");
    }
}

#[test]
fn a_fault_names_its_place_and_both_types() {
    let fault = fault("allow if not count(1)");
    assert!(fault.reason.starts_with("type error: invalid argument: count takes "), "{}", fault.reason);
    assert!(fault.reason.ends_with(", and this is number"), "{}", fault.reason);
    let (text, caret) = fault.excerpt.split_once('\n').unwrap();
    assert_eq!(text.find("count"), caret.find('^'), "{}", fault.excerpt);
}

#[test]
fn a_function_is_called_with_what_it_takes_however_it_comes_there() {
    for rules in [
        "allow if not count(1)",
        "allow if { x := 1; not count(x) }",
        "one := 1\nallow if not startswith(one, \"a\")",
        "f(x) := startswith(x, \"a\")\nallow if not f(1)",
        "allow if not 1 in [x | x := lower(input.a)]",
        "allow if not 1 + \"a\" == 2",
        "allow if not sum([x | some x in [\"a\"]]) == 1",
        "allow if { every x in input.list { [1 | count(1)] == x } }",
    ] {
        assert!(fault(rules).reason.starts_with("type error: "), "{rules}: {}", fault(rules).reason);
    }
}

#[test]
fn a_reference_goes_only_where_something_can_be() {
    for (rules, names) in [
        (
            "roles := {\"admin\": 1}\nallow if not roles.amdin",
            "no \"amdin\" can be in this object; there are \"admin\"",
        ),
        ("one := 1\nallow if not one.x", "nothing is inside a number"),
        ("list := [1, 2]\nallow if not list[2]", "no 2 can be in this array"),
        ("names contains \"a\"\nallow if not names[1]", "no 1 can be in this set"),
        ("allow if { x := {\"a\": {\"b\": 1}}; not x.a.c }", "no \"c\" can be in this object"),
    ] {
        assert!(fault(rules).reason.contains(names), "{rules}: {}", fault(rules).reason);
    }
}

#[test]
fn what_is_compared_can_be_equal() {
    for rules in [
        "allow if not 1 == \"1\"",
        "allow if not [1] == [1, 2]",
        "allow if not {\"a\": 1} == {\"b\": 1}",
        "one := 1\nallow if not one == \"1\"",
    ] {
        assert!(fault(rules).reason.contains("match error: "), "{rules}: {}", fault(rules).reason);
    }
}

#[test]
fn what_may_be_anything_may_be_what_is_wanted() {
    for rules in [
        "allow if not count(input.n)",
        "allow if { x := input.x; startswith(x, \"a\"); x == 1 }",
        "allow if not data.nothing.here == 1",
        "mixed := [1, \"a\"]\nallow if { some x in mixed; x == \"a\" }",
        "one := 1\nallow if not startswith(one, \"a\") with data.envoy.authz.one as \"a\"",
        "f(1) := 2\nf(\"a\") := 3\nallow if f(\"a\") == 3",
    ] {
        is_loaded(rules);
    }
}

#[test]
fn a_policy_whose_types_grow_without_end_is_refused_before_they_do() {
    let mut rules = "t0 := [1, \"a\"]\n".to_owned();
    for at in 1..64 {
        rules += &format!("t{at} := [t{0}, t{0}]\n", at - 1);
    }
    rules += "allow if t63 == t62";
    let reason = fault(&rules).reason;
    assert!(reason.contains("take too long to check"), "{reason}");
}

#[test]
fn a_large_constant_is_checked_in_little_time() {
    let fields: Vec<String> = (0..10_000).map(|at| format!("\"k{at}\": {{\"n\": {at}}}")).collect();
    let text = format!(
        "package envoy.authz\nlarge := {{{}}}\nallow if large.k77.n == 77\nallow if large[input.key].n == 1\n",
        fields.join(",\n")
    );
    let start = std::time::Instant::now();
    let entrypoint = "data.envoy.authz.allow".parse().unwrap();
    Policy::compile(&[source("p.rego", &text)], &[], &entrypoint, &Default::default()).map(drop).unwrap();
    assert!(start.elapsed().as_secs() < 10, "{:?}", start.elapsed());
}

#[test]
fn a_type_of_shared_parts_that_nobody_could_compare_is_refused_at_once() {
    let chain = |steps: usize| {
        let steps = (1..=steps).map(|at| format!("; x{at} := [x{0}, x{0}]", at - 1));
        format!("x0 := 1{}", steps.collect::<String>())
    };
    let rules = |steps: usize| {
        let chain = chain(steps);
        format!(
            "p := x{steps} if {{ input.a; {chain} }}\np := x{steps} if {{ input.b; {chain} }}\nallow if p"
        )
    };
    assert!(compile(&rules(10)).is_ok());
    let faults = compile(&rules(39)).unwrap_err();
    assert!(faults[0].reason.contains("take too long to check"), "{}", faults[0]);
}

#[test]
fn statements_in_the_order_that_is_worst_are_put_in_the_right_one() {
    let rules = |count: usize| {
        let equalities = (0..count).map(|at| format!("x{at} = y{at}\n"));
        let others = (0..count).map(|at| format!("y{at} = x{}\n", at + 1));
        format!("allow if {{\n{}x{count} = input.a\n}}", equalities.chain(others).collect::<String>())
    };
    assert!(compile(&rules(100)).is_ok());
    let faults = compile(&rules(3_000)).unwrap_err();
    assert!(faults[0].reason.contains("take too long to check"), "{}", faults[0]);
}
