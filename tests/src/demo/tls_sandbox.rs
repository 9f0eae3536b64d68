//! Envoy's TLS sandbox: four proxies before two services.

use std::net::{Ipv4Addr, SocketAddr};

use serde_json::Value;

use super::{
    Check, Shown,
    https::{self, Trust},
    stage::Stage,
};
use crate::{http, x509};

pub(super) const HOST_NAMES: &[(&str, &str)] =
    &[("service-http", "127.0.14.5"), ("service-https", "127.0.14.6")];

/// Each proxy, its user and the port at which the write-up finds it.
const PROXIES: [(&str, u32, u16); 4] = [
    ("https-to-http", 12_401, 10_000),
    ("https-to-https", 12_402, 10_001),
    ("http-to-https", 12_403, 10_002),
    ("https-passthrough", 12_404, 10_003),
];
const SERVICE_HTTP: u32 = 12_405;
const SERVICE_HTTPS: u32 = 12_406;

pub(super) fn show(stage: &mut Stage) -> Shown {
    stage.service("127.0.14.5:80", SERVICE_HTTP, &["echo", "service-http"]);
    stage.service("127.0.14.6:443", SERVICE_HTTPS, &["tls-echo", "service-https"]);
    for (name, uid, _) in PROXIES {
        stage.envoy(name, uid);
    }
    stage.wait_for_envoys();
    let mut checks = https_to_http();
    checks.extend(https_to_https());
    checks.extend(http_to_https());
    checks.extend(https_passthrough());
    checks.push(the_agents_bundle_is_enough(stage));
    Shown { checks, hints: hints(stage) }
}

fn https_to_http() -> Vec<Check> {
    let seen = ask(10_000);
    vec![
        seen.field("os.hostname", "\"service-http\""),
        seen.field("protocol", "\"https\""),
        seen.field("headers.host", "\"localhost:10000\""),
        seen.field("headers.x-forwarded-proto", "\"https\""),
        seen.field("headers.x-envoy-expected-rq-timeout-ms", "\"15000\""),
        seen.field("connection", "{}"),
        seen.presents("spiffe://example.org/https-to-http localhost"),
    ]
}

/// Envoy begins TLS anew, and says no server name when it does.
fn https_to_https() -> Vec<Check> {
    let seen = ask(10_001);
    vec![
        seen.field("os.hostname", "\"service-https\""),
        seen.field("protocol", "\"https\""),
        seen.field("headers.x-forwarded-proto", "\"https\""),
        seen.field("connection.servername", "false"),
        seen.presents("spiffe://example.org/https-to-https localhost"),
    ]
}

fn http_to_https() -> Vec<Check> {
    let answer = http::get_with(at(10_002), "/", &[("host", "localhost:10002")]);
    let body = answer.map(|answer| serde_json::from_str(&answer.body).unwrap_or_default());
    let seen = Seen { port: 10_002, body: body.unwrap_or_default(), certificate: Vec::new() };
    vec![
        seen.field("os.hostname", "\"service-https\""),
        seen.field("headers.x-forwarded-proto", "\"http\""),
        seen.field("connection.servername", "false"),
    ]
}

/// The service sees what the client said, and the client the service's own certificate.
fn https_passthrough() -> Vec<Check> {
    let seen = ask(10_003);
    vec![
        seen.field("os.hostname", "\"service-https\""),
        seen.field("headers.x-forwarded-proto", "null"),
        seen.field("headers.x-request-id", "null"),
        seen.field("connection.servername", "\"localhost\""),
        seen.presents("service-https localhost"),
    ]
}

/// A client that trusts the agent's authority needs no `-k`.
fn the_agents_bundle_is_enough(stage: &Stage) -> Check {
    let (_, uid, port) = PROXIES[0];
    let seen = bundle(stage, uid).and_then(|bundle| {
        let answer = https::get(at(port), Trust::Roots(x509::certificates(&bundle)));
        answer.map(|answer| answer.response.status.to_string())
    });
    let seen = seen.unwrap_or_else(|error| error.to_string());
    Check::equal(format!("https://localhost:{port} without -k"), "200", seen)
}

/// What anybody with an identity gets from the agent, kept where it can be seen from outside.
fn bundle(stage: &Stage, uid: u32) -> std::io::Result<Vec<u8>> {
    let folder = stage.dir().join("fetched");
    std::fs::create_dir_all(&folder)?;
    std::os::unix::fs::chown(&folder, Some(uid), Some(uid))?;
    let folder_text = folder.to_str().expect("a temporary path is text");
    let fetched = stage.vouch(Some(uid), &["fetch", "--write", folder_text]);
    if !fetched.status.success() {
        return Err(std::io::Error::other(String::from_utf8_lossy(&fetched.stderr).into_owned()));
    }
    std::fs::read(folder.join("bundle.0.pem"))
}

/// What came back from the proxy at `port`.
struct Seen {
    port: u16,
    body: Value,
    certificate: Vec<u8>,
}

fn ask(port: u16) -> Seen {
    match https::get(at(port), Trust::Anybody) {
        Ok(answer) => {
            let body = serde_json::from_str(&answer.response.body).unwrap_or_default();
            Seen { port, body, certificate: answer.certificate }
        }
        Err(error) => Seen { port, body: error.to_string().into(), certificate: Vec::new() },
    }
}

impl Seen {
    /// The value at the dotted `path`, as JSON.
    fn field(&self, path: &str, expected: &str) -> Check {
        let value = path.split('.').fold(&self.body, |value, name| &value[name]);
        // An answer that is no object says what went wrong.
        let seen = if self.body.is_object() { value } else { &self.body };
        Check::equal(format!("{} {path}", self.port), expected, seen.to_string())
    }

    /// Names in the certificate that the proxy presented.
    fn presents(&self, expected: &str) -> Check {
        let names = match self.certificate.as_slice() {
            [] => vec!["no certificate".to_owned()],
            certificate => {
                let facts = x509::facts(certificate);
                [facts.uris, facts.dns_names].concat()
            }
        };
        Check::equal(format!("{} presents a certificate of", self.port), expected, names.join(" "))
    }
}

fn at(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn hints(stage: &Stage) -> Vec<String> {
    let bundle = stage.dir().join("fetched/bundle.0.pem");
    vec![
        "curl -sk https://localhost:10000        # https to http".to_owned(),
        "curl -sk https://localhost:10001        # https to https".to_owned(),
        "curl -s http://localhost:10002          # http to https".to_owned(),
        "curl -sk https://localhost:10003        # passthrough".to_owned(),
        format!("curl -s --cacert {} https://localhost:10000", bundle.display()),
        format!("{} status", stage.enter_vouch()),
    ]
}
