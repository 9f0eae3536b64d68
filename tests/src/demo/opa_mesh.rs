//! A mesh of four services whose requests are judged one by one, as their OPAs would.

use std::net::SocketAddr;

use super::{Check, Shown, stage::Stage};
use crate::http;

pub(super) const HOST_NAMES: &[(&str, &str)] =
    &[("ec-backend", "127.0.12.2"), ("news-backend", "127.0.12.4")];

/// Each service, its address and its user.
const SERVICES: [(&str, &str, u32); 4] = [
    ("ec-web", "127.0.12.1", 12_201),
    ("ec-backend", "127.0.12.2", 12_202),
    ("news-web", "127.0.12.3", 12_203),
    ("news-backend", "127.0.12.4", 12_204),
];

/// One `curl` of the write-up: to which web, whether with its secret, where to, and what came back.
struct Line(&'static str, bool, &'static str, u16, &'static str);

const LINES: [Line; 9] = [
    Line("ec-web", true, "/noproxy", 200, "ec-web no proxy endpoint"),
    Line("news-web", true, "/noproxy", 200, "news-web no proxy endpoint"),
    Line("ec-web", false, "/noproxy", 403, ""),
    Line("news-web", false, "/noproxy", 403, ""),
    Line("ec-web", true, "/data", 200, "Hi ec-backend client!"),
    Line("news-web", true, "/data", 200, "Hi news-backend client!"),
    Line("ec-web", true, "/admin", 403, "Forbidden. Not authorized by ec-backend's OPA."),
    Line("news-web", true, "/admin", 403, "Forbidden. Not authorized by news-backend's OPA."),
    Line("news-web", true, "/ec-backend-data", 403, ""),
];

/// How many of them each service's Envoy turns away.
const REFUSALS: [(&str, u64); 4] = [("ec-web", 1), ("ec-backend", 2), ("news-web", 1), ("news-backend", 1)];

pub(super) fn show(stage: &mut Stage) -> Shown {
    start(stage);
    let mut checks = ask_all("as published");
    checks.extend(who_refused(stage, 1));
    Shown { checks, hints: hints(stage) }
}

fn start(stage: &mut Stage) {
    stage.service("127.0.12.1:10000", 12_201, &["web", "ec-web", "/=127.0.12.1:9000=ec-backend"]);
    stage.service("127.0.12.2:10000", 12_202, &["api", "ec-backend"]);
    let routes = ["/ec-backend-data=127.0.12.3:11000", "/=127.0.12.3:9000=news-backend"];
    stage.service("127.0.12.3:10000", 12_203, &["web", "news-web", routes[0], routes[1]]);
    stage.service("127.0.12.4:10000", 12_204, &["api", "news-backend"]);
    for (name, _, uid) in SERVICES {
        stage.envoy(name, uid);
    }
    stage.wait_for_envoys();
}

/// The nine lines, with the policies that are in force, which are said to be written `how`.
fn ask_all(how: &str) -> Vec<Check> {
    LINES.iter().map(|line| line.ask(how)).collect()
}

impl Line {
    fn ask(&self, how: &str) -> Check {
        let Self(web, with_secret, path, status, body) = *self;
        let (host, secret) = (format!("{web}.example.org"), format!("{web}-secret"));
        let mut headers = vec![("host", host.as_str())];
        if with_secret {
            headers.push(("x-opa-secret", &secret));
        }
        let seen = match http::get_with(self.entrance(), path, &headers) {
            Ok(answer) => said(answer.status, &answer.body),
            Err(error) => error.to_string(),
        };
        let without = if with_secret { "" } else { " without its secret" };
        Check::equal(format!("{web} {path}{without}, {how}"), said(status, body), seen)
    }

    fn curl(&self) -> String {
        let Self(web, with_secret, path, ..) = *self;
        let secret = if with_secret { format!(" -H 'X-Opa-Secret: {web}-secret'") } else { String::new() };
        format!("curl -i -H 'Host: {web}.example.org'{secret} http://{}{path}", self.entrance())
    }

    fn entrance(&self) -> SocketAddr {
        let (_, address, _) = SERVICES.iter().find(|(name, ..)| *name == self.0).expect("one of the four");
        format!("{address}:8000").parse().expect("an address")
    }
}

fn said(status: u16, body: &str) -> String {
    if body.is_empty() { format!("{status}, empty") } else { format!("{status} {body}") }
}

/// Which Envoys turned requests away after `rounds` of the nine lines, and that none did for want of an answer.
fn who_refused(stage: &Stage, rounds: u64) -> Vec<Check> {
    let stat =
        |name: &str, what: &str| stage.envoy_of(name).stat(&format!("http.ingress_http.ext_authz.{what}"));
    let refusals = REFUSALS.iter().map(|(name, count)| {
        let what = format!("refused by the policy of {name}");
        Check::equal(what, (count * rounds).to_string(), stat(name, "denied").to_string())
    });
    let errors: u64 = REFUSALS.iter().map(|(name, _)| stat(name, "error")).sum();
    let mut checks: Vec<_> = refusals.collect();
    checks.push(Check::equal("refused for want of an answer", "0", errors.to_string()));
    checks
}

fn hints(stage: &Stage) -> Vec<String> {
    let mut hints: Vec<_> = LINES.iter().map(Line::curl).collect();
    for (name, address, _) in SERVICES {
        hints.push(format!("curl http://{address}:9901/stats   # {name}; grep for ext_authz"));
    }
    hints.push(format!("{} status", stage.enter()));
    hints
}
