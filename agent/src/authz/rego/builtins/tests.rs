use regorus::{Engine, Value};

use super::*;

/// What OPA 1.22.2 answers. Sets are written `{"$set": […]}`, objects with other keys than text `{"$object": [[key, value], …]}`.
const ASKED_OF_OPA: &str = include_str!("opa.json");

/// A value in that writing.
fn value(written: &serde_json::Value) -> Value {
    let many = |values: &serde_json::Value| values.as_array().unwrap().iter().map(value).collect::<Vec<_>>();
    match written {
        serde_json::Value::Array(_) => Value::from(many(written)),
        serde_json::Value::Object(object) if object.contains_key("$set") => {
            Value::from(many(&object["$set"]).into_iter().collect::<std::collections::BTreeSet<_>>())
        }
        serde_json::Value::Object(object) if object.contains_key("$object") => {
            let pairs = object["$object"].as_array().unwrap().iter();
            Value::from(
                pairs
                    .map(|pair| (value(&pair[0]), value(&pair[1])))
                    .collect::<std::collections::BTreeMap<_, _>>(),
            )
        }
        serde_json::Value::Object(object) => {
            let pairs = object.iter().map(|(key, written)| (Value::from(key.as_str()), value(written)));
            Value::from(pairs.collect::<std::collections::BTreeMap<_, _>>())
        }
        plain => Value::from(plain.clone()),
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
    engine.eval_rule("data.test.answer".to_owned()).map_err(|error| error.to_string())
}

#[test]
fn functions_answer_as_those_of_opa() {
    let asked: serde_json::Value = serde_json::from_str(ASKED_OF_OPA).unwrap();
    let mut wrong = Vec::new();
    for case in asked["cases"].as_array().unwrap() {
        let (name, args) = (case["name"].as_str().unwrap(), value(&case["args"]));
        let args = args.as_array().unwrap().iter().cloned().collect::<Vec<_>>();
        let want = case.get("want").map_or(Value::Undefined, value);
        let got = called(name, &args);
        if got.as_ref() != Ok(&want) {
            wrong.push(format!("{name}{} is {got:?}, not {want:?}", case["args"]));
        }
    }
    assert!(wrong.is_empty(), "{} answers differ:\n{}", wrong.len(), wrong.join("\n"));
}
