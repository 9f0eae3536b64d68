//! The ring buffer becomes events.

use std::{
    collections::HashMap,
    fmt, io,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    time::Duration,
};

use aya::maps::{MapData, RingBuf};
use tokio::{io::unix::AsyncFd, time};
use vouch_abi::{Event, kind};
use zerocopy::FromBytes;

use super::{
    Task,
    capture::{CounterMap, Told},
    system,
};

/// Events given at once.
const BATCH: usize = 1024;
/// Events that come so soon after one another are read together: a busy machine makes thousands a second, and waking
/// up costs more than reading.
const GATHER: Duration = Duration::from_millis(2);
/// A loss after which no event comes shows in the counters alone; they are looked at this often.
const LOSS_CHECK: Duration = Duration::from_millis(250);
/// More CPUs than any kernel allows (`CONFIG_NR_CPUS`).
const MAX_CPUS: u32 = 8192;

/// Something that happened to a process, in the order in which the kernel put it into the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KernelEvent {
    /// It runs another executable; the task is the one after the change.
    Exec(Task),
    /// It was made.
    Fork(Task),
    /// Its last thread is leaving. May come twice.
    Exit(Task),
    /// It was moved to another cgroup, of version 1 or 2; the task is the one after the change.
    CgroupMove(Task),
    /// So many events were lost since the last time that this was said.
    Lost(u64),
}

/// The events of one [`Capture`](super::Capture), for one reader.
pub struct EventSource {
    ring: RingBuf<MapData>,
    counters: Arc<CounterMap>,
    losses: Losses,
    /// Where the agent after this one, if there may be one, finds what was told already.
    told: Option<Told>,
    /// Made at the first wait, which is the first moment that is surely inside a runtime.
    readiness: Option<AsyncFd<OwnedFd>>,
}

impl EventSource {
    pub(super) fn new(ring: RingBuf<MapData>, counters: Arc<CounterMap>) -> Self {
        Self { ring, counters, losses: Losses::default(), told: None, readiness: None }
    }

    /// Of hooks that go on when this reader ends, and may have been there before it.
    pub(super) fn pinned(ring: RingBuf<MapData>, counters: Arc<CounterMap>, told: Told) -> io::Result<Self> {
        let losses = Losses::resumed(told.get()?);
        Ok(Self { losses, told: Some(told), ..Self::new(ring, counters) })
    }

    /// Waits for events and gives those that are there, at most 1024, never none.
    ///
    /// Dropping the future loses nothing. Needs a tokio runtime with I/O and time.
    ///
    /// # Errors
    /// When the descriptor of the ring cannot be waited for: asking again will not help.
    pub async fn next_batch(&mut self) -> io::Result<Vec<KernelEvent>> {
        loop {
            let events = self.take_ready()?;
            if !events.is_empty() {
                return Ok(events);
            }
            self.wait().await?;
        }
    }

    /// The events that are there, at most 1024, without waiting.
    pub fn take_ready(&mut self) -> io::Result<Vec<KernelEvent>> {
        let mut events = Vec::new();
        while events.len() < BATCH
            && let Some(bytes) = self.ring.next()
        {
            // The programs write nothing else.
            let Ok(event) = Event::read_from_bytes(&bytes) else { continue };
            self.losses.observe(event.cpu, event.sequence);
            events.extend(decode(&event));
        }
        let lost = self.losses.report(self.counters.events_lost()?);
        if lost > 0 {
            events.push(KernelEvent::Lost(lost));
            if let Some(told) = &mut self.told {
                // Without it the agent after this one tells it again, which costs it a snapshot.
                let _ = told.set(self.losses.reported);
            }
        }
        Ok(events)
    }

    async fn wait(&mut self) -> io::Result<()> {
        let readiness = match &self.readiness {
            Some(readiness) => readiness,
            None => {
                let ring = self.ring.as_fd().try_clone_to_owned()?;
                self.readiness.insert(system::readable(ring)?)
            }
        };
        match time::timeout(LOSS_CHECK, readiness.readable()).await {
            // Cleared before the ring is read, so that what comes meanwhile is announced again.
            Ok(guard) => {
                guard?.clear_ready();
                // The kernel announces an event only to a reader that has read all before it: a burst wakes us once.
                time::sleep(GATHER).await;
            }
            Err(_elapsed) => {}
        }
        Ok(())
    }
}

impl fmt::Debug for EventSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventSource").field("losses", &self.losses).finish_non_exhaustive()
    }
}

fn decode(event: &Event) -> Option<KernelEvent> {
    let task = Task::from(&event.identity);
    match event.kind {
        kind::EXEC => Some(KernelEvent::Exec(task)),
        kind::FORK => Some(KernelEvent::Fork(task)),
        kind::EXIT => Some(KernelEvent::Exit(task)),
        kind::CGROUP_MOVE => Some(KernelEvent::CgroupMove(task)),
        _ => None,
    }
}

/// What is known of losses: gaps in the sequence of a CPU, and the kernel's own count. Each event that is lost
/// is in the count at once and shows as a gap later, so the larger number is the truth so far.
#[derive(Debug, Default)]
struct Losses {
    last_sequence: HashMap<u32, u64>,
    in_gaps: u64,
    reported: u64,
    /// Numbers did not begin with this reader: the first of a CPU may be any.
    resumed: bool,
}

impl Losses {
    /// Of a reader that goes on after another one, which has `told` of so many.
    fn resumed(told: u64) -> Self {
        Self { in_gaps: told, reported: told, resumed: true, ..Self::default() }
    }

    fn observe(&mut self, cpu: u32, sequence: u64) {
        if cpu >= MAX_CPUS {
            return;
        }
        let before_first = if self.resumed { sequence.saturating_sub(1) } else { 0 };
        let last = self.last_sequence.insert(cpu, sequence).unwrap_or(before_first);
        self.in_gaps += sequence.saturating_sub(last.saturating_add(1));
    }

    /// How many were lost since the last report.
    fn report(&mut self, counted: u64) -> u64 {
        let total = self.in_gaps.max(counted);
        let lost = total.saturating_sub(self.reported);
        self.reported += lost;
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_a_loss_and_is_told_once() {
        let mut losses = Losses::default();
        for sequence in [1, 2, 6] {
            losses.observe(0, sequence);
        }
        assert_eq!(losses.report(3), 3);
        assert_eq!(losses.report(3), 0);
    }

    #[test]
    fn each_cpu_counts_for_itself() {
        let mut losses = Losses::default();
        losses.observe(0, 1);
        losses.observe(1, 1);
        losses.observe(0, 2);
        assert_eq!(losses.report(0), 0);
    }

    #[test]
    fn a_loss_before_the_first_event_shows() {
        let mut losses = Losses::default();
        losses.observe(3, 5);
        assert_eq!(losses.report(0), 4);
    }

    #[test]
    fn a_loss_at_the_end_shows_in_the_count_and_not_again_in_the_gap() {
        let mut losses = Losses::default();
        losses.observe(0, 1);
        assert_eq!(losses.report(7), 7);
        losses.observe(0, 9);
        assert_eq!(losses.report(7), 0);
    }

    #[test]
    fn a_reader_that_goes_on_tells_what_was_lost_in_between_and_nothing_else() {
        let mut losses = Losses::resumed(4);
        losses.observe(0, 100);
        losses.observe(1, 900);
        assert_eq!(losses.report(4), 0, "what was before is no loss");
        assert_eq!(losses.report(10), 6, "lost while nobody read");
        losses.observe(0, 107);
        assert_eq!(losses.report(10), 0, "its gap is told already");
    }

    #[test]
    fn numbers_that_begin_again_are_no_loss() {
        let mut losses = Losses::resumed(0);
        for sequence in [500, 501, 1, 2] {
            losses.observe(0, sequence);
        }
        assert_eq!(losses.report(0), 0);
        losses.observe(0, 4);
        assert_eq!(losses.report(0), 1);
    }

    #[test]
    fn events_of_a_kind_that_nobody_knows_are_passed_over() {
        assert_eq!(decode(&Event { kind: 99, ..Event::default() }), None);
    }
}
