//! One agent has policies for several services and finds the right one: by the identity of the Envoy that asks, as the kernel
//! attests it, by the address where it asks, or by what the Envoy says of itself. Who cannot be attested, or has lost its
//! identity, is not taken for somebody else.

use std::net::{Ipv4Addr, SocketAddr};

use toml::Value;
use vouch_tests::{
    Agent, Bootstrap, Need, Settings, Upstream,
    authz::{ask, header, is_allowed, question_of},
    envoy::Gate,
    eventually, grpc,
    http::Response,
    port::free_port,
    require,
    settings::entry_of_user,
    user,
};

use super::{SOON, checks, named, settings};

const BACKEND: &str = "spiffe://example.org/backend";
const FRONTEND: &str = "spiffe://example.org/frontend";

/// The policy that let a request pass, as the application saw it.
fn decided_by(answer: &Response) -> Option<String> {
    let lines = answer.body.lines().filter_map(|line| line.split_once(": "));
    (answer.status == 200).then(|| {
        let policy = lines.into_iter().find(|(name, _)| name.eq_ignore_ascii_case("x-policy"));
        policy.map_or_else(|| "none".to_owned(), |(_, value)| value.to_owned())
    })
}

fn of_callers() -> Settings {
    let callers = |id: &str| [("callers", Value::from(vec![id]))];
    settings().policy_with("backend", &named("backend"), callers(BACKEND)).policy_with(
        "frontend",
        &named("frontend"),
        callers(FRONTEND),
    )
}

#[test]
fn envoys_at_one_socket_are_told_apart_by_their_identities() {
    require!(Need::Agent, Need::Root, Need::Envoy);
    let agent = Agent::start(of_callers());
    let both = [entry_of_user(BACKEND, user::BACKEND), entry_of_user(FRONTEND, user::FRONTEND)];
    agent.write_entries(&both);
    let application = Upstream::start_echo();
    let gate = |name, uid| {
        Gate::spawn(name, uid, Bootstrap::gate(&[]).authz_at(&agent.authz_socket()), application.port())
    };
    let mut gates =
        [("backend", user::BACKEND), ("frontend", user::FRONTEND)].map(|(name, uid)| gate(name, uid));
    gates.iter_mut().for_each(|gate| gate.envoy.wait_until_ready());
    let [backend, frontend] = &gates;

    eventually("both identities are known", SOON, || {
        let decided = [backend, frontend].map(|gate| decided_by(&gate.get("/")));
        (decided == [Some("backend".into()), Some("frontend".into())]).then_some(())
    });
    agent.write_entries(&both[1..]);
    eventually("who has lost its identity is turned away", SOON, || {
        (backend.get("/").status == 403).then_some(())
    });
    let (hits, denied) = (application.hits(), checks(&agent, "", "denied", "no_policy"));
    for _ in 0..5 {
        assert_eq!(backend.get("/").status, 403);
    }
    assert_eq!(application.hits(), hits);
    assert_eq!(checks(&agent, "", "denied", "no_policy"), denied + 5.0, "{}", agent.metrics());
    assert_eq!(decided_by(&frontend.get("/")).as_deref(), Some("frontend"), "the other one has its own");
    agent.write_entries(&both);
    eventually("an identity that is given back is known", SOON, || {
        (decided_by(&backend.get("/")).as_deref() == Some("backend")).then_some(())
    });
}

/// Two addresses of loopback, with ports that nobody has.
fn addresses() -> [SocketAddr; 2] {
    [(Ipv4Addr::new(127, 0, 0, 2), free_port()).into(), (Ipv4Addr::new(127, 0, 0, 3), free_port()).into()]
}

#[test]
fn envoys_of_each_kind_are_told_apart_by_the_address_where_they_ask() {
    require!(Need::Agent, Need::Root, Need::Envoy);
    let [one, two] = addresses();
    let listener = |address: SocketAddr| [("listeners", Value::from(vec![address.to_string()]))];
    let agent = Agent::start(
        settings()
            .policy_with("one", &named("one"), listener(one))
            .policy_with("two", &named("two"), listener(two))
            .policy("socket", &named("socket")),
    );
    let application = Upstream::start_echo();
    let google = Bootstrap::gate(&[]).with(
        "envoy_grpc: { cluster_name: authz }",
        &format!("google_grpc: {{ target_uri: \"{one}\", stat_prefix: authz }}"),
    );
    let (pipe, port) = ("pipe: { path: /run/vouch/authz/authz.sock }", two.port());
    let address = format!("socket_address: {{ address: {}, port_value: {port} }}", two.ip());
    let own = Bootstrap::gate(&[]).with(pipe, &address);
    let socket = Bootstrap::gate(&[]).authz_at(&agent.authz_socket());
    let mut gates = [("google", google), ("own", own), ("socket", socket)]
        .map(|(name, bootstrap)| Gate::spawn(name, user::FRONTEND, bootstrap, application.port()));
    gates.iter_mut().for_each(|gate| gate.envoy.wait_until_ready());

    let decided = gates.map(|gate| decided_by(&gate.get("/")));

    assert_eq!(decided, [Some("one".into()), Some("two".into()), Some("socket".into())]);
}

#[tokio::test]
async fn the_first_policy_whose_conditions_all_hold_decides() {
    require!(Need::Agent, Need::Root);
    let service = |name: &str| {
        ("context_extensions", Value::from(toml::Table::from_iter([("service".to_owned(), name.into())])))
    };
    let agent = Agent::start(
        Settings::new([entry_of_user(BACKEND, 0)])
            .set("authz.timeout", "10s")
            .policy_with("other", &named("other"), [service("a"), ("callers", vec![FRONTEND].into())])
            .policy_with("both", &named("both"), [service("a"), ("callers", vec![BACKEND].into())])
            .policy_with("first", &named("first"), [service("b")])
            .policy_with("second", &named("second"), [service("b")]),
    );
    let channel = grpc::channel(&agent.authz_socket());
    for (asked, decided) in [("a", Some("both")), ("b", Some("first")), ("c", None)] {
        let answer = ask(&channel, &question_of(asked, "/")).await.expect("an answer");
        assert_eq!(header(&answer, "x-policy"), decided, "{asked}: {answer:?}");
        assert_eq!(is_allowed(&answer), decided.is_some());
    }
}
