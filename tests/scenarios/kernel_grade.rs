//! Where the kernel can record `connect()`, an agent may require that it did; and facts that only the kernel knows
//! decide about identities.

use std::{process::Command, time::Duration};

use vouch_tests::{
    Agent, Cgroup, Need, Settings, agent, child, entry, eventually, require, settings::entry_of_user, user,
};

const WEB: &str = "spiffe://example.org/web";
const NO_IDENTITY: i32 = 6;

#[test]
fn an_agent_that_requires_the_record_of_the_kernel_serves_a_caller_that_has_one() {
    require!(Need::Agent, Need::Root, Need::ConnectHook);
    let entries = [entry_of_user(WEB, user::FRONTEND)];
    let agent =
        Agent::start(Settings::new(entries).set("kernel.hooks", "require").set("attest.minimum", "kernel"));
    let fetched = agent.cli(Some(user::FRONTEND), &["fetch"]);
    assert!(fetched.status.success(), "{fetched:?}");
    let refused = agent.cli(Some(user::STRANGER), &["fetch"]);
    assert_eq!(refused.status.code(), Some(NO_IDENTITY), "{refused:?}");
}

#[test]
fn an_agent_without_hooks_refuses_to_run_at_the_grade_of_the_kernel() {
    require!(Need::Agent, Need::Root);
    let settings = Settings::new([entry_of_user(WEB, user::FRONTEND)]);
    let agent = Agent::prepare(settings.set("kernel.hooks", "off").set("attest.minimum", "kernel"));
    let mut run = Command::new("timeout");
    run.args(["--signal", "KILL", "15"]).arg(agent::binary()).args(["run", "--config"]).arg(agent.config());
    let output = child::output(run, None);
    assert!(!output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("error[E0"), "{output:?}");
}

#[test]
fn an_identity_can_depend_on_the_cgroup() {
    require!(Need::Agent, Need::Root, Need::Cgroup2);
    let cgroup = Cgroup::new();
    let agent = Agent::start(Settings::new([entry(WEB, &[&format!("kernel:cgroup:{}", cgroup.path())])]));
    // The shell moves itself, so whoever it becomes has been inside from its first instruction on.
    let inside = format!(
        "echo $$ > {}/cgroup.procs && exec {} fetch --socket {}",
        cgroup.dir().display(),
        agent::binary().display(),
        agent.socket().display()
    );
    let mut shell = Command::new("sh");
    shell.args(["-c", &inside]);
    let fetched = child::output(shell, None);
    assert!(fetched.status.success(), "{fetched:?}");
    let outside = agent.cli(None, &["fetch"]);
    assert_eq!(outside.status.code(), Some(NO_IDENTITY), "{outside:?}");
}

/// A runtime that is not known leaves one trace at least; whoever has one is not called a process of the host.
#[test]
fn who_has_a_trace_of_a_container_is_not_sure_to_be_of_the_host() {
    require!(Need::Agent, Need::Root, Need::ConnectHook, Need::Cgroup2);
    let entries = [entry(WEB, &["kernel:container:none"])];
    let agent = Agent::start(Settings::new(entries).set("kernel.hooks", "require"));
    let fetched = agent.cli(None, &["fetch"]);
    assert!(fetched.status.success(), "{fetched:?}");
    let cgroup = Cgroup::new();
    let named = cgroup.dir().join("0123456789abcdef".repeat(4));
    std::fs::create_dir(&named).expect("a cgroup can be made");
    let enter = format!("echo $$ > {}/cgroup.procs && exec \"$@\"", named.display());
    for trace in [
        &["unshare", "--pid", "--fork"][..],
        &["unshare", "--cgroup"],
        &["unshare", "--user"],
        &["sh", "-c", &enter, "sh"],
    ] {
        let mut command = Command::new(trace[0]);
        command.args(&trace[1..]).arg(agent::binary()).args(["fetch", "--socket"]).arg(agent.socket());
        let refused = child::output(command, None);
        assert_eq!(refused.status.code(), Some(NO_IDENTITY), "{trace:?}: {refused:?}");
    }
    eventually("the cgroup is empty", Duration::from_secs(5), || std::fs::remove_dir(&named).ok());
}
