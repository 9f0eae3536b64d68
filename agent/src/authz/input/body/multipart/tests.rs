use proptest::{collection::vec, prelude::*};

use super::*;

const CONTENT_TYPE: &str = "multipart/form-data; boundary=AaB03x";

fn read(body: &str) -> Result<Value, BadRequest> {
    parse(body.as_bytes(), CONTENT_TYPE, 8)
}

fn form(json: &str) -> Value {
    Value::from_json_str(json).unwrap()
}

/// Lines, each ended as they should be.
fn lines(lines: &[&str]) -> String {
    lines.iter().map(|line| format!("{line}\r\n")).collect()
}

const NAMED: &str = "Content-Disposition: form-data; name=\"a\"";

#[test]
fn every_part_comes_under_its_name_in_its_order() {
    let body = lines(&[
        "--AaB03x",
        NAMED,
        "",
        "one",
        "--AaB03x",
        "content-disposition: form-data; filename=\"f.txt\"; name=b",
        "Content-Type: text/plain",
        "",
        "two\nlines",
        "--AaB03x",
        NAMED,
        "",
        "",
        "--AaB03x--",
        "what comes behind the end",
    ]);
    assert_eq!(read(&body).unwrap(), form(r#"{"a": ["one", ""], "b": ["two\nlines"]}"#));
}

#[test]
fn a_part_that_says_it_is_json_is_parsed() {
    let json = "Content-Type: application/json; charset=utf-8";
    let body = |text| lines(&["--AaB03x", NAMED, json, "", text, "--AaB03x--"]);
    assert_eq!(read(&body(r#"{"x": [1, "y"]}"#)).unwrap(), form(r#"{"a": [{"x": [1, "y"]}]}"#));
    assert!(matches!(read(&body("{")), Err(BadRequest::Json { .. })));
}

#[test]
fn parts_without_a_name_are_passed_over() {
    for header in [
        "X: y",
        "Content-Disposition: form-data",
        "Content-Disposition: form-data; name=\"\"",
        "Content-Disposition: attachment; name=a",
    ] {
        let body = lines(&["--AaB03x", header, "", "gone", "--AaB03x", NAMED, "", "kept", "--AaB03x--"]);
        assert_eq!(read(&body).unwrap(), form(r#"{"a": ["kept"]}"#), "{header}");
    }
    assert_eq!(read("--AaB03x--").unwrap(), form("{}"));
}

#[test]
fn a_boundary_ends_a_part_only_as_a_line() {
    let body = lines(&[
        "--AaB03x",
        NAMED,
        "",
        "--AaB03xyz",
        " --AaB03x",
        "--AaB03x-",
        "--AaB03x  ",
        NAMED,
        "",
        "b",
        "--AaB03x--  ",
    ]);
    assert_eq!(read(&body).unwrap(), form(r#"{"a": ["--AaB03xyz\r\n --AaB03x\r\n--AaB03x-", "b"]}"#));
    // Nothing at all between headers and boundary.
    let body = lines(&["--AaB03x", NAMED, "", "--AaB03x--"]);
    assert_eq!(read(&body).unwrap(), form(r#"{"a": [""]}"#));
}

#[test]
fn lines_may_all_end_without_a_return() {
    let body = lines(&["--AaB03x", NAMED, "", "b", "--AaB03x--"]).replace('\r', "");
    assert_eq!(read(&body).unwrap(), form(r#"{"a": ["b"]}"#));
    assert!(read("--AaB03x--\n").is_err());
}

#[test]
fn content_that_is_no_text_is_replaced_byte_by_byte() {
    let body = lines(&["--AaB03x", NAMED, "", "?", "--AaB03x--"]).into_bytes();
    let body: Vec<u8> = body.into_iter().map(|byte| if byte == b'?' { 0xff } else { byte }).collect();
    assert_eq!(parse(&body, CONTENT_TYPE, 8).unwrap(), form("{\"a\": [\"\u{fffd}\"]}"));
}

#[test]
fn without_a_boundary_nothing_is_parsed_and_one_has_a_length() {
    assert_eq!(parse(b"x", "multipart/form-data", 8), Ok(Value::Null));
    for (content_type, is_read) in [
        ("multipart/form-data; boundary=\"\"".to_owned(), false),
        (format!("multipart/form-data; boundary={}", "b".repeat(70)), true),
        (format!("multipart/form-data; boundary={}", "b".repeat(71)), false),
        ("multipart/form-data; boundary".to_owned(), false),
        ("multipart/form-data; boundary=a, x".to_owned(), false),
    ] {
        let body = format!("--{}--", "b".repeat(70));
        assert_eq!(parse(body.as_bytes(), &content_type, 8).is_ok(), is_read, "{content_type}");
    }
}

#[test]
fn what_could_be_read_in_two_ways_is_refused() {
    for (body, at) in [
        (lines(&["preamble", "--AaB03x", NAMED, "", "b", "--AaB03x--"]), 0),
        (lines(&["--AaB03x", NAMED, "", "b"]), 54),
        (lines(&["--AaB03x", NAMED, "", "b", "--AaB03x"]), 67),
        (lines(&["--AaB03x", NAMED, "", "b", "--AaB03x-- x"]), 57),
        (lines(&["--AaB03x", NAMED]), 52),
        (lines(&["--AaB03x", NAMED, " ; x=y", "", "b", "--AaB03x--"]), 52),
        (lines(&["--AaB03x", NAMED, NAMED, "", "b", "--AaB03x--"]), 52),
        (lines(&["--AaB03x", "no colon", "", "b", "--AaB03x--"]), 10),
        (lines(&["--AaB03x", "X : y", "", "b", "--AaB03x--"]), 10),
        (lines(&["--AaB03x", "X: \u{7}", "", "b", "--AaB03x--"]), 10),
        (lines(&["--AaB03x", "Content-Disposition: form-data; name*=a", "", "b", "--AaB03x--"]), 51),
        (lines(&["--AaB03x", "Content-Transfer-Encoding: Quoted-Printable", "", "b", "--AaB03x--"]), 55),
    ] {
        match read(&body) {
            Err(BadRequest::Multipart { at: found, fault }) => assert_eq!(found, at, "{body}{fault}"),
            other => panic!("{body}{other:?}"),
        }
    }
}

#[test]
fn parts_and_their_headers_are_counted() {
    let parts = |count: usize| lines(&["--AaB03x", NAMED, "", "b"]).repeat(count) + "--AaB03x--";
    assert!(read(&parts(MAX_PARTS)).is_ok());
    assert!(read(&parts(MAX_PARTS + 1)).unwrap_err().to_string().ends_with("more than 1000 parts"));
    let headers = |count: usize| format!("--AaB03x\r\n{}\r\nb\r\n--AaB03x--", "X: y\r\n".repeat(count));
    assert!(read(&headers(MAX_PART_HEADERS)).is_ok());
    let error = read(&headers(MAX_PART_HEADERS + 1)).unwrap_err().to_string();
    assert!(error.ends_with("a part with more than 32 headers"), "{error}");
}

proptest! {
    #[test]
    fn what_was_sent_in_parts_is_read(parts in vec(("[a-z]{1,3}", "[a-zA-Z0-9 \r\n-]{0,30}"), 0..5)) {
        let mut body = String::new();
        let mut expected = Lists::default();
        for (name, content) in &parts {
            let disposition = format!("Content-Disposition: form-data; name=\"{name}\"");
            body += &lines(&["--AaB03x", &disposition, "", content]);
            expected.add(name, Value::from(&**content));
        }
        body += "--AaB03x--\r\n";
        prop_assert_eq!(read(&body).unwrap(), expected.into_value());
    }

    #[test]
    fn no_body_is_too_strange(body in r#"(--AaB03x|--|\r\n|\n|Content-Disposition: form-data; name="?a|:| |b|;){0,20}"#) {
        let _ = read(&body);
    }
}
