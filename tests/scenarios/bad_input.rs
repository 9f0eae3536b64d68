//! What an operator may get wrong ends in a numbered error with a cause and a fix, and leaves nothing half-written.

use std::{
    fs,
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use vouch_tests::{
    Agent, Need, Settings, agent, agent::temporary_dir, child, namespace, require, settings::entry_of_user,
    user,
};

const WEB: &str = "spiffe://example.org/web";
const USAGE: i32 = 2;
const NOT_REACHABLE: i32 = 3;
const NO_IDENTITY: i32 = 6;
const BAD_CONFIG: i32 = 78;

fn settings() -> Settings {
    Settings::new([entry_of_user(WEB, user::FRONTEND)])
}

/// Runs an agent that is expected to refuse to start.
fn refused(agent: &Agent) -> Output {
    let mut command = Command::new(agent::binary());
    command.args(["run", "--config"]).arg(agent.config());
    let mut command_with_limit = Command::new("timeout");
    command_with_limit.args(["--signal", "KILL", "15"]).arg(command.get_program()).args(command.get_args());
    let output = child::output(command_with_limit, None);
    assert!(!output.status.success(), "it refuses: {output:?}");
    output
}

/// Asserts that `output` is a numbered error of `group` that says all of `words`.
#[track_caller]
fn says(output: &Output, group: &str, words: &[&str]) {
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    for word in words.iter().chain([&format!("error[{group}").as_str(), &"fix: "]) {
        assert!(text.contains(word), "`{word}` is in:\n{text}");
    }
    assert!(!text.contains("panicked"), "{text}");
}

#[test]
fn a_typo_in_the_configuration_is_shown_with_its_place_and_a_suggestion() {
    require!(Need::Agent, Need::Root);
    let agent = Agent::prepare(settings().set("issuer.svid_tll", "1h"));
    let place = format!("{}:", agent.config().display());
    let output = refused(&agent);
    assert_eq!(output.status.code(), Some(BAD_CONFIG));
    says(&output, "E01", &[&place, "svid_tll", "did you mean `svid_ttl`?"]);
    let mut check = Command::new(agent::binary());
    check.args(["config", "check", "--config"]).arg(agent.config());
    let output = child::output(check, None);
    assert_eq!(output.status.code(), Some(BAD_CONFIG), "{output:?}");
    assert!(!agent.state_dir().exists(), "nothing is made before the configuration is good");
}

#[test]
fn values_that_mean_nothing_are_refused_by_their_place() {
    require!(Need::Agent, Need::Root);
    for (key, value) in [
        ("issuer.svid_ttl", toml::Value::from("soon")),
        ("issuer.svid_ttl", toml::Value::from(60)),
        ("issuer.kind", "blockchain".into()),
        ("issuer.kind", "spire".into()),
        ("issuer.key_type", "rsa-2048".into()),
        ("rotation.at", 0.99.into()),
        ("rotation.jitter", (-1.0).into()),
        ("limits.sds_request", "many".into()),
        ("limits.connections", (-1).into()),
        ("attest.minimum", "certain".into()),
        ("kernel.ring", "1000KiB".into()),
        ("trust_domain", "Not A Domain".into()),
        ("entries.files", "not-a-list.json".into()),
        ("telemetry.metrics", "nowhere".into()),
    ] {
        let agent = Agent::prepare(settings().set(key, value.clone()));
        let output = refused(&agent);
        assert_eq!(output.status.code(), Some(BAD_CONFIG), "{key} = {value}: {output:?}");
        says(&output, "E01", &["vouch.toml:"]);
    }
}

#[test]
fn a_bad_entry_file_keeps_the_old_entries_and_is_reported() {
    require!(Need::Agent, Need::Root);
    let agent = Agent::start(settings());
    for bad in [
        "{ \"entries\": [",
        "[]",
        "{ \"entries\": [ { \"spiffe_id\": \"http://example.org/web\", \"selectors\": [] } ] }",
        "{ \"entries\": [], \"entires\": [] }",
        "\u{0}\u{1}\u{2}",
        "",
    ] {
        agent.write_entry_file(bad);
        vouch_tests::eventually("the bad file is reported", Duration::from_secs(5), || {
            let status = agent.status().to_string();
            (status.contains("entries.json") && status.contains("E06")).then_some(())
        });
        let fetched = agent.cli(Some(user::FRONTEND), &["fetch"]);
        assert!(fetched.status.success(), "the old entries hold while the file is {bad:?}: {fetched:?}");
    }
    agent.write_entries(&[entry_of_user(WEB, user::FRONTEND)]);
    vouch_tests::eventually("the good file ends the report", Duration::from_secs(5), || {
        (!agent.status().to_string().contains("E06")).then_some(())
    });
}

#[test]
fn a_socket_path_held_by_a_living_process_is_left_alone() {
    require!(Need::Agent, Need::Root);
    let agent = Agent::prepare(settings());
    fs::create_dir_all(agent.socket().parent().expect("it has a folder")).expect("it can be made");
    let holder = UnixListener::bind(agent.socket()).expect("the path is free");
    let output = refused(&agent);
    says(&output, "E03", &["api.sock"]);
    let _client = std::os::unix::net::UnixStream::connect(agent.socket()).expect("it is still the holder's");
    holder.accept().expect("the holder serves on");
}

#[test]
fn a_way_to_a_socket_that_others_may_change_is_not_taken() {
    require!(Need::Agent, Need::Root);
    namespace::alone(|| {
        let victim = Path::new("/run/victim");
        fs::create_dir(victim).expect("/run is ours");
        let bait = Path::new("/tmp/spire-agent");
        let up = || {
            let mut command = client(&["up", "--spire-socket", "--metrics", "off", "--trust-domain"]);
            command.args(["example.org", "--state-dir", "/run/state"]);
            child::output(command, None)
        };
        fs::create_dir(bait).expect("/tmp is empty");
        std::os::unix::fs::symlink(victim, bait.join("public")).expect("nothing is there yet");
        std::os::unix::fs::lchown(bait.join("public"), Some(user::STRANGER), None).expect("root may");
        says(&up(), "E0317", &["/tmp/spire-agent/public", &format!("uid {}", user::STRANGER)]);
        fs::remove_file(bait.join("public")).expect("root may");
        std::os::unix::fs::chown(bait, Some(user::STRANGER), None).expect("root may");
        says(&up(), "E0317", &["directory /tmp/spire-agent may be changed"]);
        assert_eq!((names_in(victim), names_in(bait)), (vec![], vec![]), "nothing was made there");
    });
}

#[test]
fn a_directory_of_the_admin_socket_that_others_may_enter_is_refused() {
    require!(Need::Agent, Need::Root);
    let agent = Agent::prepare(settings());
    let directory = agent.admin_socket().parent().expect("it has a folder").to_owned();
    fs::create_dir(&directory).expect("it can be made");
    fs::set_permissions(&directory, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("ours");
    says(&refused(&agent), "E0318", &["chmod 700"]);
    assert_eq!(names_in(&directory), [""; 0]);
}

#[test]
fn output_to_a_full_device_fails_and_a_reader_that_left_is_no_panic() {
    require!(Need::Agent);
    for arguments in [&["version"][..], &["completion", "bash"]] {
        let full = fs::File::options().write(true).open("/dev/full").expect("Linux has it");
        let mut command = client(arguments);
        let ended = command.stdout(full).stderr(std::process::Stdio::piped()).spawn();
        let output = ended.and_then(std::process::Child::wait_with_output).expect("it starts");
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        says(&output, "E0323", &["No space left"]);

        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut command = client(arguments);
        let ended = command.stdout(writer).stderr(std::process::Stdio::piped()).spawn();
        let output = ended.and_then(std::process::Child::wait_with_output).expect("it starts");
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    }
}

#[test]
fn a_socket_left_behind_by_a_dead_process_is_replaced() {
    require!(Need::Agent, Need::Root);
    let mut agent = Agent::prepare(settings());
    fs::create_dir_all(agent.socket().parent().expect("it has a folder")).expect("it can be made");
    drop(UnixListener::bind(agent.socket()).expect("the path is free"));
    assert!(agent.socket().exists());
    agent.launch();
    assert!(agent.cli(Some(user::FRONTEND), &["fetch"]).status.success());
}

#[test]
fn a_state_directory_of_somebody_else_is_refused_and_left_as_it_is() {
    require!(Need::Agent, Need::Root);
    let agent = Agent::prepare(settings());
    fs::create_dir(agent.state_dir()).expect("it can be made");
    std::os::unix::fs::chown(agent.state_dir(), Some(user::STRANGER), Some(user::STRANGER))
        .expect("root may");
    says(&refused(&agent), "E02", &["state"]);
    assert_eq!(names_in(&agent.state_dir()), [""; 0]);
}

#[test]
fn a_state_directory_of_another_trust_domain_is_refused() {
    require!(Need::Agent, Need::Root);
    let dir = temporary_dir();
    let state = dir.path().join("state").to_str().expect("text").to_owned();
    let mut first = Agent::start(settings().set("state_dir", state.clone()));
    first.stop();
    let before = contents(Path::new(&state));
    let other = Settings::new([]).set("trust_domain", "other.example").set("state_dir", state.clone());
    says(&refused(&Agent::prepare(other)), "E02", &["example.org", "other.example"]);
    assert_eq!(contents(Path::new(&state)), before);
}

#[test]
fn a_second_agent_on_the_same_state_directory_is_refused() {
    require!(Need::Agent, Need::Root);
    let agent = Agent::start(settings());
    let state = agent.state_dir().to_str().expect("text").to_owned();
    says(&refused(&Agent::prepare(settings().set("state_dir", state))), "E02", &["state"]);
    assert!(agent.cli(Some(user::FRONTEND), &["fetch"]).status.success(), "the first one serves on");
}

#[test]
fn a_damaged_state_log_is_refused_and_not_replaced() {
    require!(Need::Agent, Need::Root);
    let mut agent = Agent::start(settings());
    agent.stop();
    let log = fs::read_dir(agent.state_dir()).expect("it is there").flatten().map(|file| file.path());
    let log = log.max_by_key(|path| fs::metadata(path).map_or(0, |file| file.len())).expect("a state log");
    let mut bytes = fs::read(&log).expect("root reads it");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    fs::write(&log, &bytes).expect("root writes it");
    says(&refused(&agent), "E02", &["state"]);
    assert_eq!(fs::read(&log).expect("it is there"), bytes);
}

#[test]
fn a_full_disk_at_first_start_leaves_nothing_half_written() {
    require!(Need::Agent, Need::Root);
    namespace::alone(|| {
        let disk = Path::new("/run/full");
        fs::create_dir(disk).expect("/run is ours");
        namespace::full_disk(disk);
        let before = names_in(disk);
        let state = disk.join("state").to_str().expect("text").to_owned();
        let agent = Agent::prepare(settings().set("state_dir", state.clone()));
        says(&refused(&agent), "E02", &[&state]);
        let state = Path::new(&state);
        let left = if state.exists() { names_in(state) } else { Vec::new() };
        let keys = left.iter().filter(|name| fs::metadata(state.join(name)).is_ok_and(|file| file.len() > 0));
        assert_eq!(keys.count(), 0, "{left:?}");
        assert!(before.iter().all(|name| disk.join(name).exists()));
    });
}

#[test]
fn the_exit_code_tells_usage_reach_identity_and_configuration_apart() {
    require!(Need::Agent, Need::Root);
    let agent = Agent::start(settings());
    let code = |uid, arguments: &[&str]| agent.cli(uid, arguments).status.code();
    assert_eq!(code(Some(user::FRONTEND), &["fetch"]), Some(0));
    assert_eq!(code(Some(user::STRANGER), &["fetch"]), Some(NO_IDENTITY));
    assert_eq!(code(None, &["healthcheck"]), Some(0));
    assert_eq!(code(None, &["fetch", "--no-such-flag"]), Some(USAGE));
    let nowhere = |arguments: &[&str]| {
        let mut command = Command::new(agent::binary());
        command.args(arguments).args([
            "--socket",
            "/nowhere/api.sock",
            "--admin-socket",
            "/nowhere/admin.sock",
        ]);
        child::output(command, None).status.code()
    };
    for command in ["fetch", "status", "healthcheck"] {
        assert_eq!(nowhere(&[command]), Some(NOT_REACHABLE), "{command}");
    }
    let mut run = Command::new(agent::binary());
    run.args(["run", "--config", "/nowhere/vouch.toml"]);
    assert_eq!(child::output(run, None).status.code(), Some(BAD_CONFIG));
}

#[test]
fn a_strangers_agent_at_a_default_path_is_not_believed() {
    require!(Need::Agent, Need::Root);
    namespace::alone(|| {
        // Where an agent of the frontend's own would be, and where anyone may be first.
        let bait = PathBuf::from(format!("/tmp/vouch-{}/public/api.sock", user::FRONTEND));
        let _stranger = up_as(user::STRANGER, &bait);
        let output = vouch(user::FRONTEND, &["fetch"]);
        assert_eq!(output.status.code(), Some(NOT_REACHABLE), "{output:?}");
        says(&output, "E0319", &[&format!("uid {}", user::STRANGER)]);
        let socket = bait.to_str().expect("text");
        let code = |variable: &str| {
            let mut command = client(&["fetch"]);
            command.env("SPIFFE_ENDPOINT_SOCKET", variable);
            child::output(command, Some(user::FRONTEND)).status.code()
        };
        assert_eq!(code(&format!("unix://{socket}")), Some(NO_IDENTITY), "the user's word counts");
        assert_eq!(code(""), Some(NOT_REACHABLE), "an empty variable says nothing");
        let named = vouch(user::FRONTEND, &["fetch", "--socket", socket]);
        assert_eq!(named.status.code(), Some(NO_IDENTITY), "{named:?}");

        let settings = settings().set("workload_api.socket", "/run/vouch/public/api.sock");
        let _agent = Agent::start(settings.set("admin.socket", "/run/vouch/admin/admin.sock"));
        let output = vouch(user::FRONTEND, &["fetch"]);
        assert!(output.status.success(), "root's agent is believed: {output:?}");
        let output = vouch(user::FRONTEND, &["status"]);
        assert_eq!(output.status.code(), Some(NOT_REACHABLE));
        says(&output, "E0310", &["/run/vouch/admin/admin.sock", "sudo"]);
    });
}

#[test]
fn an_agent_serves_where_its_configuration_says_whatever_the_variable_for_clients() {
    require!(Need::Agent, Need::Root);
    let mut agent = Agent::prepare(settings());
    let elsewhere = agent.dir().join("elsewhere/api.sock");
    let mut run = Command::new(agent::binary());
    run.args(["run", "--config"]).arg(agent.config());
    run.env("SPIFFE_ENDPOINT_SOCKET", format!("unix://{}", elsewhere.display()));
    agent.spawn_as(run);
    vouch_tests::eventually("it serves", Duration::from_secs(15), || agent.socket().exists().then_some(()));
    assert!(!elsewhere.exists());
}

/// Runs `vouch` as `uid` with no word on where the agent is.
fn vouch(uid: u32, arguments: &[&str]) -> Output {
    child::output(client(arguments), Some(uid))
}

fn client(arguments: &[&str]) -> Command {
    let mut command = Command::new(agent::binary());
    command.args(arguments);
    for variable in ["SPIFFE_ENDPOINT_SOCKET", "VOUCH_ADMIN_SOCKET", "XDG_RUNTIME_DIR"] {
        command.env_remove(variable);
    }
    command
}

/// `vouch up` of `uid`, serving at `socket`.
fn up_as(uid: u32, socket: &Path) -> child::Child {
    let home = format!("/tmp/home-{uid}");
    let mut command = client(&["up", "--trust-domain", "evil.example", "--metrics", "off"]);
    command.args(["--state-dir", &format!("{home}/state"), "--socket"]).arg(socket);
    command.args(["--admin-socket", &format!("{home}/admin/admin.sock"), "--no-demo-entry"]);
    let process = child::Child::spawn("a stranger's agent", command, Some(uid), Path::new("/run/up.log"));
    vouch_tests::eventually("it serves", Duration::from_secs(15), || socket.exists().then_some(()));
    process
}

fn names_in(dir: &Path) -> Vec<String> {
    let files = fs::read_dir(dir).expect("the folder is there").flatten();
    files.map(|file| file.file_name().to_string_lossy().into_owned()).collect()
}

fn contents(dir: &Path) -> Vec<(String, Vec<u8>)> {
    // The lock names whoever tried last.
    let mut files: Vec<_> = names_in(dir)
        .into_iter()
        .filter(|name| name != "lock")
        .map(|name| (name.clone(), fs::read(dir.join(name)).unwrap_or_default()))
        .collect();
    files.sort();
    files
}
