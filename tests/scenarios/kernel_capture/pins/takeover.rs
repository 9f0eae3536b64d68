//! From one agent to the next.

use std::{
    fs,
    os::{fd::AsFd, unix::net::UnixStream},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use vouch::{
    kernel::{Capture, Options, Provenance},
    process::Processes,
};
use vouch_bench::{storm::Storm, table::Difference};
use vouch_tests::{Need, require};

use super::{Place, all_names, assert_works, attach, pass_by, told_of};

const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn what_happens_while_no_agent_runs_is_known_to_the_next_one() {
    require!(Need::ConnectHook, Need::Bpffs);
    let place = Place::new();
    let (capture, mut events) = place.attach();
    assert_works(&place, &capture, &mut events);
    drop((capture, events));
    assert_eq!(place.names(), all_names());

    let pid = pass_by();
    let (listener, path) = place.listen();
    let _client = UnixStream::connect(path).unwrap();
    let (accepted, _) = listener.accept().unwrap();

    let (capture, mut events) = place.attach();
    let record = capture.connect_record(accepted.as_fd()).unwrap().expect("the hooks were there");
    assert_eq!(record.task.pid, std::process::id());
    assert_eq!(told_of(&mut events, pid), (vec!["fork", "exec", "exit"], 0));
    assert_works(&place, &capture, &mut events);
}

#[test]
fn what_a_process_executed_is_known_to_the_next_agent_too() {
    require!(Need::ConnectHook, Need::Bpffs);
    let place = Place::new();
    let sleeper = || Command::new("sleep").arg("60").spawn().unwrap();
    let mut children = vec![sleeper()];
    let first = place.attach();
    children.push(sleeper());
    drop(first);
    children.push(sleeper());
    let provenance = |capture: &Capture| -> Vec<Provenance> {
        let inspect = |child: &std::process::Child| capture.inspect(child.id()).unwrap().unwrap().executable;
        children.iter().map(inspect).collect()
    };
    let second = place.attach();
    let known = [Provenance::Before, Provenance::Executed, Provenance::Executed];
    assert_eq!(provenance(&second.0), known);
    drop(second);
    let third = place.attach();
    assert_eq!(provenance(&third.0), known);
    drop(third);

    // A hook was away for a time: whoever executed something meanwhile would be known by what was before.
    fs::remove_file(place.layout().join("link_process_exec")).unwrap();
    assert_eq!(provenance(&place.attach().0), [Provenance::Before; 3]);
    for mut child in children {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_lost_while_no_agent_runs_is_told_once_and_healed_by_the_first_snapshot() {
    require!(Need::Root, Need::Bpffs);
    let place = Place::new();
    let options = Options { ring_bytes: 64 << 10, ..place.options() };
    drop(attach(&options).unwrap());
    let storm = Storm::start(2, 50).unwrap();
    let (watch, _) = Capture::attach(&Options::default()).unwrap();
    let start = Instant::now();
    // Far more than the ring holds.
    while watch.counters().unwrap().events < 10_000 {
        assert!(start.elapsed() < LIMIT);
        thread::sleep(Duration::from_millis(20));
    }
    let kept = storm.stop().unwrap();

    let (capture, events) = attach(&options).unwrap();
    let capture = Arc::new(capture);
    let lost = capture.counters().unwrap().events_lost;
    assert!(lost > 1_000, "{lost}");
    let (processes, follow) = Processes::follow((Arc::clone(&capture), events)).await.unwrap();
    for pid in kept.pids() {
        assert!(processes.get_by_pid(pid).is_some(), "by the first snapshot");
    }
    let run = tokio::spawn(follow.run());
    tokio::time::sleep(Duration::from_millis(700)).await;
    let difference = Difference::look(&capture, &processes).await.unwrap();
    assert_eq!((difference.missing, difference.ghosts), (vec![], vec![]));
    assert!(processes.counters().lost >= lost, "{:?}", processes.counters());
    run.abort();
    assert!(run.await.unwrap_err().is_cancelled());
    drop(capture);

    let (capture, mut events) = attach(&options).unwrap();
    assert_eq!(told_of(&mut events, pass_by()).1, 0, "nothing is told twice");
    assert_works(&place, &capture, &mut events);
}

/// The old program is replaced by the new one under load: each connect has a record, and none of the events is lost.
#[tokio::test(flavor = "multi_thread")]
async fn no_connect_and_no_process_falls_between_two_agents() {
    require!(Need::ConnectHook, Need::Bpffs);
    let place = Place::new();
    let options = Options { ring_bytes: 16 << 20, ..place.options() };
    let first = attach(&options).unwrap();
    let (listener, path) = place.listen();
    let storm = Storm::start(1, 100).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let hammer = thread::spawn(move || {
        let mut connections = Vec::new();
        while !stopped.load(Ordering::Relaxed) && connections.len() < 8_000 {
            let client = UnixStream::connect(&path).unwrap();
            connections.push((Instant::now(), client, listener.accept().unwrap().0));
            thread::sleep(Duration::from_micros(100));
        }
        connections
    });
    thread::sleep(Duration::from_millis(100));
    drop(first);
    let begun = Instant::now();
    let (capture, events) = attach(&options).unwrap();
    let done = Instant::now();
    thread::sleep(Duration::from_millis(100));
    stop.store(true, Ordering::Relaxed);
    let connections = hammer.join().unwrap();
    let meanwhile = connections.iter().filter(|(at, ..)| (begun..done).contains(at)).count();
    assert!(meanwhile > 20, "{meanwhile} of {} connects fell into the swap", connections.len());
    let without = connections.iter().filter(|(_, _, accepted)| {
        capture
            .connect_record(accepted.as_fd())
            .unwrap()
            .is_none_or(|seen| seen.task.pid != std::process::id())
    });
    assert_eq!(without.count(), 0, "of {}", connections.len());

    let capture = Arc::new(capture);
    let (processes, follow) = Processes::follow((Arc::clone(&capture), events)).await.unwrap();
    let run = tokio::spawn(follow.run());
    let kept = storm.stop().unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let difference = Difference::look(&capture, &processes).await.unwrap();
    assert_eq!((difference.missing, difference.ghosts), (vec![], vec![]));
    assert!(kept.pids().all(|pid| processes.get_by_pid(pid).is_some()));
    let counters = processes.counters();
    assert_eq!((counters.lost, counters.snapshots), (0, 1), "events that were told twice are no loss");
    run.abort();
}

#[test]
fn a_ring_of_another_size_takes_the_place_of_the_old_one() {
    require!(Need::ConnectHook, Need::Bpffs);
    let place = Place::new();
    drop(place.attach());
    for ring_bytes in [8 << 20, 32 << 20] {
        let (capture, mut events) = attach(&Options { ring_bytes, ..place.options() }).unwrap();
        assert_works(&place, &capture, &mut events);
    }
}

#[test]
fn two_instances_keep_apart_what_is_theirs() {
    require!(Need::ConnectHook, Need::Bpffs);
    let place = Place::new();
    let other = Options { pins: Some(place.pins("other")), ..Options::default() };
    drop(attach(&other).unwrap());
    let (capture, mut events) = place.attach();
    assert_works(&place, &capture, &mut events);
    let removed = vouch::kernel::unpin(&place.pins("other")).unwrap();
    assert_eq!(removed.len(), all_names().len());
    assert!(!place.pins("other").exists());
    assert_works(&place, &capture, &mut events);
}
