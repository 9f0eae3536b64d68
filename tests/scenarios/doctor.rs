//! `vouch doctor` names what is wrong with a number and a fix, by text, by JSON after the shipped schema, and by exit
//! code; it changes nothing, and as a stranger it says what it could not see.

use std::{fs, os::unix::fs::PermissionsExt as _, process::Output};

use serde_json::Value;
use vouch_tests::{
    Agent, Need, Settings,
    agent::{binary, temporary_dir},
    child, entry, require, schema,
    settings::entry_of_user,
    user,
};

const WEB: &str = "spiffe://example.org/web";

/// The document of `vouch doctor`, which agrees with the exit code.
fn examined(output: &Output) -> Value {
    let document = schema::document("doctor", &output.stdout);
    assert_eq!(document["exit"].as_i64(), output.status.code().map(i64::from));
    document
}

fn checks<'a>(document: &'a Value, verdict: &str) -> Vec<&'a Value> {
    let checks = document["checks"].as_array().expect("a list");
    checks.iter().filter(|check| check["verdict"] == verdict).collect()
}

fn codes(document: &Value, verdict: &str) -> Vec<String> {
    checks(document, verdict)
        .iter()
        .map(|check| check["code"].as_str().expect("a number").to_owned())
        .collect()
}

fn doctor(agent: &Agent, uid: Option<u32>, arguments: &[&str]) -> Output {
    let config = agent.config().display().to_string();
    agent.cli(uid, &[&["doctor", "-o", "json", "--config", &config], arguments].concat())
}

#[test]
fn a_healthy_agent_passes() {
    require!(Need::Agent, Need::Root, Need::ConnectHook);
    let agent = Agent::start(Settings::new([entry_of_user(WEB, 0)]));
    let output = doctor(&agent, None, &[]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let document = examined(&output);
    assert_eq!(codes(&document, "fail"), [""; 0]);
    let said: Vec<&str> =
        checks(&document, "ok").iter().map(|check| check["text"].as_str().expect("text")).collect();
    for expected in
        ["hooks attached: ", "evidence of grade kernel", "served by this agent", "1 from ", "locked by"]
    {
        assert!(said.iter().any(|text| text.contains(expected)), "{expected}: {said:#?}");
    }
    // Some machines have an undisciplined clock or few descriptors, so what a warning does is asked of both.
    let strict = doctor(&agent, None, &["--fail-on", "warn"]);
    let warns = !codes(&document, "warn").is_empty();
    assert_eq!(strict.status.code(), Some(if warns { 4 } else { 0 }));
    let text = agent.cli(None, &["doctor"]);
    let text = String::from_utf8_lossy(&text.stdout);
    assert!(text.starts_with("agent\n  ok    it answers") && text.contains("0 FAIL"), "{text}");
}

#[test]
fn an_attestor_that_entries_need_and_that_is_not_there_is_warned_of() {
    require!(Need::Agent, Need::Root);
    let labelled = entry("spiffe://example.org/labelled", &["docker:label:app:web"]);
    for (entries, warned) in [(vec![labelled], true), (vec![entry_of_user(WEB, 0)], false)] {
        let nowhere = "/nowhere/docker.sock";
        let settings = Settings::new(entries).set("attest.docker.socket", nowhere);
        let agent = Agent::start(settings.set("attest.docker.podman_socket", nowhere));
        let document = examined(&doctor(&agent, None, &[]));
        let of_docker =
            |check: &&&Value| check["text"].as_str().is_some_and(|text| text.starts_with("docker is"));
        let warnings = checks(&document, "warn");
        assert_eq!(warnings.iter().filter(of_docker).count(), usize::from(warned), "{warnings:#?}");
    }
}

#[test]
fn what_is_wrong_with_a_running_agent_is_named() {
    require!(Need::Agent, Need::Root);
    let agent = Agent::start(Settings::new([entry_of_user(WEB, 0)]).set("kernel.hooks", "off"));
    let public = agent.socket().parent().expect("a directory").to_owned();
    fs::set_permissions(public, fs::Permissions::from_mode(0o777)).expect("it is ours");
    fs::set_permissions(agent.state_dir(), fs::Permissions::from_mode(0o755)).expect("it is ours");
    agent.write_entry_file("{");
    vouch_tests::eventually("the file is refused", std::time::Duration::from_secs(10), || {
        let document = examined(&doctor(&agent, None, &[]));
        codes(&document, "fail").contains(&"E0604".to_owned()).then_some(())
    });
    let output = doctor(&agent, None, &[]);
    assert_eq!(output.status.code(), Some(5));
    let document = examined(&output);
    let mut failed = codes(&document, "fail");
    failed.sort();
    assert_eq!(failed, ["E0202", "E0317", "E0604"]);
    let warned = codes(&document, "warn");
    assert!(warned.contains(&"E0750".to_owned()) && warned.contains(&"W0430".to_owned()), "{warned:?}");
    for check in checks(&document, "fail") {
        assert!(check["fix"].is_string() || check["code"] == "E0604", "{check}");
    }
}

#[test]
fn before_a_start_it_finds_what_would_be_in_the_way() {
    require!(Need::Agent, Need::Root);
    let mut agent = Agent::start(Settings::new([entry_of_user(WEB, 0)]));
    let document = examined(&doctor(&agent, None, &["--pre"]));
    let mut failed = codes(&document, "fail");
    failed.sort();
    assert_eq!(failed, ["E0203", "E0301", "E0301", "E0308"], "the running agent is in the way");
    let pid = agent.process().pid().to_string();
    let held = checks(&document, "fail").into_iter().find(|check| check["code"] == "E0301").expect("held");
    assert!(held["text"].as_str().expect("text").contains(&format!("pid {pid}")), "{held}");

    agent.kill();
    let after = examined(&doctor(&agent, None, &["--pre"]));
    assert_eq!(codes(&after, "fail"), [""; 0]);
    assert_eq!(codes(&after, "warn").iter().filter(|code| *code == "W0434").count(), 2, "stale sockets");
    agent.write_entries(&[]);
    let empty = examined(&doctor(&agent, None, &["--pre"]));
    assert!(codes(&empty, "warn").contains(&"W0650".to_owned()));
    // It looked, and left everything as it was.
    agent.write_entries(&[entry_of_user(WEB, 0)]);
    agent.launch();
}

#[test]
fn without_an_agent_it_fails_and_looks_at_the_rest() {
    require!(Need::Agent, Need::Root);
    let agent = Agent::prepare(Settings::new([entry_of_user(WEB, 0)]));
    let document = examined(&doctor(&agent, None, &[]));
    assert_eq!(codes(&document, "fail"), ["E0310"]);
    assert!(!checks(&document, "ok").is_empty());
}

#[test]
fn a_stranger_is_told_what_could_not_be_seen() {
    require!(Need::Agent, Need::Root);
    let agent = Agent::start(Settings::new([entry_of_user(WEB, 0)]));
    for arguments in [&[][..], &["--pre"]] {
        let config = agent.config().display().to_string();
        let readable = temporary_dir();
        let copy = readable.path().join("vouch.toml");
        fs::copy(config, &copy).expect("root may");
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o644)).expect("it is ours");
        let mut command = std::process::Command::new(binary());
        command.args(["doctor", "-o", "json", "--config"]).arg(&copy).args(arguments);
        command.arg("--socket").arg(agent.socket()).arg("--admin-socket").arg(agent.admin_socket());
        let document = examined(&child::output(command, Some(user::STRANGER)));
        let unseen = checks(&document, "unseen");
        assert!(!unseen.is_empty(), "{arguments:?}: {document:#}");
        assert!(
            unseen.iter().all(|check| check["fix"] == "run it as root: sudo" || check["fix"].is_string())
        );
    }
}
