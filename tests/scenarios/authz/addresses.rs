//! Envoys that ask over TCP are as well known as those at the socket where the kernel records who connects: by their identity,
//! by what policies see of them, and by what they may hold. Where it does not, nobody is known at an address.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpStream},
    process,
};

use nix::sys::signal::Signal;
use serde_json::Value as Json;
use toml::Value;
use vouch_tests::{
    Agent, Bootstrap, Need, Settings, Upstream,
    authz::{ask, header, is_allowed, metadata, question},
    connection::is_open,
    envoy::Gate,
    eventually, grpc,
    guise::connect_at_as,
    metrics::value,
    port::free_port,
    require,
    settings::entry_of_user,
    user,
};

use super::{SOON, checks, named, rego};
use crate::kernel_capture::stage::Programs;

const BACKEND: &str = "spiffe://example.org/backend";
const FRONTEND: &str = "spiffe://example.org/frontend";

/// A policy that says what it sees of who asks.
const WHO: &str = r#"
allow := {"allowed": true, "headers": {"x-caller": json.marshal(object.get(input.spiffe, "caller", {}))}}
"#;

fn address() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, free_port()).into()
}

fn at(address: SocketAddr) -> (&'static str, Value) {
    ("listeners", vec![address.to_string()].into())
}

fn of(id: &str) -> (&'static str, Value) {
    ("callers", vec![id].into())
}

/// Who runs as root, as this process does, is the backend.
fn settings() -> Settings {
    Settings::new([entry_of_user(BACKEND, 0), entry_of_user(FRONTEND, user::FRONTEND)])
        .set("authz.timeout", "10s")
}

#[test]
fn envoys_at_one_address_are_told_apart_by_their_identities() {
    require!(Need::Agent, Need::ConnectHook, Need::Envoy);
    let address = address();
    let agent = Agent::start(
        settings().policy_with("backend", &named("backend"), [at(address), of(BACKEND)]).policy_with(
            "frontend",
            &named("frontend"),
            [at(address), of(FRONTEND)],
        ),
    );
    let application = Upstream::start_echo();
    let google = Bootstrap::gate(&[]).with(
        "envoy_grpc: { cluster_name: authz }",
        &format!("google_grpc: {{ target_uri: \"{address}\", stat_prefix: authz }}"),
    );
    let (pipe, port) = ("pipe: { path: /run/vouch/authz/authz.sock }", address.port());
    let own = format!("socket_address: {{ address: {}, port_value: {port} }}", address.ip());
    let own = Bootstrap::gate(&[]).with(pipe, &own);
    let gates = [
        ("google", user::FRONTEND, google.clone()),
        ("own", user::FRONTEND, own),
        ("stranger", user::STRANGER, google),
    ];
    let mut gates = gates.map(|(name, uid, bootstrap)| Gate::spawn(name, uid, bootstrap, application.port()));
    gates.iter_mut().for_each(|gate| gate.envoy.wait_until_ready());
    let [google, own, stranger] = &gates;

    eventually("the frontend is known by both kinds of clients", SOON, || {
        [google, own]
            .iter()
            .all(|gate| {
                let answer = gate.get("/");
                answer.status == 200 && answer.body.contains("x-policy: frontend")
            })
            .then_some(())
    });
    let (hits, denied) = (application.hits(), checks(&agent, "", "denied", "no_policy"));
    for _ in 0..5 {
        assert_eq!(stranger.get("/").status, 403);
    }
    assert_eq!(application.hits(), hits, "nothing of the stranger's passed");
    assert_eq!(checks(&agent, "", "denied", "no_policy"), denied + 5.0, "{}", agent.metrics());
    assert_eq!(checks(&agent, "", "denied", "unattested"), 0.0, "it is known, as a stranger");
    assert_eq!(checks(&agent, "backend", "allowed", "policy"), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_logs_and_explanations_see_who_asks_over_tcp() {
    require!(Need::Agent, Need::ConnectHook);
    let address = address();
    let agent = Agent::start(settings().set("authz.decision_log", "decisions.jsonl").policy_with(
        "who",
        &rego(WHO),
        [at(address)],
    ));
    let answer = ask(&grpc::channel_at(address), &question("/")).await.expect("an answer");

    let caller: Json = serde_json::from_str(header(&answer, "x-caller").expect("it says")).expect("JSON");
    assert_eq!(caller["ids"], serde_json::json!([BACKEND]), "{caller}");
    assert_eq!((&caller["grade"], &caller["uid"]), (&"kernel".into(), &0.into()), "{caller}");
    assert_eq!(caller["pid"], process::id(), "{caller}");
    let selectors = caller["selectors"].as_array().expect("a list");
    assert!(selectors.contains(&"unix:uid:0".into()), "{caller}");

    let id = metadata(&answer, "decision_id").expect("a decision has an id");
    let log = agent.dir().join("decisions.jsonl");
    let line = eventually("it is logged", SOON, || {
        let text = std::fs::read_to_string(&log).ok()?;
        text.lines().find(|line| line.contains(&id)).map(str::to_owned)
    });
    let line: Json = serde_json::from_str(&line).expect("JSON");
    assert_eq!((&line["pid"], &line["listener"]), (&process::id().into(), &address.to_string().into()));
    let explained = agent.cli(None, &["explain", &id]);
    let text = String::from_utf8_lossy(&explained.stdout).into_owned();
    assert!(text.contains(&format!("asked by  pid {} at {address}\n", process::id())), "{text}");
    let hooks = agent.status()["hooks"].to_string();
    assert!(hooks.contains("connect_tcp4") && hooks.contains("establish_tcp"), "{hooks}");
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_one_user_hoards_at_an_address_have_room_for_another() {
    require!(Need::Agent, Need::ConnectHook);
    let address = address();
    let agent =
        Agent::start(settings().set("authz.connections", 8).policy_with("all", &named("all"), [at(address)]));
    let hoard: Vec<_> = (0..20).map(|_| TcpStream::connect(address).expect("it accepts")).collect();
    eventually("all but three quarters are closed", SOON, || {
        (hoard.iter().filter(is_open).count() == 6).then_some(())
    });
    let refused = || value(&agent.metrics(), "vouch_authz_connections_refused_total");
    assert_eq!((refused(), value(&agent.metrics(), "vouch_authz_connections")), (Some(14.0), Some(6.0)));

    let other = grpc::channel_on_tcp(connect_at_as(user::STRANGER, address));
    let answer = ask(&other, &question("/")).await.expect("an answer");
    assert!(is_allowed(&answer), "{answer:?}");
    assert_eq!(refused(), Some(14.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_whom_a_policy_does_not_name_does_not_get_it_over_tcp() {
    require!(Need::Agent, Need::ConnectHook);
    let address = address();
    let agent = Agent::start(settings().policy_with("strict", &named("strict"), [at(address), of(BACKEND)]));
    let backend = ask(&grpc::channel_at(address), &question("/")).await.expect("an answer");
    assert_eq!(header(&backend, "x-policy"), Some("strict"), "{backend:?}");

    // Another user's connection in the same process.
    let stranger = grpc::channel_on_tcp(connect_at_as(user::STRANGER, address));
    let stranger = ask(&stranger, &question("/")).await.expect("an answer");
    assert!(!is_allowed(&stranger), "{stranger:?}");
    let reason = metadata(&stranger, "reason").expect("a denial has a reason");
    assert!(["no_policy", "unattested"].contains(&reason.as_str()), "{reason}");
    assert_eq!(checks(&agent, "strict", "allowed", "policy"), 1.0, "{}", agent.metrics());
}

/// The agent accepts the connection when its maker has ended and another process has it.
#[test]
fn a_connection_whose_maker_has_ended_is_refused() {
    require!(Need::Agent, Need::ConnectHook);
    let address = address();
    let mut agent = Agent::start(settings().policy_with("all", &named("all"), [at(address)]));
    let programs = Programs::new();
    let mark = programs.dir.path().join("over");
    agent.process().signal(Signal::SIGSTOP);
    let (target, over) = (format!("tcp:{address}"), mark.to_str().expect("text"));
    let mut maker = programs.actor("maker", &["connect", &target, "fork", "2", "await", over]);
    let ended = maker.child.wait().expect("our own child");
    agent.process().signal(Signal::SIGCONT);
    assert!(ended.success(), "{ended}");

    let log = agent.dir().join("agent.log");
    let refused = format!("process {} is gone", maker.child.id());
    eventually("it is refused", SOON, || {
        std::fs::read_to_string(&log).ok()?.lines().any(|line| line.contains(&refused)).then_some(())
    });
    std::fs::write(&mark, "").expect("it can be written");
    let refused = value(&agent.metrics(), "vouch_authz_connections_refused_total");
    assert_eq!((refused, value(&agent.metrics(), "vouch_authz_connections")), (Some(1.0), Some(0.0)));
}

#[tokio::test]
async fn without_hooks_nobody_is_attested_at_an_address_and_no_later_policy_is_tried() {
    require!(Need::Agent, Need::Root);
    let (one, two) = (address(), address());
    let agent = Agent::start(
        settings()
            .set("kernel.hooks", "off")
            .policy_with("strict", &named("strict"), [at(one), of(BACKEND)])
            .policy_with("later", &named("later"), [at(one)])
            .policy_with("open", &rego(WHO), [at(two)]),
    );

    let strict = ask(&grpc::channel_at(one), &question("/")).await.expect("an answer");
    assert!(!is_allowed(&strict), "{strict:?}");
    assert_eq!(metadata(&strict, "reason").as_deref(), Some("unattested"));
    assert_eq!(checks(&agent, "", "denied", "unattested"), 1.0, "{}", agent.metrics());
    let open = ask(&grpc::channel_at(two), &question("/")).await.expect("an answer");
    assert_eq!(header(&open, "x-caller"), Some("{}"), "nobody is shown to the policy");
    // At the socket there is no policy, whoever asks.
    let nobody = ask(&grpc::channel(&agent.authz_socket()), &question("/")).await.expect("an answer");
    assert_eq!(metadata(&nobody, "reason").as_deref(), Some("no_policy"));
}

/// Others do not pay for what only these ask for.
#[test]
fn an_agent_that_nobody_asks_over_tcp_has_no_hooks_of_tcp() {
    require!(Need::Agent, Need::ConnectHook);
    let agent = Agent::start(settings().policy("all", &named("all")));
    let hooks = agent.status()["hooks"].to_string();
    assert!(hooks.contains("connect_unix") && !hooks.contains("tcp"), "{hooks}");
}
