//! What an operator may get wrong about authorization ends the start with a numbered error that says where and what to do; what
//! is wrong with a policy alone does not.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
    os::unix::net::UnixListener,
    process::{Command, Output},
};

use toml::Value;
use vouch_tests::{Agent, Need, Settings, agent, child, require};

use super::{named, settings};

/// Runs an agent that is expected to refuse to start.
#[track_caller]
fn refused(agent: &Agent) -> Output {
    let mut command = Command::new("timeout");
    command.args(["--signal", "KILL", "15"]).arg(agent::binary());
    command.args(["run", "--config"]).arg(agent.config());
    let output = child::output(command, None);
    assert!(!output.status.success(), "it refuses: {output:?}");
    output
}

/// Asserts that `output` is an error whose number begins with `code`, and says `words`.
#[track_caller]
fn says(output: &Output, code: &str, words: &str) {
    let text = String::from_utf8_lossy(&output.stderr);
    let head = format!("error[{code}");
    for words in [head.as_str(), words, "fix: "] {
        assert!(text.contains(words), "`{words}` is in:\n{text}");
    }
    assert!(!text.contains("panicked"), "{text}");
}

#[test]
fn settings_that_mean_nothing_are_refused_by_their_place() {
    require!(Need::Agent, Need::Root);
    let with = |key: &str, value: Value| settings().policy_with("p", &named("p"), [(key, value)]);
    let list = |text: &str| Value::from(vec![text]);
    let cases: [(Settings, &str, &str); 12] = [
        (with("callers", list("frontend")), "E0107", "SPIFFE IDs"),
        (with("listeners", list("127.0.0.1")), "E0107", "addresses with a port"),
        (with("listeners", list("127.0.0.1:0")), "E0107", "addresses with a port"),
        (with("listeners", list("0.0.0.0:9191")), "E0112", "loopback"),
        (with("files", Value::Array(vec![])), "E0103", "`files`"),
        (with("path", "".into()), "E0910", "path"),
        (with("xfcc", "trusted".into()), "E01", "xfcc"),
        (with("caller", list("spiffe://example.org/a")), "E01", "did you mean `callers`?"),
        (settings().policy("p p", &named("p")), "E0107", "name of a policy"),
        (settings().policy("p", &named("p")).policy("p", &named("p")), "E01", "two policies"),
        (settings().policy("p", &named("p")).set("authz.errors", "allow"), "E01", "errors"),
        (settings().policy("p", &named("p")).set("authz.socket", "off"), "E01", "nobody can ask"),
    ];
    for (settings, code, words) in cases {
        says(&refused(&Agent::prepare(settings)), code, words);
    }
}

#[test]
fn what_is_not_to_be_had_is_said() {
    require!(Need::Agent, Need::Root);
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    let address = taken.local_addr().expect("it is bound").to_string();
    let policy = named("p");
    let listening = settings().policy_with("p", &policy, [("listeners", vec![address.clone()].into())]);
    says(&refused(&Agent::prepare(listening)), "E0909", &address);

    let logged = settings().policy("p", &policy).set("authz.decision_log", "no/such/folder/log");
    says(&refused(&Agent::prepare(logged)), "E0906", "no/such/folder/log");

    let agent = Agent::prepare(settings().policy("p", &policy));
    fs::create_dir_all(agent.authz_socket().parent().expect("it has a folder")).expect("it can be made");
    let holder = UnixListener::bind(agent.authz_socket()).expect("the path is free");
    says(&refused(&agent), "E0301", "authz.sock");
    drop(holder);
}
