//! A policy that never ends, is too large, or asks for what there is not, is refused when it is read or bounded when it is asked;
//! each is reported under its own name, and the policies beside it answer as if it were not there.

use std::{fs, os::unix::fs::symlink, sync::Arc};

use nix::{sys::stat::Mode, unistd::mkfifo};
use tokio::sync::Semaphore;
use tonic::transport::Channel;
use vouch_tests::{
    Agent, Need, Settings,
    authz::{ask, header, is_allowed, metadata, question_of},
    eventually, grpc, require,
};

use super::{SOON, checks, named, rego, settings};

const MEGABYTES: usize = 5 << 20;

fn with(settings: Settings, name: &str, policy: &str) -> Settings {
    let service = toml::Table::from_iter([("service".to_owned(), name.into())]);
    settings.policy_with(name, policy, [("context_extensions", service.into())])
}

async fn asked(channel: &Channel, service: &str) -> (bool, Option<String>) {
    let answer = ask(channel, &question_of(service, "/")).await.expect("an answer");
    (is_allowed(&answer), metadata(&answer, "reason"))
}

async fn good_answers(channel: &Channel) {
    let answer = ask(channel, &question_of("good", "/")).await.expect("an answer");
    assert_eq!(header(&answer, "x-policy"), Some("good"), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_judged_rightly_is_refused_with_its_reason() {
    require!(Need::Agent, Need::Root);
    let large = format!("{}# {}\n", named("large"), "x".repeat(MEGABYTES));
    let bad = [
        ("large", large, "E0902", "policy_size"),
        (
            "http",
            rego(
                "allow if http.send({\"url\": \"http://localhost/\", \"method\": \"get\"}).status_code == 200",
            ),
            "E0904",
            "http.rego:5:",
        ),
        (
            "next",
            "package envoy.authz\n\nimport rego.v2\n\nallow := true\n".to_owned(),
            "E0904",
            "next.rego:3:",
        ),
        ("unknown", rego("allow if not made.up(input)"), "E0904", "unknown.rego:5:"),
    ];
    let mut settings = with(settings(), "good", &named("good"));
    for (name, policy, ..) in &bad {
        settings = with(settings, name, policy);
    }
    let agent = Agent::start(settings);
    let channel = grpc::channel(&agent.authz_socket());
    let status = agent.status();
    for (name, _, code, words) in &bad {
        let told = status["facts"].as_array().expect("facts").iter().any(|fact| {
            let text = fact["text"].as_str().unwrap_or_default();
            fact["code"] == *code && text.contains(name) && text.contains(words)
        });
        assert!(told, "{name} is refused by {code} with {words}: {status:#}");
        assert_eq!(asked(&channel, name).await, (false, Some("not_loaded".into())), "{name}");
        good_answers(&channel).await;
    }
    let facts = status["facts"].as_array().expect("facts").iter();
    let of_policies = facts.filter(|fact| fact["code"].as_str().is_some_and(|code| code.starts_with("E09")));
    assert_eq!(of_policies.count(), bad.len(), "{status:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_is_missing_is_nothing_and_log_and_status_say_so() {
    require!(Need::Agent, Need::Root);
    let by_role = rego("allow if data.roles[input.attributes.request.http.method] == \"reader\"");
    let mut agent = Agent::start(with(with(settings(), "good", &named("good")), "missing", &by_role));
    let channel = grpc::channel(&agent.authz_socket());
    assert_eq!(asked(&channel, "missing").await, (false, Some("undefined".into())));
    good_answers(&channel).await;
    let log = agent.process().log();
    let told = |line: &str| {
        line.contains("W0905") && line.contains("missing.rego:5:") && line.contains("data.roles")
    };
    assert!(log.lines().any(told), "{log}");
    let status = agent.status();
    let warnings = |policy: usize| status["policies"][policy]["warnings"].as_u64();
    assert_eq!((warnings(0), warnings(1)), (Some(0), Some(1)), "{status:#}");
    let first = status["policies"][1]["first_warning"].as_str().expect("text");
    assert!(first.contains("missing.rego:5:") && first.contains("data.roles"), "{first}");
    let page = String::from_utf8_lossy(&agent.cli(None, &["status"]).stdout).into_owned();
    let told =
        |line: &str| line.contains("warning: ") && line.contains("data.roles") && line.ends_with("(W0905)");
    assert_eq!(page.lines().filter(|line| told(line)).count(), 1, "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn data_that_is_too_large_is_refused_and_its_policy_stays_as_it_was() {
    require!(Need::Agent, Need::Root);
    let by_data = rego("allow := {\"allowed\": true, \"headers\": {\"x-policy\": data.name}}");
    let mut agent =
        Agent::prepare(settings().policy_with("p", &by_data, [("files", vec!["policies"].into())]));
    let data = agent.dir().join("policies/data.json");
    fs::write(&data, "{\"name\": \"small\"}").expect("it can be written");
    agent.launch();
    let channel = grpc::channel(&agent.authz_socket());
    let text = format!("{{\"name\": \"large\", \"more\": \"{}\"}}", "x".repeat(MEGABYTES));
    fs::write(&data, text).expect("it can be written");
    eventually("it is reported", SOON, || agent.status().to_string().contains("E0902").then_some(()));
    let answer = ask(&channel, &question_of("any", "/")).await.expect("an answer");
    assert_eq!(header(&answer, "x-policy"), Some("small"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_never_ends_keeps_nobody_else_waiting() {
    require!(Need::Agent, Need::Root);
    let endless = "allow if { some a in numbers.range(1, 1000); some b in numbers.range(1, 1000); \
                   some c in numbers.range(1, 1000); a + b + c == 0 }";
    let settings = with(settings().set("authz.timeout", "1s"), "endless", &rego(endless));
    let agent = Agent::start(with(settings, "good", &named("good")));
    let channel = grpc::channel(&agent.authz_socket());
    let over = Arc::new(Semaphore::new(0));
    let insist = |_| {
        let (channel, over) = (channel.clone(), Arc::clone(&over));
        tokio::spawn(async move {
            let mut reasons = Vec::new();
            while over.available_permits() == 0 {
                let (is_allowed, reason) = asked(&channel, "endless").await;
                assert!(!is_allowed);
                reasons.push(reason.expect("a reason"));
            }
            reasons
        })
    };
    let insisting: Vec<_> = (0..6).map(insist).collect();
    // Until several of them have had their time, and some had to wait for too long.
    let mut answered = 0;
    while checks(&agent, "endless", "denied", "overloaded") == 0.0 || answered < 100 {
        good_answers(&channel).await;
        answered += 1;
    }
    over.add_permits(1);
    let mut reasons = Vec::new();
    for one in insisting {
        reasons.extend(one.await.expect("it was answered"));
    }
    assert!(
        reasons.iter().all(|reason| ["time_limit", "overloaded"].contains(&reason.as_str())),
        "{reasons:?}"
    );
    assert!(reasons.iter().any(|reason| reason == "time_limit"), "{reasons:?}");
    assert_eq!(checks(&agent, "good", "allowed", "policy"), f64::from(answered));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_is_as_deep_as_may_be_and_takes_long_is_answered() {
    require!(Need::Agent, Need::Root);
    // Each level counts four times, and a hundred are the most.
    const LEVELS: usize = 24;
    let long = "f0(x) := y if { some a in numbers.range(1, 100); some b in numbers.range(1, 100); \
                a + b == 200; y := a + x }";
    let level = |at: usize| format!("f{at}(x) := sum([y | some z in [x]; y := f{}(z)])\n", at - 1);
    let levels: String = (1..LEVELS).map(level).collect();
    let deep = rego(&format!("{long}\n{levels}allow if f{}(1) == 101", LEVELS - 1));
    let agent = Agent::start(with(with(settings(), "deep", &deep), "good", &named("good")));
    let channel = grpc::channel(&agent.authz_socket());
    // The first of them shows that it takes long, and the others are evaluated elsewhere.
    for _ in 0..3 {
        assert_eq!(asked(&channel, "deep").await, (true, None));
        good_answers(&channel).await;
    }
}

/// Neither what waits for a writer nor what has no end keeps the agent from its start, or from the other policies.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_file_is_not_waited_for() {
    require!(Need::Agent, Need::Root);
    let settings = with(with(settings(), "pipe", ""), "endless", "");
    let mut agent = Agent::prepare(with(settings, "good", &named("good")));
    for name in ["pipe", "endless"] {
        fs::remove_file(agent.policy_file(name)).expect("it was written");
    }
    mkfifo(&agent.policy_file("pipe"), Mode::S_IRUSR).expect("a pipe can be made");
    symlink("/dev/zero", agent.policy_file("endless")).expect("a link can be made");
    agent.launch();
    let channel = grpc::channel(&agent.authz_socket());
    good_answers(&channel).await;
    let status = agent.status().to_string();
    for name in ["pipe", "endless"] {
        assert_eq!(asked(&channel, name).await, (false, Some("not_loaded".into())), "{name}");
        assert!(status.contains(&format!("{name}.rego cannot be read")), "{status}");
    }
}
