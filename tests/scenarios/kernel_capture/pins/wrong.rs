//! Whatever is not as this agent would have made it is refused, and left as it is.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown, symlink},
    path::Path,
    process::Command,
};

use vouch::kernel::{self, Capture, Options};
use vouch_tests::{
    Agent, Bpffs, Need, Settings, agent::binary, agent::temporary_dir, bpffs::pin_stranger, require, user,
};

use super::{Place, all_names, assert_works, attach, entries};

fn code_of(pins: &Path) -> &'static str {
    let options = Options { pins: Some(pins.to_owned()), ..Options::default() };
    let problem = Capture::attach(&options).map(drop).unwrap_err().problem();
    assert!(problem.why.is_some() && problem.fix.is_some(), "{problem}");
    problem.code
}

#[test]
fn a_directory_that_others_may_enter_or_own_is_refused() {
    require!(Need::ConnectHook, Need::Bpffs);
    let place = Place::new();
    let pins = place.pins("state");
    let mode = |mode| fs::set_permissions(&pins, fs::Permissions::from_mode(mode)).unwrap();
    drop(place.attach());
    for open in [0o755, 0o770, 0o701] {
        mode(open);
        assert_eq!(code_of(&pins), "E0771", "{open:o}");
        assert_eq!(kernel::unpin(&pins).unwrap_err().problem().code, "E0771", "{open:o}");
    }
    mode(0o700);
    chown(&pins, Some(user::STRANGER), None).unwrap();
    assert_eq!(code_of(&pins), "E0771");
    chown(&pins, Some(0), None).unwrap();
    let layout = place.layout();
    fs::set_permissions(&layout, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(code_of(&pins), "E0771");
    fs::set_permissions(&layout, fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(place.names(), all_names(), "nothing was touched");
    let (capture, mut events) = place.attach();
    assert_works(&place, &capture, &mut events);
}

#[test]
fn a_link_or_a_pin_in_the_place_of_the_directory_is_refused() {
    require!(Need::ConnectHook, Need::Bpffs);
    let place = Place::new();
    drop(place.attach());
    let (pins, other) = (place.pins("state"), place.pins("other"));
    symlink(&pins, &other).unwrap();
    assert_eq!(code_of(&other), "E0771");
    fs::remove_file(&other).unwrap();
    fs::rename(place.layout().join("link_process_exec"), &other).unwrap();
    assert_eq!(code_of(&other), "E0771");
}

#[test]
fn a_place_that_others_may_change_or_that_keeps_no_pins_is_refused() {
    require!(Need::ConnectHook, Need::Bpffs);
    let ordinary = temporary_dir();
    assert_eq!(code_of(&ordinary.path().join("vouch")), "E0770");
    assert_eq!(code_of(&ordinary.path().join("nowhere/vouch")), "E0770");
    let open = Bpffs::mount();
    fs::set_permissions(open.path(), fs::Permissions::from_mode(0o777)).unwrap();
    assert_eq!(code_of(&open.path().join("vouch")), "E0770");
    let strangers = Bpffs::mount();
    chown(strangers.path(), Some(user::STRANGER), None).unwrap();
    assert_eq!(code_of(&strangers.path().join("vouch")), "E0770");
    // As it is mounted when nobody says how: everybody may make something, nobody may touch what others made.
    let sticky = Bpffs::mount();
    fs::set_permissions(sticky.path(), fs::Permissions::from_mode(0o1777)).unwrap();
    let options = Options { pins: Some(sticky.path().join("vouch")), ..Options::default() };
    drop(attach(&options).unwrap());
}

#[test]
fn what_another_agent_holds_is_refused() {
    require!(Need::ConnectHook, Need::Bpffs);
    let place = Place::new();
    let (capture, mut events) = place.attach();
    assert_eq!(code_of(&place.pins("state")), "E0772");
    assert_eq!(kernel::unpin(&place.pins("state")).unwrap_err().problem().code, "E0772");
    assert_works(&place, &capture, &mut events);
}

#[test]
fn something_else_under_a_name_of_ours_is_refused() {
    require!(Need::ConnectHook, Need::Bpffs);
    let place = Place::new();
    drop(place.attach());
    let swaps = [
        // Programs on other events, on other sockets, on sockets instead of events.
        ("link_process_exec", "link_process_fork"),
        ("link_connect_unix", "link_getsockname_unix"),
        ("link_process_exit", "link_connect_unix"),
        // A map instead of a link; one of another kind, one of the same form.
        ("link_process_exit", "COUNTERS"),
        ("ORIGINS", "COUNTERS"),
        ("CONNECTORS", "PEERS"),
    ];
    for (one, other) in swaps {
        let (one, other, aside) =
            (place.layout().join(one), place.layout().join(other), place.bpffs.path().join("aside"));
        let swap = || {
            fs::rename(&one, &aside).unwrap();
            fs::rename(&other, &one).unwrap();
            fs::rename(&aside, &other).unwrap();
        };
        swap();
        assert_eq!(code_of(&place.pins("state")), "E0773", "{one:?} {other:?}");
        swap();
        assert_eq!(place.names(), all_names(), "nothing was touched");
    }
    // The right event and the wrong program.
    let foreign = place.layout().join("link_process_exec");
    fs::remove_file(&foreign).unwrap();
    pin_stranger("sched_process_exec", &foreign);
    assert_eq!(code_of(&place.pins("state")), "E0773");
    fs::remove_file(foreign).unwrap();
    let (capture, mut events) = place.attach();
    assert_works(&place, &capture, &mut events);
}

#[test]
fn an_agent_removes_its_pins_when_it_is_told_to_and_does_not_run() {
    require!(Need::Agent, Need::ConnectHook, Need::Bpffs);
    let bpffs = Bpffs::mount();
    let below = bpffs.path().to_str().unwrap();
    let mut agent = Agent::prepare(Settings::new([]).set("kernel.pins", below));
    let unpin = |agent: &Agent| {
        let output = Command::new(binary()).args(["run", "--unpin", "--config"]).arg(agent.config()).output();
        let output = output.unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.code(), text)
    };
    assert_eq!(unpin(&agent), (Some(0), "nothing was pinned\n".to_owned()));
    agent.launch();
    let (code, text) = unpin(&agent);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("E0772"), "{text}");
    agent.stop();
    let instance = entries(bpffs.path()).remove(0);
    assert_eq!(entries(&entries(&instance)[0]).len(), all_names().len(), "pins stay when it is stopped");
    let (code, text) = unpin(&agent);
    assert_eq!((code, text.lines().count()), (Some(0), all_names().len()), "{text}");
    assert!(text.lines().all(|line| line.starts_with("removed ")), "{text}");
    assert!(!instance.exists());
    assert_eq!(unpin(&agent), (Some(0), "nothing was pinned\n".to_owned()));
}

#[test]
fn an_agent_does_not_start_over_what_is_odd() {
    require!(Need::Agent, Need::ConnectHook, Need::Bpffs);
    let bpffs = Bpffs::mount();
    let mut agent = Agent::prepare(Settings::new([]).set("kernel.pins", bpffs.path().to_str().unwrap()));
    agent.launch();
    agent.stop();
    let instance = entries(bpffs.path()).remove(0);
    fs::set_permissions(instance, fs::Permissions::from_mode(0o777)).unwrap();
    let mut command = Command::new("timeout");
    command.arg("20").arg(binary()).args(["run", "--config"]).arg(agent.config());
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && text.contains("E0771") && text.contains("0777"), "{text}");
}
