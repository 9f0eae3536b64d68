use super::*;

fn of_path(path: &str) -> Result<Value, BadRequest> {
    input(HttpRequest { path: path.into(), ..HttpRequest::default() })
}

#[test]
fn a_path_is_unescaped_once_and_split() {
    for (path, segments) in [
        ("/data", r#"["data"]"#),
        ("/data?x=1", r#"["data"]"#),
        ("/data/", r#"["data",""]"#),
        ("//data", r#"["data"]"#),
        ("/%64ata", r#"["data"]"#),
        ("/a%2fb/c", r#"["a","b","c"]"#),
        ("%2f%2Fa", r#"["a"]"#),
        ("/a//b", r#"["a","","b"]"#),
        ("/x/../data", r#"["x","..","data"]"#),
        ("", r#"[""]"#),
        ("/", r#"[""]"#),
        ("?x", r#"[""]"#),
        ("*", r#"["*"]"#),
        ("/data#a", r#"["data#a"]"#),
        ("/a+b", r#"["a+b"]"#),
        ("/%2541", r#"["%41"]"#),
        ("/%ff", "[\"\u{fffd}\"]"),
        ("/%e2%82", "[\"\u{fffd}\u{fffd}\"]"),
        ("/%C3%A9é", r#"["éé"]"#),
        ("/%0A", r#"["\n"]"#),
        ("/a?b?c/d", r#"["a"]"#),
    ] {
        assert_eq!(of_path(path).unwrap()["parsed_path"], json(segments), "{path}");
    }
}

#[test]
fn a_path_with_a_bad_escape_is_a_bad_request() {
    for path in ["/%zz", "/%", "/%4", "/a%%41"] {
        assert!(matches!(of_path(path), Err(BadRequest::Escape(_, Part::Path))), "{path}");
    }
    assert_eq!(of_path("/%zz").unwrap_err().to_string(), "invalid URL escape \"%zz\" in the path");
}

#[test]
fn a_query_is_an_object_of_arrays() {
    for (query, parameters) in [
        ("a=1&a=2&b=%20x+y", r#"{"a":["1","2"],"b":[" x y"]}"#),
        ("a", r#"{"a":[""]}"#),
        ("a=", r#"{"a":[""]}"#),
        ("=a", r#"{"":["a"]}"#),
        ("a=b=c", r#"{"a":["b=c"]}"#),
        ("&&a=1&", r#"{"a":["1"]}"#),
        ("", "{}"),
        ("%61=%3B%26%3D", r#"{"a":[";&="]}"#),
        ("a=%ff", "{\"a\":[\"\u{fffd}\"]}"),
        ("a=1?b=2", r#"{"a":["1?b=2"]}"#),
    ] {
        assert_eq!(of_path(&format!("/?{query}")).unwrap()["parsed_query"], json(parameters), "{query}");
    }
}

#[test]
fn a_query_with_a_semicolon_or_a_bad_escape_is_a_bad_request() {
    for query in ["a;b", "a=1;b=2", "a=1&;", "x&a=;"] {
        assert_eq!(of_path(&format!("/?{query}")), Err(BadRequest::Semicolon(Part::Query)), "{query}");
    }
    for query in ["a=%zz", "%=1", "a&b=%4"] {
        let error = of_path(&format!("/?{query}"));
        assert!(matches!(error, Err(BadRequest::Escape(_, Part::Query))), "{query}");
    }
}

#[test]
fn a_query_has_so_many_parameters() {
    let query = |count: usize| of_path(&format!("/?a{}", "&a".repeat(count - 1)));
    let parsed = query(query::MAX_PARAMETERS).unwrap();
    assert_eq!(parsed["parsed_query"]["a"].as_array().unwrap().len(), query::MAX_PARAMETERS);
    assert_eq!(query(query::MAX_PARAMETERS + 1), Err(BadRequest::TooManyParameters(Part::Query)));
}
