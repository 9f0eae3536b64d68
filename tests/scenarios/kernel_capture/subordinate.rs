//! A user namespace multiplies nobody: whoever made the outermost one is the caller that limits count.

use vouch::{
    attestation::{CallerKey, Grade, Peer},
    kernel::{Task, UserNamespace},
};
use vouch_tests::{
    Need, require,
    subordinate::{Users, outside},
    user,
};

use super::{
    credentials::{of_stranger, open_stage},
    stage::{Programs, Stage},
};

/// `create_user_ns` of the kernel makes none that is deeper.
const DEEPEST: usize = 33;
const ONE_DEEPER: [&str; 3] = ["unshare", "--user", "--map-root-user"];

/// Whom limits count for the next connection, and what the kernel saw of it.
fn next_caller(stage: &Stage) -> (CallerKey, Task) {
    let (accepted, _) = stage.listener.accept().unwrap();
    let peer = Peer::of(&accepted, Some(&stage.capture), Grade::Kernel).unwrap();
    (peer.caller_key(), *peer.record().unwrap())
}

#[test]
fn a_user_is_one_caller_in_whatever_namespaces_it_makes_and_with_each_of_its_uids() {
    require!(Need::ConnectHook, Need::UserNamespaces);
    let stage = open_stage();
    let program = stage.program("caller");
    let connect = [program.to_str().unwrap(), "connect", &stage.path, "hold"];
    let _outside = Programs::start(&mut of_stranger(&connect));
    let (caller, record) = next_caller(&stage);
    assert_eq!((caller, record.outer_user_namespace), (CallerKey::Uid(user::STRANGER), None));
    for level in [1, 2, DEEPEST] {
        let users = Users::of(user::STRANGER);
        let words = [&ONE_DEEPER.repeat(level - 1), &connect[..]].concat();
        let actor = Programs::start(&mut users.command(8, &words));
        let (caller, record) = next_caller(&stage);
        assert_eq!((record.euid, caller), (outside(8), CallerKey::Uid(user::STRANGER)), "{level}");
        let outer = UserNamespace { inode: users.inode(), owner: user::STRANGER };
        assert_eq!(record.outer_user_namespace, Some(outer), "{level}");
        assert_eq!(record.namespaces.user == outer.inode, level == 1);
        let now = stage.capture.inspect(actor.pid()).unwrap().unwrap().task;
        assert!(now.unchanged_since(&record), "{level}");
    }
}

#[test]
fn a_namespace_that_root_made_is_one_caller_with_all_of_its_uids() {
    require!(Need::ConnectHook, Need::UserNamespaces);
    let stage = open_stage();
    let program = stage.program("caller");
    let connect = [program.to_str().unwrap(), "connect", &stage.path, "hold"];
    let users = [Users::of(0), Users::of(0)];
    for users in &users {
        for (uid, deeper) in [(7, &[][..]), (8, &[]), (8, &ONE_DEEPER)] {
            let _actor = Programs::start(&mut users.command(uid, &[deeper, &connect].concat()));
            let (caller, record) = next_caller(&stage);
            assert_eq!((record.euid, caller), (outside(uid), CallerKey::UserNamespace(users.inode())));
            let outer = UserNamespace { inode: users.inode(), owner: 0 };
            assert_eq!(record.outer_user_namespace, Some(outer));
        }
    }
    assert_ne!(users[0].inode(), users[1].inode());
}
