//! A total that hoarders have taken as much of as they may still has room for whoever comes.

use std::{io::Write, os::unix::net::UnixStream, path::Path, time::Duration};

use vouch_tests::{Agent, Need, connection::is_open, eventually, guise::connect_as, require, sds::Stream};

use super::{SOON, calls_shed, connections_shed, honest_caller_is_served, nothing_is_held, settings};

/// Two who take what they can get.
const HOARDERS: [u32; 2] = [12_101, 12_102];
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// Connections that say hello, and stay.
fn hoard(uid: u32, path: &Path, count: usize) -> Vec<UnixStream> {
    let hello = |mut socket: UnixStream| {
        // Whoever was turned away is closed by now.
        socket.write_all(PREFACE).ok();
        socket
    };
    (0..count).map(|_| hello(connect_as(uid, path))).collect()
}

#[test]
fn connections_that_two_hoard_have_room_for_a_third() {
    require!(Need::Agent, Need::Root);
    let agent = Agent::start(
        settings()
            .set("limits.connections", 16)
            .set("limits.first_request_timeout", "1m")
            .set("limits.preface_timeout", "1m"),
    );
    let all: Vec<_> = HOARDERS.iter().flat_map(|uid| hoard(*uid, &agent.socket(), 16)).collect();
    // The first has three quarters. For the second there was a little, and there still is for others.
    eventually("the hoarders have no more than they may", SOON, || {
        (all.iter().filter(is_open).count() == 13).then_some(())
    });
    eventually("the others are counted", SOON, || {
        (connections_shed(&agent, "connections_reserve") == 19.0).then_some(())
    });
    (0..3).for_each(|_| honest_caller_is_served(&agent));
    assert_eq!(connections_shed(&agent, "connections"), 0.0);
    drop(all);
    nothing_is_held(&agent);
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_one_hoards_have_room_for_another() {
    require!(Need::Agent, Need::Root);
    let agent = Agent::start(settings().set("limits.streams", 8));
    let (mut kept, mut refused) = (Vec::new(), 0);
    for _ in 0..10 {
        match Stream::open(&agent.socket(), &["ROOTCA"]).await {
            Ok(mut stream) => match stream.next().await {
                Ok(_) => kept.push(stream),
                Err(_) => refused += 1,
            },
            Err(_) => refused += 1,
        }
    }
    assert_eq!((kept.len(), refused), (6, 4));
    assert_eq!(calls_shed(&agent, "streams_reserve"), 4.0, "{}", agent.metrics());
    honest_caller_is_served(&agent);
    drop(kept);
    nothing_is_held(&agent);
}

#[test]
fn a_total_without_a_reserve_may_be_taken_by_one() {
    require!(Need::Agent, Need::Root);
    let agent = Agent::start(
        settings()
            .set("limits.connections", 16)
            .set("limits.reserve", 0.0)
            .set("limits.preface_timeout", "1m")
            .set("limits.first_request_timeout", "1m"),
    );
    let all = hoard(HOARDERS[0], &agent.socket(), 20);
    eventually("all are taken", SOON, || (all.iter().filter(is_open).count() == 16).then_some(()));
    assert_eq!(connections_shed(&agent, "connections"), 4.0);
    std::thread::sleep(Duration::from_millis(10));
    drop(all);
    nothing_is_held(&agent);
}
