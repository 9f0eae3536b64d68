//! Every attack of the bench, at full speed for a while: an honest caller is served meanwhile, the attack is counted
//! under the limit that bounds it, memory stays within bounds, and nothing is left of it.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use vouch_bench::attack::{self, Attack};
use vouch_tests::{Agent, Need, eventually, metrics::sum, require};

use super::{SOON, calls_shed, connections_shed, honest_caller_is_served, memory, nothing_is_held, settings};

/// How long each goes on, at least.
const FOR: Duration = Duration::from_secs(2);
const CONNECTIONS: usize = 8;
/// What an attack may cost us while it lasts: 8 connections with 100 calls each are a few of these.
const MEMORY: u64 = 96 << 20;

/// Runs `attack` until an honest caller was served three times, and checks that nothing is left; then the agent.
fn survive(attack: Attack) -> Agent {
    let mut agent = Agent::start(
        settings()
            .set("limits.preface_timeout", "1s")
            .set("limits.first_request_timeout", "1s")
            .set("limits.stalled_timeout", "1s"),
    );
    honest_caller_is_served(&agent);
    let (before, start, over) = (memory(&mut agent), Instant::now(), AtomicBool::new(false));
    let socket = agent.socket();
    thread::scope(|scope| {
        let attacker =
            scope.spawn(|| attack::run(attack, &socket, CONNECTIONS, || !over.load(Ordering::Relaxed)));
        // Also when a check fails: the scope waits for the attacker.
        let ended = Ended(&over);
        for _ in 0..3 {
            honest_caller_is_served(&agent);
        }
        thread::sleep(FOR.saturating_sub(start.elapsed()));
        honest_caller_is_served(&agent);
        drop(ended);
        let done = attacker.join().expect("it attacks").expect("it can connect");
        assert!(done.connections >= 1, "{done:?}");
    });
    let grown = memory(&mut agent).saturating_sub(before);
    assert!(grown < MEMORY, "{} grew by {} MiB", attack.name(), grown >> 20);
    nothing_is_held(&agent);
    honest_caller_is_served(&agent);
    agent
}

/// Ends the attack when it is dropped.
struct Ended<'a>(&'a AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The caller's frames were left unread for a while.
#[track_caller]
fn is_paced(agent: &Agent) {
    let paused = sum(&agent.metrics(), "vouch_reads_paused_total");
    assert!(paused > 0.0, "{}", agent.metrics());
}

#[track_caller]
fn is_shed(agent: &Agent, connections: &str) {
    assert!(connections_shed(agent, connections) > 0.0, "{connections}: {}", agent.metrics());
}

#[track_caller]
fn has_calls_shed(agent: &Agent, calls: &str) {
    eventually(calls, SOON, || (calls_shed(agent, calls) > 0.0).then_some(()));
}

#[test]
fn a_stranger_who_connects_without_pause() {
    require!(Need::Agent, Need::Root);
    is_shed(&survive(Attack::Connect), "connects_per_second");
}

/// Without hooks nobody is slowed down, and the agent cannot keep up.
#[test]
fn a_flood_of_connects_is_noticed() {
    require!(Need::Agent, Need::Root);
    let agent = Agent::start(settings().set("kernel.hooks", "off"));
    let (socket, over) = (agent.socket(), AtomicBool::new(false));
    thread::scope(|scope| {
        let attacker = scope
            .spawn(|| attack::run(Attack::Connect, &socket, CONNECTIONS, || !over.load(Ordering::Relaxed)));
        let ended = Ended(&over);
        eventually("the queue is short", SOON, || {
            (sum(&agent.metrics(), "vouch_listen_queue_floods_total") >= 1.0).then_some(())
        });
        drop(ended);
        attacker.join().expect("it attacks").expect("it can connect");
    });
    nothing_is_held(&agent);
}

#[test]
fn a_stranger_who_connects_and_says_nothing() {
    require!(Need::Agent, Need::Root);
    is_shed(&survive(Attack::Silence), "preface_timeout");
}

#[test]
fn floods_of_frames_that_cost_the_sender_nothing() {
    require!(Need::Agent, Need::Root);
    for attack in [Attack::Ping, Attack::Settings, Attack::WindowUpdate, Attack::Priority, Attack::Unknown] {
        is_paced(&survive(attack));
    }
}

#[test]
fn a_flood_of_empty_data() {
    require!(Need::Agent, Need::Root);
    is_shed(&survive(Attack::EmptyData), "flood");
}

#[test]
fn calls_that_are_reset_as_they_are_opened() {
    require!(Need::Agent, Need::Root);
    let agent = survive(Attack::RapidReset);
    let reset = connections_shed(&agent, "flood");
    assert!(reset > 0.0 || sum(&agent.metrics(), "vouch_reads_paused_total") > 0.0, "{}", agent.metrics());
}

/// HTTP/2 refuses each call beyond what a connection may have, and closes who goes on.
#[test]
fn more_calls_than_a_connection_may_have() {
    require!(Need::Agent, Need::Root);
    is_shed(&survive(Attack::TooManyCalls), "flood");
}

#[test]
fn a_head_without_an_end() {
    require!(Need::Agent, Need::Root);
    is_shed(&survive(Attack::Continuation), "flood");
}

#[test]
fn heads_of_too_many_fields() {
    require!(Need::Agent, Need::Root);
    has_calls_shed(&survive(Attack::HeaderFields), "header_fields");
}

#[test]
fn heads_that_are_too_large() {
    require!(Need::Agent, Need::Root);
    let agent = survive(Attack::HeaderList);
    // They are refused before they are calls.
    assert_eq!(calls_shed(&agent, "header_fields"), 0.0, "{}", agent.metrics());
}

#[test]
fn calls_that_ask_for_nothing_and_calls_that_stop_half_way() {
    require!(Need::Agent, Need::Root);
    for attack in [Attack::OpenCalls, Attack::HalfRequest] {
        has_calls_shed(&survive(attack), "first_request_timeout");
    }
}

#[test]
fn calls_and_large_requests_without_pause() {
    require!(Need::Agent, Need::Root);
    for attack in [Attack::Calls, Attack::LargeRequests] {
        is_paced(&survive(attack));
    }
}

#[test]
fn answers_that_are_taken_a_byte_at_a_time() {
    require!(Need::Agent, Need::Root);
    survive(Attack::TinyWindow);
}

#[test]
fn answers_that_are_never_read() {
    require!(Need::Agent, Need::Root);
    survive(Attack::NeverReads);
}
