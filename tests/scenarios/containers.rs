//! Real containers: what their engines say of them becomes selectors, as soon as the engines say it.

#![expect(clippy::unwrap_used, reason = "what cannot be arranged fails the scenario")]

mod served;
mod stage;

use std::{collections::BTreeSet, path::Path, sync::Arc};

use vouch::attestation::{Containment, DockerConfig, Subject, Witness, WitnessConfig, witnesses};
use vouch_tests::{Engine, Need, Runtime, cgroup, require};

use stage::{IMAGE, import};

fn docker_witness(engine: &Engine) -> Arc<dyn Witness> {
    let docker = DockerConfig {
        enabled: true,
        socket: engine.socket(),
        podman_socket: engine.socket(),
        rootless_sockets: None,
        env: false,
    };
    witnesses(&WitnessConfig { docker, systemd: true, slurm: true }).remove(0)
}

/// The first process below `cgroup`, as the kernel shows it.
fn subject_in(cgroup: &str) -> Subject {
    let procs = cgroup::root().unwrap().join(cgroup.trim_start_matches('/')).join("cgroup.procs");
    let pid = std::fs::read_to_string(&procs).unwrap().lines().next().unwrap().parse().unwrap();
    let shown = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let cgroup = shown.lines().find_map(|line| line.strip_prefix("0::")).unwrap().to_owned();
    let containment = Containment::of_cgroup(&cgroup, vouch::kernel::only_root_adds_to);
    Subject { pid, uid: 0, cgroup: Some(cgroup), containment, pidfd: None }
}

fn of_a_container(runtime: Runtime, cgroup: impl Fn(&str) -> String) {
    let engine = Engine::start(runtime);
    import(&engine, Path::new("/bin/true"));
    let options = ["--label", "app=web:1", "--label", "a:b=c", "--env", "SECRET=1"];
    let container = engine.run(&options, IMAGE, &["sleep", "60"]);
    let subject = subject_in(&cgroup(&container.id));
    let witness = docker_witness(&engine);
    assert!(witness.concerns(&subject));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let said = runtime.block_on(witness.testify(&subject)).unwrap();
    let said: BTreeSet<String> = said.iter().map(ToString::to_string).collect();
    let name =
        said.iter().find(|fact| fact.starts_with("docker:image_id:")).expect("the image has a name").clone();
    // Podman writes the name in full.
    assert!(name.ends_with(IMAGE), "{name}");
    let expected = [
        "docker:label:app:web:1".to_owned(),
        name,
        format!("docker:image_config_digest:{}", container.image),
    ];
    assert_eq!(said, BTreeSet::from(expected));
}

#[test]
fn docker_speaks_of_a_real_container_in_spires_words() {
    require!(Need::Root, Need::Cgroup2, Need::Engines);
    of_a_container(Runtime::Docker, |id| format!("/docker/{id}"));
}

#[test]
fn podman_speaks_of_a_real_container_in_the_same_words() {
    require!(Need::Root, Need::Cgroup2, Need::Engines);
    of_a_container(Runtime::Podman, |id| format!("/libpod_parent/libpod-{id}"));
}
