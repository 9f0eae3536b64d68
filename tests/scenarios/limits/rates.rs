//! What a caller does too often waits or is refused, and nobody else's does.

use std::{
    os::unix::net::UnixStream,
    thread,
    time::{Duration, Instant},
};

use vouch_tests::{Agent, Need, eventually, metrics::value, require, sds::Stream, user};

use super::{SOON, attestations_shed, connections_shed, honest_caller_is_served, nothing_is_held, settings};

#[test]
fn connections_made_without_pause_are_closed_and_others_are_not() {
    require!(Need::Agent, Need::Root);
    let agent = Agent::start(settings().set("limits.connects_per_second", 5));
    for _ in 0..100 {
        drop(UnixStream::connect(agent.socket()).expect("it accepts"));
    }
    eventually("most are turned away", SOON, || {
        (connections_shed(&agent, "connects_per_second") >= 80.0).then_some(())
    });
    honest_caller_is_served(&agent);
    nothing_is_held(&agent);
}

#[test]
fn who_goes_on_connecting_is_slowed_down_by_the_kernel() {
    require!(Need::Agent, Need::Root, Need::ConnectHook);
    let agent = Agent::start(settings().set("limits.connects_per_second", 1));
    eventually("connects take longer", SOON, || {
        drop(UnixStream::connect(agent.socket()).expect("it accepts"));
        let metrics = agent.metrics();
        // Those that leave no record are counted, too, whoever's they are.
        let (delayed, anybodys) =
            ("vouch_kernel_connects_delayed_total", "vouch_kernel_connects_without_storage_total");
        (value(&metrics, delayed) > value(&metrics, anybodys)).then_some(())
    });
    nothing_is_held(&agent);
}

#[test]
fn processes_attested_too_often_wait_and_those_of_another_user_do_not() {
    require!(Need::Agent, Need::Root);
    let agent = Agent::start(
        settings()
            .set("limits.attestations_per_second", 1)
            .set("limits.attestations_burst", 2)
            .set("limits.attestation_timeout", "2500ms"),
    );
    thread::scope(|scope| {
        let started = Instant::now();
        // Each is a new process: two at once, two or three later, the rest never.
        let strangers: Vec<_> = (0..10)
            .map(|_| scope.spawn(|| agent.cli(Some(user::STRANGER), &["fetch", "--timeout", "20s"])))
            .collect();
        eventually("some wait", SOON, || {
            (value(&agent.metrics(), "vouch_attestations_queued") >= Some(1.0)).then_some(())
        });
        honest_caller_is_served(&agent);
        strangers.into_iter().for_each(|stranger| _ = stranger.join().expect("it ran"));
        assert!(started.elapsed() >= Duration::from_secs(1), "{:?}", started.elapsed());
    });
    assert!(attestations_shed(&agent, "attestations_per_second") >= 5.0, "{}", agent.metrics());
    nothing_is_held(&agent);
}

#[tokio::test(flavor = "multi_thread")]
async fn further_connections_of_a_process_that_is_known_cost_no_attestation() {
    require!(Need::Agent, Need::Root, Need::ConnectHook);
    let agent = Agent::start(
        settings()
            .set("limits.attestations_per_second", 1)
            .set("limits.attestations_burst", 1)
            .set("limits.attestation_timeout", "1s"),
    );
    let start = Instant::now();
    let mut streams = Vec::new();
    for _ in 0..100 {
        let mut stream = Stream::open(&agent.socket(), &["ROOTCA"]).await.expect("a stream");
        stream.next().await.expect("an answer");
        streams.push(stream);
    }
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    let metrics = agent.metrics();
    assert_eq!(value(&metrics, "vouch_attestations_total"), Some(1.0), "{metrics}");
    assert_eq!(attestations_shed(&agent, "attestations_per_second"), 0.0);
    drop(streams);
    nothing_is_held(&agent);
}
