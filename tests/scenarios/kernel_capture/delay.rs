//! Connects of those whom the agent names take longer, and nobody else's do.

use std::{
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use vouch::kernel::ConnectorKey;
use vouch_tests::{Need, require};

use super::{
    credentials::{of_stranger, open_stage},
    stage::{Programs, Stage},
};

const LONG: Duration = Duration::from_secs(600);

/// Whether each of a few connects is counted as delayed. Now and then one of another test's may be counted, too.
fn are_delayed(stage: &Stage, mut connect: impl FnMut() -> ConnectorKey) -> bool {
    let count = || stage.capture.counters().unwrap().connects_delayed;
    (0..4).all(|_| {
        let before = count();
        connect();
        count() > before
    })
}

fn own_key(stage: &Stage) -> ConnectorKey {
    stage.capture.inspect(std::process::id()).unwrap().unwrap().task.connector_key()
}

#[test]
fn connects_are_slowed_down_by_the_key_of_their_makers_and_until_it_is_over() {
    require!(Need::ConnectHook, Need::SetUid);
    let stage = open_stage();
    let program = stage.program("caller");
    let connect = [program.to_str().unwrap(), "connect", &stage.path, "hold"];
    let of_stranger = || {
        let _actor = Programs::start(&mut of_stranger(&connect));
        stage.record().unwrap().connector_key()
    };
    let ours = || {
        let _client = UnixStream::connect(&stage.path).unwrap();
        stage.record().unwrap().connector_key()
    };
    let stranger = of_stranger();
    assert_ne!(stranger, ours());
    assert!(!are_delayed(&stage, of_stranger));
    stage.capture.slow_down(stranger, LONG).unwrap();
    assert!(are_delayed(&stage, of_stranger));
    assert!(!are_delayed(&stage, ours));
    stage.capture.slow_down(stranger, Duration::ZERO).unwrap();
    assert!(!are_delayed(&stage, of_stranger));
    // Whatever their uid.
    stage.capture.slow_down(own_key(&stage).of_whole_cgroup(), LONG).unwrap();
    assert!(are_delayed(&stage, of_stranger) && are_delayed(&stage, ours));
}

/// The one who connects pays: its own calls take longer.
#[test]
fn a_connect_takes_longer_for_who_is_slowed_down() {
    require!(Need::ConnectHook);
    let stage = Stage::new();
    stage.capture.slow_down(own_key(&stage), LONG).unwrap();
    let connect = || {
        let start = Instant::now();
        let _client = UnixStream::connect(&stage.path).unwrap();
        let took = start.elapsed();
        drop(stage.listener.accept().unwrap());
        took
    };
    let fastest = (0..100).map(|_| connect()).min().unwrap();
    assert!(fastest >= Duration::from_micros(40), "{fastest:?}");
}
