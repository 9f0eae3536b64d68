use super::*;

fn with_body(content_type: &str, body: &str, others: &[(&str, &str)]) -> HttpRequest {
    let mut headers = headers(others);
    headers.insert("content-type".into(), content_type.into());
    HttpRequest { headers, body: body.into(), ..HttpRequest::default() }
}

/// `parsed_body` and `truncated_body`.
fn parsed(http: HttpRequest) -> Result<(Value, Value), BadRequest> {
    input(http).map(|input| (input["parsed_body"].clone(), input["truncated_body"].clone()))
}

fn whole(body: &str) -> Result<(Value, Value), BadRequest> {
    Ok((json(body), Value::Bool(false)))
}

fn truncated() -> Result<(Value, Value), BadRequest> {
    Ok((Value::Null, Value::Bool(true)))
}

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";
const MULTIPART: &str = "multipart/form-data; boundary=b";
const PARTS: &str = "--b\r\nContent-Disposition: form-data; name=a\r\n\r\nx\r\n--b--";

#[test]
fn a_body_is_parsed_by_what_it_says_it_is() {
    for (content_type, body, expected) in [
        (JSON, r#"{"a": 1}"#, r#"{"a": 1}"#),
        ("text/x; application/json", "[1]", "[1]"),
        ("application/json; charset=utf-8", "null", "null"),
        (FORM, "a=1&a=2&b=x+y", r#"{"a":["1","2"],"b":["x y"]}"#),
        (FORM, "&", "{}"),
        (MULTIPART, PARTS, r#"{"a":["x"]}"#),
        ("multipart/form-data", PARTS, "null"),
        ("text/plain", "{", "null"),
        ("application/JSON", "{", "null"),
        ("", "{", "null"),
        ("application/grpc", "{", "null"),
        ("application/grpc-web+json", "{", "null"),
        // The first of the known ones counts.
        ("application/x-www-form-urlencoded, application/json", "[]", "[]"),
    ] {
        assert_eq!(parsed(with_body(content_type, body, &[])), whole(expected), "{content_type}");
    }
    let upper = HttpRequest {
        headers: headers(&[("Content-Type", JSON)]),
        body: "{".into(),
        ..HttpRequest::default()
    };
    assert_eq!(parsed(upper), whole("null"));
}

#[test]
fn bytes_count_where_there_is_no_text() {
    for (content_type, raw) in [(JSON, &b"[1]"[..]), (FORM, b"a=\xff"), (MULTIPART, PARTS.as_bytes())] {
        let http = HttpRequest { raw_body: raw.to_vec(), ..with_body(content_type, "", &[]) };
        assert_ne!(parsed(http).unwrap().0, Value::Null, "{content_type}");
    }
    let both = HttpRequest { raw_body: b"[1]".to_vec(), ..with_body(JSON, "[2]", &[]) };
    assert_eq!(parsed(both), whole("[2]"));
    for content_type in [JSON, FORM, MULTIPART] {
        // Nothing is asked of a body that is not there.
        assert_eq!(
            parsed(with_body(content_type, "", &[("content-length", "x")])),
            whole("null"),
            "{content_type}"
        );
    }
}

#[test]
fn a_body_that_was_cut_is_not_parsed() {
    for (content_type, body) in [(JSON, "{"), (FORM, "a=%"), (MULTIPART, "--b")] {
        for header in [("x-envoy-auth-partial-body", "true"), ("content-length", "9999")] {
            assert_eq!(
                parsed(with_body(content_type, body, &[header])),
                truncated(),
                "{content_type} {header:?}"
            );
        }
        for header in
            [("x-envoy-auth-partial-body", "false"), ("content-length", "1"), ("content-length", "-1")]
        {
            assert!(parsed(with_body(content_type, body, &[header])).is_err(), "{content_type} {header:?}");
        }
    }
    // Cut at its first byte, and whatever it is.
    let cut =
        HttpRequest { headers: headers(&[("x-envoy-auth-partial-body", "true")]), ..HttpRequest::default() };
    assert_eq!(parsed(cut), truncated());
    assert_eq!(parsed(with_body(JSON, "[1]", &[("content-length", "3")])), whole("[1]"));
    assert_eq!(parsed(with_body(JSON, "[1]", &[("content-length", "4")])), truncated());
    assert_eq!(parsed(with_body("text/plain", "x", &[("content-length", "9")])), whole("null"));
}

#[test]
fn a_content_length_that_is_no_number_is_a_bad_request() {
    for (content_type, body) in [(JSON, "[]"), (FORM, "a=b"), (MULTIPART, PARTS)] {
        for length in ["x", "", "1.0", "0x1", "3,3", " 3", "9223372036854775808"] {
            let error = parsed(with_body(content_type, body, &[("content-length", length)]));
            assert_eq!(error, Err(BadRequest::ContentLength), "{content_type}");
        }
        assert!(parsed(with_body(content_type, body, &[("content-length", "+3")])).is_ok());
    }
    assert_eq!(parsed(with_body("text/plain", "x", &[("content-length", "x")])), whole("null"));
}

#[test]
fn a_body_that_is_not_what_it_says_is_a_bad_request() {
    for (content_type, body, text) in [
        (JSON, "{\"a\":1,\"a\":2}}", "JSON, byte 13: text behind the value"),
        (JSON, " ", "JSON, byte 1: the end comes within a value"),
        (FORM, "a;b", "`;` in the body: it separates nothing, write it as %3B"),
        (FORM, "a=%zz", "invalid URL escape \"%zz\" in the body"),
        (MULTIPART, "x", "multipart body, byte 0: the line of a boundary is missing"),
        (
            "multipart/form-data; boundary",
            "x",
            "content-type cannot be read: a parameter without name or `=`",
        ),
    ] {
        assert_eq!(parsed(with_body(content_type, body, &[])).unwrap_err().to_string(), text);
    }
}

#[test]
fn json_is_read_as_deep_as_is_set_and_no_deeper_than_the_stack_allows() {
    let nested = |depth: usize| with_body(JSON, &("[".repeat(depth) + &"]".repeat(depth)), &[]);
    let read = |http, body_depth| {
        let options = InputOptions { body_depth, ..InputOptions::default() };
        document(&asked(http), &options, None)
    };
    assert!(input(nested(DEFAULT_BODY_DEPTH)).is_ok());
    let fault = JsonFault::TooDeep(DEFAULT_BODY_DEPTH);
    assert_eq!(input(nested(200)), Err(BadRequest::Json { at: DEFAULT_BODY_DEPTH, fault }));
    assert!(read(nested(200), 200).is_ok());
    assert!(read(nested(MAX_BODY_DEPTH), usize::MAX).is_ok());
    let fault = JsonFault::TooDeep(MAX_BODY_DEPTH);
    assert_eq!(read(nested(1 << 20), usize::MAX), Err(BadRequest::Json { at: MAX_BODY_DEPTH, fault }));
}

#[test]
fn without_parsing_no_body_is_a_bad_one() {
    let options = InputOptions { skip_request_body_parse: true, ..InputOptions::default() };
    let input = document(&asked(with_body(JSON, "{", &[("content-length", "x")])), &options, None).unwrap();
    let keys: Vec<_> = input.as_object().unwrap().keys().map(ToString::to_string).collect();
    assert_eq!(keys, [r#""attributes""#, r#""parsed_path""#, r#""parsed_query""#, r#""version""#]);
    let bad_path = HttpRequest { path: "/%zz".into(), ..HttpRequest::default() };
    assert!(document(&asked(bad_path), &options, None).is_err());
}
