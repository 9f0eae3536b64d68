//! Certificates change every few seconds under continuous load, and no request notices.

use std::{
    collections::BTreeSet,
    thread,
    time::{Duration, Instant},
};

use vouch_tests::{
    Agent, Bootstrap, Load, Need, Settings, Upstream, envoy::Pair, require, settings::entry_of_user, user,
};

const CLIENTS: usize = 4;
const LOAD_TIME: Duration = Duration::from_secs(15);
const SAMPLE: Duration = Duration::from_millis(250);

#[test]
fn rotations_every_few_seconds_fail_no_request() {
    require!(Need::Agent, Need::Root, Need::Envoy);
    let entries = [
        entry_of_user("spiffe://example.org/backend", user::BACKEND),
        entry_of_user("spiffe://example.org/frontend", user::FRONTEND),
    ];
    // A new SVID about every 3 s.
    let agent = Agent::start(Settings::new(entries).svid_ttl("6s"));
    let application = Upstream::start();
    // Handshakes all the time, so that a certificate that is no longer good would be noticed.
    let reconnecting = Bootstrap::frontend().agent_at(&agent.socket()).with(
        "  - name: backend\n    type: STATIC\n",
        "  - name: backend\n    type: STATIC\n    typed_extension_protocol_options:\n      \
         envoy.extensions.upstreams.http.v3.HttpProtocolOptions:\n        \
         \"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions\n        \
         common_http_protocol_options: { max_requests_per_connection: 50 }\n        \
         explicit_http_config: { http_protocol_options: {} }\n",
    );
    let mut pair =
        Pair::spawn(reconnecting, Bootstrap::backend().agent_at(&agent.socket()), application.port());
    pair.wait_until_ready();

    let load = Load::start(pair.entrance, CLIENTS);
    let start = Instant::now();
    let (mut frontend, mut backend) = (BTreeSet::new(), BTreeSet::new());
    while start.elapsed() < LOAD_TIME {
        frontend.extend(pair.frontend.identities());
        backend.extend(pair.backend.identities());
        thread::sleep(SAMPLE);
    }
    let outcome = load.stop();

    assert_eq!(outcome.failed, 0, "{outcome:?}");
    assert_eq!(outcome.reconnects, 0, "{outcome:?}");
    assert!(outcome.requests > 500, "{outcome:?}");
    for (side, serials, envoy) in
        [("frontend", frontend, &pair.frontend), ("backend", backend, &pair.backend)]
    {
        assert!(serials.len() >= 4, "{side} presented {serials:?}: at least three rotations were due");
        assert_eq!(envoy.stat("update_rejected"), 0, "{side}");
    }
    assert!(pair.backend.stat("ssl.handshake") >= 5, "handshakes went on during the rotations");
}
