//! What is no answer is no: an Envoy whose agent is away, or that asks at a wrong place, turns requests away; and where a policy
//! says nothing, contradicts itself, does not load, takes too long or is not there, it turns them away even with
//! `failure_mode_allow: true`. Only where an operator says `errors = "grpc"` does that setting let them pass, and a policy's own
//! no and a request that cannot be read stay a no there, too.

use vouch_tests::{Agent, Bootstrap, Envoy, Need, Upstream, envoy::Gate, eventually, require, user};

use super::{SOON, checks, named, rego, settings};

/// Where nobody listens.
const NOWHERE: &str = "/run/vouch/authz/nobody.sock";

#[test]
fn an_agent_that_is_away_is_a_no() {
    require!(Need::Agent, Need::Root, Need::Envoy);
    let mut agent = Agent::start(settings().policy("all", &named("all")));
    let application = Upstream::start();
    let right = Bootstrap::gate(&[]).authz_at(&agent.authz_socket());
    let wrong = Bootstrap::gate(&[]).authz_at(NOWHERE.as_ref());
    let mut right = Gate::spawn("right", user::FRONTEND, right, application.port());
    let mut wrong = Gate::spawn("wrong", user::BACKEND, wrong, application.port());
    [&mut right, &mut wrong].into_iter().for_each(|gate| gate.envoy.wait_until_ready());

    assert_eq!(right.get("/").status, 200);
    assert_eq!((wrong.get("/").status, application.hits()), (403, 1));
    is_an_error_of_the_call(&wrong.envoy);
    agent.stop();
    assert_eq!((right.get("/").status, application.hits()), (403, 1));
    is_an_error_of_the_call(&right.envoy);
    agent.launch();
    eventually("the Envoy asks the agent that is back", SOON, || {
        (right.get("/").status == 200).then_some(())
    });
}

/// Envoy has no answer to go by.
fn is_an_error_of_the_call(envoy: &Envoy) {
    assert!(envoy.stat("ext_authz.error") >= 1, "{}", envoy.page("/stats?filter=authz"));
    assert_eq!(envoy.stat("ext_authz.denied"), 0);
}

/// Services whose policies give no answer, and the word for why.
const SILENT: [(&str, &str); 6] = [
    ("undefined", "undefined"),
    ("text", "result_type"),
    ("conflict", "conflict"),
    ("broken", "not_loaded"),
    ("endless", "time_limit"),
    ("nobody", "no_policy"),
];

/// An agent with a policy for each, and an Envoy that takes errors of a call for a yes.
fn stage(errors: &str) -> (Agent, Upstream, Gate) {
    let endless = "allow if { some a in numbers.range(1, 1000); some b in numbers.range(1, 1000); \
                   some c in numbers.range(1, 1000); a + b + c == 0 }";
    let conflict = "allow := true\nallow := false if input.parsed_path";
    let mut settings = settings().set("authz.errors", errors).set("authz.timeout", "1s");
    for (name, rules) in [
        ("undefined", "allow if input.parsed_path == [\"nowhere\"]"),
        ("text", "allow := \"yes\""),
        ("conflict", conflict),
        ("broken", "allow if {"),
        ("endless", endless),
        ("false", "default allow := false"),
    ] {
        let service = toml::Table::from_iter([("service".to_owned(), name.into())]);
        settings = settings.policy_with(name, &rego(rules), [("context_extensions", service.into())]);
    }
    let agent = Agent::start(settings);
    let application = Upstream::start();
    let services = ["undefined", "text", "conflict", "broken", "endless", "nobody", "false"];
    let bootstrap = Bootstrap::gate(&services)
        .authz_at(&agent.authz_socket())
        .with("failure_mode_allow: false", "failure_mode_allow: true");
    let gate = Gate::start("gate", user::FRONTEND, bootstrap, application.port());
    (agent, application, gate)
}

#[test]
fn what_is_no_answer_is_a_no_whatever_envoy_makes_of_errors() {
    require!(Need::Agent, Need::Root, Need::Envoy);
    let (agent, application, gate) = stage("deny");
    for (service, reason) in SILENT {
        let answer = gate.get(&format!("/{service}"));
        assert_eq!((answer.status, answer.body.as_str()), (403, ""), "{service}");
        let policy = if service == "nobody" { "" } else { service };
        assert_eq!(checks(&agent, policy, "denied", reason), 1.0, "{service}: {}", agent.metrics());
    }
    assert_eq!(gate.get("/false").status, 403);
    assert_eq!((gate.get("/false?a=%zz").status, application.hits()), (400, 0));
    assert_eq!(gate.envoy.stat("http.entrance.ext_authz.error"), 0);
    assert_eq!(gate.envoy.stat("http.entrance.ext_authz.denied"), SILENT.len() as u64 + 2);
}

#[test]
fn errors_of_the_call_pass_only_where_an_operator_says_so_twice() {
    require!(Need::Agent, Need::Root, Need::Envoy);
    let (agent, application, gate) = stage("grpc");
    for (service, reason) in SILENT {
        assert_eq!(gate.get(&format!("/{service}")).status, 200, "{service}");
        let policy = if service == "nobody" { "" } else { service };
        assert_eq!(checks(&agent, policy, "failed", reason), 1.0, "{service}: {}", agent.metrics());
    }
    assert_eq!(application.hits(), SILENT.len() as u64);
    assert_eq!(gate.get("/false").status, 403, "a policy's no is a no");
    assert_eq!(gate.get("/false?a=%zz").status, 400, "and so is a request that cannot be read");
    assert_eq!(application.hits(), SILENT.len() as u64);
}
