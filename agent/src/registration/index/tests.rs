use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn selector(text: &str) -> Selector {
    let (kind, value) = text.split_once(':').unwrap_or((text, ""));
    Selector::new(kind, value)
}

fn process(selectors: &[&str]) -> SelectorSet {
    selectors.iter().map(|text| selector(text)).collect()
}

fn entry(id: &str, selectors: &[&str], exclude: &[&str]) -> RegistrationEntry {
    let sorted = |list: &[&str]| {
        let mut list: Vec<Selector> = list.iter().map(|text| selector(text)).collect();
        list.sort();
        list.dedup();
        list
    };
    RegistrationEntry {
        exclude: sorted(exclude),
        ..RegistrationEntry::new(
            EntryId::new(id),
            format!("spiffe://example.org/{id}").parse().unwrap(),
            sorted(selectors),
        )
    }
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn ids(index: &EntryIndex, process: &SelectorSet, now: SystemTime) -> Vec<String> {
    index.matching(process, now).iter().map(|entry| entry.id.to_string()).collect()
}

#[test]
fn an_entry_matches_when_all_its_selectors_are_met() {
    let index = EntryIndex::new([
        entry("b", &["unix:uid:1"], &[]),
        entry("a", &["unix:uid:1", "unix:gid:1"], &[]),
        entry("c", &["unix:uid:1", "unix:gid:2"], &[]),
    ]);
    assert_eq!(ids(&index, &process(&["unix:uid:1", "unix:gid:1", "unix:path:/x"]), at(0)), ["a", "b"]);
    assert_eq!(ids(&index, &process(&["unix:gid:1"]), at(0)), [""; 0]);
}

#[test]
fn an_exclusion_needs_certain_absence() {
    let index = EntryIndex::new([
        entry("a", &["unix:uid:1"], &["docker"]),
        entry("b", &["unix:uid:1"], &["k8s:ns:x"]),
    ]);
    let mut set = process(&["unix:uid:1"]);
    assert_eq!(ids(&index, &set, at(0)), ["a", "b"]);
    set.mark_gap(selector("docker:label"));
    assert_eq!(ids(&index, &set, at(0)), ["b"]);
    set.insert(selector("k8s:ns:y"));
    assert_eq!(ids(&index, &set, at(0)), ["b"]);
    set.insert(selector("k8s:ns:x"));
    assert_eq!(ids(&index, &set, at(0)), [""; 0]);
}

#[test]
fn an_entry_may_ask_that_attestors_have_spoken() {
    let mut both = entry("a", &["unix:uid:1"], &[]);
    both.attested_by = vec!["docker".into(), "unix".into()];
    let index = EntryIndex::new([both]);
    let mut set = process(&["unix:uid:1"]);
    assert_eq!(ids(&index, &set, at(0)), [""; 0], "the attestor answered, and does not know the process");
    set.insert(selector("docker:image_id:x"));
    assert_eq!(ids(&index, &set, at(0)), ["a"]);
    set.mark_gap(selector("unix:sha256"));
    assert_eq!(ids(&index, &set, at(0)), ["a"], "one fact that is missing is no failure");
    set.mark_gap(selector("docker"));
    assert_eq!(ids(&index, &set, at(0)), [""; 0], "the attestor failed the last time it was asked");
}

#[test]
fn an_attestor_that_must_have_spoken_is_worth_a_wait() {
    let mut asking = entry("a", &["unix:uid:1"], &[]);
    asking.attested_by = vec!["docker".into()];
    let index = EntryIndex::new([asking]);
    assert!(index.may_gain(&process(&["unix:uid:1"]), &["docker"], at(0)));
    assert!(!index.may_gain(&process(&["unix:uid:2"]), &["docker"], at(0)));
    assert!(!index.may_gain(&process(&["unix:uid:1"]), &["systemd"], at(0)));
}

#[test]
fn an_entry_matches_until_the_instant_it_expires() {
    let mut first = entry("a", &["unix:uid:1"], &[]);
    first.expires_at = Some(at(10));
    let mut second = entry("b", &["unix:uid:1"], &[]);
    second.expires_at = Some(at(20));
    let index = EntryIndex::new([first, second]);
    let set = process(&["unix:uid:1"]);
    assert_eq!(ids(&index, &set, at(9)), ["a", "b"]);
    assert_eq!(ids(&index, &set, at(10)), ["b"]);
    assert_eq!(index.next_expiry(at(9)), Some(at(10)));
    assert_eq!(index.next_expiry(at(10)), Some(at(20)));
    assert_eq!(index.next_expiry(at(20)), None);
}

#[test]
fn an_entry_without_selectors_never_matches() {
    let index = EntryIndex::new([entry("a", &[], &[])]);
    assert_eq!(ids(&index, &process(&["unix:uid:1"]), at(0)), [""; 0]);
}

#[test]
fn entries_are_found_by_id_and_what_they_ask_about_is_known() {
    let index =
        EntryIndex::new([entry("b", &["unix:sha256:00"], &["docker"]), entry("a", &["unix:uid:1"], &[])]);
    assert_eq!(index.get(&EntryId::new("b")).unwrap().id.as_str(), "b");
    assert_eq!(index.get(&EntryId::new("c")), None);
    assert!(index.names("unix", "sha256") && index.names("docker", "label") && !index.names("unix", "path"));
}

#[test]
fn a_process_among_100_000_entries_costs_only_its_own_candidates() {
    let entries = (0..100_000).map(|n| {
        entry(&format!("{n:06}"), &["unix:uid:0", "k8s:ns:default", &format!("k8s:pod-label:app:{n}")], &[])
    });
    let index = EntryIndex::new(entries);
    let set = process(&["unix:uid:0", "k8s:ns:default", "k8s:pod-label:app:77"]);
    assert_eq!(ids(&index, &set, at(0)), ["000077"]);
    assert_eq!(index.filed.candidates(&set).len(), 1);
}

#[test]
fn what_two_common_selectors_have_in_common_is_found_without_their_others() {
    let pairs = (0..10_000).map(|n| {
        let (namespace, account) = (format!("k8s:ns:{}", n / 100), format!("k8s:sa:{}", n % 100));
        entry(&format!("{n:04}"), &["unix:uid:0", &namespace, &account], &[])
    });
    let index = EntryIndex::new(pairs.chain([entry("all", &["k8s:ns:12"], &[])]));
    let set = process(&["unix:uid:0", "k8s:ns:12", "k8s:sa:34", "k8s:pod-name:x"]);
    assert_eq!(ids(&index, &set, at(0)), ["1234", "all"]);
    assert_eq!(index.filed.candidates(&set).len(), 2);
}

/// Selectors of a small world, so that they meet often; with and without a value.
fn any_selector() -> impl Strategy<Value = Selector> {
    ("[abc]", "[xy](:[12])?").prop_map(|(kind, value)| Selector::new(kind, value))
}

fn any_exclusion() -> impl Strategy<Value = Selector> {
    prop_oneof![any_selector(), "[abc]".prop_map(|kind| Selector::new(kind, ""))]
}

fn any_entry() -> impl Strategy<Value = RegistrationEntry> {
    (
        "[a-e][0-9]{2}",
        proptest::collection::btree_set(any_selector(), 1..4),
        proptest::collection::btree_set(any_exclusion(), 0..2),
        proptest::collection::btree_set("[abc]", 0..2),
        proptest::option::of(0..4u64),
    )
        .prop_map(|(id, selectors, exclude, attested_by, expires_at)| RegistrationEntry {
            selectors: selectors.into_iter().collect(),
            exclude: exclude.into_iter().collect(),
            attested_by: attested_by.into_iter().map(Into::into).collect(),
            expires_at: expires_at.map(at),
            ..entry(&id, &[], &[])
        })
}

fn any_process() -> impl Strategy<Value = SelectorSet> {
    let gap =
        prop_oneof![any_exclusion(), ("[abc]", "[xy]").prop_map(|(kind, value)| Selector::new(kind, value))];
    (proptest::collection::vec(any_selector(), 0..10), proptest::collection::vec(gap, 0..2)).prop_map(
        |(selectors, gaps)| {
            let mut set: SelectorSet = selectors.into_iter().collect();
            gaps.into_iter().for_each(|gap| set.mark_gap(gap));
            set
        },
    )
}

/// The rule in the plainest words, over all that is known and unknown of the process.
fn plainly_earns(process: &SelectorSet, entry: &RegistrationEntry, now: SystemTime) -> bool {
    let below = |name: &Selector, of: &Selector| {
        name.kind() == of.kind()
            && (of.value().is_empty()
                || name.value() == of.value()
                || name.value().starts_with(&format!("{}:", of.value())))
    };
    for wanted in &entry.selectors {
        if !process.iter().any(|has| has == wanted) {
            return false;
        }
    }
    for unwanted in &entry.exclude {
        let whole_type = unwanted.value().is_empty();
        let has = process
            .iter()
            .any(|has| if whole_type { has.kind() == unwanted.kind() } else { has == unwanted });
        let unknown = process
            .gaps()
            .any(|gap| if whole_type { gap.kind() == unwanted.kind() } else { below(unwanted, gap) });
        if has || unknown {
            return false;
        }
    }
    for kind in &entry.attested_by {
        let speaks = process.iter().any(|has| has.kind() == &**kind);
        let failed = process.gaps().any(|gap| gap.kind() == &**kind && gap.value() == "");
        if !speaks || failed {
            return false;
        }
    }
    match entry.expires_at {
        Some(end) => end > now,
        None => true,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn the_index_agrees_with_a_plain_scan(
        entries in proptest::collection::vec(any_entry(), 0..40),
        process in any_process(),
        now in 0..5u64,
    ) {
        let mut unique: Vec<RegistrationEntry> = Vec::new();
        for entry in &entries {
            if unique.iter().all(|other| other.id != entry.id) {
                unique.push(entry.clone());
            }
        }
        let mut scanned: Vec<&RegistrationEntry> =
            unique.iter().filter(|entry| plainly_earns(&process, entry, at(now))).collect();
        scanned.sort_by(|a, b| a.id.as_str().cmp(b.id.as_str()));

        let index = EntryIndex::new(entries.clone());
        let found = index.matching(&process, at(now));

        prop_assert_eq!(found.iter().map(|entry| &**entry).collect::<Vec<_>>(), scanned);
        prop_assert_eq!(index.len(), unique.len());
        let next = unique.iter().filter_map(|entry| entry.expires_at).filter(|end| *end > at(now)).min();
        prop_assert_eq!(index.next_expiry(at(now)), next);
    }
}

fn template(id: &str, path: &str, selectors: &[&str]) -> TemplateEntry {
    let entry = entry(id, selectors, &[]);
    TemplateEntry::new(entry.id, format!("spiffe://example.org/{path}").parse().unwrap(), entry.selectors)
}

fn templates(templates: impl IntoIterator<Item = TemplateEntry>) -> EntryIndex {
    EntryIndex::with_templates([entry("k", &["unix:uid:1"], &[])], templates)
}

#[test]
fn a_template_makes_an_entry_for_each_id_among_the_others_by_id() {
    let index =
        templates([template("web", "ns/{k8s:ns}", &[]), template("a", "{unix:user}", &["unix:uid:1"])]);
    let process = process(&["unix:uid:1", "unix:user:ana", "k8s:ns:shop"]);
    assert_eq!(ids(&index, &process, at(0)), ["a/ana", "k", "web/ns/shop"]);
    let made = index.matching(&process, at(0)).pop().unwrap();
    assert_eq!(made.spiffe_id.as_str(), "spiffe://example.org/ns/shop");
    assert_eq!(made.selectors, [selector("k8s:ns:shop")]);
    assert_eq!(made.derived_from, Some(EntryId::new("web")));
    assert_eq!(index.get(&made.id), Some(made.clone()), "its id alone brings it back");
    assert_eq!(index.giving(&made.spiffe_id).collect::<Vec<_>>(), [made]);
    assert_eq!((index.len(), index.iter().len()), (3, 1));
}

#[test]
fn an_entry_that_a_template_makes_has_its_conditions() {
    let mut of_label = template("t", "{docker:label:app}", &["unix:uid:1"]);
    of_label.exclude = vec![selector("kernel:userns:own")];
    of_label.attested_by = vec!["unix".into()];
    of_label.expires_at = Some(at(10));
    of_label.hint = "h".into();
    let index = templates([of_label]);
    let all = ["unix:uid:1", "docker:label:app:web"];
    assert_eq!(ids(&index, &process(&all), at(9)), ["k", "t/web"]);
    assert_eq!(index.matching(&process(&all), at(9))[1].hint, "h");
    assert_eq!(ids(&index, &process(&all), at(10)), ["k"]);
    assert_eq!(index.next_expiry(at(0)), Some(at(10)));
    assert_eq!(ids(&index, &process(&all[1..]), at(9)), [""; 0]);
    assert_eq!(ids(&index, &process(&[all[0], all[1], "kernel:userns:own"]), at(9)), ["k"]);
    let mut doubtful = process(&all);
    doubtful.mark_gap(selector("kernel"));
    assert_eq!(ids(&index, &doubtful, at(9)), ["k"]);
}

#[test]
fn a_template_that_refuses_says_why_and_holds_up_no_other() {
    let index = templates([template("t", "{docker:label:app}", &[]), template("u", "{unix:uid}", &[])]);
    let process = process(&["unix:uid:1", "docker:label:app:../x"]);
    let mut refused = Vec::new();
    let found = index.matching_or(&process, at(0), |template, refusal| {
        refused.push((template.id.to_string(), refusal.reason.word()));
    });
    assert_eq!(found.iter().map(|entry| entry.id.as_str()).collect::<Vec<_>>(), ["k", "u/1"]);
    assert_eq!(refused, [("t".to_owned(), "illegal")]);
}

#[test]
fn what_a_template_names_is_asked_about_and_waited_for() {
    let index =
        EntryIndex::with_templates([], [template("t", "{docker:label:app}/{unix:sha256}", &["unix:uid:1"])]);
    assert!(index.names("unix", "sha256") && index.names("unix", "uid") && !index.names("unix", "path"));
    assert!(index.asks_of("docker") && !index.asks_of("systemd"));
    let hash = "unix:sha256:0f";
    assert!(index.may_gain(&process(&["unix:uid:1", hash]), &["docker"], at(0)));
    assert!(!index.may_gain(&process(&["unix:uid:1"]), &["docker"], at(0)), "the hash is lacking for good");
    assert!(!index.may_gain(&process(&["unix:uid:2", hash]), &["docker"], at(0)));
    assert!(!index.may_gain(&process(&["unix:uid:1", hash]), &["systemd"], at(0)));
}

#[test]
fn an_id_that_no_template_makes_is_nobodys() {
    let index = templates([template("t", "ns/{k8s:ns}", &[])]);
    for id in ["t", "t/", "t/ns", "t/ns/", "t/ns/a/b", "t/ns/a b", "tt/ns/a", "x"] {
        assert_eq!(index.get(&EntryId::new(id)), None, "{id}");
    }
}

proptest! {
    #[test]
    fn templates_take_nothing_from_the_other_entries(
        named in any::<bool>(),
        uid in 0..3u8,
        label in "[a-c/]{0,3}",
    ) {
        let plain = || (0..3u8).map(|uid| entry(&format!("m{uid}"), &[&format!("unix:uid:{uid}")], &[]));
        let set = process(&[&format!("unix:uid:{uid}"), &format!("docker:label:app:{label}")]);
        let made = named.then(|| template("t", "{docker:label:app}", &[]));
        let with = EntryIndex::with_templates(plain(), made);
        let without = EntryIndex::new(plain());
        let mut found = with.matching(&set, at(0));
        prop_assert!(found.is_sorted_by(|a, b| a.id < b.id));
        for entry in found.iter().filter(|entry| entry.derived_from.is_some()) {
            prop_assert!(entry.selectors.iter().all(|selector| set.contains(selector)));
            prop_assert_eq!(with.get(&entry.id), Some(Arc::clone(entry)));
        }
        found.retain(|entry| entry.derived_from.is_none());
        prop_assert_eq!(found, without.matching(&set, at(0)));
    }
}
