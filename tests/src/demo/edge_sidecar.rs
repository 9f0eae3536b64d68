//! An edge proxy and a sidecar before a hello-world service, known by the labels of their containers.

use std::net::SocketAddr;

use super::{
    Check, Shown,
    https::{self, Trust},
    stage::Stage,
};
use crate::http;

pub(super) const HOST_NAMES: &[(&str, &str)] = &[("helloworld", "127.0.13.2")];

const EDGE: u32 = 12_301;
const HELLOWORLD: u32 = 12_302;
const ENTRANCE: &str = "127.0.13.1:10808";
const SIDECAR: &str = "127.0.13.2:10808";
const EDGE_ADMIN: &str = "127.0.13.1:8001";
const SIDECAR_ADMIN: &str = "127.0.13.2:8001";
/// The folder that both containers share with the agent.
const SOCKETS: &str = "/run/spire/socket";

pub(super) fn show(stage: &mut Stage) -> Shown {
    stage.service("127.0.13.2:8080", HELLOWORLD, &["hello", "helloworld"]);
    let label = |value: &str| format!("spire-discover={value}");
    stage.envoy_in_container("helloworld", at(SIDECAR_ADMIN), HELLOWORLD, &label("helloworld"), SOCKETS);
    stage.envoy_in_container("edge-proxy", at(EDGE_ADMIN), EDGE, &label("edge-proxy"), SOCKETS);
    stage.wait_for_envoys();
    let mut checks = vec![hello(), nobody_goes_past_the_edge(), a_user_alone_is_nobody(stage)];
    checks.extend(admin_pages(stage));
    Shown { checks, hints: hints(stage) }
}

fn hello() -> Check {
    let seen = match http::get(at(ENTRANCE), "/") {
        Ok(answer) => format!("{} {}", answer.status, answer.body),
        Err(error) => error.to_string(),
    };
    let expected = "200 Hello, world!\nVersion: 1.0.0\nHostname: helloworld\n";
    Check::equal(format!("http://{ENTRANCE}/"), expected, seen)
}

fn nobody_goes_past_the_edge() -> Check {
    let seen = match https::get(at(SIDECAR), Trust::Anybody) {
        Ok(answer) => format!("answered {}", answer.response.status),
        Err(_) => "refused".to_owned(),
    };
    Check::equal("the sidecar without a certificate", "refused", seen)
}

/// Whoever runs as the sidecar's user, but not in its container, has no label.
fn a_user_alone_is_nobody(stage: &Stage) -> Check {
    const NO_IDENTITY: i32 = 6;
    let fetched = stage.vouch(Some(HELLOWORLD), &["fetch"]);
    let seen = match fetched.status.code() {
        Some(NO_IDENTITY) => "no identity".to_owned(),
        code => format!("{code:?} {}", String::from_utf8_lossy(&fetched.stdout)),
    };
    Check::equal("vouch fetch by the sidecar's user outside", "no identity", seen)
}

fn admin_pages(stage: &Stage) -> Vec<Check> {
    let mut checks = Vec::new();
    for (name, handshakes) in
        [("edge-proxy", "cluster.helloworld.ssl.handshake"), ("helloworld", "ssl.handshake")]
    {
        let id = format!("spiffe://quickstart.spire.io/{name}");
        let admin = stage.envoy_of(name);
        checks.push(Check::equal(format!("{name} /certs"), &id, stage.identity(name)));
        let named = admin.page("/config_dump").matches(&format!("\"name\": \"{id}\"")).count();
        checks.push(Check::at_least(format!("{name} /config_dump names it"), 1, named as u64));
        checks.push(Check::at_least(format!("{name} /stats {handshakes}"), 1, admin.stat(handshakes)));
    }
    checks
}

fn at(address: &str) -> SocketAddr {
    address.parse().expect("an address")
}

fn hints(stage: &Stage) -> Vec<String> {
    let mut hints = vec![format!("curl http://{ENTRANCE}/")];
    for (name, admin) in [("edge-proxy", EDGE_ADMIN), ("helloworld", SIDECAR_ADMIN)] {
        hints.push(format!("curl {admin}/certs         # {name}"));
        hints.push(format!("curl {admin}/config_dump   # {name}"));
        hints.push(format!("curl {admin}/stats         # {name}; grep for ssl"));
    }
    hints.push(format!("{} status", stage.enter_vouch()));
    hints
}
