//! Whoever connects is who the kernel saw connecting: no trick before, during or after a `connect()` earns a process
//! the identity of another one, over SDS or the Workload API.
//!
//! The attackers are copies of one program. `good` has identities by path, by hash and by file; `evil` is asked for
//! them on a connection of its own. Attackers have no privilege except where root is the point.
#![expect(clippy::unwrap_used, reason = "what cannot be arranged fails the scenario")]

mod actor;
mod after_connect;
mod death;
mod namespaces;
mod programs;
mod rings;
mod sockets;
mod stage;

use vouch_tests::{Need, require, user};

use actor::Heard;
use programs::{EVIL, GOOD};
use stage::Stage;

/// Without this, the other scenarios would show nothing.
#[test]
fn programs_that_play_no_trick_get_their_own_identities() {
    require!(Need::Agent, Need::Root, Need::ConnectHook);
    let stage = Stage::new(&["good", "evil"], |programs| programs.good_and_evil());
    assert_eq!(stage.honest("good", user::STRANGER), Heard::only(&GOOD));
    assert_eq!(stage.honest("evil", user::STRANGER), Heard::only(&[EVIL]));
}
