//! How much one caller, and all together, may hold open.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::attestation::CallerKey;

/// Bounds on what strangers may hold of the public socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    pub connections: usize,
    pub connections_per_caller: usize,
    pub streams_per_connection: u32,
    pub streams_per_caller: usize,
    /// From `accept` to the end of the HTTP/2 preface.
    pub preface_timeout: Duration,
    /// From the preface to the first call.
    pub first_request_timeout: Duration,
    /// A connection without an open call is closed after so long.
    pub idle_timeout: Duration,
    /// A response of which the client takes nothing for so long ends its call.
    pub stalled_timeout: Duration,
}

/// Counts what is open, by caller and in total.
#[derive(Debug)]
pub(super) struct Admission {
    limits: Limits,
    counts: Arc<Mutex<Counts>>,
}

#[derive(Debug, Default)]
struct Counts {
    connections: usize,
    by_caller: HashMap<CallerKey, Held>,
}

#[derive(Debug, Default)]
struct Held {
    connections: usize,
    streams: usize,
}

/// There is no room for one more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) reason: &'static str,
}

/// One connection's place; given back on drop.
#[derive(Debug)]
pub(super) struct ConnectionPlace {
    caller: CallerKey,
    streams_per_caller: usize,
    counts: Arc<Mutex<Counts>>,
}

/// One call's place; given back on drop.
#[derive(Debug)]
pub(super) struct StreamPlace {
    caller: CallerKey,
    counts: Arc<Mutex<Counts>>,
}

impl Admission {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, counts: Arc::default() }
    }

    pub(super) fn connection(&self, caller: CallerKey) -> Result<ConnectionPlace, Refused> {
        let mut counts = lock(&self.counts);
        if counts.connections >= self.limits.connections {
            return Err(Refused { reason: "connections" });
        }
        let held = counts.by_caller.entry(caller.clone()).or_default();
        if held.connections >= self.limits.connections_per_caller {
            return Err(Refused { reason: "connections_per_caller" });
        }
        held.connections += 1;
        counts.connections += 1;
        drop(counts);
        let (streams_per_caller, counts) = (self.limits.streams_per_caller, Arc::clone(&self.counts));
        Ok(ConnectionPlace { caller, streams_per_caller, counts })
    }
}

impl ConnectionPlace {
    pub(super) fn stream(&self) -> Result<StreamPlace, Refused> {
        let mut counts = lock(&self.counts);
        let held = counts.by_caller.entry(self.caller.clone()).or_default();
        if held.streams >= self.streams_per_caller {
            return Err(Refused { reason: "streams_per_caller" });
        }
        held.streams += 1;
        drop(counts);
        Ok(StreamPlace { caller: self.caller.clone(), counts: Arc::clone(&self.counts) })
    }
}

impl Counts {
    fn release(&mut self, caller: &CallerKey, give_back: impl FnOnce(&mut Held)) {
        let Some(held) = self.by_caller.get_mut(caller) else { return };
        give_back(held);
        if held.connections == 0 && held.streams == 0 {
            self.by_caller.remove(caller);
        }
    }
}

impl Drop for ConnectionPlace {
    fn drop(&mut self) {
        let mut counts = lock(&self.counts);
        counts.connections -= 1;
        counts.release(&self.caller, |held| held.connections -= 1);
    }
}

impl Drop for StreamPlace {
    fn drop(&mut self) {
        lock(&self.counts).release(&self.caller, |held| held.streams -= 1);
    }
}

fn lock(counts: &Mutex<Counts>) -> MutexGuard<'_, Counts> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission() -> Admission {
        let second = Duration::from_secs(1);
        Admission::new(Limits {
            connections: 3,
            connections_per_caller: 2,
            streams_per_connection: 9,
            streams_per_caller: 2,
            preface_timeout: second,
            first_request_timeout: second,
            idle_timeout: second,
            stalled_timeout: second,
        })
    }

    #[test]
    fn one_caller_cannot_take_what_is_anothers() {
        let admission = admission();
        let (a, b) = (CallerKey::Uid(1), CallerKey::Container("/docker/x".into()));
        let first = admission.connection(a.clone()).unwrap();
        let _second = admission.connection(a.clone()).unwrap();
        assert_eq!(admission.connection(a.clone()).unwrap_err().reason, "connections_per_caller");
        let _third = admission.connection(b.clone()).unwrap();
        assert_eq!(admission.connection(b.clone()).unwrap_err().reason, "connections");
        drop(first);
        assert!(admission.connection(b).is_ok());
    }

    #[test]
    fn streams_are_counted_over_all_connections_of_a_caller() {
        let admission = admission();
        let first = admission.connection(CallerKey::Uid(1)).unwrap();
        let second = admission.connection(CallerKey::Uid(1)).unwrap();
        let (stream, _other) = (first.stream().unwrap(), second.stream().unwrap());
        assert_eq!(first.stream().unwrap_err().reason, "streams_per_caller");
        drop(stream);
        assert!(second.stream().is_ok());
    }

    #[test]
    fn nothing_is_held_when_everything_is_closed() {
        let admission = admission();
        let place = admission.connection(CallerKey::Uid(1)).unwrap();
        let stream = place.stream().unwrap();
        // A call may outlive its connection by a moment.
        drop((place, stream));
        let counts = lock(&admission.counts);
        assert!(counts.connections == 0 && counts.by_caller.is_empty());
    }
}
