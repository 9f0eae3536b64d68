use proptest::prelude::*;

use super::*;

fn read(text: &[u8]) -> Value {
    parse(text, 8).unwrap()
}

fn fault(text: &[u8]) -> (usize, JsonFault) {
    match parse(text, 8).unwrap_err() {
        BadRequest::Json { at, fault } => (at, fault),
        other => panic!("{other}"),
    }
}

#[test]
fn every_kind_of_value_is_read() {
    let text = br#" {"a": [1, -2, 0.5, true, false, null, "b"], "c": {}, "d": [] , "":"" } "#;
    let value = read(text);
    assert_eq!(value["a"][1], Value::from(-2));
    assert_eq!(value, Value::from_json_str(str::from_utf8(text).unwrap()).unwrap());
}

#[test]
fn of_two_members_with_one_name_the_last_counts() {
    assert_eq!(read(br#"{"a": {"x": 1}, "b": 2, "\u0061": {"y": 3}}"#), read(br#"{"a": {"y": 3}, "b": 2}"#));
}

#[test]
fn what_comes_behind_the_value_is_refused() {
    let behind = JsonFault::Syntax("text behind the value");
    for (text, at) in [("1 2", 2), ("{}}", 2), ("null,", 4), ("1 null", 2), ("\"a\"\u{a0}", 3)] {
        assert_eq!(fault(text.as_bytes()), (at, behind.clone()), "{text}");
    }
}

#[test]
fn integers_keep_all_their_digits() {
    for text in ["0", "-0", "9223372036854775808", "123456789012345678901234567890", "-99999999999999999999"]
    {
        assert_eq!(read(text.as_bytes()), Value::from_numeric_string(text).unwrap(), "{text}");
    }
    assert_ne!(read(b"123456789012345678901234567890"), read(b"123456789012345678901234567891"));
    assert_eq!(read(b"1e3"), Value::from(1000_i64));
    assert_eq!(read(b"2.50"), Value::from(2.5));
    assert_eq!(read(b"-0.0e99999999"), Value::from(0_i64));
}

#[test]
fn a_number_that_cannot_be_held_is_refused() {
    for text in ["1e401", "1e999999999999", "-1E+2147483647", "1e-401", "1e-350", "1e-2147483648", "1.5e399"]
    {
        assert_eq!(fault(text.as_bytes()), (text.len(), JsonFault::NumberRange), "{text}");
    }
    assert_eq!(read(b"1e-300"), Value::from(1e-300));
    let largest = "9".repeat(308);
    assert_eq!(read(largest.as_bytes()), Value::from_numeric_string(&largest).unwrap());
    assert_eq!(fault(format!("{largest}9").as_bytes()).1, JsonFault::NumberRange);
    let longest = format!("0.{}", "9".repeat(MAX_NUMBER_BYTES - 2));
    assert_eq!(read(longest.as_bytes()), Value::from(1.0));
    assert_eq!(fault(format!("{longest}9").as_bytes()).1, JsonFault::LongNumber);
}

#[test]
fn texts_that_are_none_are_replaced_byte_by_byte() {
    let fffd = |text: &[u8], expected: &str| assert_eq!(read(text), Value::from(expected), "{text:?}");
    fffd(b"\"a\xffb\"", "a\u{fffd}b");
    fffd(b"\"\xe2\x82\"", "\u{fffd}\u{fffd}");
    fffd(br#""\ud83d\ude00""#, "\u{1f600}");
    fffd(br#""\ud83d""#, "\u{fffd}");
    fffd(br#""\ude00\ud83d""#, "\u{fffd}\u{fffd}");
    fffd(br#""\ud83d\u0041""#, "\u{fffd}A");
    fffd(br#""\ud83d\ud83d\ude00""#, "\u{fffd}\u{1f600}");
    fffd(br#""\"\\\/\b\f\n\r\t\u00e9""#, "\"\\/\u{8}\u{c}\n\r\té");
}

#[test]
fn what_is_no_json_is_refused_where_it_is() {
    for (text, at) in [
        ("", 0),
        (" ", 1),
        ("x", 0),
        ("tru", 0),
        ("01", 2),
        ("-", 1),
        ("1.", 2),
        ("1e", 2),
        ("+1", 0),
        (".5", 0),
        ("\"a", 2),
        ("\"\\x\"", 1),
        ("\"\\u12g4\"", 1),
        ("\"\\u123", 1),
        ("\"a\nb\"", 2),
        ("[1,]", 3),
        ("[1 2]", 3),
        ("[", 1),
        ("{\"a\"}", 4),
        ("{a: 1}", 1),
        ("{\"a\": 1,}", 8),
        ("{\"a\": 1 \"b\": 2}", 8),
        ("NaN", 0),
        ("\u{feff}1", 0),
    ] {
        let (found, fault) = fault(text.as_bytes());
        assert!(matches!(fault, JsonFault::Syntax(_)), "{text}: {fault}");
        assert_eq!(found, at, "{text}");
    }
}

#[test]
fn nesting_has_a_depth() {
    let nested = |depth: usize| [vec![b'['; depth], vec![b']'; depth]].concat();
    assert!(parse(&nested(8), 8).is_ok());
    assert_eq!(fault(&nested(9)), (8, JsonFault::TooDeep(8)));
    // What is never closed cannot exhaust the stack, either.
    assert_eq!(fault(&vec![b'['; 1 << 20]), (8, JsonFault::TooDeep(8)));
    assert_eq!(fault(&br#"{"a":"#.repeat(9)).1, JsonFault::TooDeep(8));
    assert!(parse(&nested(1000), 1000).is_ok());
}

#[test]
fn a_body_has_so_many_values() {
    let values = |count: usize| [&b"["[..], &b"1,".repeat(count - 2), b"1]"].concat();
    assert!(parse(&values(MAX_VALUES), 8).is_ok());
    assert_eq!(fault(&values(MAX_VALUES + 1)).1, JsonFault::TooManyValues);
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<u64>().prop_map(Into::into),
        // Eighths are exact in both.
        any::<i32>().prop_map(|eighths| (f64::from(eighths) / 8.0).into()),
        ".*".prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            proptest::collection::btree_map(".{0,3}", inner, 0..4)
                .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn the_usual_parser_reads_the_same(value in json(), pretty: bool) {
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
        let text = text.unwrap();
        prop_assert_eq!(parse(text.as_bytes(), 8).unwrap(), Value::from_json_str(&text).unwrap());
    }

    #[test]
    fn the_usual_parser_refuses_the_same(text in r#"([\[\]{},:"\\ 0-9.eE+-]|true|null|"a"|\\u00e9|"a":){0,12}"#) {
        let ours = parse(text.as_bytes(), 64);
        let usual = serde_json::from_str::<Value>(&text);
        let is_ours_alone = matches!(ours, Err(BadRequest::Json { fault: JsonFault::NumberRange, .. }));
        prop_assert!(is_ours_alone || ours.is_ok() == usual.is_ok(), "{:?} {:?}", ours, usual);
    }

    #[test]
    fn no_bytes_are_too_strange(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let _ = parse(&bytes, 8);
    }
}
