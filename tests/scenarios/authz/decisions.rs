//! What was decided can be read afterwards: the decision log has a line of JSON for each answer, without secrets, and goes on in
//! a new file when it is moved away; `vouch explain` of a decision's id says the same, in words and by the shipped schema.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Instant,
};

use serde_json::{Value, json};
use tonic::transport::Channel;
use vouch_tests::{
    Agent, Need,
    authz::{ask, attributes, http, metadata, question_of},
    eventually, grpc,
    metrics::value,
    require, schema,
};

use super::{SOON, rego, settings};

const SECRET: &str = "s3cret";
const RULES: &str = r#"
allow := {
    "allowed": true,
    "headers": {"authorization": "s3cret", "x-user": "alice"},
    "response_headers_to_add": {"set-cookie": "s3cret"},
} if input.parsed_path == ["open"]

allow := {"allowed": false, "http_status": 404} if input.parsed_path == ["closed"]

# One key with two values: an error that names the key.
allow := {"allowed": true, "seen": {secret: value | some value in [1, 2]}} if {
    input.parsed_path == ["torn"]
    secret := input.attributes.request.http.headers.authorization
}
"#;

struct Stage {
    agent: Agent,
    channel: Channel,
}

impl Stage {
    fn set() -> Self {
        let agent = Agent::start(
            settings()
                .set("authz.decision_log", "decisions.jsonl")
                .set("authz.masked_headers", vec!["X-Api-Key"])
                .set("authz.masked_fields", vec!["/input/attributes/contextExtensions/pass", "/input/none/0"])
                .policy("doors", &rego(RULES)),
        );
        let channel = grpc::channel(&agent.authz_socket());
        Self { agent, channel }
    }

    fn log(&self) -> PathBuf {
        self.agent.dir().join("decisions.jsonl")
    }

    /// Asks about `path` with secrets in all places where they are, and gives the decision's id.
    async fn decide(&self, path: &str) -> String {
        let target = format!("{path}?token={SECRET}&page=2");
        let mut question = question_of("doors", &target);
        attributes(&mut question).context_extensions.insert("pass".into(), SECRET.into());
        let principal = "spiffe://example.org/web";
        attributes(&mut question).source.get_or_insert_default().principal = principal.into();
        let request = http(&mut question);
        for name in ["authorization", "cookie", "proxy-authorization", "x-api-key"] {
            request.headers.insert(name.into(), SECRET.into());
        }
        request.headers.insert(":path".into(), target);
        request.headers.insert("content-type".into(), "application/json".into());
        request.headers.insert("user-agent".into(), "curl".into());
        request.body = format!("{{\"password\": \"{SECRET}\"}}");
        let answer = ask(&self.channel, &question).await.expect("an answer");
        metadata(&answer, "decision_id").expect("a decision has an id")
    }

    fn explained(&self, id: &str) -> Value {
        let output = self.agent.cli(None, &["explain", "-o", "json", id]);
        assert!(output.status.success(), "{output:?}");
        schema::document("explain", &output.stdout)
    }
}

/// The events in the log, once there are `count`.
fn events(log: &Path, count: usize) -> Vec<Value> {
    eventually("the log has them all", SOON, || {
        let text = fs::read_to_string(log).ok()?;
        assert!(!text.contains(SECRET), "{text}");
        // The last line may be half written.
        let whole = text.rsplit_once('\n')?.0;
        let events: Vec<_> =
            whole.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
        (events.len() == count).then_some(events)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_says_what_was_decided_and_keeps_secrets() {
    require!(Need::Agent, Need::Root);
    let stage = Stage::set();
    let mut ids = Vec::new();
    for path in ["/open", "/closed", "/lost", "/torn"] {
        ids.push(stage.decide(path).await);
    }
    let events = events(&stage.log(), 4);
    let mode = fs::metadata(stage.log()).expect("the log is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    for (event, (id, answer, reason)) in events.iter().zip([
        (&ids[0], "allowed", "policy"),
        (&ids[1], "denied", "policy"),
        (&ids[2], "denied", "undefined"),
        (&ids[3], "denied", "conflict"),
    ]) {
        assert_eq!((&event["decision_id"], &event["answer"]), (&json!(id), &json!(answer)), "{event:#}");
        assert_eq!((&event["reason"], &event["policy"]), (&json!(reason), &json!("doors")));
        assert_eq!(event["path"], "envoy/authz/allow");
        let input = &event["input"];
        assert_eq!(input["source_principal"], "spiffe://example.org/web", "{event:#}");
        assert_eq!(input["attributes"]["request"]["http"]["headers"]["x-api-key"], "***", "{event:#}");
        assert_eq!(input["attributes"]["request"]["http"]["headers"]["user-agent"], "curl");
        assert_eq!(input["parsed_body"], "***");
        assert_eq!(input["parsed_query"], json!({"page": ["2"], "token": "***"}));
        let path = input["attributes"]["request"]["http"]["path"].as_str().expect("a path");
        assert!(path.ends_with("?token=***&page=2"), "{path}");
        assert_eq!(
            input["attributes"]["contextExtensions"],
            json!({"pass": "***", "service": "doors"}),
            "{event:#}"
        );
        assert_eq!(event.get("error").is_some(), reason != "policy");
    }
    let torn = events[3]["error"]["message"].as_str().expect("an error says what it is");
    assert!(torn.contains("value for key `***`"), "{torn}");
    assert_eq!(events[0]["result"]["headers"], json!({"authorization": "***", "x-user": "alice"}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_moved_away_goes_on_in_a_new_file() {
    require!(Need::Agent, Need::Root);
    let stage = Stage::set();
    let first = stage.decide("/open").await;
    events(&stage.log(), 1);
    let old = stage.log().with_extension("1");
    fs::rename(stage.log(), &old).expect("it can be moved");
    eventually("there is a new file", SOON, || stage.log().exists().then_some(()));
    let second = stage.decide("/closed").await;
    assert_eq!(events(&stage.log(), 1)[0]["decision_id"], json!(second));
    assert_eq!(events(&old, 1)[0]["decision_id"], json!(first), "and the old one stays as it was");
    let mode = fs::metadata(stage.log()).expect("the log is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_is_explained_as_it_is_logged() {
    require!(Need::Agent, Need::Root);
    let stage = Stage::set();
    for (path, title, answer) in
        [("/open", "ALLOWED", "allowed"), ("/closed", "DENIED", "denied"), ("/lost", "DENIED", "denied")]
    {
        let id = stage.decide(path).await;
        let document = stage.explained(&id);
        let check = &document["check"];
        assert_eq!((&document["kind"], &check["answer"]), (&json!("check"), &json!(answer)));
        assert!(!document.to_string().contains(SECRET), "{document:#}");
        let output = stage.agent.cli(None, &["explain", &id]);
        let page = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && !page.contains(SECRET), "{output:?}");
        for words in [
            format!("check     {title}, "),
            format!("GET {path}"),
            "doors (envoy/authz/allow, revision ".into(),
            "spiffe://example.org/web".into(),
        ] {
            assert!(page.contains(&words), "{words}: {page}");
        }
        assert_eq!(page.contains("undefined"), path == "/lost", "{page}");
    }
    let unknown = stage.agent.cli(None, &["explain", "0197b2c4-6e11-0003"]);
    let error = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(!unknown.status.success(), "{unknown:?}");
    assert!(error.contains("error[E0420]") && error.contains("[authz] remembered"), "{error}");
}

/// What cannot be written is counted, and nobody waits for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_costs_lines_of_the_log_and_nothing_else() {
    require!(Need::Agent, Need::Root);
    let agent = Agent::start(settings().set("authz.decision_log", "/dev/full").policy("doors", &rego(RULES)));
    let stage = Stage { channel: grpc::channel(&agent.authz_socket()), agent };
    let started = Instant::now();
    while value(&stage.agent.metrics(), "vouch_authz_log_lost_total") == Some(0.0) {
        stage.decide("/open").await;
        assert!(started.elapsed() < SOON, "lost lines are not counted");
    }
    let log = stage.agent.dir().join("agent.log");
    let told = |line: &str| line.contains("the decision log /dev/full cannot be written (E0906)");
    assert!(fs::read_to_string(log).expect("a log").lines().any(told));
}
