//! Where the kernel can record `connect()`, an agent may require that it did; and facts that only the kernel knows
//! decide about identities.

use std::process::Command;

use vouch_tests::{
    Agent, Cgroup, Need, Settings, agent, child, entry, require, settings::entry_of_user, user,
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
