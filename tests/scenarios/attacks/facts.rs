//! What a process may do, and who made it.

use serde_json::Value;
use vouch_tests::{Need, entry, require, settings::entry_of_user, user};

use super::{
    actor::{Heard, ask, fork, steps},
    programs::{EVIL, GROUP, Programs, VICTIM},
    stage::{Stage, When},
};

/// Whoever good made, and [`EVIL`].
fn made_by_good(programs: &Programs<'_>) -> Vec<Value> {
    let good = programs.path("good").replace("unix:path", "kernel:parent_exe");
    vec![entry(VICTIM, &[&good]), programs.evil()]
}

#[test]
fn whoever_a_program_made_is_told_by_it_and_nobody_else_is() {
    require!(Need::Agent, Need::Root, Need::ConnectHook);
    let stage = Stage::new(&["good", "evil", "other"], made_by_good);
    let (good, evil, other) = (stage.program("good"), stage.program("evil"), stage.program("other"));
    let connect = steps(["connect", &stage.socket()]);
    let asks_as_evil = [steps(["exec", &evil]), connect, ask()].concat();
    let after = |mark: &str| [&steps(["await", mark]), &*asks_as_evil].concat();
    let orphan = [steps(["await-end"]), asks_as_evil.clone()].concat();
    let becomes = |program: &str, mark: &str| steps(["exec", program, "touch", mark, "hold"]);
    let (one, two) = (stage.mark(), stage.mark());
    for (case, maker, then, heard) in [
        ("a child of good", &good, [fork(&asks_as_evil), steps(["hold"])].concat(), &[EVIL, VICTIM][..]),
        ("an orphan of good", &good, fork(&orphan), &[EVIL]),
        ("good became other", &good, [fork(&after(&one)), becomes(&other, &one)].concat(), &[EVIL]),
        ("evil became good", &evil, [fork(&after(&two)), becomes(&good, &two)].concat(), &[EVIL]),
    ] {
        let mut actor = stage.start(user::STRANGER, &[&steps([&**maker]), &*then].concat());
        if case == "an orphan of good" {
            actor.child.wait().unwrap();
        }
        assert_eq!(actor.hear(), Heard::only(heard), "{case}");
    }
}

#[test]
fn a_confined_process_is_told_by_its_confinement() {
    require!(Need::Agent, Need::Root, Need::ConnectHook);
    let confined = ["no_new_privs:true", "seccomp:filter", "cap:kill", "pidns:host", "mntns:host"]
        .map(|fact| format!("kernel:{fact}"));
    let confined = confined.each_ref().map(|fact| &**fact);
    let stage = Stage::new(&["evil"], |programs| vec![entry(VICTIM, &confined), programs.evil()]);
    let evil = stage.program("evil");
    let with = |bounds: &str, filter: &[String]| {
        let words =
            steps(["setpriv", "--no-new-privs", "--inh-caps=-all", "--", "setpriv", bounds, "--", &evil]);
        stage.start(0, &[&*words, filter, &steps(["connect", &stage.socket()]), &ask()].concat()).hear()
    };
    let filter = steps(["filter"]);
    assert_eq!(with("--bounding-set=-all,+kill", &filter), Heard::only(&[EVIL, VICTIM]));
    assert_eq!(with("--bounding-set=-all,+chown", &filter), Heard::only(&[EVIL]));
    assert_eq!(with("--bounding-set=-all,+kill", &[]), Heard::only(&[EVIL]));
}

/// It has every capability there, and may give itself what it likes.
#[test]
fn capabilities_in_a_user_namespace_are_none() {
    require!(Need::Agent, Need::Root, Need::ConnectHook, Need::UserNamespaces);
    let entries = vec![entry(GROUP, &["kernel:cap:sys_admin"]), entry_of_user(EVIL, user::STRANGER)];
    let mut stage = Stage::new(&["evil"], |_| entries);
    assert_eq!(stage.honest("evil", 0), Heard::only(&[GROUP]));
    let connect = steps([&stage.program("evil"), "connect", &stage.socket()]);
    let words = [steps(["unshare", "--user", "--map-root-user"]), connect].concat();
    let heard = stage.attack_by(When::AfterAccept, user::STRANGER, &words, &ask());
    assert_eq!(heard, Heard::only(&[EVIL]));
}
