//! Whoever is denied an identity is told a number of the decision, and `vouch explain` of that number says which
//! condition of which entry was not met, where the entry is written, and what to do. So it does of a running process,
//! a SPIFFE ID, and a socket; JSON follows the shipped schema.

use std::{
    net::TcpListener,
    process::{Command, Output},
    time::Duration,
};

use serde_json::{Value, json};
use tonic::Code;
use vouch_tests::{
    Agent, Child, Need, Settings, agent::binary, child, entry, eventually, grpc, require, schema, sds,
    settings::entry_of_user, user,
};

const WEB: &str = "spiffe://example.org/web";
const API: &str = "spiffe://example.org/api";
const FETCH_SVID: &str = "/SpiffeWorkloadAPI/FetchX509SVID";
const HEADER: (&str, &str) = ("workload.spiffe.io", "true");
const LIMIT: Duration = Duration::from_secs(15);

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn stderr(output: &Output) -> String {
    text(&output.stderr)
}

/// The decision that an error names as its fix.
fn decision_in(error: &str) -> String {
    let (_, fix) =
        error.split_once("fix: vouch explain ").unwrap_or_else(|| panic!("no decision in {error}"));
    fix.split_whitespace().next().expect("a word").to_owned()
}

fn explained(agent: &Agent, arguments: &[&str]) -> Value {
    let output = agent.cli(None, &[&["explain", "-o", "json"], arguments].concat());
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    schema::document("explain", &output.stdout)
}

fn page(agent: &Agent, arguments: &[&str]) -> String {
    let output = agent.cli(None, &[&["explain"], arguments].concat());
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    text(&output.stdout)
}

/// A process of `uid` that lives as long as the test.
fn sleeper(agent: &Agent, uid: u32) -> Child {
    let mut command = Command::new("sleep");
    command.arg("600");
    Child::spawn("sleep", command, Some(uid), &agent.dir().join("sleep.log"))
}

#[test]
fn a_denial_names_a_decision_and_the_decision_names_the_missing_selector() {
    require!(Need::Agent, Need::Root);
    let agent = Agent::start(Settings::new([
        entry_of_user(WEB, user::FRONTEND),
        entry(API, &["unix:uid:1", "unix:path:/no/such", "unix:gid:1"]),
    ]));
    let denied = agent.cli(Some(user::STRANGER), &["fetch"]);
    assert_eq!(denied.status.code(), Some(6), "{denied:?}");
    assert!(stderr(&denied).contains("error[E0412]: no identity issued (decision "), "{}", stderr(&denied));
    let decision = decision_in(&stderr(&denied));

    let shown = page(&agent, &[&decision]);
    let (missing, has) = (format!("unix:uid:{}", user::FRONTEND), format!("unix:uid:{}", user::STRANGER));
    let miss = shown.lines().find(|line| line.contains("MISS")).expect("a missing selector");
    assert!(miss.contains(&missing) && miss.contains(&format!("process has {has}")), "{shown}");
    for expected in [
        format!("decision  {decision}"),
        "DENIED  no identity issued".to_owned(),
        format!("uid {}", user::STRANGER),
        format!("{WEB}   1 of 1 missing"),
        agent.dir().join("entries.json:1").display().to_string(),
        "fix       run the process so that it has".to_owned(),
    ] {
        assert!(shown.contains(&expected), "{expected}: {shown}");
    }

    let document = explained(&agent, &[&decision]);
    let known = &document["decisions"][0];
    assert_eq!((&known["outcome"], &known["code"]), (&json!("denied"), &json!("E0412")));
    assert!(known["costs"].as_array().is_some_and(|costs| !costs.is_empty()), "{known:#}");
    assert_eq!(known["closest"][0]["conditions"][0]["verdict"], "MISS");
    let against = explained(&agent, &[&decision, "--entry", API]);
    assert_eq!(against["decisions"][0]["closest"][0]["spiffe_id"], API);
    // The same in the log of the agent.
    let log = std::fs::read_to_string(agent.dir().join("agent.log")).expect("a log");
    assert!(log.lines().any(|line| line.contains(&decision) && line.contains("E0412")), "{log}");
}

#[tokio::test]
async fn an_identity_that_is_lost_names_a_decision_for_both_apis() {
    require!(Need::Agent, Need::Root);
    let agent = Agent::start(Settings::new([entry_of_user(WEB, 0)]));
    let channel = grpc::channel(&agent.socket());
    let mut updates = grpc::server_streaming(&channel, FETCH_SVID, &[HEADER]).await.expect("a stream");
    updates.message().await.expect("no error").expect("an identity");
    let mut secrets = sds::Stream::open(&agent.socket(), &[WEB]).await.expect("a stream");
    secrets.next().await.expect("a secret");
    secrets.ack().await.expect("the stream is open");

    agent.write_entries(&[entry_of_user(WEB, user::FRONTEND)]);

    let ended = tokio::time::timeout(LIMIT, updates.message()).await.expect("it ends in time");
    let of_updates = ended.expect_err("it is refused");
    let of_secrets = secrets.end().await;
    assert_eq!((of_updates.code(), of_secrets.code()), (Code::PermissionDenied, Code::InvalidArgument));
    let (words, first) = grpc::denial(&of_updates);
    assert_eq!(words, "no identity issued");
    let (words, second) = grpc::denial(&of_secrets);
    assert!(words.starts_with("workload is not authorized for the requested identities"), "{words}");
    for decision in [first, second] {
        let known = &explained(&agent, &[decision])["decisions"][0];
        assert_eq!((&known["outcome"], &known["change"]), (&json!("lost"), &json!("entries")), "{known:#}");
        assert_eq!(known["identities"][0]["spiffe_id"], WEB);
        let condition = &known["closest"][0]["conditions"][0];
        assert_eq!((&condition["verdict"], &condition["instead"][0]), (&json!("MISS"), &json!("unix:uid:0")));
    }
    assert_eq!(first, second, "one process lost one thing");
}

#[tokio::test]
async fn a_name_that_was_not_earned_is_held_against_the_entries_that_give_it() {
    require!(Need::Agent, Need::Root);
    let agent = Agent::start(Settings::new([entry_of_user(WEB, 0), entry_of_user(API, user::FRONTEND)]));
    let status = match sds::Stream::open(&agent.socket(), &[API]).await {
        Ok(mut stream) => stream.end().await,
        Err(status) => status,
    };
    let (_, decision) = grpc::denial(&status);
    let known = &explained(&agent, &[decision])["decisions"][0];
    assert_eq!(known["asked"], json!([API]));
    assert_eq!(known["matches"][0]["spiffe_id"], WEB);
    assert_eq!(known["closest"].as_array().map(Vec::len), Some(1));
    assert_eq!(known["closest"][0]["spiffe_id"], API);
}

#[tokio::test]
async fn what_is_decided_again_and_again_is_one_decision() {
    require!(Need::Agent, Need::Root);
    let agent = Agent::start(Settings::new([entry_of_user(WEB, user::FRONTEND)]));
    let channel = grpc::channel(&agent.socket());
    let mut decisions = vec![];
    for _ in 0..20 {
        let answer = match grpc::server_streaming(&channel, FETCH_SVID, &[HEADER]).await {
            Ok(mut updates) => updates.message().await.map(drop),
            Err(status) => Err(status),
        };
        decisions.push(grpc::denial(&answer.expect_err("it is refused")).1.to_owned());
    }
    decisions.dedup();
    assert_eq!(decisions.len(), 1, "{decisions:?}");
    assert_eq!(explained(&agent, &[&decisions[0]])["decisions"][0]["count"], 20);
    let metrics = agent.metrics();
    for expected in ["vouch_decisions_held 1", "vouch_decisions_total 1", "vouch_decisions_repeated_total 19"]
    {
        assert!(metrics.contains(expected), "{expected}: {metrics}");
    }
}

#[test]
fn a_running_process_is_told_what_it_would_get() {
    require!(Need::Agent, Need::Root);
    let agent = Agent::start(Settings::new([entry_of_user(WEB, user::FRONTEND)]));
    let (web, stranger) = (sleeper(&agent, user::FRONTEND), sleeper(&agent, user::STRANGER));
    let (of_web, of_stranger) = (web.pid().to_string(), stranger.pid().to_string());

    let document = explained(&agent, &[&of_web]);
    let now = &document["now"][0];
    assert_eq!((&now["outcome"], &now["identities"][0]["spiffe_id"]), (&json!("served"), &json!(WEB)));
    assert_eq!(document["decisions"], json!([]));
    let document = explained(&agent, &[&of_stranger]);
    let now = &document["now"][0];
    assert_eq!(
        (&now["outcome"], &now["closest"][0]["conditions"][0]["verdict"]),
        (&json!("denied"), &json!("MISS"))
    );
    let shown = page(&agent, &[&of_stranger]);
    assert!(shown.contains("not a connection's record") && shown.contains("would be DENIED"), "{shown}");
    // Asking is no connection: nothing was decided about either.
    assert!(agent.metrics().contains("vouch_decisions_held 0"));
}

#[test]
fn a_spiffe_id_shows_who_got_it_and_who_nearly_did() {
    require!(Need::Agent, Need::Root);
    let agent = Agent::start(Settings::new([entry_of_user(WEB, user::FRONTEND)]));
    assert!(agent.cli(Some(user::FRONTEND), &["fetch"]).status.success());
    assert!(!agent.cli(Some(user::STRANGER), &["fetch"]).status.success());
    let document = explained(&agent, &[WEB]);
    assert_eq!(document["entries"][0]["spiffe_id"], WEB);
    let applicant = |of: &str| document[of][0]["applicant"]["uid"].clone();
    assert_eq!(
        (applicant("decisions"), applicant("nearest")),
        (json!(user::FRONTEND), json!(user::STRANGER))
    );
    assert_eq!(document["nearest"][0]["closest"][0]["unmet"], 1);
}

#[test]
fn a_socket_leads_to_the_process_that_has_it() {
    require!(Need::Agent, Need::Root);
    let mut agent = Agent::start(Settings::new([entry_of_user(WEB, 0)]));
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let document = explained(&agent, &[&address]);
    assert_eq!(document["kind"], "socket");
    // A child that another test has just forked has it too, until it executes something.
    let owners = document["owners"].as_array().expect("a list");
    assert!(owners.contains(&json!(std::process::id())), "{document:#}");
    assert_eq!(document["now"][0]["outcome"], "served");
    let socket = agent.socket().display().to_string();
    let pid = agent.process().pid().as_raw();
    assert_eq!(explained(&agent, &[&socket])["owners"], json!([pid]));
}

#[test]
fn what_cannot_be_explained_is_refused_with_a_number() {
    require!(Need::Agent, Need::Root);
    let agent = Agent::start(Settings::new([entry_of_user(WEB, 0)]));
    for (arguments, code) in [
        (&["0197b2c4-6e11"][..], "E0420"),
        (&["4194304"], "E0421"),
        (&["127.0.0.1:1"], "E0422"),
        (&["/no/such.sock"], "E0422"),
        (&["web"], "E0423"),
        (&["E0999"], "E0424"),
        (&["spiffe://example.org/nobody"], "E0425"),
        (&["1", "--entry", "nobody"], "E0425"),
    ] {
        let output = agent.cli(None, &[&["explain"], arguments].concat());
        let (error, exit) = (stderr(&output), output.status.code());
        assert!(error.contains(&format!("error[{code}]")) && exit == Some(1), "{arguments:?}: {error}");
        assert!(error.contains("  fix: "), "{arguments:?}: {error}");
    }
    // Only root and the agent's user may ask who may become whom.
    let denied = agent.cli(Some(user::STRANGER), &["explain", "1"]);
    assert!(!denied.status.success(), "{denied:?}");
}

#[test]
fn a_number_is_explained_without_an_agent() {
    require!(Need::Agent);
    let mut command = Command::new(binary());
    command.args(["explain", "e0412", "-o", "json"]).env("VOUCH_ADMIN_SOCKET", "/no/such/admin.sock");
    let output = child::output(command, None);
    let document = schema::document("explain", &output.stdout);
    assert_eq!((&document["kind"], &document["number"]["number"]), (&json!("number"), &json!("E0412")));
}

#[test]
fn an_entry_may_ask_that_attestors_have_spoken() {
    require!(Need::Agent, Need::Root);
    let mut by_unix = entry_of_user(WEB, user::FRONTEND);
    by_unix["attested_by"] = json!(["unix"]);
    let mut by_docker = entry_of_user(API, user::FRONTEND);
    by_docker["attested_by"] = json!(["unix", "docker"]);
    let agent = Agent::start(Settings::new([by_unix, by_docker]));
    let fetched = agent.cli(Some(user::FRONTEND), &["fetch", "-o", "json"]);
    let svids: Value = serde_json::from_slice(&fetched.stdout).expect("JSON");
    assert_eq!(svids["svids"].as_array().map(Vec::len), Some(1), "{svids}");
    assert_eq!(svids["svids"][0]["spiffe_id"], WEB);
    let process = sleeper(&agent, user::FRONTEND);
    let document = explained(&agent, &[&process.pid().to_string(), "--entry", API]);
    let conditions = document["now"][0]["closest"][0]["conditions"].as_array().expect("a list").clone();
    let docker =
        conditions.iter().find(|condition| condition["condition"] == "attested_by docker").expect("it");
    assert_eq!(docker["verdict"], "MISS");
}

#[test]
fn a_process_that_is_gone_leaves_its_decisions() {
    require!(Need::Agent, Need::Root, Need::ConnectHook);
    let agent = Agent::start(Settings::new([entry_of_user(WEB, 0)]));
    let fetched = agent.cli(Some(user::STRANGER), &["fetch"]);
    let decision = decision_in(&stderr(&fetched));
    let known = &explained(&agent, &[&decision])["decisions"][0];
    let pid = known["applicant"]["pid"].to_string();
    assert_eq!(known["applicant"]["grade"], "kernel");
    let proof = known["applicant"]["proof"].as_str().expect("words");
    assert!(proof.contains("kernel record"), "{proof}");
    let gone = eventually("the process is gone", LIMIT, || {
        let document = explained(&agent, &[&pid]);
        document["now"].as_array().is_some_and(Vec::is_empty).then_some(document)
    });
    assert_eq!(gone["decisions"][0]["id"], json!(decision));
}

#[test]
fn a_connection_without_a_record_is_explained_by_what_the_socket_says() {
    require!(Need::Agent, Need::Root, Need::ConnectHook);
    let agent = Agent::start(Settings::new([entry_of_user(WEB, 0)]));
    // No room for the kernel's record in a network namespace of its own.
    let mut command = Command::new("unshare");
    let script = "echo 1 > /proc/sys/net/core/optmem_max && exec \"$@\"";
    command
        .args(["--net", "sh", "-c", script, "sh"])
        .arg(binary())
        .arg("fetch")
        .arg("--socket")
        .arg(agent.socket());
    let refused = child::output(command, None);
    assert!(!refused.status.success(), "{refused:?}");
    let line = eventually("it is in the log", LIMIT, || {
        let log = std::fs::read_to_string(agent.dir().join("agent.log")).ok()?;
        log.lines().find(|line| line.contains("connection refused")).map(str::to_owned)
    });
    let line: Value = serde_json::from_str(&line).expect("a line of JSON");
    let document = explained(&agent, &[line["decision"].as_str().expect("a decision")]);
    let known = &document["decisions"][0];
    assert_eq!((&known["outcome"], &known["code"]), (&json!("refused"), &json!("E0401")), "{known:#}");
    assert_eq!((&known["applicant"]["uid"], &known["applicant"]["grade"]), (&json!(0), &Value::Null));
    assert_eq!(known["selectors"], json!([]));
}
