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
    called_by(name, args, false)
}

/// The same; where `strict`, what the engine's own functions refuse is an error.
fn called_by(name: &str, args: &[Value], strict: bool) -> Result<Value, String> {
    let mut engine = Engine::new();
    engine.set_strict_builtin_errors(strict);
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

#[test]
fn each_known_name_is_a_function_of_the_engine_with_that_many_arguments() {
    for &(name, arity) in engine::KNOWN.iter().filter(|&&known| known != ("walk", 2)) {
        if let Err(error) = called(name, &vec![Value::new_object(); arity]) {
            panic!("{name} with {arity} arguments: {error}");
        }
        let error = called_by(name, &vec![Value::new_object(); arity + 1], true).unwrap_err();
        assert!(error.contains(&format!("expects {arity} argument")), "{name}: {error}");
    }
}

#[test]
fn walk_gives_what_it_finds_to_a_second_argument() {
    let mut engine = Engine::new();
    let policy = "package test\nanswer contains path if walk(input, [path, 2])";
    engine.add_policy("test.rego".to_owned(), policy.to_owned()).unwrap();
    engine.set_input(Value::from_json_str(r#"{"a": [1, 2]}"#).unwrap());
    let answer = engine.eval_rule("data.test.answer".to_owned()).unwrap();
    assert_eq!(answer.to_json_str().unwrap().split_whitespace().collect::<String>(), r#"[["a",1]]"#);
    assert!(is_known("walk", 1) && is_known("walk", 2));
}

#[test]
fn what_reaches_out_tells_of_this_machine_or_differs_from_opa_is_not_known() {
    let refused = [
        ("http.send", 1),
        ("net.lookup_ip_addr", 1),
        ("opa.runtime", 0),
        ("rego.parse_module", 2),
        ("rego.metadata.rule", 0),
        ("io.jwt.encode_sign", 3),
        ("io.jwt.verify_es512", 2),
        ("crypto.parse_private_keys", 1),
        ("providers.aws.sign_req", 3),
        ("graphql.parse", 2),
        ("json.match_schema", 2),
        ("yaml.unmarshal", 1),
        ("nobody.knows", 1),
    ];
    for (name, arity) in refused {
        assert!(!is_known(name, arity), "{name}");
    }
}

#[test]
fn a_name_is_known_with_its_own_number_of_arguments_and_no_other() {
    assert!(is_known("regex.match", 2) && !is_known("regex.match", 3) && !is_known("regex.match", 1));
    assert!(is_known("concat", 2) && !is_known("concat", 3) && is_known("time.now_ns", 0));
}

#[test]
fn names_of_version_0_are_told_apart() {
    assert!(is_legacy("re_match") && is_legacy("cast_set") && is_known("all", 1));
    assert!(!is_legacy("regex.match") && !is_legacy("count") && !is_legacy("nobody.knows"));
}

#[test]
fn no_name_is_listed_twice() {
    let mut names = all().iter().map(|builtin| builtin.name).collect::<Vec<_>>();
    names.extend(engine::KNOWN.iter().filter(|&&known| known != ("walk", 2)).map(|&(name, _)| name));
    let listed = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), listed);
}

fn limit(name: &str, args: &[Value]) -> Exceeded {
    let builtin = all().iter().find(|builtin| builtin.name == name).unwrap();
    (builtin.call)(args).unwrap_err()
}

#[test]
fn what_a_function_answers_has_a_limit() {
    let (million, small) = (Value::from(1_000_000_u64), Value::from(1_u64));
    assert_eq!(limit("numbers.range", &[small.clone(), million.clone()]), Exceeded::Numbers);
    assert_eq!(
        limit("numbers.range_step", &[small.clone(), million.clone(), 2_u64.into()]),
        Exceeded::Numbers
    );
    assert_eq!(limit("net.cidr_expand", &["10.0.0.0/15".into()]), Exceeded::Addresses);
    assert_eq!(limit("net.cidr_expand", &["::/0".into()]), Exceeded::Addresses);
    let many = Value::from(vec![Value::from("10.0.0.0/8"); 1025]);
    assert_eq!(limit("net.cidr_contains_matches", &[many.clone(), many]), Exceeded::Addresses);
    let long = Value::from("a".repeat(2000));
    assert_eq!(limit("replace", &[long.clone(), "a".into(), long.clone()]), Exceeded::Text);
    let pattern = Value::from_json_str(&format!(r#"{{"a": {long}}}"#)).unwrap();
    assert_eq!(limit("strings.replace_n", &[pattern, long]), Exceeded::Text);
    let deep = Value::from(vec![Value::from("a/".repeat(200))]);
    assert_eq!(limit("json.filter", &[Value::new_object(), deep]), Exceeded::Path);
    let large = Value::from_numeric_string(&format!("1{}", "0".repeat(300))).unwrap();
    assert_eq!(limit("product", &[Value::from(vec![large; 70])]), Exceeded::Product);
    assert_eq!(limit("units.parse", &["1e401".into()]), Exceeded::Exponent);
    assert_eq!(limit("units.parse", &["123456789012.0000001m".into()]), Exceeded::Digits);
    let wide = Value::from(vec![Value::from(1_u64); 3]);
    assert_eq!(limit("sprintf", &["%999999d%999999d".into(), wide]), Exceeded::Text);
}

#[test]
fn a_limit_ends_the_evaluation_and_says_what_to_do() {
    let error = called("numbers.range", &[0_u64.into(), 1_000_000_u64.into()]).unwrap_err();
    assert!(error.contains("a range has more than 100000 numbers: make it smaller"), "{error}");
}

#[test]
fn the_largest_range_and_the_largest_network_are_answered() {
    let range = called("numbers.range", &[1_u64.into(), 100_000_u64.into()]).unwrap();
    assert_eq!(range.as_array().unwrap().len(), 100_000);
    assert_eq!(called("net.cidr_expand", &["10.1.0.0/16".into()]).unwrap().as_set().unwrap().len(), 65_536);
}
