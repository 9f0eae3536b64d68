//! The benchmark harness measures what it says: Vouch, the raw anchor, a plain server and any peer, in the same rounds.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::{Value, json};
use vouch_bench::results::{FORMAT, Results, Series};
use vouch_tests::{Agent, Need, Settings, agent::temporary_dir, require, settings::entry_of_user};

const ROOT: u32 = 0;
/// Warm-up included.
const ROUNDS: usize = 4;
const STREAMS: u64 = 100;

#[test]
fn every_server_of_a_quick_run_delivers_each_rotation_to_all_streams() {
    require!(Need::Agent, Need::Root);
    let mut peer = Agent::start(Settings::new([entry_of_user("spiffe://example.org/load", ROOT)]));
    let rotate = format!(
        "{} svid rotate --all --admin-socket {}",
        binary("vouch").display(),
        peer.admin_socket().display()
    );
    let dir = temporary_dir();
    let json = dir.path().join("results.json");

    let run = harness(&json, &["--scenario", "S1,S8", "--interval-ms", "2000"], &mut peer, &rotate);

    assert!(run.status.success(), "{}", text(&run));
    let results: Results = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
    assert_eq!(results.format, FORMAT);
    let names: Vec<_> = results.servers.iter().map(|server| &*server.name).collect();
    assert_eq!(names, ["vouch", "anchor", "tonic", "anchor-threads", "other"]);
    assert_eq!(results.probes.len(), 1 + results.scenarios.len());
    let acks: Vec<_> = results.scenarios.iter().map(|scenario| (&*scenario.id, scenario.ack_bytes)).collect();
    assert!(matches!(acks[..], [("S1", 80..200), ("S8", 61_000..61_500)]), "{acks:?}");
    for scenario in &results.scenarios {
        assert!(scenario.message_bytes > 1_000, "a chain and a key: {}", scenario.message_bytes);
        for series in &scenario.series {
            check(series);
        }
    }
    let table = text(&run);
    assert!(table.contains("÷ anchor") && table.contains("every stream got"), "{table}");
}

#[test]
fn a_peer_that_cannot_be_made_to_rotate_ends_the_run_with_its_reason() {
    require!(Need::Agent, Need::Root);
    let mut peer = Agent::start(Settings::new([entry_of_user("spiffe://example.org/load", ROOT)]));
    let dir = temporary_dir();
    let json = dir.path().join("results.json");

    let run = harness(&json, &[], &mut peer, "exit 7");

    assert!(!run.status.success());
    assert!(text(&run).contains("\"exit 7\" failed: exit status: 7"), "{}", text(&run));
    assert!(!json.exists(), "nothing is published of a run that failed");
}

#[test]
fn a_quick_run_of_authorization_asks_all_servers_and_opa_and_no_answer_is_wrong_while_a_policy_changes() {
    require!(Need::Agent, Need::Root, Need::Opa);
    let dir = temporary_dir();
    let json = dir.path().join("authz.json");
    let opa = env::var_os("VOUCH_OPA").expect("the judge of policies is staged");

    let run = Command::new(binary("vouch-bench"))
        .args(["authz", "--quick", "--opa"])
        .arg(opa)
        .arg("--json")
        .arg(&json)
        .output()
        .expect("the harness runs");

    assert!(run.status.success(), "{}", text(&run));
    let results: Value = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
    let list = |value: &Value| value.as_array().cloned().expect("a list");
    for row in list(&results["decisions"]) {
        let (ours, opa) = (&row["ours_us"][0], &row["opa_us"][0]);
        assert!(ours.as_f64().unwrap() > 0.0 && opa.as_f64().unwrap() > 0.0, "{row}");
    }
    let servers: Vec<_> = list(&results["whole"]).iter().map(|row| row["server"].clone()).collect();
    assert_eq!(
        servers,
        ["plain h2", "plain tonic", "Vouch", "Vouch, decision log", "plain tonic, TCP", "Vouch, TCP"]
    );
    for row in list(&results["whole"]) {
        for round in list(&row["at_rate"]).iter().chain(&list(&row["one_by_one"])) {
            assert!(round["calls"].as_u64().unwrap() > 0, "{row}");
            assert_eq!((&round["failed"], &round["wrong"]), (&json!(0), &json!(0)), "{row}");
        }
    }
    let changing = &results["reloads"]["changing"][0];
    assert_eq!((&changing["versions"], &changing["newest"]), (&json!(4), &json!(3)), "{changing}");
    let goals = list(&results["goals"]);
    assert_eq!(goals.len(), 8);
    assert!(goals.iter().all(|goal| goal["found"].is_number()), "{goals:?}");
    assert!(text(&run).contains("measured on another day"), "{}", text(&run));
}

fn check(series: &Series) {
    let name = &series.server;
    assert_eq!(series.rounds.len(), ROUNDS, "{name}");
    assert_eq!(series.rounds.iter().filter(|round| round.counted).count(), ROUNDS - 1, "{name}");
    for round in &series.rounds {
        assert_eq!(round.updates, STREAMS, "{name}");
        let (first, last) = (round.first_delivery_us, round.last_delivery_us);
        assert!(first < last && last <= round.last_ack_us, "{name}: {round:?}");
        assert!(
            round.server_cpu_us_per_update > 0.0 && round.load_cpu_us_per_update > 0.0,
            "{name}: {round:?}"
        );
    }
    let memory = series.memory.as_ref().expect("memory is looked at");
    assert!(memory.peak_kib >= memory.rotated_kib && memory.before_kib > 0, "{name}: {memory:?}");
    assert_eq!(series.connect.is_some(), !name.starts_with("anchor"), "raw sockets wait for no secret");
}

fn harness(json: &Path, arguments: &[&str], peer: &mut Agent, rotate: &str) -> Output {
    let (socket, pid) = (peer.socket(), peer.process().pid());
    Command::new(binary("vouch-bench"))
        .args(["run", "--quick", "--peer", &format!("other={},{pid},{rotate}", socket.display())])
        .arg("--json")
        .arg(json)
        .args(arguments)
        .output()
        .expect("the harness runs")
}

/// What is staged beside the agent.
fn binary(name: &str) -> PathBuf {
    let agent = env::var_os("VOUCH_BIN").expect("the agent is staged");
    PathBuf::from(agent).with_file_name(name)
}

fn text(run: &Output) -> String {
    String::from_utf8_lossy(&[&*run.stdout, &*run.stderr].concat()).into_owned()
}
