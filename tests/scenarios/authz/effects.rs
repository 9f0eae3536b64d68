//! What a policy says is what happens: a real Envoy turns requests away with the policy's status, body and headers, adds and
//! removes headers and query parameters on the way to the application and back, and has the policy's metadata and the
//! decision's id in its access log. A policy in the old syntax and one in today's stand side by side.

use serde_json::Value;
use vouch_tests::{Agent, Bootstrap, Need, Upstream, envoy::Gate, eventually, http::Response, require, user};

use super::{SOON, checks, rego, settings};

const TODAY: &str = r#"
default allow := false

allow := {
    "allowed": false,
    "http_status": 403,
    "body": "closed today\n",
    "headers": {"x-reason": "closed", "set-cookie": ["a=1", "b=2", "c=3"]},
} if input.parsed_path == ["closed"]

allow := {
    "allowed": false,
    "http_status": 302,
    "headers": {"location": "https://login.example.org/"},
} if input.parsed_path == ["login"]

allow := {
    "allowed": false,
    "http_status": 401,
    "body": "who are you?\n",
    "headers": [{"www-authenticate": "Bearer"}],
} if input.parsed_path == ["token"]

allow := {
    "allowed": true,
    "headers": {"x-user": "alice", "x-claimed": "nobody"},
    "request_headers_to_remove": ["x-secret"],
    "response_headers_to_add": {"x-decided": "yes"},
    "query_parameters_to_set": {"page": "2"},
    "query_parameters_to_remove": ["debug"],
    "dynamic_metadata": {"tier": "gold", "score": 7},
} if input.parsed_path == ["open"]
"#;

/// As policies were written for OPA 0.15.
const OLD: &str = r#"
package envoy.authz

import input.attributes.request.http as http_request

default allow = false

allow = response {
    http_request.method == "GET"
    input.parsed_path == ["old", "open"]
    response := {
        "allowed": true,
        "headers": {"x-syntax": "old"},
    }
}

allow = response {
    input.parsed_path[1] == "closed"
    response := {
        "allowed": false,
        "http_status": 404,
        "body": "not here\n",
    }
}
"#;

struct Stage {
    agent: Agent,
    application: Upstream,
    gate: Gate,
}

impl Stage {
    fn set() -> Self {
        let service = toml::Table::from_iter([("service".to_owned(), "old".into())]);
        let agent = Agent::start(
            settings()
                .policy_with("old", OLD, [("context_extensions", service.into())])
                .policy("today", &rego(TODAY)),
        );
        let application = Upstream::start_echo();
        let bootstrap = Bootstrap::gate(&["old"]).authz_at(&agent.authz_socket());
        let gate = Gate::start("gate", user::FRONTEND, bootstrap, application.port());
        Self { agent, application, gate }
    }

    /// What the access log says of the request that begins with `path`, once it does.
    fn logged(&self, path: &str) -> Value {
        eventually("the access log has the request", SOON, || {
            let log = self.gate.envoy.file("access.log");
            let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
            lines.into_iter().find(|line| line["path"].as_str().is_some_and(|known| known.starts_with(path)))
        })
    }
}

#[test]
fn what_a_policy_says_is_what_envoy_does() {
    require!(Need::Agent, Need::Root, Need::Envoy);
    let stage = Stage::set();
    requests_are_turned_away(&stage);
    requests_and_responses_are_changed(&stage);
    decisions_are_in_the_access_log(&stage);
    both_syntaxes_decide_side_by_side(&stage);
}

fn requests_are_turned_away(stage: &Stage) {
    let shown = |answer: &Response| (answer.status, answer.body.clone());
    let closed = stage.gate.get("/closed");
    assert_eq!(shown(&closed), (403, "closed today\n".into()));
    assert_eq!(closed.values("x-reason"), ["closed"]);
    assert_eq!(closed.values("set-cookie"), ["a=1", "b=2", "c=3"]);
    let login = stage.gate.get("/login");
    assert_eq!(shown(&login), (302, String::new()));
    assert_eq!(login.values("location"), ["https://login.example.org/"]);
    let token = stage.gate.get("/token");
    assert_eq!(shown(&token), (401, "who are you?\n".into()));
    assert_eq!(token.values("www-authenticate"), ["Bearer"]);
    assert_eq!(shown(&stage.gate.get("/elsewhere")), (403, String::new()), "a bare no");
    assert_eq!(stage.application.hits(), 0, "none of them reached the application");
}

fn requests_and_responses_are_changed(stage: &Stage) {
    let headers = [("x-secret", "s3cret"), ("x-claimed", "root"), ("x-other", "stays")];
    let open = stage.gate.get_with("/open?debug=1&keep=3&page=1", &headers);
    assert_eq!(open.status, 200);
    assert_eq!(open.values("x-decided"), ["yes"]);
    let head = Head::of(&open);
    assert_eq!(head.values("x-user"), ["alice"]);
    assert_eq!(head.values("x-claimed"), ["nobody"], "the policy's value is in the place of the client's");
    assert_eq!(head.values("x-other"), ["stays"]);
    assert!(head.values("x-secret").is_empty() && head.values("x-decided").is_empty(), "{head:?}");
    let (path, query) = head.target.split_once('?').expect("a query");
    let mut parameters: Vec<_> = query.split('&').collect();
    parameters.sort_unstable();
    assert_eq!((path, parameters.as_slice()), ("/open", ["keep=3", "page=2"].as_slice()));
    assert_eq!(stage.application.hits(), 1);
}

fn decisions_are_in_the_access_log(stage: &Stage) {
    let open = stage.logged("/open");
    assert_eq!(
        (open["status"].as_i64(), open["authz"]["tier"].as_str()),
        (Some(200), Some("gold")),
        "{open}"
    );
    assert_eq!(open["authz"]["score"].as_f64(), Some(7.0), "{open}");
    let closed = stage.logged("/closed");
    assert_eq!(closed["flags"], "UAEX", "{closed}");
    for (line, answer) in [(open, "ALLOWED"), (closed, "DENIED")] {
        let id = line["authz"]["decision_id"].as_str().unwrap_or_else(|| panic!("no decision in {line}"));
        let explained = stage.agent.cli(None, &["explain", id]);
        let text = String::from_utf8_lossy(&explained.stdout).into_owned();
        assert!(
            explained.status.success() && text.contains(&format!("check     {answer}, ")),
            "{explained:?}"
        );
    }
}

fn both_syntaxes_decide_side_by_side(stage: &Stage) {
    let open = stage.gate.get("/old/open");
    assert_eq!(open.status, 200);
    assert_eq!(Head::of(&open).values("x-syntax"), ["old"]);
    let closed = stage.gate.get("/old/closed");
    assert_eq!((closed.status, closed.body.as_str()), (404, "not here\n"));
    assert_eq!(stage.gate.get("/old/elsewhere").status, 403);
    assert_eq!(stage.gate.get("/open").status, 200, "and today's still decides what is its own");
    assert_eq!(checks(&stage.agent, "old", "allowed", "policy"), 1.0);
    assert_eq!(checks(&stage.agent, "old", "denied", "policy"), 2.0);
    assert_eq!(checks(&stage.agent, "today", "allowed", "policy"), 2.0);
    assert_eq!(checks(&stage.agent, "today", "denied", "policy"), 4.0);
}

/// A request as the application got it.
#[derive(Debug)]
struct Head {
    target: String,
    headers: Vec<(String, String)>,
}

impl Head {
    /// What the application echoes.
    fn of(answer: &Response) -> Self {
        let mut lines = answer.body.lines();
        let target = lines.next().and_then(|line| line.split(' ').nth(1)).expect("a request").to_owned();
        let header = |line: &str| {
            let (name, value) = line.split_once(':').expect("a header");
            (name.to_ascii_lowercase(), value.trim().to_owned())
        };
        Self { target, headers: lines.map(header).collect() }
    }

    fn values(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str()).collect()
    }
}
