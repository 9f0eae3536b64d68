//! A mesh of four services whose requests are judged one by one, as their OPAs would.

use std::{fs, net::SocketAddr, time::Duration};

use super::{Check, Shown, stage::Stage};
use crate::{eventually, http, metrics};

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

/// For a policy that is replaced, and for an agent that is back.
const CHANGE_LIMIT: Duration = Duration::from_secs(20);

pub(super) fn show(stage: &mut Stage) -> Shown {
    start(stage);
    let mut checks: Vec<_> = LINES.iter().map(Line::ask).collect();
    use_new_syntax(stage, &["ec-backend", "news-web"]);
    checks.extend(all_hold("the nine lines, two policies in Rego v1"));
    use_new_syntax(stage, &["ec-web", "news-backend"]);
    checks.extend(all_hold("the nine lines, all policies in Rego v1"));
    checks.extend(who_refused(stage, 3));
    checks.extend(nobody_is_let_in_while_nobody_answers(stage));
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

/// Puts the policies of `services` as they are in policies/v1 in the place of the published ones, while the agent
/// runs, and waits until it has taken them.
fn use_new_syntax(stage: &Stage, services: &[&str]) {
    let taken = |name: &str| {
        let sample = format!("vouch_authz_reloads_total{{policy=\"{name}\",outcome=\"accepted\"}}");
        metrics::value(&stage.metrics(), &sample).unwrap_or_default()
    };
    for name in services {
        let before = taken(name);
        let policy = |folder: &str| stage.file(&format!("{folder}/{name}.rego"));
        fs::rename(policy("policies/v1"), policy("policies")).expect("the demo's copy is ours");
        let changed = format!("the policy of {name} is replaced");
        eventually(&changed, CHANGE_LIMIT, || (taken(name) > before).then_some(()));
    }
}

/// One check of all nine, or those that differ.
fn all_hold(what: &str) -> Vec<Check> {
    let checks: Vec<_> = LINES.iter().map(Line::ask).collect();
    let differing: Vec<_> = checks.iter().filter(|check| !check.holds()).cloned().collect();
    let held = checks.len() - differing.len();
    let all = Check::equal(what, format!("{} as before", checks.len()), format!("{held} as before"));
    [vec![all], differing].concat()
}

/// `failure_mode_allow: false`: an agent that is away refuses.
fn nobody_is_let_in_while_nobody_answers(stage: &mut Stage) -> Vec<Check> {
    let [line, ..] = &LINES;
    stage.stop_agent();
    let away = line.answer();
    stage.start_agent();
    // Envoy's channel to a port that was closed waits a moment before it tries again.
    let back = eventually("the mesh serves again", CHANGE_LIMIT, || {
        Some(line.answer()).filter(|said| said.starts_with("200"))
    });
    vec![
        Check::equal("ec-web /noproxy while the agent is away", said(403, ""), away),
        Check::equal("ec-web /noproxy when it is back", said(line.3, line.4), back),
    ]
}

impl Line {
    fn ask(&self) -> Check {
        let Self(web, with_secret, path, status, body) = *self;
        let without = if with_secret { "" } else { " without its secret" };
        Check::equal(format!("{web} {path}{without}"), said(status, body), self.answer())
    }

    fn answer(&self) -> String {
        let Self(web, with_secret, path, ..) = *self;
        let (host, secret) = (format!("{web}.example.org"), format!("{web}-secret"));
        let mut headers = vec![("host", host.as_str())];
        if with_secret {
            headers.push(("x-opa-secret", &secret));
        }
        match http::get_with(self.entrance(), path, &headers) {
            Ok(answer) => said(answer.status, &answer.body),
            Err(error) => error.to_string(),
        }
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
    hints.push(format!("{} tail /run/vouch/decisions.jsonl", stage.enter()));
    hints.push(format!("{} explain ID   # a decision_id that stands there", stage.enter_vouch()));
    hints
}
