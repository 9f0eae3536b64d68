//! A caller with namespaces of its own, where it is root: what it does there counts for nothing outside.

use vouch_tests::{Need, entry, eventually, require, settings::entry_of_user, user};

use super::{
    actor::{Heard, ask, steps},
    programs::{EVIL, GOOD_HASH, GOOD_PATH, GROUP, ROOT, VICTIM, text},
    stage::{LIMIT, Stage, When},
};

/// Storage of sockets is charged to the network namespace, and its root may leave no room for the record.
#[test]
fn a_caller_that_suppresses_its_record_is_refused_and_counted() {
    require!(Need::Agent, Need::Root, Need::ConnectHook, Need::UserNamespaces);
    let mut stage = Stage::new(&["good", "evil"], |programs| programs.good_and_user(user::STRANGER));
    let connect = steps([&stage.program("evil"), "connect", &stage.socket()]);
    let inside = |script: &str| {
        let script = format!("{script} && exec \"$@\"");
        [steps(["unshare", "--user", "--map-root-user", "--net", "sh", "-c", &script, "sh"]), connect.clone()]
            .concat()
    };
    let roomy = stage.attack_by(When::AfterAccept, user::STRANGER, &inside("true"), &ask());
    assert_eq!(roomy, Heard::only(&[EVIL]));
    let starved = inside("echo 1 > /proc/sys/net/core/optmem_max");
    for (when, refused) in [(When::BeforeAccept, 1), (When::AfterAccept, 2)] {
        let heard = stage.attack_by(when, user::STRANGER, &starved, &ask());
        assert_eq!(heard, Heard::closed(), "{when:?}");
        stage.wait_for_ended("connections", "no_record", refused);
    }
}

#[test]
fn root_of_a_user_namespace_is_who_it_is_outside() {
    require!(Need::Agent, Need::Root, Need::ConnectHook, Need::UserNamespaces);
    for hooks in ["require", "off"] {
        let entries = vec![entry_of_user(ROOT, 0), entry_of_user(EVIL, user::STRANGER)];
        let mut stage = Stage::with(&["evil"], |_| entries, |settings| settings.set("kernel.hooks", hooks));
        // With a map it calls itself root there; without one it is nobody there.
        for namespace in [&["unshare", "--user", "--map-root-user"][..], &["unshare", "--user"]] {
            let unshare: Vec<String> = namespace.iter().map(|&word| word.to_owned()).collect();
            let connect = steps([&stage.program("evil"), "connect", &stage.socket()]);
            let words = [unshare, connect].concat();
            let heard = stage.attack_by(When::AfterAccept, user::STRANGER, &words, &ask());
            assert_eq!(heard, Heard::only(&[EVIL]), "{hooks} {namespace:?}");
        }
        assert_eq!(stage.honest("evil", 0), Heard::only(&[ROOT]), "{hooks}");
    }
}

/// A mount namespace makes any file appear at any path. In a container that is so without a user namespace.
#[test]
fn a_program_mounted_over_the_path_of_another_is_not_the_other() {
    require!(Need::Agent, Need::Root, Need::ConnectHook, Need::UserNamespaces);
    let cases: [(&str, u32, &[&str]); 3] = [
        ("require", user::STRANGER, &["--user", "--map-root-user", "--mount"]),
        ("off", user::STRANGER, &["--user", "--map-root-user", "--mount"]),
        ("require", 0, &["--mount"]),
    ];
    for (hooks, uid, namespaces) in cases {
        let mut stage = Stage::with(
            &["good", "evil"],
            |programs| programs.good_and_user(uid),
            |settings| settings.set("kernel.hooks", hooks),
        );
        let (good, evil) = (stage.program("good"), stage.program("evil"));
        let script = "mount --bind \"$1\" \"$2\" && shift && exec \"$@\"";
        let mut words = vec!["unshare".to_owned()];
        words.extend(namespaces.iter().map(|&flag| flag.to_owned()));
        words.extend(steps(["sh", "-c", script, "sh", &evil, &good, "connect", &stage.socket()]));
        let heard = stage.attack_by(When::AfterAccept, uid, &words, &ask());
        assert_eq!(heard, Heard::only(&[EVIL]), "{hooks} {namespaces:?}");
    }
}

#[test]
fn a_disguise_in_a_user_namespace_is_not_believed() {
    require!(Need::Agent, Need::Root, Need::ConnectHook, Need::UserNamespaces);
    let mut stage = Stage::new(&["good", "evil"], |programs| programs.good_and_user(user::STRANGER));
    let (good, evil) = (stage.program("good"), stage.program("evil"));
    let words = steps([&evil, "own-users", "disguise", &good, "connect", &stage.socket()]);
    let heard = stage.attack_by(When::AfterAccept, user::STRANGER, &words, &ask());
    assert_eq!(heard, Heard::only(&[EVIL]));
}

/// The same where nobody saw what the process executed: its namespace alone speaks against it.
#[test]
fn without_hooks_a_disguise_in_a_user_namespace_is_not_believed_either() {
    require!(Need::Agent, Need::Root, Need::Cgroup2, Need::UserNamespaces);
    let off = |settings: vouch_tests::Settings| settings.set("kernel.hooks", "off");
    let mut stage = Stage::with(&["good", "evil"], |programs| programs.good_and_user(user::STRANGER), off);
    assert_eq!(stage.honest("good", user::STRANGER), Heard::only(&[EVIL, GOOD_HASH, GOOD_PATH]));
    let (good, evil) = (stage.program("good"), stage.program("evil"));
    let words = steps([&evil, "own-users", "disguise", &good, "connect", &stage.socket()]);
    let heard = stage.attack_by(When::AfterAccept, user::STRANGER, &words, &ask());
    assert_eq!(heard, Heard::only(&[EVIL]));
    // Not even when it gets there after it has connected.
    let connect = steps(["connect", &stage.socket()]);
    let then = [steps(["own-users", "disguise", &good]), ask()].concat();
    assert_eq!(stage.attack(When::AfterAccept, user::STRANGER, &connect, &then), Heard::only(&[EVIL]));
}

/// In the host's own user namespace, with the one capability for it.
#[test]
fn a_disguise_by_the_right_to_restore_processes_is_not_believed() {
    require!(Need::Agent, Need::Root, Need::ConnectHook);
    let mut stage = Stage::new(&["good", "evil"], |programs| programs.good_and_user(user::STRANGER));
    let (good, evil, id) = (stage.program("good"), stage.program("evil"), user::STRANGER.to_string());
    let right = "+checkpoint_restore";
    let become_stranger = ["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups"];
    let keep = ["--inh-caps", right, "--ambient-caps", right, "--"];
    let words = [steps(become_stranger), steps(keep), steps([&evil, "disguise", &good])].concat();
    let words = [words, steps(["connect", &stage.socket()])].concat();
    let heard = stage.attack_by(When::AfterAccept, 0, &words, &ask());
    assert_eq!(heard, Heard::only(&[EVIL]));
}

/// Who connects has never left the host's user namespace: only a helper with the same memory has.
#[test]
fn a_disguise_by_a_helper_with_the_same_memory_is_not_believed() {
    require!(Need::Agent, Need::Root, Need::ConnectHook, Need::UserNamespaces);
    let mut stage = Stage::new(&["good", "evil"], |programs| programs.good_and_user(user::STRANGER));
    let (good, evil) = (stage.program("good"), stage.program("evil"));
    let words = steps([&evil, "disguise-by-helper", &good, "connect", &stage.socket()]);
    let heard = stage.attack_by(When::AfterAccept, user::STRANGER, &words, &ask());
    assert_eq!(heard, Heard::only(&[EVIL]));
}

/// The name of a process stands in files of `/proc` between what the kernel says.
#[test]
fn a_name_that_looks_like_facts_is_only_a_name() {
    require!(Need::Agent, Need::Root, Need::ConnectHook);
    const NAMES: [&str; 4] = ["a) S 1 (b\nUid: 0", ")\nUid:\t0\t0\t0", "\nGroups:\t0\n", "x) R 1 1 1 1 1 "];
    for hooks in ["require", "off"] {
        let entries = vec![
            entry_of_user(ROOT, 0),
            entry(GROUP, &["unix:supplementary_gid:0"]),
            entry_of_user(EVIL, user::STRANGER),
        ];
        let set = |settings: vouch_tests::Settings| settings.set("kernel.hooks", hooks);
        // The first also as the name of a file, which becomes the name of the process.
        let mut stage = Stage::with(&["evil", NAMES[0]], |_| entries, set);
        for name in NAMES {
            let words = steps([&stage.program("evil"), "name", name, "connect", &stage.socket()]);
            let heard = stage.attack_by(When::AfterAccept, user::STRANGER, &words, &ask());
            assert_eq!(heard, Heard::only(&[EVIL]), "{name:?} {hooks}");
        }
        assert_eq!(stage.honest(NAMES[0], user::STRANGER), Heard::only(&[EVIL]), "{hooks}");
    }
}

/// Whoever a part of the cgroup tree was given to may call a cgroup of it what a runtime would call a container's.
#[test]
fn a_name_in_a_delegated_cgroup_makes_no_container() {
    require!(Need::Agent, Need::Root, Need::ConnectHook, Need::Cgroup2);
    let mut stage = Stage::new(&["evil"], |_| {
        vec![entry(VICTIM, &["kernel:container:docker"]), entry_of_user(EVIL, user::STRANGER)]
    });
    let (evil, socket, id) = (stage.program("evil"), stage.socket(), user::STRANGER.to_string());
    let given = stage.cgroup.dir().join("given");
    let container = given.join(format!("docker-{}.scope", "0123456789abcdef".repeat(4)));
    std::fs::create_dir_all(&container).unwrap();
    let inside =
        ["sh", "-c", "echo $$ > \"$0\" && exec \"$@\"", text(&container.join("cgroup.procs")).leak()];
    let become_stranger = ["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups", "--"];
    let connect = [&*evil, "connect", &socket];
    let words = [steps(inside), steps(become_stranger), steps(connect)].concat();
    for (owner, heard) in [(0, &[EVIL, VICTIM][..]), (user::STRANGER, &[EVIL])] {
        std::os::unix::fs::chown(&given, Some(owner), None).unwrap();
        assert_eq!(stage.attack_by(When::AfterAccept, 0, &words, &ask()), Heard::only(heard), "{owner}");
    }
    for emptied in [container, given] {
        eventually("the cgroup is empty", LIMIT, || std::fs::remove_dir(&emptied).ok());
    }
}
