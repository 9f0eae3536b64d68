use super::*;

fn with(field: &str, value: Value) -> Value {
    let allowed = Value::from(!matches!(field, "body" | "http_status"));
    std::collections::BTreeMap::from([(Value::from("allowed"), allowed), (field.into(), value)]).into()
}

fn object(entries: impl IntoIterator<Item = (String, Value)>) -> Value {
    let entries = entries.into_iter().map(|(name, value)| (Value::from(name), value));
    entries.collect::<std::collections::BTreeMap<_, _>>().into()
}

fn reason(value: &Value) -> Option<&'static str> {
    interpret(value).err().map(|error| error.reason())
}

#[test]
fn lists_have_so_many_entries() {
    let texts = |count: usize| (0..count).map(|n| Value::from(n.to_string())).collect::<Vec<_>>();
    let named = |count| object([("a".to_owned(), texts(count).into())]);
    for (field, list) in [
        ("headers", &named as &dyn Fn(usize) -> Value),
        ("response_headers_to_add", &named),
        ("query_parameters_to_set", &named),
        ("request_headers_to_remove", &|count| texts(count).into()),
        ("query_parameters_to_remove", &|count| texts(count).into()),
    ] {
        assert_eq!(reason(&with(field, list(MAX_ENTRIES))), None, "{field}");
        assert_eq!(reason(&with(field, list(MAX_ENTRIES + 1))), Some("entries_limit"), "{field}");
    }
}

#[test]
fn lists_have_so_many_bytes() {
    let header = |bytes: usize| object([("ab".to_owned(), "x".repeat(bytes - 2).into())]);
    assert_eq!(reason(&with("headers", header(MAX_ENTRY_BYTES))), None);
    assert_eq!(reason(&with("headers", header(MAX_ENTRY_BYTES + 1))), Some("entries_limit"));
}

#[test]
fn a_body_has_so_many_bytes() {
    let body = |bytes: usize| with("body", "x".repeat(bytes).into());
    assert_eq!(reason(&body(MAX_BODY_BYTES)), None);
    assert_eq!(reason(&body(MAX_BODY_BYTES + 1)), Some("body_limit"));
}

#[test]
fn metadata_have_a_depth_that_decoders_follow() {
    let nested = |depth: usize| {
        let inner = (1..depth).fold(Value::from(1), |inner, _| object([("a".to_owned(), inner)]));
        with("dynamic_metadata", object([("a".to_owned(), inner)]))
    };
    let response = interpret(&nested(MAX_METADATA_DEPTH)).unwrap().into_response(ID, HeaderAppend::Unset);
    assert_eq!(CheckResponse::decode(&*response.encode_to_vec()), Ok(response));
    assert_eq!(reason(&nested(MAX_METADATA_DEPTH + 1)), Some("dynamic_metadata_limit"));
}

#[test]
fn metadata_have_so_many_values_and_bytes() {
    // The object and its array are values, too.
    let values = |count: usize| object([("a".to_owned(), vec![Value::Null; count - 2].into())]);
    assert_eq!(reason(&with("dynamic_metadata", values(MAX_METADATA_VALUES))), None);
    assert_eq!(
        reason(&with("dynamic_metadata", values(MAX_METADATA_VALUES + 1))),
        Some("dynamic_metadata_limit")
    );
    let text = |bytes: usize| object([("ab".to_owned(), "x".repeat(bytes - 2).into())]);
    assert_eq!(reason(&with("dynamic_metadata", text(MAX_METADATA_BYTES))), None);
    assert_eq!(
        reason(&with("dynamic_metadata", text(MAX_METADATA_BYTES + 1))),
        Some("dynamic_metadata_limit")
    );
}

#[test]
fn a_header_is_one_line_under_a_token() {
    for (name, value, is_taken) in [
        ("x-user", "spiffe://example.org/web, é", true),
        (":path", "/other", true),
        ("x-user", "a\r\nx-admin: true", false),
        ("x-user", "a\nb", false),
        ("x-user", "a\0", false),
        ("x-user\r\n", "a", false),
        ("x user", "a", false),
        ("x-user:", "a", false),
        ("", "a", false),
        (":", "a", false),
        ("é", "a", false),
    ] {
        for field in ["headers", "response_headers_to_add"] {
            let header = object([(name.to_owned(), vec![Value::from("fine"), value.into()].into())]);
            let expected = (!is_taken).then_some("header_text");
            assert_eq!(reason(&with(field, header)), expected, "{name:?} {value:?}");
        }
    }
}
