//! Two Envoys under two uids speak mutual TLS with identities that the agent gave them over SDS, and an Envoy does
//! not talk to a peer with another name than it expects.

use vouch_tests::{
    Agent, Bootstrap, Need, Settings, Upstream, envoy::Pair, http, require, settings::entry_of_user, user,
};

fn settings() -> Settings {
    Settings::new([
        entry_of_user("spiffe://example.org/backend", user::BACKEND),
        entry_of_user("spiffe://example.org/frontend", user::FRONTEND),
    ])
}

#[test]
fn two_envoys_under_two_uids_speak_mutual_tls_with_their_own_identities() {
    require!(Need::Agent, Need::Root, Need::Envoy);
    let agent = Agent::start(settings());
    let application = Upstream::start();
    let pair = Pair::start(&agent.socket(), application.port());

    let answer = http::get(pair.entrance, "/").expect("the frontend answers");

    assert_eq!((answer.status, answer.body.as_str()), (200, "ok\n"));
    assert_eq!(application.hits(), 1);
    for (envoy, identity) in
        [(&pair.frontend, "spiffe://example.org/frontend"), (&pair.backend, "spiffe://example.org/backend")]
    {
        let presented: Vec<_> = envoy.identities().into_iter().map(|(id, _)| id).collect();
        assert_eq!(presented, [identity]);
        assert_eq!(envoy.stat("update_rejected"), 0);
    }
    assert_eq!(pair.backend.stat("listener.127.0.0.1_0.ssl.fail_verify_san"), 0);
}

#[test]
fn an_envoy_refuses_a_peer_whose_name_it_does_not_expect() {
    require!(Need::Agent, Need::Root, Need::Envoy);
    let agent = Agent::start(settings());
    let application = Upstream::start();
    let expects_another = Bootstrap::frontend()
        .agent_at(&agent.socket())
        .with("exact: \"spiffe://example.org/backend\"", "exact: \"spiffe://example.org/another\"");
    let mut pair =
        Pair::spawn(expects_another, Bootstrap::backend().agent_at(&agent.socket()), application.port());
    pair.wait_until_ready();

    let answer = http::get(pair.entrance, "/").expect("the frontend answers");

    assert_eq!(answer.status, 503, "{}", answer.body);
    assert_eq!(application.hits(), 0);
    assert!(pair.frontend.stat("ssl.fail_verify_san") + pair.frontend.stat("ssl.fail_verify_error") > 0);
}

#[test]
fn a_caller_whose_name_the_backend_does_not_expect_reaches_no_application() {
    require!(Need::Agent, Need::Root, Need::Envoy);
    let agent = Agent::start(settings());
    let application = Upstream::start();
    let admits_another = Bootstrap::backend()
        .agent_at(&agent.socket())
        .with("exact: \"spiffe://example.org/frontend\"", "exact: \"spiffe://example.org/another\"");
    let mut pair =
        Pair::spawn(Bootstrap::frontend().agent_at(&agent.socket()), admits_another, application.port());
    pair.wait_until_ready();

    let answer = http::get(pair.entrance, "/").expect("the frontend answers");

    assert_eq!(answer.status, 503, "{}", answer.body);
    assert_eq!(application.hits(), 0);
}
