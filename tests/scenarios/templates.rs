//! One entry gives each process the identity that its own selectors make: through SDS, to the CLI and to whoever asks
//! why. A value that no SPIFFE ID may hold gives none, and is said; so does a name that somebody else may choose.

use std::{
    fs,
    os::unix::fs::chown,
    path::Path,
    process::{Command, Output},
    time::Duration,
};

use serde_json::{Value, json};
use vouch_tests::{
    Agent, Cgroup, Child, Need, Settings, agent, child, entry, eventually, fake, metrics, require, schema,
    sds, user,
};

const OF_USERS: &str = "spiffe://example.org/user/{unix:uid}";
const OF_CGROUPS: &str = "spiffe://example.org/cgroup/{kernel:cgroup_name}";
const NO_IDENTITY: i32 = 6;
const SOON: Duration = Duration::from_secs(10);

fn named(template: &str, id: &str) -> Value {
    let mut named = entry(template, &[]);
    named["entry_id"] = json!(id);
    named
}

fn document(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// The SPIFFE IDs that `uid` fetches.
fn fetched(agent: &Agent, uid: u32) -> Vec<String> {
    ids(&agent.cli(Some(uid), &["fetch", "-o", "json"]))
}

fn ids(output: &Output) -> Vec<String> {
    if output.status.code() == Some(NO_IDENTITY) {
        return vec![];
    }
    let document = document(output);
    let svids = document["svids"].as_array().unwrap_or_else(|| panic!("svids: {output:?}"));
    svids.iter().map(|svid| svid["spiffe_id"].as_str().expect("text").to_owned()).collect()
}

/// What `vouch fetch` gets that has moved itself into the cgroup at `dir` before it became what it is.
fn fetched_in(agent: &Agent, dir: &Path, uid: Option<u32>) -> Output {
    let inside = format!(
        "echo $$ > {}/cgroup.procs && exec {} fetch -o json --socket {}",
        dir.display(),
        agent::binary().display(),
        agent.socket().display()
    );
    let mut shell = Command::new("sh");
    shell.args(["-c", &inside]);
    child::output(shell, uid)
}

fn explained(agent: &Agent, about: &str) -> Value {
    schema::document("explain", &agent.cli(None, &["explain", "-o", "json", about]).stdout)
}

#[tokio::test]
async fn each_user_gets_the_identity_that_is_made_of_its_uid() {
    require!(Need::Agent, Need::Root);
    let agent = Agent::start(Settings::new([named(OF_USERS, "users")]));
    for uid in [user::FRONTEND, user::BACKEND] {
        assert_eq!(fetched(&agent, uid), [format!("spiffe://example.org/user/{uid}")]);
    }
    let (mine, other) = ("spiffe://example.org/user/0", "spiffe://example.org/user/12002");
    let mut stream = sds::Stream::open(&agent.socket(), &["default", mine]).await.expect("a stream");
    let secrets = sds::secrets(&stream.next().await.expect("an answer"));
    let chains: Vec<_> = secrets.iter().map(|secret| sds::chain(secret).expect("a certificate")).collect();
    assert_eq!(secrets.iter().map(|secret| secret.name.as_str()).collect::<Vec<_>>(), ["default", mine]);
    assert_eq!(chains[0], chains[1]);
    let denied = sds::fetch(&agent.socket(), &[other]).await.expect_err("another's");
    assert!(denied.message().contains(other), "{denied}");

    let listed = document(&agent.cli(None, &["entry", "list", "-o", "json"]));
    let entries = listed["entries"].as_array().expect("entries");
    let find = |id: &str| {
        entries.iter().find(|entry| entry["entry_id"] == id).unwrap_or_else(|| panic!("{id}: {listed}"))
    };
    assert_eq!(
        (&find("users")["spiffe_id"], &find("users")["derived_from"]),
        (&json!(OF_USERS), &Value::Null)
    );
    let made = find("users/user/0");
    assert_eq!((&made["selectors"], &made["derived_from"]), (&json!(["unix:uid:0"]), &json!("users")));

    let known = explained(&agent, mine);
    assert_eq!(known["entries"][0]["entry_id"], "users/user/0");
    let rotated = agent.cli(None, &["svid", "rotate", mine]);
    assert!(rotated.status.success(), "{rotated:?}");
    let again = sds::secrets(&stream.next().await.expect("an answer"));
    assert_ne!(sds::chain(&again[0]).expect("a certificate"), chains[0]);
}

#[test]
fn a_process_is_told_what_a_template_would_give_it_and_what_keeps_it_from_that() {
    require!(Need::Agent, Need::Root);
    let of_label = named("spiffe://example.org/label/{docker:label:app}", "labels");
    let agent = Agent::start(Settings::new([named(OF_USERS, "users"), of_label]));
    let mut command = Command::new("sleep");
    command.arg("600");
    let process = Child::spawn("sleep", command, Some(user::FRONTEND), &agent.dir().join("sleep.log"));
    let pid = process.pid().to_string();
    let now = &explained(&agent, &pid)["now"][0];
    assert_eq!(now["identities"][0]["spiffe_id"], "spiffe://example.org/user/12002");
    let against = agent.cli(None, &["explain", "-o", "json", &pid, "--entry", "labels"]);
    let compared = &schema::document("explain", &against.stdout)["now"][0]["closest"][0];
    assert_eq!(compared["spiffe_id"], "spiffe://example.org/label/{docker:label:app}");
    assert_eq!(compared["conditions"][0]["condition"], "{docker:label:app}");
    assert_ne!(compared["conditions"][0]["verdict"], "have");
    assert_eq!(compared["line"], 1);
}

#[test]
fn a_cgroup_that_root_named_gives_its_name_and_one_that_another_named_does_not() {
    require!(Need::Agent, Need::Root, Need::ConnectHook, Need::Cgroup2);
    let entries = [named(OF_CGROUPS, "cgroups")];
    let agent = Agent::start(Settings::new(entries).set("kernel.hooks", "require"));
    let cgroup = Cgroup::new();
    let [service, odd, session] = ["web.service", "user@1", "session"].map(|name| cgroup.dir().join(name));
    for dir in [&service, &odd, &session] {
        fs::create_dir(dir).expect("a cgroup can be made");
    }
    let got = fetched_in(&agent, &service, None);
    assert_eq!(ids(&got), ["spiffe://example.org/cgroup/web.service"], "{got:?}");

    // Whoever may add cgroups here may call one of them like any service.
    let forged = session.join("web.service");
    fs::create_dir(&forged).expect("a cgroup can be made");
    for path in [session.clone(), forged.clone(), session.join("cgroup.procs"), forged.join("cgroup.procs")] {
        chown(&path, Some(user::STRANGER), Some(user::STRANGER)).expect("root may give it away");
    }
    let refused = fetched_in(&agent, &forged, None);
    assert_eq!(refused.status.code(), Some(NO_IDENTITY), "{refused:?}");

    let count = || metrics::sum(&agent.metrics(), "vouch_template_refusals_total{reason=\"illegal\"}");
    let before = count();
    let refused = fetched_in(&agent, &odd, None);
    assert_eq!(refused.status.code(), Some(NO_IDENTITY), "{refused:?}");
    assert!(count() > before, "{}", agent.metrics());
    let error = String::from_utf8_lossy(&refused.stderr).into_owned();
    let (_, decision) =
        error.split_once("vouch explain ").unwrap_or_else(|| panic!("no decision in {error}"));
    let known = explained(&agent, decision.split_whitespace().next().expect("a word"));
    let condition = &known["decisions"][0]["closest"][0]["conditions"][0];
    assert_eq!(
        (&condition["verdict"], &condition["condition"]),
        (&json!("BAD"), &json!("{kernel:cgroup_name}"))
    );
    assert!(
        condition["note"].as_str().is_some_and(|note| note.contains("\"user@1\" cannot stand there")),
        "{known:#}"
    );

    for dir in [forged, service, odd, session] {
        eventually("the cgroup is empty", SOON, || fs::remove_dir(&dir).ok());
    }
}

/// What stands for the label of a pod on a node without a cluster: the label that whoever runs the container gave it.
#[test]
fn a_container_gets_the_identity_that_its_label_says_unless_that_is_no_segment() {
    require!(Need::Agent, Need::Root, Need::ConnectHook, Need::Cgroup2);
    let template = "spiffe://example.org/{docker:label:app}";
    for (label, given) in [("quote", Some("spiffe://example.org/quote")), ("x/../admin", None), ("", None)] {
        let engine = agent::temporary_dir();
        let socket = engine.path().join("docker.sock");
        fake::engine(&socket, label.to_owned()).expect("an engine");
        let settings = Settings::new([named(template, "labels")]).set("kernel.hooks", "require");
        let agent = Agent::start(settings.set("attest.docker.socket", socket.to_str().expect("text")));
        let cgroup = Cgroup::new();
        let container = cgroup.dir().join(format!("docker-{}.scope", "0123456789abcdef".repeat(4)));
        fs::create_dir(&container).expect("a cgroup can be made");
        let got = fetched_in(&agent, &container, None);
        assert_eq!(ids(&got), given.into_iter().collect::<Vec<_>>(), "{label:?}: {got:?}");
        let illegal = metrics::sum(&agent.metrics(), "vouch_template_refusals_total{reason=\"illegal\"}");
        assert_eq!(illegal > 0.0, given.is_none(), "{label:?}");
        eventually("the cgroup is empty", SOON, || fs::remove_dir(&container).ok());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_gives_no_more_identities_at_once_than_it_may() {
    require!(Need::Agent, Need::Root);
    let agent = Agent::start(Settings::new([named(OF_USERS, "users")]).set("limits.template_identities", 1));
    let mut stream = sds::Stream::open(&agent.socket(), &["default"]).await.expect("a stream");
    stream.next().await.expect("an answer");
    assert_eq!(fetched(&agent, user::FRONTEND), [""; 0]);
    let full = "vouch_template_refusals_total{reason=\"template_identities\"}";
    assert!(metrics::sum(&agent.metrics(), full) > 0.0, "{}", agent.metrics());
    let mut command = Command::new("sleep");
    command.arg("600");
    let process = Child::spawn("sleep", command, Some(user::FRONTEND), &agent.dir().join("sleep.log"));
    let now = &explained(&agent, &process.pid().to_string())["now"][0];
    let verdicts = now["closest"][0]["conditions"].as_array().expect("conditions");
    assert!(verdicts.iter().any(|condition| condition["verdict"] == "FULL"), "{now:#}");
    drop(stream);
    eventually("there is room again", SOON, || {
        (fetched(&agent, user::FRONTEND) == ["spiffe://example.org/user/12002"]).then_some(())
    });
}
