//! Who has many uids has one share.

use vouch_tests::{Agent, Need, eventually, require, subordinate::Users, user};

use super::{SOON, connections_shed, honest_caller_is_served, nothing_is_held, settings};
use crate::kernel_capture::stage::{Actor, Programs};

/// Of one user, each with a connection.
const UIDS: u32 = 8;
const PER_CALLER: u32 = 3;

#[test]
fn subordinate_uids_have_one_share_together() {
    require!(Need::Agent, Need::Root, Need::ConnectHook, Need::UserNamespaces);
    let agent = Agent::start(
        settings()
            .set("kernel.hooks", "require")
            .set("limits.connections_per_caller", PER_CALLER)
            .set("limits.preface_timeout", "1m"),
    );
    let (programs, socket, users) = (Programs::new(), agent.socket(), Users::of(user::STRANGER));
    let program = programs.program("caller");
    let connect = [program.to_str().unwrap(), "connect", socket.to_str().unwrap(), "hold"];
    let callers: Vec<Actor> =
        (1..=UIDS).map(|uid| Programs::start(&mut users.command(uid, &connect))).collect();
    eventually("all beyond one share are closed", SOON, || {
        let closed = connections_shed(&agent, "connections_per_caller");
        (closed == f64::from(UIDS - PER_CALLER)).then_some(())
    });
    honest_caller_is_served(&agent);
    drop(callers);
    nothing_is_held(&agent);
}
