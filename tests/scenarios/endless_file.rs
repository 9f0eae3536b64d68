//! An executable that takes for ever to read: what is known without it is served, and nobody else waits.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
};

use vouch_tests::{
    Agent, Need, Settings,
    agent::{binary, temporary_dir},
    entry, require,
    settings::entry_of_user,
    user,
};

const SLOW: &str = "spiffe://example.org/slow";
const OTHER: &str = "spiffe://example.org/other";
const HASHED: &str = "spiffe://example.org/hashed";
const OTHER_USER: u32 = user::STRANGER + 1;

#[test]
fn a_file_without_end_costs_its_hash_and_nobody_else_anything() {
    require!(Need::Agent, Need::Root, Need::ConnectHook);
    let dir = temporary_dir();
    let endless = dir.path().join("endless");
    // Zeroes that lie on no disk; to read them all takes far longer than an attestation may. By another process, since
    // a file that is open for writing cannot be run.
    let make = "cp \"$1\" \"$2\" && chmod 755 \"$2\" && truncate -s 32G \"$2\"";
    let made = Command::new("sh").args(["-c", make, "sh"]).arg(binary()).arg(&endless).status();
    assert!(made.expect("sh runs").success());
    let nobodys = format!("unix:sha256:{}", "0".repeat(64));
    let entries =
        [entry_of_user(SLOW, user::STRANGER), entry_of_user(OTHER, OTHER_USER), entry(HASHED, &[&nobodys])];
    let settings = Settings::new(entries).set("limits.attestation_timeout", "1s");
    let mut agent = Agent::start(settings.set("attest.unix.hash_size_limit", "64GiB"));
    let slow: Vec<Child> = (0..3).map(|_| fetch(&agent, &endless, user::STRANGER)).collect();
    let other = agent.cli(Some(OTHER_USER), &["fetch"]);
    assert!(other.status.success() && text(&other.stdout).contains(OTHER), "{other:?}");
    for child in slow {
        let output = child.wait_with_output().expect("it ends");
        assert!(output.status.success() && text(&output.stdout).contains(SLOW), "{output:?}");
    }
    let gaps = agent.metrics();
    let gaps = gaps.lines().find_map(|line| line.strip_prefix("vouch_attestation_gaps_total "));
    assert!(gaps.expect("a metric").parse::<f64>().expect("a number") >= 3.0, "{gaps:?}");
    // Whatever is still being read does not keep the agent from ending.
    agent.stop();
}

fn fetch(agent: &Agent, program: &Path, uid: u32) -> Child {
    let id = uid.to_string();
    Command::new("setpriv")
        .args(["--reuid", &id, "--regid", &id, "--clear-groups", "--"])
        .arg(program)
        .args(["fetch", "--socket"])
        .arg(agent.socket())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it can be run")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
