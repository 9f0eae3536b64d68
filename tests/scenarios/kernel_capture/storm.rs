//! However fast processes come and go, and whatever is lost of it, the table is what the kernel's own list is a
//! second later.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::time::sleep;
use vouch::{
    kernel::{Capture, EventSource, KernelEvent, Options, Snapshot},
    process::{Kernel, Processes},
};
use vouch_bench::{storm::Storm, table::Difference};
use vouch_tests::{Need, require};

/// The smallest that a configuration allows.
const SMALL_RING: u32 = 64 << 10;
const LARGE_RING: u32 = 16 << 20;
/// Of a reader that has other things to do.
const NAP: Duration = Duration::from_millis(20);
/// So long that a snapshot comes between two looks at a full ring of the usual size.
const LONG_NAP: Duration = Duration::from_millis(70);
const STORM: Duration = Duration::from_secs(2);
const LIMIT: Duration = Duration::from_secs(30);
/// Longer than an event takes from the kernel to the table.
const LAG: Duration = Duration::from_millis(100);

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_that_overflows_the_ring_is_healed_within_a_second() {
    require!(Need::Root);
    let storm = Storm::start(3, 100).unwrap();
    // The hooks are attached, and the first snapshot is taken, in the middle of it.
    let options = Options { ring_bytes: SMALL_RING, ..Options::default() };
    let (capture, events) = Capture::attach(&options).unwrap();
    let capture = Arc::new(capture);
    let sleepy = Arc::new(AtomicBool::new(true));
    let reader = Sleepy { kernel: (Arc::clone(&capture), events), nap: NAP, sleepy: Arc::clone(&sleepy) };
    let (processes, follow) = Processes::follow(reader).await.unwrap();
    let run = tokio::spawn(follow.run());
    let start = Instant::now();
    while start.elapsed() < STORM || capture.counters().unwrap().events_lost == 0 {
        assert!(start.elapsed() < LIMIT, "no event is lost: {:?}", capture.counters());
        sleep(LAG).await;
    }
    let kept = storm.stop().unwrap();
    // Others may make a storm of their own beside this scenario.
    sleepy.store(false, Ordering::Relaxed);
    let over = Instant::now();
    sleep(Duration::from_millis(700)).await;

    let difference = Difference::look(&capture, &processes).await.unwrap();
    assert!(difference.looked_at - over <= Duration::from_secs(1), "the machine is too busy to tell");
    assert_eq!(difference.missing, []);
    assert_eq!(difference.ghosts, []);
    let (counted, counters) = (capture.counters().unwrap(), processes.counters());
    assert!(counters.lost > 0 && counters.lost <= counted.events_lost, "{counters:?} {counted:?}");
    assert!(counters.snapshots >= 2, "{counters:?}");
    assert!(kept.pids().count() > 0);
    for pid in kept.pids() {
        let known = processes.get_by_pid(pid).expect("a living child is in the table");
        assert_eq!(known.exec_count, capture.inspect(pid).unwrap().unwrap().task.exec_count);
    }
    run.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_comes_back_by_events_that_waited_longer_than_the_snapshot() {
    require!(Need::Root);
    let (capture, events) = Capture::attach(&Options::default()).unwrap();
    let capture = Arc::new(capture);
    let kernel = (Arc::clone(&capture), events);
    let reader = Sleepy { kernel, nap: LONG_NAP, sleepy: Arc::new(AtomicBool::new(true)) };
    let (processes, follow) = Processes::follow(reader).await.unwrap();
    let storm = Storm::start(3, u64::MAX).unwrap();
    let start = Instant::now();
    // Nobody reads. Who is alive when the ring is full is in it with the birth, and not with the end.
    while capture.counters().unwrap().events_lost == 0 {
        assert!(start.elapsed() < LIMIT, "no event is lost: {:?}", capture.counters());
        sleep(LAG).await;
    }
    storm.stop().unwrap();
    // The loss is told with the first thousand events, and healed before the last are read.
    let run = tokio::spawn(follow.run());
    sleep(Duration::from_millis(700)).await;

    let difference = Difference::look(&capture, &processes).await.unwrap();
    assert_eq!(difference.missing, []);
    assert_eq!(difference.ghosts, []);
    assert!(processes.counters().lost > 0);
    run.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_ghost_stays_from_the_time_of_attaching() {
    require!(Need::Root);
    let storm = Storm::start(2, u64::MAX).unwrap();
    for _ in 0..4 {
        let options = Options { ring_bytes: LARGE_RING, ..Options::default() };
        let (capture, events) = Capture::attach(&options).unwrap();
        let capture = Arc::new(capture);
        let (processes, follow) = Processes::follow((Arc::clone(&capture), events)).await.unwrap();
        let run = tokio::spawn(follow.run());
        sleep(3 * LAG).await;

        let difference = Difference::look(&capture, &processes).await.unwrap();
        assert_eq!(difference.missing, []);
        assert_eq!(difference.ghosts, []);
        let counters = processes.counters();
        assert_eq!((counters.lost, counters.snapshots), (0, 1), "no later snapshot took a ghost away");
        run.abort();
    }
    assert!(storm.execs() > 0);
    storm.stop().unwrap();
}

/// A reader that sleeps before each look at the ring, as long as it is sleepy.
struct Sleepy {
    kernel: (Arc<Capture>, EventSource),
    nap: Duration,
    sleepy: Arc<AtomicBool>,
}

impl Kernel for Sleepy {
    async fn next_batch(&mut self) -> io::Result<Vec<KernelEvent>> {
        if self.sleepy.load(Ordering::Relaxed) {
            sleep(self.nap).await;
        }
        self.kernel.next_batch().await
    }

    async fn snapshot(&self) -> io::Result<Snapshot> {
        self.kernel.snapshot().await
    }
}
