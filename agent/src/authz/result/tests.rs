use proptest::prelude::*;
use prost::Message;
use prost_types::value::Kind as Protobuf;
use vouch_proto::envoy::service::auth::v3::{
    CheckResponse, DeniedHttpResponse, OkHttpResponse, check_response::HttpResponse,
};

use super::*;
use crate::authz::input::{BadRequest, Part};

mod bounds;

const ID: &str = "b0c9bd57-0000-4000-8000-000000000000";

/// Rego's own reading of a term, so that sets and numbers can be written.
fn rego(term: &str) -> Value {
    let mut engine = regorus::Engine::new();
    let results = engine.eval_query(format!("x = {term}"), false).unwrap();
    results.result[0].bindings["x"].clone()
}

fn verdict(term: &str) -> Result<Verdict, ResultError> {
    interpret(&rego(term))
}

fn response(term: &str) -> CheckResponse {
    verdict(term).unwrap().into_response(ID, HeaderAppend::Unset)
}

fn code(response: &CheckResponse) -> i32 {
    response.status.as_ref().unwrap().code
}

fn ok(term: &str) -> OkHttpResponse {
    let response = response(term);
    assert_eq!(code(&response), 0, "{term}");
    match response.http_response {
        Some(HttpResponse::OkResponse(ok)) => ok,
        other => panic!("{term}: {other:?}"),
    }
}

fn denied(term: &str) -> DeniedHttpResponse {
    let response = response(term);
    assert_eq!(code(&response), 7, "{term}");
    match response.http_response {
        Some(HttpResponse::DeniedResponse(denied)) => denied,
        other => panic!("{term}: {other:?}"),
    }
}

fn headers(of: &[vouch_proto::envoy::config::core::v3::HeaderValueOption]) -> Vec<(&str, &str)> {
    of.iter()
        .map(|option| option.header.as_ref().unwrap())
        .map(|header| (&*header.key, &*header.value))
        .collect()
}

fn metadata(response: &CheckResponse) -> Vec<(&str, &Protobuf)> {
    let fields = &response.dynamic_metadata.as_ref().unwrap().fields;
    fields.iter().map(|(name, value)| (&**name, value.kind.as_ref().unwrap())).collect()
}

fn error(term: &str) -> (&'static str, String) {
    let error = verdict(term).unwrap_err();
    (error.reason(), error.to_string())
}

#[test]
fn a_boolean_is_an_answer_without_further_words() {
    for (term, expected) in [("true", 0), ("false", 7)] {
        let response = response(term);
        assert_eq!((code(&response), &response.http_response), (expected, &None), "{term}");
        assert_eq!(metadata(&response), [("decision_id", &Protobuf::StringValue(ID.into()))], "{term}");
        assert_eq!(verdict(term).unwrap().is_allowed(), term == "true");
    }
}

#[test]
fn an_object_that_allows_changes_the_request_and_its_response() {
    let ok = ok(r#"{"allowed": true, "headers": {"x-user": "web", "x-role": ["a", "b"]},
        "request_headers_to_remove": ["authorization", "cookie"], "response_headers_to_add": {"x-by": "vouch"},
        "query_parameters_to_set": {"b": "1", "a": ["2", "3"]}, "query_parameters_to_remove": ["token"]}"#);
    assert_eq!(headers(&ok.headers), [("x-role", "a"), ("x-role", "b"), ("x-user", "web")]);
    assert_eq!(ok.headers_to_remove, ["authorization", "cookie"]);
    assert_eq!(headers(&ok.response_headers_to_add), [("x-by", "vouch")]);
    let set: Vec<_> = ok.query_parameters_to_set.iter().map(|set| (&*set.key, &*set.value)).collect();
    assert_eq!(set, [("a", "2"), ("a", "3"), ("b", "1")]);
    assert_eq!(ok.query_parameters_to_remove, ["token"]);
}

#[test]
fn an_object_that_allows_alone_is_an_empty_answer() {
    assert_eq!(ok(r#"{"allowed": true}"#), OkHttpResponse::default());
}

#[test]
fn what_a_denial_would_have_is_passed_over_where_it_allows() {
    assert_eq!(
        ok(r#"{"allowed": true, "body": 1, "http_status": "x", "reason": [1]}"#),
        OkHttpResponse::default()
    );
}

#[test]
fn an_object_that_denies_tells_the_client() {
    let denied = denied(
        r#"{"allowed": false, "headers": {"set-cookie": ["a=1", "b=2"], "location": "/login"},
        "body": "go away", "http_status": 302}"#,
    );
    assert_eq!(
        headers(&denied.headers),
        [("location", "/login"), ("set-cookie", "a=1"), ("set-cookie", "b=2")]
    );
    assert_eq!((&*denied.body, denied.status.unwrap().code), ("go away", 302));
}

#[test]
fn an_object_that_denies_alone_is_403_without_a_body() {
    let denied = denied(r#"{"allowed": false}"#);
    assert_eq!((denied.headers.len(), &*denied.body, denied.status.unwrap().code), (0, "", 403));
}

#[test]
fn what_an_allowance_would_have_is_passed_over_where_it_denies() {
    for field in [
        "request_headers_to_remove",
        "response_headers_to_add",
        "query_parameters_to_set",
        "query_parameters_to_remove",
        "reason_code",
    ] {
        let term = format!("{{\"allowed\": false, {field:?}: 1}}");
        assert_eq!(denied(&term), denied(r#"{"allowed": false}"#), "{field}");
    }
}

#[test]
fn headers_come_as_an_object_or_as_a_list_of_objects() {
    for (value, expected) in [
        ("{}", &[][..]),
        ("[]", &[]),
        (r#"[{"b": "1"}, {"a": ["2"], "b": "3"}, {}]"#, &[("b", "1"), ("a", "2"), ("b", "3")]),
        (r#"{{"b": "1"}, {"a": "2"}}"#, &[("a", "2"), ("b", "1")]),
        (r#"{"a": {"z", "y"}}"#, &[("a", "y"), ("a", "z")]),
        (r#"{"a": []}"#, &[]),
        (r#"{"a": ""}"#, &[("a", "")]),
        (r#"{1: "x"}"#, &[("1", "x")]),
    ] {
        assert_eq!(
            headers(&ok(&format!("{{\"allowed\": true, \"headers\": {value}}}")).headers),
            expected,
            "{value}"
        );
        assert_eq!(
            headers(&denied(&format!("{{\"allowed\": false, \"headers\": {value}}}")).headers),
            expected,
            "{value}"
        );
    }
}

#[test]
fn headers_to_the_upstream_overwrite_only_where_that_is_asked_for() {
    let term = r#"{"allowed": true, "headers": {"a": "b"}, "response_headers_to_add": {"c": "d"}}"#;
    for (append, action) in [(HeaderAppend::Unset, 0), (HeaderAppend::Overwrite, 2)] {
        let response = verdict(term).unwrap().into_response(ID, append);
        let Some(HttpResponse::OkResponse(ok)) = response.http_response else { panic!("{append:?}") };
        assert_eq!((ok.headers[0].append_action, ok.headers[0].append), (action, None), "{append:?}");
        assert_eq!(ok.response_headers_to_add[0].append_action, 0, "{append:?}");
    }
    assert_eq!(HeaderAppend::default(), HeaderAppend::Unset);
    let denied = verdict(r#"{"allowed": false, "headers": {"a": "b"}}"#).unwrap();
    match denied.into_response(ID, HeaderAppend::Overwrite).http_response {
        Some(HttpResponse::DeniedResponse(denied)) => assert_eq!(denied.headers[0].append_action, 0),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_status_code_that_envoy_knows_and_no_other_is_taken() {
    let known = [
        vec![100, 226, 307, 308, 426, 428, 429, 431, 510, 511],
        (200..=208).collect(),
        (300..=305).collect(),
        (400..=417).collect(),
        (421..=424).collect(),
        (500..=508).collect(),
    ]
    .concat();
    for code in 0..=600 {
        let term = format!("{{\"allowed\": false, \"http_status\": {code}}}");
        match verdict(&term) {
            Ok(_) => {
                assert!(known.contains(&code), "{code}");
                assert_eq!(denied(&term).status.unwrap().code, code);
            }
            Err(error) => {
                assert!(!known.contains(&code), "{code}");
                assert_eq!(error, ResultError::HttpStatusCode(code.to_string()));
            }
        }
    }
}

#[test]
fn a_status_code_is_an_integer() {
    let of = |status: &str| verdict(&format!("{{\"allowed\": false, \"http_status\": {status}}}"));
    for (status, shown) in [
        ("403.5", "403.5"),
        ("-403", "-403"),
        ("65939", "65939"),
        ("18446744073709552019", "18446744073709552019"),
    ] {
        assert_eq!(of(status), Err(ResultError::HttpStatusCode(shown.into())), "{status}");
    }
    for (status, kind) in
        [("\"403\"", Kind::String), ("null", Kind::Null), ("true", Kind::Boolean), ("[403]", Kind::Array)]
    {
        assert_eq!(of(status), Err(ResultError::HttpStatus(kind)), "{status}");
    }
    // Numbers do not keep how they were written.
    assert_eq!(of("403.0"), of("403"));
}

#[test]
fn metadata_go_with_either_answer_and_never_hide_the_decision_id() {
    for allowed in [true, false] {
        let term = format!(
            r#"{{"allowed": {allowed}, "dynamic_metadata": {{"decision_id": "mine", "n": 1, "l": [null, true], "s": {{"b", "a"}}, "o": {{"x": 0.5}}}}}}"#
        );
        let response = response(&term);
        let text = |text: &str| Protobuf::StringValue(text.into());
        let list = |values: Vec<Protobuf>| {
            let values = values.into_iter().map(|kind| prost_types::Value { kind: Some(kind) }).collect();
            Protobuf::ListValue(prost_types::ListValue { values })
        };
        let half = prost_types::Value { kind: Some(Protobuf::NumberValue(0.5)) };
        let inner = Struct { fields: [("x".to_owned(), half)].into_iter().collect() };
        let expected = [
            ("decision_id", &text(ID)),
            ("l", &list(vec![Protobuf::NullValue(0), Protobuf::BoolValue(true)])),
            ("n", &Protobuf::NumberValue(1.0)),
            ("o", &Protobuf::StructValue(inner)),
            ("s", &list(vec![text("a"), text("b")])),
        ];
        assert_eq!(metadata(&response), expected);
    }
}

#[test]
fn large_numbers_in_metadata_become_doubles() {
    let of =
        |number: &str| verdict(&format!("{{\"allowed\": true, \"dynamic_metadata\": {{\"n\": {number}}}}}"));
    for (number, double) in [
        ("9007199254740993", 9_007_199_254_740_992.0),
        ("123456789012345678901234567890", 1.234_567_890_123_456_8e29),
    ] {
        let response = of(number).unwrap().into_response(ID, HeaderAppend::Unset);
        assert_eq!(metadata(&response)[1], ("n", &Protobuf::NumberValue(double)), "{number}");
    }
    // Past every double.
    let huge = Value::from_numeric_string(&format!("1{}", "0".repeat(400))).unwrap();
    let metadata = Value::from(std::collections::BTreeMap::from([("n".into(), huge.clone())]));
    let with = |allowed: bool, field: &str, value: &Value| {
        let answer = [("allowed".into(), allowed.into()), (field.into(), value.clone())];
        interpret(&std::collections::BTreeMap::from(answer).into()).unwrap_err()
    };
    assert_eq!(with(true, "dynamic_metadata", &metadata), ResultError::DynamicMetadataValue(Kind::Number));
    assert_eq!(with(false, "http_status", &huge).reason(), "http_status_code");
}

#[test]
fn what_is_no_answer_is_an_error_with_a_reason_and_what_to_do() {
    for (term, reason, text) in [
        (
            "\"true\"",
            "result_type",
            "the policy's rule is a string: it should be a boolean or an object with `allowed`",
        ),
        (
            "1",
            "result_type",
            "the policy's rule is a number: it should be a boolean or an object with `allowed`",
        ),
        (
            "null",
            "result_type",
            "the policy's rule is null: it should be a boolean or an object with `allowed`",
        ),
        (
            "[true]",
            "result_type",
            "the policy's rule is an array: it should be a boolean or an object with `allowed`",
        ),
        (
            "{true}",
            "result_type",
            "the policy's rule is a set: it should be a boolean or an object with `allowed`",
        ),
        ("{}", "allowed_missing", "the object has no `allowed`: add it, as a boolean"),
        (r#"{"allow": true}"#, "allowed_missing", "the object has no `allowed`: add it, as a boolean"),
        (r#"{"allowed": "true"}"#, "allowed_type", "`allowed` is a string: it should be a boolean"),
        (r#"{"allowed": null}"#, "allowed_type", "`allowed` is null: it should be a boolean"),
        (
            r#"{"allowed": true, "headers": "x"}"#,
            "headers_type",
            "`headers` is a string: it should be an object, or an array of objects",
        ),
        (
            r#"{"allowed": true, "headers": null}"#,
            "headers_type",
            "`headers` is null: it should be an object, or an array of objects",
        ),
        (
            r#"{"allowed": false, "headers": [1]}"#,
            "headers_type",
            "`headers` is a number: it should be an object, or an array of objects",
        ),
        (
            r#"{"allowed": false, "headers": {"a": 1}}"#,
            "header_value_type",
            r#""a" in `headers` is a number: it should be a string or an array of strings"#,
        ),
        (
            r#"{"allowed": true, "headers": {"a": [true]}}"#,
            "header_value_type",
            r#""a" in `headers` is a boolean: it should be a string or an array of strings"#,
        ),
        (
            r#"{"allowed": true, "headers": {"a": null}}"#,
            "header_value_type",
            r#""a" in `headers` is null: it should be a string or an array of strings"#,
        ),
        (
            r#"{"allowed": true, "headers": {[1]: "a"}}"#,
            "name_type",
            "`headers` holds an array: it should hold strings only",
        ),
        (
            r#"{"allowed": true, "response_headers_to_add": {"a": {"b": "c"}}}"#,
            "header_value_type",
            r#""a" in `response_headers_to_add` is an object: it should be a string or an array of strings"#,
        ),
        (
            r#"{"allowed": true, "request_headers_to_remove": "a"}"#,
            "names_type",
            "`request_headers_to_remove` is a string: it should be an array of strings",
        ),
        (
            r#"{"allowed": true, "request_headers_to_remove": ["a", 1]}"#,
            "name_type",
            "`request_headers_to_remove` holds a number: it should hold strings only",
        ),
        (
            r#"{"allowed": true, "query_parameters_to_remove": {"a": "b"}}"#,
            "names_type",
            "`query_parameters_to_remove` is an object: it should be an array of strings",
        ),
        (
            r#"{"allowed": true, "query_parameters_to_set": ["a"]}"#,
            "query_parameters_type",
            "`query_parameters_to_set` is an array: it should be an object",
        ),
        (
            r#"{"allowed": true, "query_parameters_to_set": {"a": 1}}"#,
            "header_value_type",
            r#""a" in `query_parameters_to_set` is a number: it should be a string or an array of strings"#,
        ),
        (
            r#"{"allowed": false, "body": {"a": 1}}"#,
            "body_type",
            "`body` is an object: it should be a string",
        ),
        (r#"{"allowed": false, "body": null}"#, "body_type", "`body` is null: it should be a string"),
        (
            r#"{"allowed": false, "http_status": "403"}"#,
            "http_status_type",
            "`http_status` is a string: it should be a number",
        ),
        (
            r#"{"allowed": false, "http_status": 418}"#,
            "http_status_code",
            "`http_status` is 418: it should be a status code that Envoy knows, such as 403",
        ),
        (
            r#"{"allowed": true, "dynamic_metadata": null}"#,
            "dynamic_metadata_type",
            "`dynamic_metadata` is null: it should be an object",
        ),
        (
            r#"{"allowed": false, "dynamic_metadata": [1]}"#,
            "dynamic_metadata_type",
            "`dynamic_metadata` is an array: it should be an object",
        ),
    ] {
        assert_eq!(error(term), (reason, text.to_owned()), "{term}");
    }
    let undefined = interpret(&Value::Undefined).unwrap_err();
    assert_eq!(undefined.reason(), "undefined");
    assert_eq!(undefined.to_string(), "the policy's rule is undefined: give it a default");
}

#[test]
fn a_request_that_cannot_be_parsed_is_denied_as_a_bad_one() {
    let error = BadRequest::Escape("%zz".into(), Part::Path);
    let response = bad_request(&error);
    let text = "request_parse_error: invalid URL escape \"%zz\" in the path";
    let status = response.status.unwrap();
    assert_eq!((status.code, &*status.message, response.dynamic_metadata), (7, text, None));
    match response.http_response {
        Some(HttpResponse::DeniedResponse(denied)) => {
            assert_eq!((denied.status.unwrap().code, &*denied.body, denied.headers.len()), (400, text, 0));
        }
        other => panic!("{other:?}"),
    }
}

/// Any value, built of the words that are looked for.
fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        Just(Value::Undefined),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-1e30..1e30_f64).prop_map(Value::from),
        "[a-z\r\n]{0,3}".prop_map(Value::from),
    ];
    let key = proptest::sample::select(vec![
        "allowed",
        "headers",
        "body",
        "http_status",
        "dynamic_metadata",
        "request_headers_to_remove",
        "x",
    ]);
    leaf.prop_recursive(3, 24, 4, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_set(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(key.clone().prop_map(Value::from), inner, 0..6)
                .prop_map(Value::from),
        ]
    })
}

proptest! {
    #[test]
    fn only_true_and_allowed_true_allow(value in any_value()) {
        let allows = value == Value::from(true) || matches!(&value, Value::Object(_)) && value["allowed"] == Value::from(true);
        let is_allowed = interpret(&value).is_ok_and(|verdict| verdict.is_allowed());
        prop_assert!(allows || !is_allowed);
        let has_status = |verdict: Verdict| verdict.into_response(ID, HeaderAppend::Unset).status.unwrap().code == 0;
        prop_assert_eq!(interpret(&value).is_ok_and(has_status), is_allowed);
    }

    #[test]
    fn one_value_has_one_answer(value in any_value()) {
        let bytes = |value: &Value| {
            interpret(value).map(|verdict| verdict.into_response(ID, HeaderAppend::Unset).encode_to_vec()).ok()
        };
        prop_assert_eq!(bytes(&value), bytes(&value.clone()));
    }
}
