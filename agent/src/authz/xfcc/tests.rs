use proptest::{collection::vec, option, prelude::*};

use super::*;

fn fault(header: &str) -> (usize, Fault) {
    let Error { at, fault } = parse(header).unwrap_err();
    (at, fault)
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn an_element_as_envoy_writes_it() {
    let header = "By=spiffe://example.org/ec-backend;Hash=468ed33be74eee65;Cert=\"-----BEGIN%20\";Chain=\"--%0A\";\
                  Subject=\"O=SPIRE,C=US\";URI=spiffe://example.org/ec-web;DNS=web.example.org;DNS=web";
    let element = Element {
        by: texts(&["spiffe://example.org/ec-backend"]),
        hash: Some("468ed33be74eee65".into()),
        cert: Some("-----BEGIN%20".into()),
        chain: Some("--%0A".into()),
        subject: Some("O=SPIRE,C=US".into()),
        uri: texts(&["spiffe://example.org/ec-web"]),
        dns: texts(&["web.example.org", "web"]),
    };
    assert_eq!(parse(header), Ok(vec![element]));
}

#[test]
fn every_hop_is_an_element_the_first_comes_first() {
    let elements = parse("By=a;Hash=1;URI=x, By=b;By=c;Hash=2;URI=y").unwrap();
    assert_eq!(elements[0].uri, ["x"]);
    assert_eq!((&elements[1].by, &elements[1].uri), (&texts(&["b", "c"]), &texts(&["y"])));
    assert_eq!(parse(""), Ok(vec![]));
}

#[test]
fn keys_have_no_case() {
    assert_eq!(parse("bY=b;HASH=h;uri=u;dNs=d"), parse("By=b;Hash=h;URI=u;DNS=d"));
}

#[test]
fn a_subject_may_be_empty_and_an_empty_name_is_none() {
    let elements = parse("Hash=h;Subject=\"\";URI=").unwrap();
    assert_eq!((elements[0].subject.as_deref(), elements[0].uri.len()), (Some(""), 0));
}

#[test]
fn quotes_hold_what_else_would_end_a_value() {
    let subject = |header| parse(header).unwrap()[0].subject.clone().unwrap();
    assert_eq!(subject(r#"Subject="CN=a;b,c=\"d\",O=e\,f";URI=u"#), r#"CN=a;b,c="d",O=e\,f"#);
    // By both rules of escaping this quote is within.
    assert_eq!(subject(r#"Subject="a\\\"b""#), r#"a\\"b"#);
    // An equals sign ends no value.
    assert_eq!(parse("URI=https://a/?b=c==").unwrap()[0].uri, ["https://a/?b=c=="]);
}

#[test]
fn what_is_not_in_the_grammar_is_refused_where_it_is() {
    for (header, at, expected) in [
        ("x", 0, Fault::NoKey),
        ("=x", 0, Fault::NoKey),
        (",", 0, Fault::NoKey),
        ("Hash=h,", 7, Fault::NoKey),
        ("Hash=h,,Hash=i", 7, Fault::NoKey),
        ("Hash=h;", 7, Fault::NoKey),
        ("Hash=h;;URI=u", 7, Fault::NoKey),
        // The rest of a name that holds a semicolon.
        ("URI=spiffe://a/b;c", 17, Fault::NoKey),
        ("URI=spiffe://a/b;c=d", 17, Fault::UnknownKey),
        ("By=b; URI=u", 5, Fault::UnknownKey),
        ("é=b", 0, Fault::UnknownKey),
        ("Hash=h;hash=h", 7, Fault::RepeatedKey),
        ("Subject=;Subject=", 9, Fault::RepeatedKey),
        ("URI=a\"b", 5, Fault::StrayQuote),
        ("Subject=\"a;URI=u", 9, Fault::NoEndQuote),
        (r#"Subject="a\""#, 12, Fault::NoEndQuote),
        ("Subject=\"a\"b", 11, Fault::BehindQuote),
        ("Subject=\"a\" ,By=b", 11, Fault::BehindQuote),
        // Either a subject that ends in a backslash and a name, or a longer subject.
        (r#"Subject="CN=a\\";URI=u"#, 15, Fault::UnclearQuote),
    ] {
        assert_eq!(fault(header), (at, expected), "{header}");
    }
}

#[test]
fn an_error_names_its_place_and_what_is_wrong() {
    let error = parse("URI=u;x=y").unwrap_err().to_string();
    let expected =
        "x-forwarded-client-cert, byte 6: the key is none of By, Hash, Cert, Chain, Subject, URI, DNS";
    assert_eq!(error, expected);
}

#[test]
fn a_header_has_a_size() {
    let header = |length: usize| format!("URI={}", "u".repeat(length - 4));
    assert_eq!(parse(&header(MAX_BYTES)).unwrap().len(), 1);
    assert_eq!(fault(&header(MAX_BYTES + 1)), (MAX_BYTES, Fault::TooLong));

    let hops = |count| vec!["URI=u"; count].join(",");
    assert_eq!(parse(&hops(MAX_ELEMENTS)).unwrap().len(), MAX_ELEMENTS);
    assert_eq!(fault(&hops(MAX_ELEMENTS + 1)), (6 * MAX_ELEMENTS, Fault::TooManyElements));

    let names = |count| vec!["DNS=d"; count].join(";");
    assert_eq!(parse(&names(MAX_PAIRS)).unwrap()[0].dns.len(), MAX_PAIRS);
    assert_eq!(fault(&names(MAX_PAIRS + 1)), (6 * MAX_PAIRS, Fault::TooManyPairs));
}

#[test]
fn policies_see_lists_and_texts_under_lower_case_keys() {
    let header = "By=b;Hash=h;Cert=c;Chain=n;Subject=\"\";URI=u;URI=v;DNS=d,Hash=i";
    let expected = r#"[
        {"by": ["b"], "hash": "h", "cert": "c", "chain": "n", "subject": "", "uri": ["u", "v"], "dns": ["d"]},
        {"by": [], "hash": "i", "uri": [], "dns": []}
    ]"#;
    assert_eq!(value(&parse(header).unwrap()), Value::from_json_str(expected).unwrap());
}

/// A value that can be written: no backslash that would stand before a quote.
fn text() -> impl Strategy<Value = String> {
    let text = r#"[a-zA-Z0-9 =,;:/"\\é]{1,20}"#;
    text.prop_map(|text: String| {
        text.replace("\\\"", "\"").replace("\\\"", "\"").trim_end_matches('\\').to_owned()
    })
    .prop_filter("a backslash before a quote", |text| !text.contains("\\\"") && !text.is_empty())
}

fn element() -> impl Strategy<Value = Element> {
    let singles = (option::of(text()), option::of(text()), option::of(text()), option::of(text()));
    (vec(text(), 0..3), singles, vec(text(), 0..3), vec(text(), 0..3)).prop_map(
        |(by, (hash, cert, chain, subject), uri, dns)| Element { by, hash, cert, chain, subject, uri, dns },
    )
}

fn printed(elements: &[Element]) -> String {
    elements.iter().map(Element::to_string).collect::<Vec<_>>().join(",")
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(elements in vec(element(), 0..4)) {
        prop_assert_eq!(parse(&printed(&elements)), Ok(elements));
    }

    #[test]
    fn what_is_read_can_be_written(header in r#"((By|Hash|Subject|URI|DNS)=?["a\\]{0,6}["=;,]?){0,4}"#) {
        if let Ok(elements) = parse(&header) {
            prop_assert_eq!(parse(&printed(&elements)), Ok(elements));
        }
    }

    #[test]
    fn no_text_is_too_strange(header in ".*") {
        if let Err(error) = parse(&header) {
            prop_assert!(error.at <= header.len() && header.is_char_boundary(error.at));
        }
    }
}
