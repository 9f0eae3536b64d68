//! Using Envoy with SPIRE, as the SPIFFE documentation has it.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use serde_json::Value;

use super::{
    Check, Shown,
    https::{self, Trust},
    stage::Stage,
};
use crate::{eventually, http};

const BACKEND: u32 = 12_101;
const FRONTEND: u32 = 12_102;
const ENTRANCE: &str = "127.0.11.2:8080";
const INBOUND: &str = "127.0.11.1:8443";
const ROTATION_LIMIT: Duration = Duration::from_secs(20);

pub(super) fn show(stage: &mut Stage) -> Shown {
    stage.service("127.0.11.1:8080", BACKEND, &["echo", "backend-app"]);
    stage.envoy("backend", BACKEND);
    stage.envoy("frontend", FRONTEND);
    stage.wait_for_envoys();
    let mut checks = a_request_goes_through(stage);
    checks.extend(identities(stage));
    checks.push(nobody_comes_without_a_certificate());
    checks.extend(rotation_interrupts_nothing(stage));
    Shown { checks, hints: hints(stage) }
}

fn a_request_goes_through(stage: &Stage) -> Vec<Check> {
    let (status, said) = ask();
    vec![
        Check::equal("a request through both Envoys", "200", status),
        Check::equal("it is answered by", "backend-app", text(&said["os"]["hostname"])),
        Check::equal(
            "the application is told who called",
            "URI=spiffe://example.org/frontend",
            text(&said["headers"]["x-forwarded-client-cert"]).split(';').next_back().unwrap_or_default(),
        ),
        Check::at_least("handshakes at the backend", 1, stage.envoy_of("backend").stat("ssl.handshake")),
    ]
}

fn identities(stage: &Stage) -> Vec<Check> {
    let of = |name: &str| {
        let expected = format!("spiffe://example.org/{name}");
        Check::equal(format!("/certs of the {name}'s Envoy"), expected, stage.identity(name))
    };
    vec![of("backend"), of("frontend")]
}

fn nobody_comes_without_a_certificate() -> Check {
    let inbound: SocketAddr = INBOUND.parse().expect("an address");
    let seen = match https::get(inbound, Trust::Anybody) {
        Ok(answer) => format!("answered {}", answer.response.status),
        Err(_) => "refused".to_owned(),
    };
    Check::equal("a client without a certificate", "refused", seen)
}

/// Both Envoys get new certificates while they run, and go on.
fn rotation_interrupts_nothing(stage: &Stage) -> Vec<Check> {
    let serials = || -> BTreeSet<_> {
        ["backend", "frontend"].iter().flat_map(|name| stage.envoy_of(name).identities()).collect()
    };
    let before = serials();
    let rotated = stage.vouch(None, &["svid", "rotate", "--all"]);
    let done = if rotated.status.success() { "done" } else { "refused" };
    eventually("both Envoys have new certificates", ROTATION_LIMIT, || {
        let now = serials();
        (now.len() == before.len() && now.is_disjoint(&before)).then_some(())
    });
    vec![
        Check::equal("vouch svid rotate --all", "done", done),
        Check::equal("a request after new certificates", "200", ask().0),
    ]
}

fn ask() -> (String, Value) {
    let entrance = ENTRANCE.parse().expect("an address");
    match http::get(entrance, "/") {
        Ok(answer) => (answer.status.to_string(), serde_json::from_str(&answer.body).unwrap_or_default()),
        Err(error) => (error.to_string(), Value::Null),
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn hints(stage: &Stage) -> Vec<String> {
    let vouch = stage.enter_vouch();
    vec![
        format!("curl http://{ENTRANCE}/                 # what the application saw"),
        "curl http://127.0.11.1:9901/certs            # the backend's Envoy".to_owned(),
        "curl http://127.0.11.2:9901/certs            # the frontend's Envoy".to_owned(),
        format!("{vouch} status"),
        format!("{vouch} svid rotate --all"),
    ]
}
