//! Connects of those whom the agent names take longer, and nobody else's do.

use std::time::Duration;

use vouch_tests::{Need, require};

use super::{
    credentials::{of_stranger, open_stage},
    stage::Programs,
};

const LONG: Duration = Duration::from_secs(600);

#[test]
fn connects_are_slowed_down_by_their_sign_and_until_it_is_over() {
    require!(Need::ConnectHook, Need::SetUid);
    let stage = open_stage();
    let program = stage.program("caller");
    let connect = [program.to_str().unwrap(), "connect", &stage.path, "hold"];
    let delayed_after = |stranger: bool| {
        let _actor = match stranger {
            true => Programs::start(&mut of_stranger(&connect)),
            false => stage.actor("ours", &connect[1..]),
        };
        let sign = stage.record().unwrap().sign();
        (sign, stage.capture.counters().unwrap().connects_delayed)
    };
    let (stranger, none) = delayed_after(true);
    assert_eq!(none, 0);
    stage.capture.slow_down(stranger, LONG).unwrap();
    assert_eq!(delayed_after(true), (stranger, 1));
    let (ours, still_one) = delayed_after(false);
    assert_ne!(ours, stranger);
    assert_eq!(still_one, 1);
    stage.capture.slow_down(stranger, Duration::ZERO).unwrap();
    assert_eq!(delayed_after(true), (stranger, 1));
}
