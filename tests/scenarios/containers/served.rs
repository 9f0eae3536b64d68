//! Identities by what engines say, for processes in real containers.

use std::process::Command;

use serde_json::{Value, json};
use vouch_tests::{
    Agent, Child, Need, Runtime,
    engine::{remove_cgroup, root_folder, unpacked},
    entry, eventually, require,
};

use super::stage::{Fetched, LIMIT, Stage, fetch, fetched, settings, shared, text};

const WEB: &str = "spiffe://example.org/web";
const API: &str = "spiffe://example.org/api";
const ROOT: &str = "spiffe://example.org/root";

fn by_label() -> [Value; 2] {
    [entry(WEB, &["docker:label:app:web"]), entry(API, &["docker:label:app:api"])]
}

/// Root of this machine, in no container.
fn root_of_host() -> Value {
    entry(ROOT, &["unix:uid:0", "kernel:container:none"])
}

fn is_served_by_label(runtime: Runtime) {
    let stage = Stage::new(runtime, by_label());
    assert_eq!(stage.fetch_in("app=web"), Fetched::only(WEB));
    assert_eq!(stage.fetch_in("app=api"), Fetched::only(API));
    assert_eq!(stage.fetch_in("app=other"), Fetched::nothing());
}

#[test]
fn a_process_in_a_docker_container_is_served_by_its_label() {
    require!(Need::Agent, Need::Root, Need::ConnectHook, Need::Engines);
    is_served_by_label(Runtime::Docker);
}

#[test]
fn a_process_in_a_podman_container_is_served_by_its_label() {
    require!(Need::Agent, Need::Root, Need::ConnectHook, Need::Engines);
    is_served_by_label(Runtime::Podman);
}

#[test]
fn root_on_the_host_is_not_root_in_a_container() {
    require!(Need::Agent, Need::Root, Need::ConnectHook, Need::Engines);
    let stage = Stage::new(Runtime::Docker, [root_of_host()]);
    let on_the_host = stage.agent.cli(None, &["fetch"]);
    assert!(on_the_host.status.success(), "{on_the_host:?}");
    assert_eq!(stage.fetch_in("app=web"), Fetched::nothing());
}

/// The engine does not answer when the process connects. What it says later is pushed on the stream that is open.
#[test]
fn what_an_engine_says_late_is_pushed() {
    require!(Need::Agent, Need::Root, Need::ConnectHook, Need::Engines);
    let [web, api] = by_label();
    let stage = Stage::new(Runtime::Docker, [web, api, entry(ROOT, &["unix:uid:0"])]);
    let wait = "while [ ! -e /out/go ]; do sleep 0.05; done";
    stage.container("app=web", &format!("{wait}; vouch watch $S > /out/watched 2>&1"));
    stage.engine.freeze();
    stage.write("go");
    let first = eventually("the other identity is served meanwhile", LIMIT, || {
        Some(stage.written("watched")).filter(|watched| watched.contains(ROOT))
    });
    assert!(!first.contains(WEB), "{first}");
    stage.engine.thaw();
    let then = eventually("the identity by label is pushed", LIMIT, || {
        Some(stage.written("watched")).filter(|watched| watched.contains(WEB))
    });
    assert!(!then.contains(API), "{then}");
}

/// Nobody knows whether the container has the label that the entry rules out, until the engine says so.
#[test]
fn what_an_engine_has_not_said_satisfies_no_exclusion() {
    require!(Need::Agent, Need::Root, Need::ConnectHook, Need::Engines);
    let mut not_web = entry(ROOT, &["unix:uid:0"]);
    not_web["exclude"] = json!(["docker:label:app:web"]);
    let stage = Stage::new(Runtime::Docker, [not_web]);
    let wait = "while [ ! -e /out/go ]; do sleep 0.05; done";
    let twice = format!("{wait}; {}; while [ ! -e /out/again ]; do sleep 0.05; done; ", fetch("first"));
    let until_served =
        format!("until vouch fetch $S; do sleep 0.1; done > /out/served 2>&1; {}", fetch("second"));
    stage.container("app=api", &(twice + &until_served));
    stage.engine.freeze();
    stage.write("go");
    assert_eq!(stage.fetched("first"), Fetched::nothing());
    stage.engine.thaw();
    stage.write("again");
    assert_eq!(stage.fetched("second"), Fetched::only(ROOT));
    assert_eq!(stage.fetch_in("app=web"), Fetched::nothing());
}

/// The cgroups of a container that was made by hand, beneath one of this name.
struct ByHand<'a>(&'a str);

impl Drop for ByHand<'_> {
    fn drop(&mut self) {
        remove_cgroup(self.0, "own");
    }
}

/// A container that was made by hand has no name of a runtime's: it is not known to be in none.
#[test]
fn a_container_of_nobodys_runtime_is_not_the_host() {
    require!(Need::Agent, Need::Root, Need::ConnectHook, Need::Engines);
    let agent = Agent::start(settings([root_of_host(), entry(API, &["unix:uid:0", "docker:label:app:web"])]));
    let (shared, bundle) = (shared(), root_folder(&vouch_tests::agent::binary()));
    let name = format!("vouch-by-hand-{}", std::process::id());
    let _cgroup = ByHand(&name);
    let script = format!("S='--socket /vouch/api.sock'; {}", fetch("fetched"));
    let bind = |mount: &String| {
        let (from, to) = mount.split_once(':').unwrap();
        json!({ "destination": to, "source": from, "type": "bind", "options": ["rbind"] })
    };
    let mut mounts = vec![json!({ "destination": "/proc", "source": "proc", "type": "proc" })];
    mounts.extend(super::stage::mounts(&agent, &shared).iter().map(bind));
    let config = json!({
        "ociVersion": "1.0.2",
        "root": { "path": text(bundle.path()) },
        "process": {
            "user": { "uid": 0, "gid": 0 }, "cwd": "/", "env": ["PATH=/bin"], "args": ["sh", "-c", script],
        },
        "mounts": mounts,
        "linux": {
            "cgroupsPath": format!("/{name}/own"),
            "namespaces": [{ "type": "pid" }, { "type": "mount" }, { "type": "ipc" }, { "type": "uts" }],
        },
    });
    let dir = vouch_tests::agent::temporary_dir();
    std::fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
    let mut runc = Command::new(unpacked("usr/sbin/runc"));
    runc.arg("--root").arg(dir.path().join("state")).arg("run").arg("--bundle").arg(dir.path());
    runc.arg(&name);
    let _runc = Child::spawn("runc", runc, None, &dir.path().join("log"));
    assert_eq!(fetched(shared.path(), "fetched"), Fetched::nothing());
    // Whoever is on the host is known to be.
    assert!(agent.cli(None, &["fetch"]).status.success());
}
