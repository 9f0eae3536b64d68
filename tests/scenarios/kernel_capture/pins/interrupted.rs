//! A start may end at any instant. Whatever is pinned then, the next start goes on from it.

use std::{fs, path::PathBuf, process::Command, thread, time::Duration};

use vouch_tests::{Agent, Need, Settings, require};

use super::{Place, all_names, assert_works, entries};

/// In this order a first start makes them: maps in some order of their own, then hooks, the first of which is this.
const HOOKS: [&str; 6] = [
    "link_process_exit",
    "link_process_exec",
    "link_process_fork",
    "link_cgroup_move",
    "link_getsockname_unix",
    "link_connect_unix",
];

#[test]
fn a_start_goes_on_from_whatever_a_first_start_left() {
    require!(Need::ConnectHook, Need::Bpffs);
    let place = Place::new();
    let maps: Vec<String> = all_names().into_iter().filter(|name| !name.starts_with("link_")).collect();
    // So many were made; the last one may have its place or wait for it.
    for made in 0..=HOOKS.len() {
        for waits in [false, true] {
            if waits && made == 0 {
                continue;
            }
            drop(place.attach());
            let pin = |name: &str| place.layout().join(name);
            for hook in &HOOKS[made..] {
                fs::remove_file(pin(hook)).unwrap();
            }
            if waits {
                let last = HOOKS[made - 1];
                fs::rename(pin(last), pin(&format!("{last}_next"))).unwrap();
            }
            let (capture, mut events) = place.attach();
            assert_works(&place, &capture, &mut events);
        }
    }
    for missing in &maps {
        drop(place.attach());
        for hook in HOOKS {
            fs::remove_file(place.layout().join(hook)).unwrap();
        }
        fs::remove_file(place.layout().join(missing)).unwrap();
        let (capture, mut events) = place.attach();
        assert_works(&place, &capture, &mut events);
    }
}

#[test]
fn a_start_goes_on_from_whatever_a_later_start_left() {
    require!(Need::ConnectHook, Need::Bpffs);
    let place = Place::new();
    let aside = place.bpffs.path().join("aside");
    for hook in HOOKS {
        // The earlier program and the new one are both attached.
        drop(place.attach());
        fs::rename(place.layout().join(hook), &aside).unwrap();
        drop(place.attach());
        fs::rename(&aside, place.layout().join(format!("{hook}_next"))).unwrap();
        let (capture, mut events) = place.attach();
        assert_works(&place, &capture, &mut events);
    }
}

#[test]
fn pins_of_another_layout_go_when_the_new_hooks_are_there() {
    require!(Need::ConnectHook, Need::Bpffs);
    let place = Place::new();
    drop(place.attach());
    let (ours, aside) = (place.layout(), place.bpffs.path().join("aside"));
    let old = place.pins("state").join("layout-0123456789abcdef");
    // Of the new ones so many hooks are there, none without their directory; of the old ones as many.
    for (new, earlier) in [(None, 6), (Some(0), 6), (Some(3), 6), (Some(6), 6), (Some(6), 2), (Some(6), 0)] {
        drop(place.attach());
        fs::rename(&ours, &aside).unwrap();
        if let Some(made) = new {
            drop(place.attach());
            HOOKS[made..].iter().for_each(|hook| fs::remove_file(ours.join(hook)).unwrap());
        }
        fs::create_dir_all(place.pins("state")).unwrap();
        fs::rename(&aside, &old).unwrap();
        HOOKS[earlier..].iter().for_each(|hook| fs::remove_file(old.join(hook)).unwrap());

        let (capture, mut events) = place.attach();
        assert_works(&place, &capture, &mut events);
        assert_eq!(place.layout(), ours);
    }
}

/// The real thing: killed so often that some instants are hit which nobody thought of.
#[test]
fn an_agent_that_is_killed_while_it_starts_leaves_what_the_next_one_goes_on_from() {
    require!(Need::Agent, Need::ConnectHook, Need::Bpffs);
    let place = Place::new();
    let below = place.bpffs.path().to_str().unwrap();
    let mut agent = Agent::prepare(Settings::new([]).set("kernel.pins", below));
    for round in 0..24 {
        agent.spawn();
        thread::sleep(Duration::from_millis(20 + 12 * round));
        agent.kill();
    }
    agent.launch();
    let pinned: Vec<PathBuf> = entries(&entries(place.bpffs.path()).remove(0));
    assert_eq!(pinned.len(), 1, "{pinned:?}");
    let names = entries(&pinned[0]).into_iter().map(|pin| pin.file_name().unwrap().to_owned());
    assert!(names.eq(all_names().into_iter().map(Into::<std::ffi::OsString>::into)));
    let status = agent.status();
    assert!(!status.to_string().contains("W0770"), "{status}");
    agent.kill();
    let unpinned = Command::new(vouch_tests::agent::binary())
        .args(["run", "--unpin", "--config"])
        .arg(agent.config())
        .output()
        .unwrap();
    assert!(unpinned.status.success(), "{unpinned:?}");
    assert_eq!(String::from_utf8(unpinned.stdout).unwrap().lines().count(), all_names().len());
    assert!(entries(place.bpffs.path()).is_empty());
}
