//! Who asks: the Envoy at the other end of a connection, and what the kernel knows of it.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use regorus::Value;
use tokio::{sync::OnceCell, time::timeout};

use crate::{
    attestation::{Run, SelectorSet},
    caller::{Caller, Callers, Failure},
    registration::EntryIndex,
    spiffe::SpiffeId,
};

/// One connection's other end.
#[derive(Debug)]
pub(super) struct Asker {
    /// The address that was connected to; `None`: the socket.
    pub(super) listener: Option<SocketAddr>,
    attested: Option<Attested>,
}

/// An asker whose process the kernel tells.
#[derive(Debug)]
struct Attested {
    caller: Caller,
    callers: Callers,
    run: OnceCell<Arc<Run>>,
    /// As it was last worked out.
    standing: Mutex<Option<Arc<Standing>>>,
}

/// What an attested asker is at this moment.
#[derive(Debug)]
pub(super) struct Standing {
    /// Those whose entries it meets, sorted.
    pub(super) ids: Vec<SpiffeId>,
    /// The same for policies, with its selectors and how good the evidence is: `input.spiffe.caller`.
    pub(super) document: Value,
    /// Somebody has still to say something that could add to `ids`.
    pub(super) is_unsettled: bool,
    selectors: Arc<SelectorSet>,
    index: Arc<EntryIndex>,
    from: SystemTime,
    until: Option<SystemTime>,
}

impl Asker {
    /// Whoever connected to a TCP address, where the kernel does not tell who did.
    pub(super) fn unknown(listener: SocketAddr) -> Self {
        Self { listener: Some(listener), attested: None }
    }

    /// Whoever connected to the socket, or to a TCP address where the kernel tells who did.
    pub(super) fn known(caller: Caller, callers: &Callers, listener: Option<SocketAddr>) -> Self {
        let attested =
            Attested { caller, callers: callers.clone(), run: OnceCell::new(), standing: Mutex::default() };
        Self { listener, attested: Some(attested) }
    }

    /// The process, in words for a log.
    pub(super) fn pid(&self) -> Option<u32> {
        self.attested.as_ref().map(|attested| attested.caller.peer().pid)
    }

    /// Attests, so that the first question need not wait for it.
    pub(super) async fn attest(&self) {
        if let Some(attested) = &self.attested {
            // A failure is told with the decision that it is, and the next question tries again.
            let _ = attested.run().await;
        }
    }

    /// What it is now; `None` where that cannot be known, or not within `patience`: who waits longer than an Envoy does
    /// has answered nothing.
    ///
    /// Whatever the process has become since it connected can take away and never add. A change without an event, such
    /// as of credentials, is found by the next look at all connected processes and not by this question.
    pub(super) async fn standing(&self, now: SystemTime, patience: Duration) -> Option<Arc<Standing>> {
        let attested = self.attested.as_ref()?;
        let run = match attested.run.get() {
            Some(run) => run,
            None => timeout(patience, attested.run()).await.ok()?.ok()?,
        };
        if run.is_gone() || attested.caller.peer().check_alive().is_err() {
            return None;
        }
        let selectors = Arc::clone(&run.standing().borrow().selectors);
        let index = Arc::clone(&attested.callers.svids.snapshot().index);
        let mut last = attested.standing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = last.as_ref().filter(|last| last.holds(&selectors, &index, now)) {
            return Some(Arc::clone(last));
        }
        let unheard = run.unheard();
        let unheard = unheard.borrow();
        let svids = &attested.callers.svids;
        let is_unsettled = !unheard.is_empty() && svids.may_gain(&selectors, &unheard, now);
        let standing = Arc::new(Standing::new(run, &attested.caller, selectors, index, now, is_unsettled));
        *last = Some(Arc::clone(&standing)).filter(|_| !is_unsettled);
        Some(standing)
    }
}

impl Attested {
    async fn run(&self) -> Result<&Arc<Run>, Failure> {
        self.run.get_or_try_init(|| self.caller.admit()).await
    }
}

impl Standing {
    fn new(
        run: &Run,
        caller: &Caller,
        selectors: Arc<SelectorSet>,
        index: Arc<EntryIndex>,
        now: SystemTime,
        is_unsettled: bool,
    ) -> Self {
        let mut ids: Vec<SpiffeId> =
            index.matching(&selectors, now).iter().map(|entry| entry.spiffe_id.clone()).collect();
        ids.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        ids.dedup();
        let texts =
            |texts: &mut dyn Iterator<Item = String>| Value::from(texts.map(Value::from).collect::<Vec<_>>());
        let document = super::object([
            ("grade", Value::from(run.grade().to_string())),
            ("ids", texts(&mut ids.iter().map(ToString::to_string))),
            ("pid", Value::from(u64::from(caller.peer().pid))),
            ("selectors", texts(&mut selectors.iter().map(ToString::to_string))),
            ("uid", Value::from(u64::from(caller.peer().uid))),
        ]);
        let until = index.next_expiry(now);
        Self { ids, document, is_unsettled, selectors, index, from: now, until }
    }

    fn holds(&self, selectors: &Arc<SelectorSet>, index: &Arc<EntryIndex>, now: SystemTime) -> bool {
        Arc::ptr_eq(&self.selectors, selectors)
            && Arc::ptr_eq(&self.index, index)
            && self.from <= now
            && self.until.is_none_or(|until| now < until)
    }
}
