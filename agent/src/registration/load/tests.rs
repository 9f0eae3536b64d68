use std::{
    fs,
    time::{Duration, SystemTime},
};

use proptest::prelude::*;

use super::*;
use crate::attestation::Selector;

fn load_as(name: &str, text: &str) -> Result<Loaded, Problem> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(name);
    fs::write(&path, text).unwrap();
    load(&[path], &"example.org".parse().unwrap())
}

fn json(text: &str) -> Result<Loaded, Problem> {
    load_as("entries.json", text)
}

/// A JSON file of one entry of uid 1000 with these further fields.
fn with(fields: &str) -> Result<Loaded, Problem> {
    json(&format!(
        r#"{{"entries":[{{"spiffe_id":"spiffe://example.org/web","selectors":["unix:uid:1000"]{fields}}}]}}"#
    ))
}

fn one(loaded: Result<Loaded, Problem>) -> RegistrationEntry {
    let mut entries = loaded.unwrap().entries;
    assert_eq!(entries.len(), 1);
    entries.remove(0)
}

/// Code, line and column of the refusal.
fn refusal(loaded: Result<Loaded, Problem>) -> (&'static str, usize, usize) {
    let problem = loaded.unwrap_err();
    let place = problem.place.unwrap();
    (problem.code, place.line, place.column)
}

fn code(loaded: Result<Loaded, Problem>) -> &'static str {
    loaded.unwrap_err().code
}

fn warnings(loaded: &Loaded) -> Vec<(&'static str, &str)> {
    loaded.warnings.iter().map(|warning| (warning.code, &*warning.title)).collect()
}

#[test]
fn a_file_for_entry_create_loads_as_it_is() {
    let entry = one(json(
        r#"{
  "entries": [
    {
      "selectors": [{"type": "unix", "value": "uid:1000"}, {"type": "k8s", "value": "pod-label:a:b"}],
      "parent_id": "spiffe://example.org/spire/agent/join_token/0b5e",
      "spiffe_id": "spiffe://example.org/web",
      "x509_svid_ttl": 600,
      "dns_names": ["web", "web.example.org"],
      "entryExpiry": 1900000000,
      "hint": "internal",
      "admin": false, "downstream": false, "store_svid": false,
      "additional_attributes": {"disable_x509_svid_prefetch": true},
      "entry_id": "web-1"
    }
  ]
}"#,
    ));
    assert_eq!(
        entry,
        RegistrationEntry {
            id: EntryId::new("web-1"),
            spiffe_id: "spiffe://example.org/web".parse().unwrap(),
            selectors: vec![Selector::new("k8s", "pod-label:a:b"), Selector::new("unix", "uid:1000")],
            exclude: vec![],
            attested_by: vec![],
            x509_svid_ttl: Some(Duration::from_secs(600)),
            dns_names: vec!["web".into(), "web.example.org".into()],
            hint: "internal".into(),
            expires_at: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_900_000_000)),
            derived_from: None,
        }
    );
}

#[test]
fn the_attestors_that_must_have_spoken_are_types() {
    let with = |list: &str| with(&format!(r#","attested_by":{list}"#));
    let kinds = one(with(r#"["unix", "docker", "unix"]"#)).attested_by;
    assert_eq!(kinds, ["docker".into(), "unix".into()] as [Box<str>; 2]);
    let plain = one(with("[]"));
    assert_ne!(one(with(r#"["unix"]"#)).id, plain.id, "who gets it is part of the name");
    for (bad, code) in
        [(r#"["unix:uid:1"]"#, "E0610"), (r#"[""]"#, "E0610"), (r#""unix""#, "E0606"), ("[1]", "E0606")]
    {
        assert_eq!(with(bad).unwrap_err().code, code, "{bad}");
    }
}

#[test]
fn what_entry_show_prints_loads_as_it_is() {
    let loaded = json(
        r#"{"entries":[{
  "id": "9d1b", "spiffe_id": {"trust_domain": "example.org", "path": "/web"},
  "parent_id": {"trust_domain": "example.org", "path": "/spire/agent/x509pop/ab"},
  "selectors": [{"type": "unix", "value": "uid:1000"}],
  "x509_svid_ttl": 0, "jwt_svid_ttl": 0, "federates_with": [], "dns_names": [], "admin": false,
  "downstream": false, "expires_at": "1900000000", "revision_number": "3", "store_svid": false,
  "hint": "", "created_at": "1700000000", "additional_attributes": null
}],"next_page_token":""}"#,
    );
    assert_eq!(loaded.as_ref().unwrap().warnings, []);
    let entry = one(loaded);
    assert_eq!((entry.id.as_str(), entry.spiffe_id.as_str()), ("9d1b", "spiffe://example.org/web"));
    assert_eq!(entry.x509_svid_ttl, None);
    assert_eq!(entry.expires_at, Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_900_000_000)));
}

#[test]
fn toml_says_the_same_and_the_id_is_the_same() {
    let toml = load_as(
        "entries.toml",
        "[[entries]]\nspiffe_id = \"spiffe://example.org/web\"\n\
         selectors = [\"unix:uid:1000\", { type = \"unix\", value = \"gid:5\" }]\nexclude = [\"docker\"]\n\
         x509_svid_ttl = 60\n",
    );
    let json = json(
        r#"{"entries":[{"exclude":[{"type":"docker"}],"selectors":["unix:gid:5","unix:uid:1000","unix:gid:5"],
            "hint":"x","spiffe_id":"spiffe://example.org/web"}]}"#,
    );
    let (toml, json) = (one(toml), one(json));
    assert_eq!((&toml.id, &toml.selectors, &toml.exclude), (&json.id, &json.selectors, &json.exclude));
    assert_eq!(toml.x509_svid_ttl, Some(Duration::from_secs(60)));
    assert_eq!(toml.exclude, [Selector::new("docker", "")]);
}

#[test]
fn entries_of_all_files_come_sorted_by_id_with_their_origin() {
    let directory = tempfile::tempdir().unwrap();
    let (a, b) = (directory.path().join("a.json"), directory.path().join("b.toml"));
    fs::write(
        &a,
        "{\"entries\":[\n {\"entry_id\":\"2\",\"spiffe_id\":\"spiffe://example.org/x\",\"selectors\":[\"unix:uid:2\"]},\n \
         {\"entry_id\":\"1\",\"spiffe_id\":\"spiffe://example.org/x\",\"selectors\":[\"unix:uid:1\"]}]}",
    )
    .unwrap();
    fs::write(
        &b,
        "\n[[entries]]\nid = \"0\"\nspiffe_id = \"spiffe://example.org/x\"\nselectors = [\"unix:uid:0\"]\n",
    )
    .unwrap();
    let loaded = load(&[a.clone(), b.clone()], &"example.org".parse().unwrap()).unwrap();
    let ids: Vec<&str> = loaded.entries.iter().map(|entry| entry.id.as_str()).collect();
    assert_eq!(ids, ["0", "1", "2"]);
    assert_eq!(loaded.origins[&EntryId::new("1")], Origin { file: a.into(), line: 3 });
    assert_eq!(loaded.origins[&EntryId::new("0")], Origin { file: b.into(), line: 2 });
}

#[test]
fn the_same_id_twice_is_refused_with_both_places() {
    let text = r#"{"entries":[
  {"spiffe_id":"spiffe://example.org/web","selectors":["unix:uid:1","unix:uid:2"],"hint":"a"},
  {"spiffe_id":"spiffe://example.org/web","selectors":["unix:uid:2","unix:uid:1"],"hint":"b"}
]}"#;
    let problem = json(text).unwrap_err();
    assert_eq!((problem.code, problem.place.unwrap().line), ("E0616", 3));
    assert!(problem.why.unwrap().contains("entries.json:2;"));
}

#[test]
fn fields_that_are_not_served_are_remarked_once_for_a_file() {
    let loaded =
        with(r#","jwt_svid_ttl":5,"admin":true,"federates_with":["spiffe://a.org","b.org"]"#).unwrap();
    assert_eq!(
        warnings(&loaded),
        [
            ("W0601", "`admin` is accepted but not served yet"),
            ("W0601", "`federates_with` is accepted but not served yet (2 times; here first)"),
            ("W0601", "`jwt_svid_ttl` is accepted but not served yet"),
        ]
    );
}

#[test]
fn node_entries_are_skipped_with_a_remark() {
    let loaded = with(r#","parent_id":"spiffe://example.org/spire/server""#).unwrap();
    assert_eq!(loaded.entries, []);
    assert_eq!(warnings(&loaded), [("W0602", "node entry skipped")]);
}

#[test]
fn entries_that_ask_for_more_rights_are_refused() {
    for field in ["downstream", "store_svid"] {
        let problem = with(&format!(r#","{field}":true"#)).unwrap_err();
        let title = format!("`{field}` is not supported, in the entry of spiffe://example.org/web");
        assert_eq!((problem.code, problem.title), ("E0615", title));
    }
}

#[test]
fn an_unknown_field_is_refused_with_the_nearest_name() {
    let problem = with(r#","dns_name":["a"]"#).unwrap_err();
    assert_eq!((problem.code, &*problem.title), ("E0605", "unknown field `dns_name`"));
    assert_eq!(problem.place.unwrap().hint, "did you mean `dns_names`?");
    assert_eq!(code(json(r#"{"entires":[]}"#)), "E0605");
    assert_eq!(code(with(r#","additional_attributes":{"x":true}"#)), "E0605");
    assert_eq!(code(with(r#","nonsense":null"#)), "E0605");
}

#[test]
fn a_fault_in_a_spiffe_id_points_at_the_character() {
    let text =
        "{\"entries\":[\n{\"spiffe_id\":\"spiffe://example.org/we b\",\"selectors\":[\"unix:uid:1\"]}]}";
    assert_eq!(refusal(json(text)), ("E0608", 2, 38));
    let text = "{\"entries\":[{\"spiffe_id\":\"spiffe://Example.org/web\",\"selectors\":[\"unix:uid:1\"]}]}";
    assert_eq!(refusal(json(text)), ("E0608", 1, 36));
    let text = "[[entries]]\nspiffe_id = \"http://x\"\nselectors = [\"unix:uid:1\"]\n";
    assert_eq!(refusal(load_as("e.toml", text)), ("E0608", 2, 13));
}

#[test]
fn an_identity_that_this_agent_cannot_give_is_refused() {
    for id in ["spiffe://other.org/web", "spiffe://example.org"] {
        assert_eq!(
            code(json(&format!(r#"{{"entries":[{{"spiffe_id":"{id}","selectors":["a:b"]}}]}}"#))),
            "E0609"
        );
    }
}

#[test]
fn an_entry_without_selectors_or_identity_is_refused() {
    assert_eq!(code(json(r#"{"entries":[{"spiffe_id":"spiffe://example.org/x","selectors":[]}]}"#)), "E0611");
    assert_eq!(code(json(r#"{"entries":[{"spiffe_id":"spiffe://example.org/x"}]}"#)), "E0611");
    assert_eq!(code(json(r#"{"entries":[{"selectors":["unix:uid:1"]}]}"#)), "E0607");
    assert_eq!(code(json("{}")), "E0607");
}

#[test]
fn values_are_checked() {
    for (fields, expected) in [
        (r#","x509_svid_ttl":-1"#, "E0612"),
        (r#","x509_svid_ttl":1"#, "E0612"),
        (r#","x509_svid_ttl":31622401"#, "E0612"),
        (r#","x509_svid_ttl":1.5"#, "E0606"),
        (r#","entryExpiry":-1"#, "E0612"),
        (r#","entryExpiry":"9223372036854775808"#, "E0604"),
        (r#","entryExpiry":"soon""#, "E0606"),
        (r#","dns_names":["a..b"]"#, "E0613"),
        (r#","dns_names":"a""#, "E0606"),
        (r#","exclude":[":x"]"#, "E0610"),
        (r#","exclude":[{"type":"a:b"}]"#, "E0610"),
        (r#","entry_id":"a b""#, "E0618"),
        (r#","entry_id":"a","id":"b""#, "E0617"),
        (r#","entryExpiry":1,"expires_at":2"#, "E0617"),
        (r#","parent_id":"x""#, "E0608"),
        (r#","federates_with":["A.org"]"#, "E0608"),
        (r#","admin":1"#, "E0606"),
        (r#","hint":5"#, "E0606"),
    ] {
        assert_eq!(code(with(fields)), expected, "{fields}");
    }
    assert_eq!(code(with(&format!(r#","hint":"{}""#, "h".repeat(1025)))), "E0614");
    let many: Vec<String> = (0..257).map(|n| format!("\"a:{n}\"")).collect();
    assert_eq!(code(with(&format!(r#","exclude":[{}]"#, many.join(",")))), "E0614");
    assert_eq!(code(with(&format!(r#","exclude":["a:{}"]"#, "x".repeat(9000)))), "E0610");
    for same in
        [r#","entry_id":"a","id":"a""#, r#","entryExpiry":"5","expires_at":5"#, r#","x509_svid_ttl":"60""#]
    {
        assert!(with(same).is_ok(), "{same}");
    }
}

#[test]
fn selectors_need_a_type_and_a_value() {
    for selector in [r#""unix""#, r#""unix:""#, r#"":uid:1""#, r#"{"type":"unix"}"#, r#"{"value":"uid:1"}"#] {
        let text =
            format!(r#"{{"entries":[{{"spiffe_id":"spiffe://example.org/x","selectors":[{selector}]}}]}}"#);
        assert_eq!(code(json(&text)), "E0610", "{selector}");
    }
}

#[test]
fn a_file_that_is_no_document_is_refused_with_its_place() {
    assert_eq!(refusal(json("{\"entries\":[]}\nx")), ("E0604", 2, 1));
    assert_eq!(refusal(json("{\"entries\":[],\n\"entries\":[]}")), ("E0604", 2, 1));
    assert_eq!(refusal(load_as("e.toml", "entries = [\n")).0, "E0604");
    assert_eq!(code(json("")), "E0604");
    assert_eq!(code(load_as("entries.yaml", "")), "E0603");
    assert_eq!(code(json(r#"{"entries":[],"next_page_token":"abc"}"#)), "E0619");
}

#[test]
fn a_file_that_cannot_be_read_is_refused_without_waiting() {
    let directory = tempfile::tempdir().unwrap();
    let domain = "example.org".parse().unwrap();
    let absent = directory.path().join("absent.json");
    assert_eq!(code(load(&[absent], &domain)), "E0601");
    let fifo = directory.path().join("fifo.json");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(code(load(&[fifo], &domain)), "E0601");
    assert_eq!(code(load(&[directory.path().to_owned()], &domain)), "E0601");
    let binary = directory.path().join("binary.json");
    fs::write(&binary, b"\n\xff").unwrap();
    let problem = load(&[binary], &domain).unwrap_err();
    assert!(problem.code == "E0604" && problem.title.ends_with("line 2"), "{problem}");
}

#[test]
fn one_bad_file_refuses_all() {
    let directory = tempfile::tempdir().unwrap();
    let good = directory.path().join("good.json");
    fs::write(&good, r#"{"entries":[]}"#).unwrap();
    let bad = directory.path().join("bad.json");
    fs::write(&bad, "{").unwrap();
    assert_eq!(code(load(&[good, bad], &"example.org".parse().unwrap())), "E0604");
}

#[test]
fn a_refusal_prints_place_cause_and_fix() {
    let text = "{\"entries\": [\n  {\"spiffe_id\": \"spiffe://example.org/web\", \"selector\": [\"unix:uid:1\"]}\n]}";
    let printed = json(text).unwrap_err().to_string();
    let directory = printed.lines().nth(1).unwrap();
    assert!(directory.ends_with("entries.json:2:45"), "{printed}");
    let rest: Vec<&str> = printed.lines().skip(2).collect();
    assert_eq!(
        rest[..3].join("\n"),
        "  |\n2 |   {\"spiffe_id\": \"spiffe://example.org/web\", \"selector\": [\"unix:uid:1\"]}\n  \
         |                                             ^^^^^^^^^^ did you mean `selectors`?"
    );
}

#[test]
fn a_hundred_thousand_entries_load() {
    let entries: Vec<String> = (0..100_000)
        .map(|n| {
            format!(r#"{{"spiffe_id":"spiffe://example.org/w/{n}","selectors":[{{"type":"unix","value":"uid:{n}"}}]}}"#)
        })
        .collect();
    let loaded = json(&format!("{{\"entries\":[\n{}\n]}}", entries.join(",\n"))).unwrap();
    assert_eq!((loaded.entries.len(), loaded.warnings.len()), (100_000, 0));
}

const FULL_JSON: &str = r#"{"entries":[{"id":"a","spiffe_id":{"trust_domain":"example.org","path":"/web"},
 "parent_id":"spiffe://example.org/x","selectors":[{"type":"unix","value":"uid:1\u0030"},"k8s:ns:x"],
 "exclude":["docker",{"type":"k8s"}],"x509_svid_ttl":60,"dns_names":["*.a.b"],"expires_at":"5","hint":"h",
 "additional_attributes":null,"federates_with":["b.org"],"admin":true}],"next_page_token":""}"#;
const FULL_TOML: &str = "[[entries]]\nspiffe_id = \"spiffe://example.org/web\"\nselectors = [\"unix:uid:1\", \
    { type = \"a\", value = \"b\" }]\nexclude = [\"docker\"]\nx509_svid_ttl = 60\ndns_names = ['*.a.b']\n";

fn read_text_as(name: &str, text: &str) -> Result<(), Problem> {
    let source = Source { file: name, text };
    Loaded::default().add(Path::new(name), source, &"example.org".parse().unwrap())
}

#[test]
fn the_files_that_are_spoilt_below_are_good() {
    read_text_as("e.json", FULL_JSON).unwrap();
    read_text_as("e.toml", FULL_TOML).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]
    #[test]
    fn a_spoilt_file_is_read_or_refused_with_its_place(
        at in any::<prop::sample::Index>(),
        cut in 0..8usize,
        new in "[\\[\\]{}:,\"\\\\a0é\n -]{0,3}",
    ) {
        for (name, text) in [("e.json", FULL_JSON), ("e.toml", FULL_TOML)] {
            let start = at.index(text.len());
            let spoilt = format!("{}{new}{}", &text[..start], &text[(start + cut).min(text.len())..]);
            if let Err(problem) = read_text_as(name, &spoilt) {
                prop_assert!(problem.place.is_some() && problem.code.starts_with("E06"), "{}", problem);
            }
        }
    }
}

#[test]
fn the_sample_loads_without_a_remark() {
    let loaded = load_as("entries.toml", include_str!("../../../../deploy/entries.toml")).unwrap();
    assert_eq!((loaded.entries.len(), loaded.templates.len(), loaded.warnings.len()), (2, 1, 0));
}

/// A TOML entry that names by this template.
fn templated(template: &str, fields: &str) -> Result<Loaded, Problem> {
    load_as("entries.toml", &format!("[[entries]]\nspiffe_id = \"{template}\"\n{fields}"))
}

#[test]
fn a_template_loads_from_both_formats_as_the_same() {
    let text = "spiffe://example.org/ns/{k8s:ns}/sa/{k8s:sa}";
    let toml = templated(text, "").unwrap();
    let whole = json(&format!(r#"{{"entries":[{{"spiffe_id":"{text}","selectors":[]}}]}}"#)).unwrap();
    let parts = json(
        r#"{"entries":[{"spiffe_id":{"trust_domain":"example.org","path":"/ns/{k8s:ns}/sa/{k8s:sa}"},
            "selectors":[],"exclude":[]}]}"#,
    );
    assert_eq!(toml.templates, whole.templates);
    assert_eq!(toml.templates, parts.unwrap().templates);
    let template = &toml.templates[0];
    assert_eq!((template.spiffe_id.as_str(), template.selectors.len(), toml.entries.len()), (text, 0, 0));
    assert_eq!(toml.origins[&template.id].line, 1);
    let narrower = templated(text, "selectors = [\"unix:uid:1\"]\n").unwrap();
    assert_ne!(narrower.templates[0].id, template.id, "who gets what makes the id");
}

#[test]
fn a_bad_template_is_refused_where_it_stands() {
    assert_eq!(refusal(templated("spiffe://example.org/a/{unix:usr}", "")), ("E0621", 2, 37));
    assert_eq!(refusal(templated("spiffe://example.org/{", "")), ("E0621", 2, 35));
    assert_eq!(refusal(templated("spiffe://example.org/{unix:path}", "")), ("E0621", 2, 35));
    assert_eq!(refusal(templated("spiffe://{unix:user}/x", "")), ("E0621", 2, 23));
    let elsewhere = templated("spiffe://example.com/x/{unix:user}", "").unwrap_err();
    assert_eq!(elsewhere.code, "E0609");
    assert!(elsewhere.fix.unwrap().contains("spiffe://example.org/x/{unix:user}"));
    let parent = r#","parent_id":"spiffe://example.org/{unix:user}""#;
    assert_eq!(code(with(parent)), "E0608", "only what an entry gives may be a template");
}

#[test]
fn no_id_may_be_one_that_a_template_makes() {
    let of = |ids: [&str; 2], second: &str| {
        let entry = |id: &str, name: &str| {
            format!(
                "[[entries]]\nentry_id = \"{id}\"\nspiffe_id = \"spiffe://example.org/{name}\"\nselectors = [\"unix:uid:1\"]\n"
            )
        };
        load_as("entries.toml", &(entry(ids[0], "{unix:user}") + &entry(ids[1], second)))
    };
    assert_eq!(code(of(["web", "web/ana"], "ana")), "E0622");
    assert_eq!(code(of(["web", "web/a"], "{unix:uid}/x")), "E0622");
    assert!(of(["web", "web-2"], "ana").is_ok());
    assert!(of(["web/a", "web"], "ana").is_ok(), "an entry without a template makes no others");
    assert_eq!(code(of(["web", "web"], "ana")), "E0616");
}

#[test]
fn templates_have_a_number_that_they_may_not_exceed() {
    let file = |count: usize| {
        let entry = |n| format!("[[entries]]\nspiffe_id = \"spiffe://example.org/t{n}/{{unix:user}}\"\n");
        load_as("entries.toml", &(0..count).map(entry).collect::<String>())
    };
    assert_eq!(file(MAX_TEMPLATES).unwrap().templates.len(), MAX_TEMPLATES);
    let problem = file(MAX_TEMPLATES + 1).unwrap_err();
    assert_eq!((problem.code, problem.place.unwrap().line), ("E0602", 2 * MAX_TEMPLATES + 1));
}
