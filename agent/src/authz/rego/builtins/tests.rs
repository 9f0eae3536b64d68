use std::collections::{BTreeMap, BTreeSet};

use regorus::{Engine, Value};

use super::*;

/// What OPA 1.22.2 answers. Sets are written `{"$set": […]}`, objects with other keys than text `{"$object": [[key, value], …]}`,
/// whole numbers with many digits `{"$number": "…"}`.
const ASKED_OF_OPA: &str = include_str!("opa.json");

/// A value in that writing.
fn value(written: &Value) -> Value {
    let tagged = |tag: &str| written.as_object().ok().and_then(|object| object.get(&tag.into()));
    let many = |values: &Value| values.as_array().unwrap().iter().map(value).collect::<Vec<_>>();
    if let Some(elements) = tagged("$set") {
        return Value::from(many(elements).into_iter().collect::<BTreeSet<_>>());
    }
    if let Some(pairs) = tagged("$object") {
        let pair = |pair: &Value| (value(&pair[0]), value(&pair[1]));
        return Value::from(pairs.as_array().unwrap().iter().map(pair).collect::<BTreeMap<_, _>>());
    }
    if let Some(digits) = tagged("$number") {
        return Value::from_numeric_string(digits.as_string().unwrap()).unwrap();
    }
    match written {
        Value::Array(_) => Value::from(many(written)),
        Value::Object(object) => Value::from(
            object.iter().map(|(key, written)| (key.clone(), value(written))).collect::<BTreeMap<_, _>>(),
        ),
        plain => plain.clone(),
    }
}

/// What a policy gets that calls `name` with `args`: by one of our functions, or else the engine's own.
fn called(name: &str, args: &[Value]) -> Result<Value, String> {
    let mut engine = Engine::new();
    engine.set_strict_builtin_errors(false);
    for builtin in all() {
        let call = move |args: Vec<Value>| (builtin.call)(&args).map_err(Into::into);
        engine.add_extension(builtin.name.to_owned(), builtin.arity, Box::new(call)).unwrap();
    }
    let params = (0..args.len()).map(|n| format!("input[{n}]")).collect::<Vec<_>>().join(", ");
    let policy = format!("package test\nanswer := {name}({params})");
    engine.add_policy("test.rego".to_owned(), policy).map_err(|error| error.to_string())?;
    engine.set_input(Value::from(args.to_vec()));
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        engine.eval_rule("data.test.answer".to_owned()).map_err(|error| error.to_string())
    }))
    .unwrap_or(Err("PANIC".into()))
}

#[test]
fn functions_answer_as_those_of_opa() {
    let asked = Value::from_json_str(ASKED_OF_OPA).unwrap();
    let mut wrong = Vec::new();
    for case in asked["cases"].as_array().unwrap().iter() {
        let (name, args) = (case["name"].as_string().unwrap(), value(&case["args"]));
        let want = value(&case["want"]);
        let got = called(name, args.as_array().unwrap().as_slice());
        if got.as_ref() != Ok(&want) {
            wrong.push(format!("{name}{} is {got:?}, not {want:?}", case["args"]));
        }
    }
    assert!(wrong.is_empty(), "{} answers differ:\n{}", wrong.len(), wrong.join("\n"));
}
