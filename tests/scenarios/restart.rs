//! The agent stops, or crashes, and starts again under load: live connections notice nothing, Envoy reconnects by
//! itself, and the authority is the same as before.

use std::{thread, time::Duration};

use vouch_tests::{
    Agent, Load, Need, Settings, Upstream, envoy::Pair, eventually, require, settings::entry_of_user, user,
};

const CLIENTS: usize = 4;
/// How long the agent stays away.
const AWAY: Duration = Duration::from_secs(2);
/// Envoy doubles its pause between attempts.
const RECONNECT_LIMIT: Duration = Duration::from_secs(30);

#[test]
fn an_agent_restart_under_load_fails_no_request() {
    require!(Need::Agent, Need::Root, Need::Envoy);
    restart_under_load(Agent::stop);
}

#[test]
fn an_agent_crash_under_load_fails_no_request() {
    require!(Need::Agent, Need::Root, Need::Envoy);
    restart_under_load(Agent::kill);
}

fn restart_under_load(go_down: fn(&mut Agent)) {
    let mut agent = Agent::start(Settings::new([
        entry_of_user("spiffe://example.org/backend", user::BACKEND),
        entry_of_user("spiffe://example.org/frontend", user::FRONTEND),
    ]));
    let application = Upstream::start();
    let pair = Pair::start(&agent.socket(), application.port());
    let before = (pair.frontend.identities(), pair.backend.identities());
    let authorities = roots(&pair);

    let load = Load::start(pair.entrance, CLIENTS);
    thread::sleep(AWAY);
    go_down(&mut agent);
    thread::sleep(AWAY);
    let while_away = load.requests();
    agent.launch();
    // A restarted agent has no key of the SVIDs it gave out: it issues new ones, and Envoy takes them.
    eventually("both Envoys have taken a certificate from the restarted agent", RECONNECT_LIMIT, || {
        let now = (pair.frontend.identities(), pair.backend.identities());
        (now.0 != before.0 && now.1 != before.1).then_some(())
    });
    let after_reconnect = load.requests();
    thread::sleep(AWAY);
    let outcome = load.stop();

    assert_eq!(outcome.failed, 0, "{outcome:?}");
    assert_eq!(outcome.reconnects, 0, "{outcome:?}");
    assert!(while_away > 0 && outcome.requests > after_reconnect, "load went on all the time");
    assert_eq!(roots(&pair), authorities, "the authority survived");
    assert_eq!(pair.frontend.stat("update_rejected") + pair.backend.stat("update_rejected"), 0);
}

/// Serial numbers of the authorities that both Envoys trust.
fn roots(pair: &Pair) -> Vec<String> {
    let serials = [&pair.frontend, &pair.backend].into_iter().flat_map(|envoy| {
        let certs = envoy.certs();
        let sets = certs["certificates"].as_array().cloned().unwrap_or_default();
        sets.into_iter().flat_map(|set| set["ca_cert"].as_array().cloned().unwrap_or_default())
    });
    let mut serials: Vec<_> =
        serials.filter_map(|ca| Some(ca["serial_number"].as_str()?.to_owned())).collect();
    serials.sort();
    assert!(!serials.is_empty(), "Envoy shows whom it trusts: {}", pair.frontend.certs());
    serials
}
