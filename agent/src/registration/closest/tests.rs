use std::{
    path::Path,
    time::{Duration, Instant},
};

use super::*;
use crate::registration::{EntryId, Origin, TemplateEntry};

fn selector(text: &str) -> Selector {
    let (kind, value) = text.split_once(':').unwrap_or((text, ""));
    Selector::new(kind, value)
}

fn selectors(text: &str) -> Vec<Selector> {
    let mut list: Vec<Selector> = text.split_whitespace().map(selector).collect();
    list.sort();
    list
}

fn entry(id: &str, required: &str) -> RegistrationEntry {
    RegistrationEntry::new(
        EntryId::new(id),
        format!("spiffe://example.org/{id}").parse().unwrap(),
        selectors(required),
    )
}

/// A process with these selectors; one with a `?` before it is a gap.
fn process(text: &str) -> SelectorSet {
    let mut set = SelectorSet::default();
    for word in text.split_whitespace() {
        match word.strip_prefix('?') {
            Some(gap) => set.mark_gap(selector(gap)),
            None => set.insert(selector(word)),
        }
    }
    set
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000)
}

/// An entry in words: selectors, then `!excluded`, `@attestor`, and `~` when it has expired.
fn written(text: &str) -> RegistrationEntry {
    let mut written = entry("wanted", "");
    for word in text.split_whitespace() {
        match word.split_at(1) {
            ("!", excluded) => written.exclude.push(selector(excluded)),
            ("@", kind) => written.attested_by.push(kind.into()),
            ("~", "") => written.expires_at = Some(now() - Duration::from_secs(1)),
            _ => written.selectors.push(selector(word)),
        }
    }
    written.selectors.sort();
    written
}

/// A process of the host, as the kernel grade says it.
const WEB: &str = "unix:uid:1001 unix:gid:1001 unix:user:ana unix:group:ana unix:supplementary_gid:27 \
    unix:supplementary_group:sudo unix:path:/usr/bin/web kernel:cgroup:/system.slice/web.service \
    kernel:container:none kernel:exe:8:1:42 kernel:netns:host kernel:userns:host ?unix:sha256";
/// A container's process, as a cluster says it.
const POD: &str = "unix:uid:0 unix:gid:0 unix:user:root unix:path:/app/cart kernel:container:containerd \
    k8s:ns:shop k8s:sa:cart k8s:pod-label:tier:back-end k8s:pod-label:app:cart k8s:pod-name:cart-7d9f \
    k8s:container-name:cart k8s:node-name:n1";
/// Below grade kernel.
const WEAK: &str = "unix:uid:1001 unix:gid:1001 unix:user:ana unix:path:/usr/bin/web ?kernel";
/// A docker container's, whose engine does not answer.
const DEAF: &str = "unix:uid:0 unix:gid:0 unix:path:/bin/api kernel:container:docker ?docker ?unix:sha256";
/// A docker container's, whose engine does.
const HEARD: &str = "unix:uid:0 unix:gid:0 kernel:container:docker docker:label:app:api docker:label:env:prod \
    docker:image_id:api@1 ?unix:path ?unix:sha256";

/// A process, an entry that it nearly earns, and what must be said of it.
const NEAR_MISSES: &[(&str, &str, &str)] = &[
    // Values that differ.
    (WEB, "unix:uid:1000", "MISS  unix:uid:1000   process has unix:uid:1001"),
    (WEB, "unix:gid:1000", "MISS  unix:gid:1000   process has unix:gid:1001"),
    (WEB, "unix:user:anna", "MISS  unix:user:anna   process has unix:user:ana"),
    (WEB, "unix:group:web", "MISS  unix:group:web   process has unix:group:ana"),
    (
        WEB,
        "unix:uid:1001 unix:path:/usr/bin/wep",
        "MISS  unix:path:/usr/bin/wep   process has unix:path:/usr/bin/web",
    ),
    (
        WEB,
        "unix:uid:1001 unix:path:/usr/local/bin/web",
        "MISS  unix:path:/usr/local/bin/web   process has unix:path:/usr/bin/web",
    ),
    (
        WEB,
        "unix:supplementary_gid:28",
        "MISS  unix:supplementary_gid:28   process has unix:supplementary_gid:27",
    ),
    (
        WEB,
        "unix:supplementary_group:wheel",
        "MISS  unix:supplementary_group:wheel   process has unix:supplementary_group:sudo",
    ),
    (
        WEB,
        "unix:uid:1001 kernel:cgroup:/system.slice/web",
        "MISS  kernel:cgroup:/system.slice/web   process has kernel:cgroup:/system.slice/web.service",
    ),
    (
        WEB,
        "unix:uid:1001 kernel:container:docker",
        "MISS  kernel:container:docker   process has kernel:container:none",
    ),
    (WEB, "unix:uid:1001 kernel:exe:8:1:43", "MISS  kernel:exe:8:1:43   process has kernel:exe:8:1:42"),
    (WEB, "unix:uid:1001 kernel:userns:own", "MISS  kernel:userns:own   process has kernel:userns:host"),
    (WEB, "unix:uid:1001 kernel:netns:own", "MISS  kernel:netns:own   process has kernel:netns:host"),
    (POD, "k8s:ns:store k8s:sa:cart", "MISS  k8s:ns:store   process has k8s:ns:shop"),
    (POD, "k8s:ns:shop k8s:sa:default", "MISS  k8s:sa:default   process has k8s:sa:cart"),
    (
        POD,
        "k8s:ns:shop k8s:pod-label:tier:backend",
        "MISS  k8s:pod-label:tier:backend   process has k8s:pod-label:tier:back-end",
    ),
    (
        POD,
        "k8s:ns:shop k8s:pod-label:app:card",
        "MISS  k8s:pod-label:app:card   process has k8s:pod-label:app:cart",
    ),
    (
        POD,
        "k8s:ns:shop k8s:container-name:web",
        "MISS  k8s:container-name:web   process has k8s:container-name:cart",
    ),
    (POD, "k8s:ns:shop k8s:node-name:n2", "MISS  k8s:node-name:n2   process has k8s:node-name:n1"),
    (
        POD,
        "k8s:sa:cart kernel:container:none",
        "MISS  kernel:container:none   process has kernel:container:containerd",
    ),
    (HEARD, "docker:label:app:web", "MISS  docker:label:app:web   process has docker:label:app:api"),
    (
        HEARD,
        "docker:label:env:production",
        "MISS  docker:label:env:production   process has docker:label:env:prod",
    ),
    (HEARD, "docker:image_id:api@2", "MISS  docker:image_id:api@2   process has docker:image_id:api@1"),
    // A label that the process does not have under that key: its other labels are named.
    (
        POD,
        "k8s:ns:shop k8s:pod-label:role:cart",
        "MISS  k8s:pod-label:role:cart   process has k8s:pod-label:",
    ),
    // Nothing of the sort.
    (POD, "unix:uid:0 docker:label:app:x", "process has no docker selector at all"),
    (WEB, "unix:uid:1001 slurm:job_id:7", "process has no slurm selector at all"),
    (WEB, "unix:uid:1001 k8s:ns:shop", "process has no k8s selector at all"),
    (WEAK, "unix:uid:1001 docker:label:app:x", "MISS  docker:label:app:x"),
    // Slips of the author.
    (WEB, "unix:uid:1001 unx:path:/usr/bin/web", "selector type `unx` is unknown: did you mean `unix`?"),
    (WEB, "unix:usr:ana", "did you mean `unix:user:ana`?"),
    (WEB, "unix:uid:01001", "a decimal number, such as unix:uid:1000"),
    (WEB, "unix:uid:1001 unix:path:usr/bin/web", "an absolute path"),
    (WEB, "unix:uid:1001 kernel:container:dokcer", "did you mean `kernel:container:docker`?"),
    (WEB, "unix:uid:1001 kernel:exe:8:42", "major:minor:inode"),
    (WEB, "unix:uid:1001 kernel:cgroup:web.service", "an absolute path"),
    // Not known instead of not there.
    (WEB, "unix:uid:1001 unix:sha256:00", "GAP   unix:sha256:00   unix:sha256 is not known"),
    (
        WEAK,
        "unix:uid:1001 kernel:container:none",
        "GAP   kernel:container:none   kernel:container is not known",
    ),
    (WEAK, "unix:uid:1001 kernel:cgroup:/x", "GAP   kernel:cgroup:/x"),
    (DEAF, "unix:uid:0 docker:label:app:api", "GAP   docker:label:app:api"),
    (HEARD, "docker:label:app:api unix:path:/bin/api", "GAP   unix:path:/bin/api"),
    // Exclusions that hold.
    (WEB, "unix:uid:1001 !unix:gid:1001", "EXCL  exclude unix:gid:1001   process has unix:gid:1001"),
    (POD, "unix:uid:0 !k8s", "EXCL  exclude k8s   process has k8s:container-name:cart"),
    (HEARD, "unix:uid:0 !kernel:container:docker", "EXCL  exclude kernel:container:docker"),
    // Exclusions that nobody can settle.
    (DEAF, "unix:uid:0 !docker", "GAP   exclude docker   docker is not known"),
    (DEAF, "unix:uid:0 !docker:label:env:prod", "GAP   exclude docker:label:env:prod"),
    (WEAK, "unix:uid:1001 !kernel:container:docker", "GAP   exclude kernel:container:docker"),
    // Attestors that have not spoken.
    (WEB, "unix:uid:1001 @docker", "MISS  attested_by docker   no attestor says anything of type docker"),
    (
        DEAF,
        "unix:uid:0 @docker @unix",
        "GAP   attested_by docker   the attestor of docker could not be heard",
    ),
    (WEAK, "unix:uid:1001 @kernel", "GAP   attested_by kernel"),
    // Over.
    (WEB, "unix:uid:1001 ~", "PAST  until 1970-01-12T13:46:39Z"),
];

/// Others that the process does not earn and that are further away.
fn decoys() -> impl Iterator<Item = RegistrationEntry> {
    (0..200).map(|n| {
        entry(
            &format!("decoy-{n:03}"),
            &format!("unix:uid:{n}000 slurm:job_id:{n} slurm:sluid:{n} slurm:step:{n} systemd:id:{n}"),
        )
    })
}

#[test]
fn each_of_fifty_near_misses_is_named() {
    assert_eq!(NEAR_MISSES.len(), 50);
    for (has, wanted, expected) in NEAR_MISSES {
        let (index, process) = (EntryIndex::new(decoys().chain([written(wanted)])), process(has));
        assert_eq!(index.matching(&process, now()), [], "{wanted}: it is a miss");
        let found = closest(&index, &process, now(), 3);
        assert_eq!(found[0].entry.as_str(), "wanted", "{wanted} is the closest of {found:#?}");
        let lines: Vec<String> = found[0].lines.iter().map(ToString::to_string).collect();
        assert!(lines.iter().any(|line| line.contains(expected)), "{wanted}: {lines:#?}");
        let advice = advice(&found[0], None);
        assert_eq!(advice.len(), found[0].unmet(), "{wanted}: {advice:?}");
    }
}

#[test]
fn what_is_met_is_said_as_well() {
    let index = EntryIndex::new([written("unix:uid:1001 unix:gid:5 !docker @unix")]);
    let found = closest(&index, &process(WEB), now(), 1);
    let words: Vec<&str> = found[0].lines.iter().map(Line::word).collect();
    assert_eq!(words, ["MISS", "have", "lacks", "have"]);
    assert_eq!((found[0].met(), found[0].unmet()), (1, 1));
}

#[test]
fn the_closest_come_first_and_what_is_earned_does_not() {
    let index = EntryIndex::new([
        entry("earned", "unix:uid:1001"),
        entry("two-of-four", "unix:uid:1001 unix:gid:1001 slurm:job_id:1 slurm:step:0"),
        entry("one-of-three", "unix:uid:1001 unix:gid:1001 slurm:job_id:1"),
        entry("one-of-two", "unix:uid:1001 slurm:job_id:1"),
        entry("other-value", "unix:uid:7"),
        entry("nothing", "slurm:job_id:1"),
    ]);
    let found = closest(&index, &process(WEB), now(), 10);
    let order: Vec<&str> = found.iter().map(|comparison| comparison.entry.as_str()).collect();
    assert_eq!(order, ["one-of-three", "one-of-two", "other-value", "two-of-four", "nothing"]);
}

#[test]
fn of_many_that_are_as_close_those_with_the_first_ids_are_named() {
    let many = (0..1000).map(|n| entry(&format!("{n:04}"), &format!("unix:uid:1001 x:{n}")));
    let found = closest(&EntryIndex::new(many), &process(WEB), now(), 3);
    let order: Vec<&str> = found.iter().map(|comparison| comparison.entry.as_str()).collect();
    assert_eq!(order, ["0000", "0001", "0002"]);
}

#[test]
fn a_hundred_thousand_entries_are_looked_at_once() {
    let many = (0..100_000).map(|n| {
        let required = format!("unix:uid:0 k8s:ns:ns{} k8s:sa:sa{} k8s:pod-label:app:{n}", n % 100, n % 1000);
        entry(&format!("{n:06}"), &required)
    });
    let index = EntryIndex::new(many);
    let process = process("unix:uid:0 k8s:ns:ns77 k8s:sa:sa877 k8s:pod-label:app:98877x");
    let started = Instant::now();
    let found = closest(&index, &process, now(), 3);
    let took = started.elapsed();
    // All but the label: 99 others share the namespace and the account, and only what differs can be named.
    assert_eq!((found[0].met(), found[0].unmet()), (3, 1));
    assert!(found[0].lines[1].remark().contains("k8s:pod-label:app:98877x"), "{:?}", found[0].lines);
    println!("closest of 100,000 took {took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}, in a build that is not optimized");
}

#[test]
fn advice_says_where_the_entry_is_written() {
    let index = EntryIndex::new([written("unix:uid:1000")]);
    let found = closest(&index, &process(WEB), now(), 1);
    let origin = Origin { file: Path::new("/etc/vouch/entries.toml").into(), line: 12 };
    assert_eq!(
        advice(&found[0], Some(&origin)),
        [
            "run the process so that it has unix:uid:1000; if it is meant to have an identity as it is, write an entry with \
          unix:uid:1001 (in /etc/vouch/entries.toml:12 the identity would move to it)"
        ]
    );
}

#[test]
fn a_template_says_what_keeps_it_from_giving_an_identity() {
    let template = |id: &str, path: &str| {
        TemplateEntry::new(
            EntryId::new(id),
            format!("spiffe://example.org/{path}").parse().unwrap(),
            selectors("unix:uid:1001"),
        )
    };
    let index = EntryIndex::with_templates([], [template("t", "{docker:label:app}/{unix:user}")]);
    let lines = |process: &SelectorSet| -> Vec<String> {
        let found = closest(&index, process, now(), 1);
        assert_eq!(found[0].gives.as_ref(), "spiffe://example.org/{docker:label:app}/{unix:user}");
        assert_eq!(advice(&found[0], None).len(), found[0].unmet());
        found[0].lines.iter().map(ToString::to_string).collect()
    };
    let has = |label: &str| process(&format!("unix:uid:1001 unix:user:ana {label}"));
    let rest = ["have  {unix:user}   process has unix:user:ana", "have  unix:uid:1001"];
    for (label, says) in [
        ("", "MISS  {docker:label:app}   process has no docker:label:app"),
        ("?docker:label", "GAP   {docker:label:app}   docker:label is not known, and that does not count"),
        (
            "docker:label:app:a/b",
            "BAD   {docker:label:app}   \"a/b\" cannot stand there: path segment may hold only a-z, A-Z, 0-9, dot, dash and \
             underscore, not '/'",
        ),
        (
            "docker:label:app:a docker:label:app:b",
            "BAD   {docker:label:app}   the process has \"a\" and \"b\", and only one can stand there",
        ),
    ] {
        assert_eq!(lines(&has(label)), [says, rest[0], rest[1]], "{label}");
    }
    assert!(closest(&index, &has("docker:label:app:web"), now(), 1).is_empty(), "it is earned");
}
