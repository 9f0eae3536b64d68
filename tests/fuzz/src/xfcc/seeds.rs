//! Headers from which the fuzzer starts: what Envoys write, and what breaks each rule.

use vouch::authz::xfcc::{MAX_BYTES, MAX_ELEMENTS, MAX_PAIRS};

/// Each with the name of its file.
pub(super) fn all() -> Vec<(&'static str, Vec<u8>)> {
    let all = [
        ("empty", String::new()),
        ("uri", "By=spiffe://example.org/b;Hash=468e;URI=spiffe://example.org/a".into()),
        (
            "everything",
            "By=b;By=c;Hash=h;Cert=\"--%20\";Chain=\"--%0A\";Subject=\"O=a,C=\\\"b\\\"\";URI=u;URI=v;DNS=d"
                .into(),
        ),
        ("hops", "By=a;Hash=1;Subject=\"\";URI=x, by=b;hash=2;uri=".into()),
        ("equals", "URI=https://a/?b=c==".into()),
        ("backslashes", r#"Subject="a\\\"b";URI=u\"#.into()),
        ("elements-most", vec!["URI=u"; MAX_ELEMENTS].join(",")),
        ("pairs-most", vec!["DNS=d"; MAX_PAIRS].join(";")),
        ("too-long", format!("URI={}", "u".repeat(MAX_BYTES))),
        ("elements-too-many", vec!["URI=u"; MAX_ELEMENTS + 1].join(",")),
        ("pairs-too-many", vec!["DNS=d"; MAX_PAIRS + 1].join(";")),
        ("no-key", "URI=spiffe://a/b;c".into()),
        ("unknown-key", "URI=spiffe://a/b;c=d".into()),
        ("repeated-key", "Hash=h;hash=h".into()),
        ("stray-quote", "URI=a\"b".into()),
        ("no-end-quote", "Subject=\"a;URI=u".into()),
        ("behind-quote", "Subject=\"é\"b".into()),
        ("unclear-quote", r#"Subject="CN=a\\";URI=u"#.into()),
    ];
    all.into_iter().map(|(name, header)| (name, header.into_bytes())).collect()
}
