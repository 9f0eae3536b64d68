//! `input.spiffe` says what only a node knows: who is at the other end of a mutual TLS connection, by the certificate that
//! Envoy verified; which Envoy asks, as the kernel attested it; and what x-forwarded-client-cert claims, which is worth
//! nothing unless an operator says that every Envoy that asks sets it itself.

use serde_json::{Value, json};
use vouch_tests::{
    Agent, Bootstrap, Envoy, Need, Settings, Upstream,
    authz::{ask, header, http, question_of},
    envoy::Pair,
    grpc, http as client, require,
    settings::entry_of_user,
    user,
};

use super::rego;

const BACKEND: &str = "spiffe://example.org/backend";
const FRONTEND: &str = "spiffe://example.org/frontend";
const ADMIN: &str = "spiffe://example.org/admin";
/// Shows what a policy is told.
const SHOW: &str = "allow := {\"allowed\": true, \"headers\": {\"x-spiffe\": json.marshal(input.spiffe)}}";

fn settings() -> Settings {
    Settings::new([entry_of_user(BACKEND, user::BACKEND), entry_of_user(FRONTEND, user::FRONTEND)])
        .set("authz.timeout", "10s")
}

/// A pair whose backend asks about each request.
fn pair(
    agent: &Agent,
    application: &Upstream,
    change: fn(Bootstrap, Bootstrap) -> (Bootstrap, Bootstrap),
) -> Pair {
    let backend = Bootstrap::backend().asking_at(&agent.authz_socket());
    let (frontend, backend) = change(Bootstrap::frontend(), backend);
    let socket = agent.socket();
    let mut pair = Pair::spawn(frontend.agent_at(&socket), backend.agent_at(&socket), application.port());
    pair.wait_until_ready();
    pair
}

/// What the policy was told about a request, and the header that the application got.
fn told(pair: &Pair, headers: &[(&str, &str)]) -> (Value, String) {
    let answer = client::get_with(pair.entrance, "/", headers).expect("the frontend answers");
    assert_eq!(answer.status, 200, "{}", answer.body);
    let header = |name: &str| {
        let mut lines = answer.body.lines().filter_map(|line| line.split_once(": "));
        let found = lines.find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.to_owned()).unwrap_or_default()
    };
    let spiffe =
        serde_json::from_str(&header("x-spiffe")).unwrap_or_else(|error| panic!("{error}: {}", answer.body));
    (spiffe, header("x-forwarded-client-cert"))
}

/// The Envoy that asks, as the kernel knows it.
#[track_caller]
fn is_caller(spiffe: &Value, envoy: &Envoy, uid: u32, id: &str) {
    let caller = &spiffe["caller"];
    assert_eq!(caller["pid"], json!(envoy.pid().as_raw()), "{spiffe:#}");
    assert_eq!((&caller["uid"], &caller["ids"]), (&json!(uid), &json!([id])), "{spiffe:#}");
    let selectors = caller["selectors"].as_array().expect("selectors");
    assert!(selectors.contains(&json!(format!("unix:uid:{uid}"))), "{spiffe:#}");
    assert!(caller["grade"].is_string(), "{spiffe:#}");
}

fn certificate(id: &str) -> Value {
    let path = id.strip_prefix("spiffe://example.org").expect("an id of this domain");
    json!({ "id": id, "trust_domain": "example.org", "path": path, "from": "certificate" })
}

#[test]
fn a_policy_knows_both_ends_of_mutual_tls_and_the_envoy_that_asks() {
    require!(Need::Agent, Need::Root, Need::Envoy);
    let agent = Agent::start(settings().policy_with("show", &rego(SHOW), [("xfcc", "sanitize_set".into())]));
    let application = Upstream::start_echo();
    // The backend's listener is SANITIZE_SET, as it is shipped.
    let pair = pair(&agent, &application, |frontend, backend| (forwarding(frontend), backend));

    let forged = format!("By={BACKEND};URI={ADMIN}");
    let (spiffe, forwarded) = told(&pair, &[("x-forwarded-client-cert", &forged)]);

    assert_eq!((&spiffe["source"], &spiffe["destination"]), (&certificate(FRONTEND), &certificate(BACKEND)));
    is_caller(&spiffe, &pair.backend, user::BACKEND, BACKEND);
    assert_eq!(spiffe["xfcc"]["claimed"], json!(false), "{spiffe:#}");
    let elements = spiffe["xfcc"]["elements"].as_array().expect("elements");
    assert_eq!(elements.len(), 1, "{spiffe:#}");
    assert_eq!(elements[0]["uri"], json!([FRONTEND]), "{spiffe:#}");
    assert!(forwarded.contains(FRONTEND) && !forwarded.contains(ADMIN), "{forwarded}");
}

#[test]
fn a_forged_header_is_a_claim_and_no_source() {
    require!(Need::Agent, Need::Root, Need::Envoy);
    let agent = Agent::start(settings().policy("show", &rego(SHOW)));
    let application = Upstream::start_echo();
    let pair = pair(&agent, &application, |frontend, backend| {
        (forwarding(frontend), backend.with("SANITIZE_SET", "APPEND_FORWARD"))
    });

    let forged = format!("By={BACKEND};Hash=00;URI={ADMIN}");
    let (spiffe, forwarded) = told(&pair, &[("x-forwarded-client-cert", &forged)]);

    assert!(forwarded.contains(ADMIN), "the forged element was forwarded: {forwarded}");
    assert_eq!(spiffe["source"], certificate(FRONTEND), "{spiffe:#}");
    assert_eq!(spiffe["xfcc"]["claimed"], json!(true));
    let uris: Vec<_> =
        spiffe["xfcc"]["elements"].as_array().expect("elements").iter().map(|one| &one["uri"]).collect();
    assert_eq!(uris, [&json!([ADMIN]), &json!([FRONTEND])], "{spiffe:#}");
}

/// A frontend that passes on what its client says of itself.
fn forwarding(frontend: Bootstrap) -> Bootstrap {
    let prefix = "          stat_prefix: outbound\n";
    frontend.with(prefix, &format!("{prefix}          forward_client_cert_details: ALWAYS_FORWARD_ONLY\n"))
}

#[tokio::test]
async fn the_header_names_a_source_only_where_it_is_declared_sanitized_and_leaves_no_choice() {
    require!(Need::Agent, Need::Root);
    let of = |service: &str, xfcc: &str| {
        let service = toml::Table::from_iter([("service".to_owned(), service.into())]);
        [("context_extensions", service.into()), ("xfcc", xfcc.into())]
    };
    let agent =
        Agent::start(settings().policy_with("claimed", &rego(SHOW), of("claimed", "claimed")).policy_with(
            "sanitized",
            &rego(SHOW),
            of("sanitized", "sanitize_set"),
        ));
    let channel = grpc::channel(&agent.authz_socket());
    let one = format!("By={BACKEND};Hash=00;URI={FRONTEND}");
    let two = format!("{one},By={BACKEND};Hash=01;URI={ADMIN}");
    let many_names = format!("By={BACKEND};URI={FRONTEND};URI={ADMIN}");
    let quoted = format!("Subject=\"CN=\\\"a\\\",URI={ADMIN}\";URI={FRONTEND}");
    let source =
        json!({ "id": FRONTEND, "trust_domain": "example.org", "path": "/frontend", "from": "xfcc" });
    for (service, forwarded, expected) in [
        ("claimed", &one, Value::Null),
        ("sanitized", &one, source.clone()),
        ("sanitized", &quoted, source),
        ("sanitized", &two, Value::Null),
        ("sanitized", &many_names, Value::Null),
        ("sanitized", &"URI=\"open".to_owned(), Value::Null),
        ("sanitized", &format!("URI={BACKEND}/../admin"), Value::Null),
    ] {
        let mut question = question_of(service, "/");
        http(&mut question).headers.insert("x-forwarded-client-cert".into(), forwarded.clone());
        let answer = ask(&channel, &question).await.expect("an answer");
        let spiffe: Value =
            serde_json::from_str(header(&answer, "x-spiffe").expect("what the policy was told"))
                .expect("JSON");
        assert_eq!(spiffe["source"], expected, "{service} {forwarded}: {spiffe:#}");
        assert_eq!(spiffe["xfcc"]["claimed"], json!(service == "claimed"));
        assert_eq!(spiffe["xfcc"].get("error").is_some(), forwarded.ends_with("open"), "{spiffe:#}");
    }
}
