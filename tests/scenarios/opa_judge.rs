//! Open Policy Agent judges our decisions: the same policies, the same inputs, its library's answers beside ours.

mod files;
mod grammar;
mod ill_typed;
mod mesh;
mod misfits;
mod ours;
mod probes;
mod random;
mod requests;
mod texts;

use serde_json::json;
use vouch_tests::{
    Judge, Need,
    opa::{Answer, Policy, Syntax},
    require,
};

#[test]
fn the_judge_tells_a_value_from_undefined_and_an_error_from_a_policy_that_does_not_load() {
    require!(Need::Opa);
    let v1 = |rules: &str| Policy::new(Syntax::V1, &format!("package p\n{rules}\n"), "data.p.allow");
    let old = Policy::new(Syntax::V0, "package p\nallow { input.x == 1 }", "data.p.allow");
    let (equal, null) = (v1("allow if input.x == 1"), v1("allow := null"));
    let (conflict, unknown) = (v1("allow := 1\nallow := 2"), v1("allow if no_such_function(1)"));
    let questions = [
        (&equal, Some(r#"{"x": 1}"#)),
        (&equal, Some("{\n\"x\": 2}")),
        (&equal, None),
        (&old, Some(r#"{"x": 1}"#)),
        (&null, None),
        (&conflict, None),
        (&unknown, None),
    ];
    let answers = Judge::start().ask(&questions);
    let (yes, undefined) = (Answer::Value(json!(true)), Answer::Undefined);
    assert_eq!(answers[..4], [yes.clone(), undefined.clone(), undefined, yes]);
    assert_eq!(answers[4], Answer::Value(json!(null)));
    assert!(matches!(&answers[5], Answer::Error(why) if why.code == "eval_conflict_error"), "{answers:?}");
    assert!(matches!(&answers[6], Answer::LoadError(why) if why.code == "rego_type_error"), "{answers:?}");
}

#[test]
fn the_judge_measures_its_own_decisions() {
    require!(Need::Opa);
    let policy = Policy::new(Syntax::V1, "package p\nallow if input.x == 1", "data.p.allow");
    let mut judge = Judge::start();
    assert!(judge.nanoseconds(&policy, r#"{"x": 1}"#, 1000) > 100.0);
    // It goes on answering.
    assert_eq!(judge.ask(&[(&policy, Some(r#"{"x": 1}"#))]), [Answer::Value(json!(true))]);
}
