use std::time::Duration;

use super::*;
use crate::registration::{EntryId, TemplateEntry};

fn selectors(list: &[&str]) -> Vec<Selector> {
    let mut list: Vec<Selector> = list
        .iter()
        .map(|text| {
            let (kind, value) = text.split_once(':').unwrap_or((text, ""));
            Selector::new(kind, value)
        })
        .collect();
    list.sort();
    list
}

fn entry(id: &str, path: &str, required: &[&str]) -> RegistrationEntry {
    RegistrationEntry::new(
        EntryId::new(id),
        format!("spiffe://example.org/{path}").parse().unwrap(),
        selectors(required),
    )
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1000)
}

/// A node that does all it can.
const NODE: Surroundings = Surroundings { grade: Some(Grade::Kernel), path: PathRule::Verified };

/// Code and entry of each remark.
fn remarks(entries: impl IntoIterator<Item = RegistrationEntry>) -> Vec<(&'static str, String)> {
    lint(&EntryIndex::new(entries), now(), NODE)
        .into_iter()
        .map(|warning| (warning.code, warning.entry.map(|id| id.to_string()).unwrap_or_default()))
        .collect()
}

fn codes_for(required: &[&str]) -> Vec<&'static str> {
    remarks([entry("a", "web", required)]).into_iter().map(|(code, _)| code).collect()
}

const SURE: &[&str] = &["kernel:container:none", "unix:uid:7"];

#[test]
fn entries_that_name_their_workload_raise_no_remark() {
    for required in [
        SURE,
        &["unix:uid:0", "unix:path:/usr/bin/envoy"],
        &["kernel:container:docker", "unix:path:/usr/bin/envoy"],
        &["kernel:exe:8:1:42"],
        &["systemd:id:envoy.service"],
        &["docker:label:app:web"],
        &["slurm:job_id:7"],
    ] {
        assert_eq!(codes_for(required), [""; 0], "{required:?}");
    }
}

#[test]
fn what_no_attestor_makes_yet_is_remarked() {
    for required in [&["k8s:ns:a", "k8s:sa:b"][..], &["docker:image-signature:verified"]] {
        let codes = codes_for(required);
        assert!(!codes.is_empty() && codes.iter().all(|code| *code == "W0615"), "{required:?}: {codes:?}");
    }
    for (excluded, count) in
        [("k8s", 1), ("docker", 0), ("kernel:cap:sys_admin", 0), ("kernel", 0), ("unix:uid:5", 0)]
    {
        let mut excluding = entry("a", "web", &["unix:path:/x"]);
        excluding.exclude = selectors(&[excluded]);
        let codes: Vec<_> = remarks([excluding]).into_iter().map(|(code, _)| code).collect();
        assert_eq!(codes, vec!["W0615"; count], "{excluded}");
    }
}

#[test]
fn a_runtime_that_is_not_known_names_the_nearest() {
    let warning = lint(
        &EntryIndex::new([entry("a", "web", &["kernel:container:dokcer", "unix:path:/x"])]),
        now(),
        NODE,
    )
    .remove(0);
    assert_eq!(warning.code, "W0616");
    assert_eq!(warning.fix.as_ref().unwrap(), "did you mean `kernel:container:docker`?");
    assert_eq!(codes_for(&["kernel:container:x", "unix:path:/x"]), ["W0616"]);
    for known in ["docker", "podman", "containerd", "cri-o", "kubernetes", "none"] {
        assert_eq!(codes_for(&[&format!("kernel:container:{known}"), "unix:path:/x"]), [""; 0], "{known}");
    }
}

#[test]
fn the_same_identity_for_more_conditions_adds_nothing() {
    let wide = entry("wide", "web", SURE);
    let narrow = entry("narrow", "web", &[SURE, &["unix:gid:1"]].concat());
    let other = entry("other", "api", &[SURE, &["unix:gid:1"]].concat());
    assert_eq!(remarks([wide, narrow, other]), [("W0611", "narrow".to_owned())]);
}

#[test]
fn an_entry_that_excludes_less_or_lives_longer_adds_something() {
    let mut wide = entry("wide", "web", SURE);
    wide.exclude = selectors(&["unix:user:web"]);
    let narrow = entry("narrow", "web", &[SURE, &["unix:gid:1"]].concat());
    assert_eq!(remarks([wide.clone(), narrow.clone()]), []);
    wide.exclude.clear();
    wide.expires_at = Some(now() + Duration::from_secs(1));
    assert_eq!(remarks([wide, narrow]), []);
}

#[test]
fn an_entry_that_asks_for_fewer_attestors_adds_something() {
    let mut wide = entry("wide", "web", SURE);
    wide.attested_by = vec!["kernel".into()];
    let narrow = entry("narrow", "web", &[SURE, &["unix:gid:1"]].concat());
    assert_eq!(remarks([wide, narrow]), []);
}

#[test]
fn of_two_equal_entries_the_later_is_needless() {
    assert_eq!(remarks([entry("b", "web", SURE), entry("a", "web", SURE)]), [("W0611", "b".to_owned())]);
}

#[test]
fn a_hint_is_remarked_when_both_entries_can_match() {
    let hinted =
        |id: &str, required: &[&str]| RegistrationEntry { hint: "h".into(), ..entry(id, id, required) };
    let path = "unix:path:/x";
    assert_eq!(
        remarks([hinted("a", &[path, "unix:uid:7"]), hinted("b", &[path])]),
        [("W0612", "b".to_owned())]
    );
    assert_eq!(remarks([hinted("a", &[path, "unix:uid:7"]), hinted("b", &[path, "unix:uid:8"])]), []);
    let mut excluding = hinted("b", &[path]);
    excluding.exclude = selectors(&["unix:uid:7"]);
    assert_eq!(remarks([hinted("a", &[path, "unix:uid:7"]), excluding]), []);
}

#[test]
fn a_user_alone_is_met_inside_containers_too() {
    let index = EntryIndex::new([entry("a", "web", &["unix:uid:0"])]);
    let warning = lint(&index, now(), NODE).remove(0);
    assert_eq!(warning.code, "W0613");
    assert!(warning.why.as_ref().unwrap().starts_with("root inside any container"));
    assert!(warning.fix.as_ref().unwrap().contains("kernel:container:none"));
    assert_eq!(codes_for(&["unix:gid:5", "unix:user:web"]), ["W0613"]);
}

#[test]
fn a_program_alone_is_met_inside_containers_too() {
    let hash = format!("unix:sha256:{}", "0".repeat(64));
    for required in [&[&*hash][..], &[&hash, "unix:uid:7"], &[&hash, "kernel:userns:host"]] {
        assert_eq!(codes_for(required), ["W0613"], "{required:?}");
    }
    for required in [
        &[&*hash, "kernel:container:none"][..],
        &[&hash, "kernel:container:docker"],
        &[&hash, "unix:path:/usr/bin/envoy"],
        &[&hash, "kernel:cgroup:/system.slice/envoy.service"],
    ] {
        assert_eq!(codes_for(required), [""; 0], "{required:?}");
    }
}

#[test]
fn a_path_that_a_process_may_claim_names_no_workload() {
    let spire = Surroundings { path: PathRule::Spire, ..NODE };
    let codes = |required: &[&str]| -> Vec<_> {
        let index = EntryIndex::new([entry("a", "web", required)]);
        lint(&index, now(), spire).into_iter().map(|warning| warning.code).collect()
    };
    for required in [&["unix:path:/usr/bin/envoy"][..], &["unix:path:/usr/bin/envoy", "unix:uid:0"]] {
        assert_eq!(codes(required), ["W0621"], "{required:?}");
        assert_eq!(codes_for(required), [""; 0], "{required:?}");
    }
    assert_eq!(codes(&["unix:path:/usr/bin/envoy", "kernel:container:none"]), [""; 0]);
}

#[test]
fn conditions_that_this_node_never_settles_are_remarked() {
    let weak = Surroundings { grade: Some(Grade::Pidfd), ..NODE };
    let unknown = Surroundings { grade: None, ..NODE };
    let mut excluding = entry("excluding", "a", &["unix:path:/x"]);
    excluding.exclude = selectors(&["kernel:container:docker"]);
    let requiring = entry("requiring", "b", SURE);
    let mut attested = entry("attested", "c", &["unix:path:/x"]);
    attested.attested_by = vec!["kernel".into()];
    let plain = entry("plain", "d", &["unix:path:/x"]);
    let index = EntryIndex::new([excluding, requiring, attested, plain]);
    let found = |node| -> Vec<_> {
        let about =
            |warning: Warning| (warning.code, warning.entry.map(|id| id.to_string()).unwrap_or_default());
        lint(&index, now(), node).into_iter().map(about).collect()
    };
    let remarked = ["attested", "excluding", "requiring"].map(|id| ("W0622", id.to_owned()));
    assert_eq!(found(weak), remarked);
    assert_eq!(found(NODE), []);
    assert_eq!(found(unknown), []);
}

#[test]
fn attestors_that_are_not_there_are_remarked() {
    let codes = |kind: &str, exclude: &[&str]| -> Vec<_> {
        let mut asking = entry("a", "web", &["unix:path:/x"]);
        asking.attested_by = vec![kind.into()];
        asking.exclude = selectors(exclude);
        remarks([asking]).into_iter().map(|(code, _)| code).collect()
    };
    assert_eq!(codes("unix", &[]), [""; 0]);
    assert_eq!(codes("unx", &[]), ["W0620"]);
    assert_eq!(codes("k8s", &[]), ["W0620"]);
    assert_eq!(codes("kernel", &["kernel"]), ["W0618"]);
}

#[test]
fn an_entry_that_any_workload_meets_is_remarked() {
    assert_eq!(codes_for(&["k8s:node-name:n1"]), ["W0614", "W0615"]);
    assert_eq!(codes_for(&["kernel:container:none"]), ["W0614"]);
}

#[test]
fn unknown_selectors_name_the_nearest() {
    let fix = |required: &str| {
        let warning = lint(&EntryIndex::new([entry("a", "web", &[required])]), now(), NODE).remove(0);
        (warning.code, warning.fix.clone().unwrap())
    };
    assert_eq!(fix("unx:path:/x"), ("W0615", "did you mean `unix`?".into()));
    assert_eq!(fix("k8s:pod-lable:app:web"), ("W0615", "did you mean `k8s:pod-label:app:web`?".into()));
    assert_eq!(fix("kubernetes:x").0, "W0615");
}

#[test]
fn values_that_no_attestor_writes_are_remarked() {
    for (required, count) in [
        ("docker:label:app", 1),
        ("docker:label:app:", 0),
        ("docker:image_config_digest:aa", 1),
        ("docker:image_config_digest:sha256:aa", 0),
        ("systemd:fragment_path:etc/x", 1),
        ("systemd:fragment_path:/etc/x", 0),
        ("slurm:job_id:x", 1),
        ("slurm:job_id:42", 0),
        ("unix:path:bin/x", 1),
        ("unix:path:/bin/x", 0),
        ("unix:sha256:ABCD", 1),
        ("kernel:exe:8:1", 1),
        ("kernel:cgroup:x", 1),
        ("kernel:cgroup:/x", 0),
        ("kernel:cgroup_name:web.service", 0),
        ("kernel:cgroup_name:/system.slice/web.service", 1),
        ("kernel:parent_exe:systemd", 1),
        ("kernel:parent_exe:/usr/lib/systemd/systemd", 0),
        ("kernel:fsverity:abcd", 1),
        ("kernel:fsverity:sha256:abcd", 1),
        (&format!("kernel:fsverity:sha256:{}", "ab".repeat(32)), 0),
        (&format!("kernel:fsverity:sha512:{}", "ab".repeat(64)), 0),
    ] {
        let found = codes_for(&[required]).into_iter().filter(|code| *code == "W0616").count();
        assert_eq!(found, count, "{required}");
    }
    for required in [
        "unix:uid:root",
        "unix:uid:01",
        "unix:uid:+1",
        "unix:gid:99999999999",
        "kernel:netns:mine",
        "kernel:mntns:other",
        "kernel:no_new_privs:yes",
        "kernel:seccomp:on",
        "kernel:cap:CAP_KILL",
        "kernel:cgroup:/sys/fs/cgroup/system.slice/web.service",
        "systemd:id:cron",
    ] {
        assert!(codes_for(&[required, "unix:path:/x"]).contains(&"W0616"), "{required}");
    }
}

#[test]
fn dead_entries_are_remarked() {
    let mut expired = entry("a", "web", SURE);
    expired.expires_at = Some(now());
    assert_eq!(remarks([expired]), [("W0617", "a".to_owned())]);
    let mut contradictory = entry("a", "web", SURE);
    contradictory.exclude = selectors(&["kernel"]);
    assert_eq!(remarks([contradictory]), [("W0618", "a".to_owned())]);
}

/// Code and entry of each remark on these templates beside an entry of SPIFFE ID `…/web`.
fn remarks_on(templates: &[(&str, &str, &[&str])]) -> Vec<(&'static str, String)> {
    let template = |(id, path, required): &(&str, &str, &[&str])| {
        let template = format!("spiffe://example.org/{path}").parse().unwrap();
        TemplateEntry::new(EntryId::new(*id), template, selectors(required))
    };
    let index = EntryIndex::with_templates([entry("k", "web", SURE)], templates.iter().map(template));
    let found = lint(&index, now(), NODE).into_iter();
    found.map(|warning| (warning.code, warning.entry.map(|id| id.to_string()).unwrap_or_default())).collect()
}

fn codes_of(path: &str, required: &[&str]) -> Vec<&'static str> {
    remarks_on(&[("t", path, required)]).into_iter().map(|(code, _)| code).collect()
}

#[test]
fn templates_that_name_by_what_only_their_owner_chooses_raise_no_remark() {
    for path in [
        "unit/{systemd:id}",
        "cgroup/{kernel:cgroup_name}",
        "job/{slurm:job_id}",
        "hash/{unix:sha256}/{systemd:id}",
    ] {
        assert_eq!(codes_of(path, &[]), [""; 0], "{path}");
    }
    assert_eq!(codes_of("user/{unix:user}", &["kernel:container:none"]), [""; 0]);
}

#[test]
fn a_template_is_remarked_where_others_choose_or_several_meet_it() {
    assert_eq!(codes_of("app/{docker:label:app}", &[]), ["W0623"]);
    assert_eq!(codes_of("user/{unix:user}", &[]), ["W0613"], "any container may run as that user");
    assert_eq!(codes_of("grp/{unix:supplementary_group}", &["kernel:container:none"]), ["W0625"]);
    assert_eq!(codes_of("side/{kernel:netns}", &[]), ["W0614"]);
    assert_eq!(codes_of("ns/{k8s:ns}", &[]), ["W0615"]);
    assert_eq!(codes_of("unit/{systemd:id}", &["unix:uid:root"]), ["W0616"]);
}

#[test]
fn a_template_that_may_give_what_another_entry_gives_is_remarked_once() {
    assert_eq!(codes_of("{systemd:id}", &[]), ["W0624"], "…/web is the entry's");
    let both: [(&str, &str, &[&str]); 2] = [("t", "u/{systemd:id}", &[]), ("u", "u/{slurm:job_id}", &[])];
    assert_eq!(remarks_on(&both), [("W0624", "u".to_owned())]);
}

#[test]
fn dns_names_of_a_template_are_everybodys() {
    let template = "spiffe://example.org/unit/{systemd:id}".parse().unwrap();
    let mut entry = TemplateEntry::new(EntryId::new("t"), template, vec![]);
    entry.dns_names = vec!["web".into()];
    let found = lint(&EntryIndex::with_templates([], [entry]), now(), NODE);
    assert_eq!(found.iter().map(|warning| warning.code).collect::<Vec<_>>(), ["W0626"]);
}

#[test]
fn a_hint_that_a_template_shares_with_another_entry_is_remarked() {
    let template = "spiffe://example.org/unit/{systemd:id}".parse().unwrap();
    let of_units =
        TemplateEntry { hint: "h".into(), ..TemplateEntry::new(EntryId::new("t"), template, vec![]) };
    let codes = |required: &[&str], exclude: &[&str]| {
        let other = RegistrationEntry { hint: "h".into(), ..entry("k", "web", required) };
        let of_units = TemplateEntry { exclude: selectors(exclude), ..of_units.clone() };
        let found = lint(&EntryIndex::with_templates([other], [of_units]), now(), NODE);
        found.into_iter().map(|warning| warning.code).collect::<Vec<_>>()
    };
    assert_eq!(codes(SURE, &[]), ["W0612"]);
    assert_eq!(codes(SURE, &["unix:uid:7"]), [""; 0]);
}
