use proptest::{collection::vec, prelude::*};

use super::*;

fn template(text: &str) -> IdTemplate {
    text.parse().unwrap()
}

fn selector(text: &str) -> Selector {
    let (kind, value) = text.split_once(':').unwrap_or((text, ""));
    Selector::new(kind, value)
}

fn process(selectors: &[&str]) -> SelectorSet {
    selectors.iter().map(|text| selector(text)).collect()
}

/// The ID that the template gives to a process with these selectors; `-` for none, else why it is refused.
fn named(text: &str, selectors: &[&str]) -> String {
    match template(text).name(&process(selectors)) {
        Ok(Some(id)) => id.to_string(),
        Ok(None) => "-".into(),
        Err(refusal) => refusal.to_string(),
    }
}

#[test]
fn a_template_gives_the_id_that_the_selectors_make() {
    let cluster = "spiffe://example.org/ns/{k8s:ns}/sa/{k8s:sa}";
    assert_eq!(
        named(cluster, &["k8s:sa:cart", "k8s:ns:shop", "unix:uid:0"]),
        "spiffe://example.org/ns/shop/sa/cart"
    );
    let label = "spiffe://example.org/{docker:label:spire-discover}";
    assert_eq!(named(label, &["docker:label:spire-discover:quote"]), "spiffe://example.org/quote");
    let part = "spiffe://example.org/users/svc-{unix:user}.host";
    assert_eq!(named(part, &["unix:user:ana"]), "spiffe://example.org/users/svc-ana.host");
    let slash_in_name = "spiffe://example.org/{docker:label:app.example.org/name}/x";
    assert_eq!(
        named(slash_in_name, &["docker:label:app.example.org/name:web"]),
        "spiffe://example.org/web/x"
    );
    let twice = "spiffe://example.org/{k8s:ns}/of-{k8s:ns}";
    assert_eq!(named(twice, &["k8s:ns:shop"]), "spiffe://example.org/shop/of-shop");
    let digest = "spiffe://example.org/{docker:image_config_digest:sha256}";
    assert_eq!(named(digest, &["docker:image_config_digest:sha256:0f0f"]), "spiffe://example.org/0f0f");
}

#[test]
fn a_process_that_lacks_a_value_gets_none_and_is_not_refused() {
    let cluster = "spiffe://example.org/ns/{k8s:ns}/sa/{k8s:sa}";
    for selectors in [&["k8s:ns:shop"][..], &[], &["k8s:ns", "k8s:sa:cart"], &["k8s:nsx:shop", "k8s:sa:cart"]]
    {
        assert_eq!(named(cluster, selectors), "-", "{selectors:?}");
    }
}

#[test]
fn what_is_not_known_gives_none() {
    let of_label = template("spiffe://example.org/{docker:label:app}");
    for gap in ["docker", "docker:label", "docker:label:app", "docker:label:app:of-before"] {
        let mut set = process(&["docker:label:app:web"]);
        set.mark_gap(selector(gap));
        assert_eq!(of_label.name(&set), Ok(None), "{gap}");
    }
    let mut set = process(&["docker:label:app:web"]);
    set.mark_gap(selector("docker:label:other"));
    set.mark_gap(selector("unix:sha256"));
    assert_eq!(of_label.name(&set).unwrap().unwrap().path(), "/web");
}

#[test]
fn a_value_that_no_segment_may_hold_is_refused_and_never_made_to_fit() {
    let whole = "spiffe://example.org/ns/{docker:label:app}/x";
    for value in [
        "", ".", "..", "a/b", "/a", "a/", "../admin", "a b", "ä", "a%2fb", "a:b", "web\n", "a\\b", "{x}",
        "a@b",
    ] {
        let shown = named(whole, &[&format!("docker:label:app:{value}")]);
        assert!(
            shown.starts_with("{docker:label:app}: ") && shown.contains("cannot stand there"),
            "{value:?}: {shown}"
        );
    }
    // A part of a segment may be dots, unless the whole becomes one that means "up".
    let part = "spiffe://example.org/.{docker:label:app}";
    assert!(named(part, &["docker:label:app:."]).contains(". or .."));
    assert_eq!(named(part, &["docker:label:app:.."]), "spiffe://example.org/...");
    assert!(
        named("spiffe://example.org/svc-{docker:label:app}", &["docker:label:app:"])
            .contains("empty segment")
    );
    let long = format!("docker:label:app:{}", "a".repeat(2048));
    assert!(named(whole, &[&long]).contains("more than 2048 bytes"));
    assert!(named(whole, &[&long]).len() < 256, "it is cut where it is shown");
}

#[test]
fn of_two_values_none_is_chosen() {
    let text = "spiffe://example.org/{unix:supplementary_group}";
    assert_eq!(named(text, &["unix:supplementary_group:dev"]), "spiffe://example.org/dev");
    let shown = named(text, &["unix:supplementary_group:dev", "unix:supplementary_group:ops"]);
    assert_eq!(
        shown,
        "{unix:supplementary_group}: the process has \"dev\" and \"ops\", and only one can stand there"
    );
}

#[test]
fn what_is_no_template_is_refused_with_its_place() {
    for (text, place, says) in [
        ("spiffe://example.org/{", "{", "no end"),
        ("spiffe://example.org/a{unix:uid", "{unix:uid", "no end"),
        ("spiffe://example.org/}", "}", "not begun"),
        ("spiffe://example.org/a}b{unix:uid}", "}", "not begun"),
        ("spiffe://example.org/{}", "{}", "names no selector"),
        ("spiffe://example.org/{unix}", "{unix}", "names no selector"),
        ("spiffe://example.org/{unix:}", "{unix:}", "names no selector"),
        ("spiffe://example.org/{:uid}", "{:uid}", "names no selector"),
        ("spiffe://example.org/{unix:{unix:uid}}", "{unix:{unix:uid}", "inside of another"),
        ("spiffe://example.org/{dokcer:label:x}", "{dokcer:label:x}", "`dokcer` is unknown"),
        ("spiffe://example.org/{unix:usr}", "{unix:usr}", "no selector begins with `unix:usr:`"),
        ("spiffe://example.org/{unix:uid:1}", "{unix:uid:1}", "no parts"),
        ("spiffe://example.org/{docker:label}", "{docker:label}", "stand names"),
        ("spiffe://example.org/{docker:label:}", "{docker:label:}", "stand names"),
        ("spiffe://example.org/{docker:label:a:b}", "{docker:label:a:b}", "stand names"),
        ("spiffe://example.org/{docker:env:X}", "{docker:env:X}", "equals sign"),
        ("spiffe://example.org/{unix:path}", "{unix:path}", "a slash"),
        ("spiffe://example.org/x/{kernel:cgroup}", "{kernel:cgroup}", "a slash"),
        ("spiffe://example.org/{kernel:exe}", "{kernel:exe}", "a colon"),
        ("spiffe://example.org/{k8s:ns}-{k8s:sa}", "{k8s:sa}", "second placeholder"),
        ("spiffe://{docker:label:a/b}/x", "{docker:label:a", "trust domain"),
        ("spiffe://{unix:user}", "{unix:user}", "trust domain"),
        ("http://example.org/{unix:user}", "http://example.org/{unix:user}", "start with spiffe://"),
        ("spiffe://example.org/{unix:user}/", "spiffe://example.org/{unix:user}/", "empty segment"),
        ("spiffe://example.org//{unix:user}", "spiffe://example.org//{unix:user}", "empty segment"),
        ("spiffe://example.org/../{unix:user}", "spiffe://example.org/../{unix:user}", ". or .."),
        ("spiffe://Example.org/{unix:user}", "spiffe://Example.org/{unix:user}", "trust domain may hold"),
        ("spiffe:///{unix:user}", "spiffe:///{unix:user}", "trust domain is missing"),
        ("spiffe://example.org/web", "spiffe://example.org/web", "no placeholder"),
    ] {
        let fault = text.parse::<IdTemplate>().unwrap_err();
        assert_eq!((&text[fault.at.clone()], fault.title.contains(says)), (place, true), "{text}: {fault:?}");
        assert!(!fault.fix.is_empty());
    }
    let long = format!("spiffe://example.org/{{docker:label:{}}}", "a".repeat(MAX_TEMPLATE_LEN));
    assert!(long.parse::<IdTemplate>().unwrap_err().title.contains("more than 4096 bytes"));
}

#[test]
fn an_id_tells_which_selectors_make_it() {
    let cluster = template("spiffe://example.org/ns/{k8s:ns}/sa-{k8s:sa}");
    let selectors = |id: &str| cluster.selectors_of(&id.parse().unwrap());
    assert_eq!(
        selectors("spiffe://example.org/ns/shop/sa-cart"),
        Some(vec![selector("k8s:ns:shop"), selector("k8s:sa:cart")])
    );
    for other in [
        "spiffe://example.org/ns/shop/sa-",
        "spiffe://example.org/ns/shop/cart",
        "spiffe://example.org/ns/shop",
        "spiffe://example.org/ns/shop/sa-cart/x",
        "spiffe://example.org",
        "spiffe://example.com/ns/shop/sa-cart",
        "spiffe://example.org.x/ns/shop/sa-cart",
    ] {
        assert_eq!(selectors(other), None, "{other}");
    }
    let twice = template("spiffe://example.org/{k8s:ns}/{k8s:ns}");
    assert_eq!(twice.selectors_of(&"spiffe://example.org/a/b".parse().unwrap()), None);
    assert_eq!(
        twice.selectors_of(&"spiffe://example.org/a/a".parse().unwrap()),
        Some(vec![selector("k8s:ns:a")])
    );
}

#[test]
fn templates_that_may_give_one_id_are_found() {
    for (a, b, meet) in [
        ("/{unix:user}", "/{unix:uid}", true),
        ("/a-{unix:user}", "/b-{unix:uid}", false),
        ("/a-{unix:user}", "/a{unix:uid}", true),
        ("/{unix:user}-x", "/{unix:uid}-y", false),
        ("/u/{unix:user}", "/{unix:uid}", false),
        ("/u/{unix:user}", "/{unix:uid}/x", true),
        ("/u/{unix:user}", "/v/{unix:uid}", false),
    ] {
        let both = [a, b].map(|path| template(&format!("spiffe://example.org{path}")));
        assert_eq!((both[0].may_meet(&both[1]), both[1].may_meet(&both[0])), (meet, meet), "{a} {b}");
    }
}

const TEMPLATES: [&str; 4] = [
    "spiffe://example.org/{docker:label:a}",
    "spiffe://example.org/ns/{docker:label:a}/sa/x-{docker:label:b}.y",
    "spiffe://example.org/.{docker:label:a}/{docker:label:b}",
    "spiffe://example.org/{docker:label:a}/{docker:label:a}/{docker:label:b}",
];

fn any_value() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-zA-Z0-9._-]{1,6}",
        2 => "[a-z./]{0,5}",
        1 => any::<String>(),
        1 => prop_oneof![Just("."), Just(".."), Just("/"), Just("a/../b"), Just("%2e")].prop_map(str::to_owned),
    ]
}

proptest! {
    #[test]
    fn an_id_has_the_segments_of_its_template_and_in_them_the_values_as_they_are(
        text in prop::sample::select(&TEMPLATES[..]),
        a in any_value(),
        b in any_value(),
    ) {
        let set: SelectorSet =
            [("a", &a), ("b", &b)].iter().map(|(key, value)| Selector::new("docker", format!("label:{key}:{value}"))).collect();
        let written = text.replace("{docker:label:a}", &a).replace("{docker:label:b}", &b);
        let fits = |value: &str| !value.is_empty() && !value.contains('/');
        match template(text).name(&set) {
            Ok(id) => {
                let id = id.expect("the process has what it names");
                prop_assert_eq!(id.as_str(), &written, "a value is never changed");
                prop_assert_eq!(id.path().split('/').count(), text.splitn(3, '/').last().unwrap().split('/').count());
                prop_assert!(id.is_in(&"example.org".parse().unwrap()));
                let made_of = template(text).selectors_of(&id).unwrap();
                prop_assert!(made_of.iter().all(|selector| set.contains(selector)), "{:?}", made_of);
            }
            // Only what is no ID anyway is refused.
            Err(_) => prop_assert!(!fits(&a) || !fits(&b) || written.parse::<SpiffeId>().is_err(), "{}", written),
        }
    }

    #[test]
    fn values_that_differ_never_make_the_same_id(
        text in prop::sample::select(&TEMPLATES[..]),
        values in vec(("[ab.-]{1,3}", "[ab.-]{1,3}"), 2),
    ) {
        let id = |(a, b): &(String, String)| {
            let set = process(&[&format!("docker:label:a:{a}"), &format!("docker:label:b:{b}")]);
            template(text).name(&set).ok().flatten()
        };
        let (one, other) = (id(&values[0]), id(&values[1]));
        let names_b = text.contains("label:b");
        let same = values[0].0 == values[1].0 && (!names_b || values[0].1 == values[1].1);
        prop_assume!(one.is_some());
        prop_assert_eq!(one == other, same);
    }

    #[test]
    fn no_text_breaks_the_reader(text in "(spiffe://example.org)?[{}a-z:/.]{0,30}") {
        if let Ok(template) = text.parse::<IdTemplate>() {
            prop_assert_eq!(template.as_str(), &text);
            prop_assert!(template.placeholders().next().is_some());
        }
    }
}
