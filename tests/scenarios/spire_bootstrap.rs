//! Envoy bootstraps written for SPIRE work untouched when the agent also serves the paths they name.

use vouch_tests::{
    Agent, Bootstrap, Envoy, Need, Settings, Upstream, http, namespace, require, settings::entry_of_user,
    user,
};

#[test]
fn bootstraps_written_for_spire_work_untouched() {
    require!(Need::Agent, Need::Root, Need::Envoy);
    // Their paths and ports are fixed and may be in use here, so all of it happens in namespaces.
    namespace::alone(|| {
        let also =
            ["/run/spire/socket/agent.sock", "/tmp/spire-agent/public/api.sock"].map(toml::Value::from);
        let entries = [
            entry_of_user("spiffe://example.org/edge-proxy", user::FRONTEND),
            entry_of_user("spiffe://example.org/helloworld", user::BACKEND),
        ];
        let _agent = Agent::start(Settings::new(entries).set("workload_api.also", also.to_vec()));
        let application = Upstream::start_on(8080);
        let mut sidecar = Envoy::spawn_untouched("sidecar", user::BACKEND, &Bootstrap::spire_sidecar());
        let mut edge = Envoy::spawn_untouched("edge", user::FRONTEND, &Bootstrap::spire_edge());
        sidecar.wait_until_ready();
        edge.wait_until_ready();

        let answer = http::get(([127, 0, 0, 1], 10_808).into(), "/").expect("the edge proxy answers");

        assert_eq!((answer.status, answer.body.as_str()), (200, "ok\n"));
        assert_eq!(application.hits(), 1);
        let presented: Vec<_> = edge.identities().into_iter().map(|(id, _)| id).collect();
        assert_eq!(presented, ["spiffe://example.org/edge-proxy"]);
    });
}
