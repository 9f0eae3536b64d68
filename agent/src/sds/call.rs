//! One SDS call: requests in, answers out, a fresh one whenever something changed. Polled, never a task of its own.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use prometheus_client::metrics::{counter::Counter, gauge::Gauge};
use tokio::time::Instant;
use tonic::{Code, Status};

use super::{
    names::Names,
    render::Message,
    request::{Limits, ReadError, RequestReader},
    subscription::{Denied, Subscription, snapshot},
    transport::{Gone, RequestBytes, ResponseBytes},
};
use crate::{
    open::Open,
    quiet::Quiet,
    svid::{Holder, Identities, Subscriber},
};

static NACKS: Quiet = Quiet::new();

/// What every SDS call of this node shares.
#[derive(Debug)]
pub struct Sds {
    pub names: Names,
    pub limits: Limits,
    /// A response of which the client took no byte for so long ends its stream.
    pub stalled: Duration,
    /// How long a first answer waits for an SVID that is being issued.
    pub issue_wait: Duration,
    /// How long the first request of a call may take to be whole. A later one that has begun may take `stalled`.
    pub first_request: Duration,
    pub metrics: Metrics,
}

#[derive(Debug, Default)]
pub struct Metrics {
    /// StreamSecrets calls that are open.
    pub streams: Gauge,
    /// Responses handed to the transport.
    pub pushes: Counter,
    /// Responses replaced by a newer one before the client had room for them.
    pub superseded: Counter,
    pub nacks: Counter,
    /// Streams ended because the client did not read.
    pub stalled: Counter,
}

/// How a call ended, for the accounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    Served,
    Refused(&'static str),
    Shed(&'static str),
}

/// Why a call could not go on.
#[derive(Debug, thiserror::Error)]
pub enum End {
    #[error("client closed the call")]
    Closed,
    #[error(transparent)]
    Gone(#[from] Gone),
    #[error(transparent)]
    Unreadable(#[from] ReadError),
    #[error(transparent)]
    Denied(#[from] Denied),
    #[error("client did not read")]
    Stalled,
    #[error("client opened the call and asked for nothing in time")]
    Unasked,
    #[error("client did not finish its request in time")]
    Unfinished,
    #[error("process has changed since it connected, and would be served something else: connect again")]
    Outdated,
}

/// One StreamSecrets or FetchSecrets call between its two halves.
#[derive(Debug)]
pub struct Call<Q, A> {
    requests: Q,
    responses: A,
    reader: RequestReader,
    kind: Kind,
    /// A request has come.
    asked: bool,
    /// When the request that is awaited must be whole. `None` while the client owes none.
    owed_until: Option<Instant>,
    /// Until then no request is read while an SVID is being issued. `None` once that is over.
    settles_until: Option<Instant>,
    /// What is left of the response being written.
    sending: Bytes,
    /// When the client must have taken the next byte of it.
    stalled_at: Instant,
    /// The newest response that has not begun to be written: a slow reader misses what stood here before.
    waiting: Option<Bytes>,
}

#[derive(Debug)]
enum Kind {
    Stream {
        subscription: Subscription,
        _open: Open,
    },
    /// One request, one answer, without a nonce.
    Fetch {
        answered: bool,
    },
}

impl<Q: RequestBytes, A: ResponseBytes> Call<Q, A> {
    /// StreamSecrets: serves until the client goes, is denied, or does not read.
    pub fn stream(sds: &Sds, requests: Q, responses: A, now: Instant) -> Self {
        let _open = Open::count(&sds.metrics.streams);
        Self::new(
            sds,
            requests,
            responses,
            Kind::Stream { subscription: Subscription::default(), _open },
            now,
        )
    }

    /// FetchSecrets.
    pub fn fetch(sds: &Sds, requests: Q, responses: A, now: Instant) -> Self {
        Self::new(sds, requests, responses, Kind::Fetch { answered: false }, now)
    }

    fn new(sds: &Sds, requests: Q, responses: A, kind: Kind, now: Instant) -> Self {
        Self {
            requests,
            responses,
            reader: RequestReader::new(sds.limits),
            kind,
            asked: false,
            owed_until: None,
            settles_until: Some(now + sds.issue_wait),
            sending: Bytes::new(),
            stalled_at: now,
            waiting: None,
        }
    }

    /// Moves all bytes that can be moved. Ready when the call is over: then comes [`Self::finish`].
    ///
    /// To be polled again after the transport has moved, when `identities` differ, and at [`Self::deadline`].
    pub fn poll(
        &mut self,
        sds: &Sds,
        identities: &Identities,
        now: Instant,
        cx: &mut Context<'_>,
    ) -> Poll<End> {
        if self.settles_until.is_some_and(|until| identities.pending > 0 && now < until) {
            return Poll::Pending;
        }
        self.settles_until = None;
        match self.advance(sds, identities, now, cx) {
            Ok(()) => Poll::Pending,
            Err(end) => Poll::Ready(end),
        }
    }

    /// The names of the SVIDs that alone can make an update of SVIDs matter here; `None` when any may.
    pub fn focus(&self, sds: &Sds) -> Option<&[String]> {
        match &self.kind {
            _ if self.settles_until.is_some() => None,
            Kind::Stream { subscription, .. } => subscription.focus(&sds.names),
            Kind::Fetch { .. } => Some(&[]),
        }
    }

    /// Whether [`Self::focus`] may be another than when this was asked last.
    pub fn take_refocused(&mut self) -> bool {
        match &mut self.kind {
            Kind::Stream { subscription, .. } => subscription.take_refocused(),
            Kind::Fetch { .. } => false,
        }
    }

    /// When the call has to be polled again though nothing has come.
    pub fn deadline(&self) -> Option<Instant> {
        let stalled_at = self.has_something_to_send().then_some(self.stalled_at);
        self.settles_until.or_else(|| stalled_at.into_iter().chain(self.owed_until).min())
    }

    /// Tells the client why its call ends, and what became of it.
    pub fn finish(&mut self, sds: &Sds, end: &End, subscriber: &mut Subscriber) -> Ended {
        tracing::debug!(%end, "SDS call ended");
        match end {
            End::Gone(_) => {}
            End::Stalled => {
                sds.metrics.stalled.inc();
                self.responses.reset();
            }
            _ => self.responses.finish(&status(end, subscriber)),
        }
        match end {
            End::Closed | End::Gone(_) => Ended::Served,
            End::Stalled => Ended::Shed("stalled"),
            End::Unasked => Ended::Shed("first_request_timeout"),
            End::Unfinished => Ended::Shed("unfinished"),
            End::Unreadable(error) => Ended::Refused(error.reason()),
            End::Denied(_) => Ended::Refused("denied"),
            End::Outdated => Ended::Refused("outdated"),
        }
    }

    /// Ends the call before it has begun.
    pub fn refuse(&mut self, status: &Status) {
        self.responses.finish(status);
    }

    fn advance(
        &mut self,
        sds: &Sds,
        identities: &Identities,
        now: Instant,
        cx: &mut Context<'_>,
    ) -> Result<(), End> {
        self.update(sds, identities)?;
        let said_all = loop {
            match self.requests.poll_read(cx) {
                Poll::Ready(Some(bytes)) => self.on_bytes(&bytes?, sds, identities)?,
                Poll::Ready(None) => break true,
                Poll::Pending => break false,
            }
        };
        match said_all {
            true => self.check_what_was_said()?,
            false => self.check_what_is_owed(sds, now)?,
        }
        while self.begin_next(sds, now) {
            match self.responses.poll_write(&mut self.sending, cx) {
                Poll::Ready(written) => written?,
                Poll::Pending if now >= self.stalled_at => return Err(End::Stalled),
                Poll::Pending => return Ok(()),
            }
            self.stalled_at = now + sds.stalled;
        }
        // The client has said all that it will, and what is made is sent: as the SPIRE agent does, the call ends.
        if said_all || matches!(self.kind, Kind::Fetch { answered: true }) {
            Err(End::Closed)
        } else {
            Ok(())
        }
    }

    fn update(&mut self, sds: &Sds, identities: &Identities) -> Result<(), End> {
        let Kind::Stream { subscription, .. } = &mut self.kind else { return Ok(()) };
        let message = subscription.on_update(identities, &sds.names);
        let names = || subscription.names().to_vec();
        // After the answer: a name that was lost says more than that the process has changed.
        let holder = check_holder(identities.holder, names);
        self.queue(sds, message)?;
        holder
    }

    fn on_bytes(&mut self, mut bytes: &[u8], sds: &Sds, identities: &Identities) -> Result<(), End> {
        while let Some(request) = self.reader.read(&mut bytes)? {
            (self.asked, self.owed_until) = (true, None);
            let message = match &mut self.kind {
                Kind::Fetch { answered: true } => return Ok(()),
                Kind::Fetch { answered } => {
                    *answered = true;
                    let asked = request.names.clone();
                    let message = snapshot(request, identities, &sds.names)?;
                    check_holder(identities.holder, || asked)?;
                    Ok(Some(message))
                }
                Kind::Stream { subscription, .. } => {
                    if let Some(reason) = &request.error {
                        sds.metrics.nacks.inc();
                        if let Some(suppressed) = NACKS.line(std::time::Instant::now()) {
                            // Both are a stranger's words: escaped, so that no line of theirs passes for one of ours.
                            let (names, first) = (request.names.len(), request.names.first());
                            tracing::warn!(
                                names,
                                ?first,
                                ?reason,
                                suppressed,
                                "Envoy refused a secret (E0801)"
                            );
                        }
                    }
                    subscription.on_request(request, identities, &sds.names)
                }
            };
            self.queue(sds, message)?;
            self.update(sds, identities)?;
        }
        Ok(())
    }

    /// A request that was begun must have an end, and a call that was opened a request.
    fn check_what_is_owed(&mut self, sds: &Sds, now: Instant) -> Result<(), End> {
        let (patience, end) = match self.asked {
            true if self.reader.is_between_messages() => return Ok(()),
            true => (sds.stalled, End::Unfinished),
            false => (sds.first_request, End::Unasked),
        };
        if now >= *self.owed_until.get_or_insert(now + patience) { Err(end) } else { Ok(()) }
    }

    fn check_what_was_said(&self) -> Result<(), End> {
        if !self.reader.is_between_messages() {
            return Err(ReadError::Malformed("it has no end").into());
        }
        match &self.kind {
            Kind::Stream { subscription, .. } if subscription.awaits_its_first_answer() => {
                Err(Denied::Pending.into())
            }
            Kind::Fetch { answered: false } => Err(ReadError::Malformed("it is missing").into()),
            _ => Ok(()),
        }
    }

    fn queue(&mut self, sds: &Sds, message: Result<Option<Message>, Denied>) -> Result<(), End> {
        let message = match message {
            Ok(Some(message)) => message.bytes,
            // What was asked for is on its way: the update that brings it answers.
            Ok(None) | Err(Denied::Pending) => return Ok(()),
            Err(denied) => return Err(denied.into()),
        };
        sds.metrics.pushes.inc();
        if self.waiting.replace(message).is_some() {
            sds.metrics.superseded.inc();
        }
        Ok(())
    }

    fn has_something_to_send(&self) -> bool {
        !self.sending.is_empty() || self.waiting.is_some()
    }

    /// Begins the waiting response when the one before is written. Says whether there is something to write.
    fn begin_next(&mut self, sds: &Sds, now: Instant) -> bool {
        if self.sending.is_empty()
            && let Some(next) = self.waiting.take()
        {
            self.sending = next;
            self.stalled_at = now + sds.stalled;
        }
        !self.sending.is_empty()
    }
}

/// The one place that decides what a client reads when its call ends.
/// Codes as the SPIRE agent gives them: a name that may not be had is `InvalidArgument`.
fn status(end: &End, subscriber: &mut Subscriber) -> Status {
    let code = match end {
        End::Closed | End::Gone(_) => Code::Ok,
        End::Stalled | End::Outdated | End::Denied(Denied::Pending) => Code::Unavailable,
        End::Unasked | End::Unfinished => Code::DeadlineExceeded,
        End::Unreadable(ReadError::Compressed) => Code::Unimplemented,
        End::Unreadable(ReadError::TooLarge { .. }) => Code::ResourceExhausted,
        End::Unreadable(_) | End::Denied(Denied::NotAuthorized(_) | Denied::WrongType(_)) => {
            Code::InvalidArgument
        }
        End::Denied(Denied::NoValidator) => Code::Internal,
    };
    match end {
        _ if code == Code::Ok => Status::new(code, ""),
        End::Denied(Denied::NotAuthorized(names)) => {
            Status::new(code, subscriber.denial(&end.to_string(), names))
        }
        _ => Status::new(code, end.to_string()),
    }
}

/// Whether the connection still speaks for its process. Of one that is dead nothing is served, bundles neither.
fn check_holder(holder: Holder, names: impl FnOnce() -> Vec<String>) -> Result<(), End> {
    match holder {
        Holder::Current => Ok(()),
        Holder::Outdated => Err(End::Outdated),
        Holder::Gone => Err(Denied::NotAuthorized(names()).into()),
    }
}

#[cfg(test)]
mod tests;
