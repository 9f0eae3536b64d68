//! An Envoy that was started before the agent gets its certificate once the agent is there.

use std::{thread, time::Duration};

use vouch_tests::{
    Agent, Bootstrap, Need, Settings, Upstream, envoy::Pair, eventually, http, require,
    settings::entry_of_user, user,
};

#[test]
fn an_envoy_started_before_the_agent_gets_its_certificate() {
    require!(Need::Agent, Need::Root, Need::Envoy);
    let mut agent = Agent::prepare(Settings::new([
        entry_of_user("spiffe://example.org/backend", user::BACKEND),
        entry_of_user("spiffe://example.org/frontend", user::FRONTEND),
    ]));
    let application = Upstream::start();
    let socket = agent.socket();
    let pair = Pair::spawn(
        Bootstrap::frontend().agent_at(&socket),
        Bootstrap::backend().agent_at(&socket),
        application.port(),
    );
    eventually("both Envoys run", Duration::from_secs(10), || {
        pair.frontend.admin().and(pair.backend.admin()).map(|_| ())
    });
    thread::sleep(Duration::from_secs(1));
    assert!(pair.frontend.identities().is_empty() && pair.backend.identities().is_empty());

    agent.launch();

    eventually("a request goes through", Duration::from_secs(25), || {
        let answer = http::get(pair.entrance, "/").ok()?;
        (answer.status == 200).then_some(())
    });
    assert!(application.hits() >= 1);
}
