//! Whoever connects is who the kernel saw connecting: no trick before, during or after a `connect()` earns a process
//! the identity of another one, over SDS or the Workload API.
//!
//! The attackers are copies of one program. `good` has identities by path, by hash and by file; `evil` is asked for
//! them on a connection of its own. Attackers have no privilege except where root is the point.
#![expect(clippy::unwrap_used, reason = "what cannot be arranged fails the scenario")]

mod actor;
mod after_connect;
mod before_call;
mod death;
mod facts;
mod lasting;
mod engines;
mod namespaces;
mod programs;
mod restart;
mod rings;
mod sockets;
mod stage;

use vouch_tests::{Need, require};

use stage::Stage;

/// Without this, the other scenarios would show nothing.
#[test]
fn programs_that_play_no_trick_get_their_own_identities() {
    require!(Need::Agent, Need::Root, Need::ConnectHook);
    Stage::good_and_evil();
}
