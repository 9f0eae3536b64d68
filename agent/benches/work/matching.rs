//! Which entries one workload earns, of few or many.

use std::{sync::Arc, time::SystemTime};

use vouch::{
    attestation::{Selector, SelectorSet},
    registration::{EntryId, EntryIndex, RegistrationEntry},
};

/// Entries are made in teams of ten: four service accounts, two workloads known by more than their account, two
/// containers outside of the cluster, a daemon of a shared user and a user.
const TEAM: usize = 10;
/// What teams share.
const NAMESPACES: usize = 40;
const IMAGES: usize = 500;
const SHARED_UIDS: usize = 20;

/// An index, and a pod for which three of its entries are.
#[derive(Debug)]
pub(crate) struct Matching {
    index: EntryIndex,
    workload: SelectorSet,
    now: SystemTime,
}

impl Matching {
    pub(crate) fn among(entries: usize) -> Self {
        let index = EntryIndex::new((0..entries).map(entry));
        let matching = Self { index, workload: pod_of(entries / 2 / TEAM), now: SystemTime::UNIX_EPOCH };
        assert_eq!((matching.workload.len(), matching.run().len()), (25, 3));
        matching
    }

    pub(crate) fn run(&self) -> Vec<Arc<RegistrationEntry>> {
        self.index.matching(&self.workload, self.now)
    }
}

fn entry(number: usize) -> RegistrationEntry {
    let team = number / TEAM;
    let mut selectors = match number % TEAM {
        0..=3 => vec![namespace(team), account(number)],
        4 => vec![namespace(team), account(team * TEAM), image(team), k8s("container-name:main")],
        5 => vec![namespace(team), image(team), app(team)],
        6 | 7 => vec![
            of("docker", format!("label:com.docker.compose.service:service-{number}")),
            of("docker", format!("image_id:{}", digest(number))),
            shared_uid(team),
        ],
        8 => vec![shared_uid(team), of("unix", format!("path:/usr/local/bin/daemon-{number}"))],
        _ => vec![of("unix", format!("uid:{}", 100_000 + number))],
    };
    selectors.sort();
    let id = format!("spiffe://example.org/entry/{number}").parse().expect("a SPIFFE ID");
    RegistrationEntry::new(EntryId::new(format!("entry-{number:06}")), id, selectors)
}

/// What attestors say of one container of a pod.
fn pod_of(team: usize) -> SelectorSet {
    let of_its_own = [namespace(team), account(team * TEAM), image(team), app(team), shared_uid(team)];
    let of_kubernetes = [
        "container-name:main",
        "node-name:node-17.example.org",
        "pod-image-count:2",
        "pod-init-image-count:1",
        "pod-image:registry.example.org/proxy@sha256:0f0f",
        "pod-init-image:registry.example.org/init@sha256:1e1e",
        "pod-label:pod-template-hash:7c9d8f6b5",
        "pod-label:version:v2",
        "pod-name:web-7c9d8f6b5-x2x2x",
        "pod-owner:ReplicaSet:web-7c9d8f6b5",
        "pod-uid:2b7c6a2e-4f9d-4f0e-9d5e-0b5f0b6c1a11",
    ];
    let of_the_kernel = [
        ("unix", "gid:65532"),
        ("unix", "group:nonroot"),
        ("unix", "user:nonroot"),
        ("unix", "path:/usr/local/bin/web"),
        ("kernel", "container:5d1c"),
        ("kernel", "exe:/usr/local/bin/web"),
        ("kernel", "no_new_privs:true"),
        ("kernel", "seccomp:filter"),
        ("kernel", "userns:4026531837"),
    ];
    let of_the_kernel = of_the_kernel.map(|(kind, value)| Selector::new(kind, value));
    of_its_own.into_iter().chain(of_kubernetes.map(k8s)).chain(of_the_kernel).collect()
}

fn namespace(team: usize) -> Selector {
    k8s(&format!("ns:team-{}", team % NAMESPACES))
}

fn account(number: usize) -> Selector {
    k8s(&format!("sa:account-{number}"))
}

fn image(team: usize) -> Selector {
    k8s(&format!("container-image:registry.example.org/apps@sha256:{}", digest(team)))
}

fn app(team: usize) -> Selector {
    k8s(&format!("pod-label:app:app-{team}"))
}

fn shared_uid(team: usize) -> Selector {
    of("unix", format!("uid:{}", 1000 + team % SHARED_UIDS))
}

/// As long as a SHA-256.
fn digest(of: usize) -> String {
    format!("{:064x}", of % IMAGES)
}

fn k8s(value: &str) -> Selector {
    Selector::new("k8s", value)
}

fn of(kind: &str, value: String) -> Selector {
    Selector::new(kind, value)
}
