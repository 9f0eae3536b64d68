//! Moves the bytes of one SDS call: requests in, answers out, a fresh one whenever something changed.

use std::time::Duration;

use bytes::Bytes;
use prometheus_client::metrics::{counter::Counter, gauge::Gauge};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
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
enum End {
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
    #[error("process has changed since it connected, and would be served something else: connect again")]
    Outdated,
}

/// StreamSecrets: serves until the client goes, is denied, or does not read.
pub async fn serve(
    sds: &Sds,
    mut requests: impl RequestBytes,
    mut responses: impl ResponseBytes,
    mut subscriber: Subscriber,
) -> Ended {
    let _open = Open::count(&sds.metrics.streams);
    subscriber.settled(sds.issue_wait).await;
    let end = Stream::new(sds).run(&mut requests, &mut responses, &mut subscriber).await;
    finish(sds, &mut responses, &end, &mut subscriber)
}

/// FetchSecrets: one request, one answer, without a nonce.
pub async fn fetch(
    sds: &Sds,
    mut requests: impl RequestBytes,
    mut responses: impl ResponseBytes,
    mut subscriber: Subscriber,
) -> Ended {
    subscriber.settled(sds.issue_wait).await;
    let end = match answer_once(sds, &mut requests, &mut responses, &mut subscriber).await {
        Ok(()) => End::Closed,
        Err(end) => end,
    };
    finish(sds, &mut responses, &end, &mut subscriber)
}

/// The one place that decides what a client reads when its call ends.
/// Codes as the SPIRE agent gives them: a name that may not be had is `InvalidArgument`.
fn status(end: &End, subscriber: &mut Subscriber) -> Status {
    let code = match end {
        End::Closed | End::Gone(_) => Code::Ok,
        End::Stalled | End::Outdated | End::Denied(Denied::Pending) => Code::Unavailable,
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

fn finish(sds: &Sds, responses: &mut impl ResponseBytes, end: &End, subscriber: &mut Subscriber) -> Ended {
    tracing::debug!(%end, "SDS call ended");
    match end {
        End::Gone(_) => {}
        End::Stalled => {
            sds.metrics.stalled.inc();
            responses.reset();
        }
        _ => responses.finish(&status(end, subscriber)),
    }
    match end {
        End::Closed | End::Gone(_) => Ended::Served,
        End::Stalled => Ended::Shed("stalled"),
        End::Unreadable(_) => Ended::Refused("malformed"),
        End::Denied(_) => Ended::Refused("denied"),
        End::Outdated => Ended::Refused("outdated"),
    }
}

async fn answer_once(
    sds: &Sds,
    requests: &mut impl RequestBytes,
    responses: &mut impl ResponseBytes,
    subscriber: &mut Subscriber,
) -> Result<(), End> {
    let mut reader = RequestReader::new(sds.limits);
    let request = loop {
        let bytes = requests.read().await.ok_or(ReadError::Malformed("it is missing"))??;
        if let Some(request) = reader.read(&mut &*bytes)? {
            break request;
        }
    };
    let identities = subscriber.current();
    let asked = request.names.clone();
    let mut message = snapshot(request, &identities, &sds.names)?.bytes;
    check_holder(identities.holder, || asked)?;
    sds.metrics.pushes.inc();
    while !message.is_empty() {
        timeout(sds.stalled, responses.write(&mut message)).await.map_err(|_| End::Stalled)??;
    }
    Ok(())
}

/// Whether the connection still speaks for its process. Of one that is dead nothing is served, bundles neither.
fn check_holder(holder: Holder, names: impl FnOnce() -> Vec<String>) -> Result<(), End> {
    match holder {
        Holder::Current => Ok(()),
        Holder::Outdated => Err(End::Outdated),
        Holder::Gone => Err(Denied::NotAuthorized(names()).into()),
    }
}

struct Stream<'a> {
    sds: &'a Sds,
    reader: RequestReader,
    subscription: Subscription,
    /// What is left of the response being written.
    sending: Bytes,
    /// When the client must have taken the next byte of it.
    stalled_at: Instant,
    /// The newest response that has not begun to be written: a slow reader misses what stood here before.
    waiting: Option<Bytes>,
}

impl<'a> Stream<'a> {
    fn new(sds: &'a Sds) -> Self {
        Self {
            sds,
            reader: RequestReader::new(sds.limits),
            subscription: Subscription::default(),
            sending: Bytes::new(),
            stalled_at: Instant::now(),
            waiting: None,
        }
    }

    async fn run(
        mut self,
        requests: &mut impl RequestBytes,
        responses: &mut impl ResponseBytes,
        subscriber: &mut Subscriber,
    ) -> End {
        loop {
            let writes = self.has_something_to_send();
            let done = tokio::select! {
                bytes = requests.read() => match bytes {
                    Some(Ok(bytes)) => self.on_bytes(&bytes, subscriber),
                    Some(Err(gone)) => Err(gone.into()),
                    None => return self.after_the_last_request(responses).await,
                },
                identities = subscriber.next() => {
                    let message = self.subscription.on_update(&identities, &self.sds.names);
                    self.queue(message).and_then(|()| self.check(&identities))
                }
                written = responses.write(&mut self.sending), if writes => self.on_written(written),
                () = sleep_until(self.stalled_at), if writes => Err(End::Stalled),
            };
            if let Err(end) = done {
                return end;
            }
        }
    }

    /// The client has said all that it will. As the SPIRE agent does, the call ends; what is made is sent before.
    async fn after_the_last_request(mut self, responses: &mut impl ResponseBytes) -> End {
        if !self.reader.is_between_messages() {
            return ReadError::Malformed("it has no end").into();
        }
        if self.subscription.awaits_its_first_answer() {
            return Denied::Pending.into();
        }
        while self.has_something_to_send() {
            let written = timeout_at(self.stalled_at, responses.write(&mut self.sending)).await;
            if let Err(end) = written.map_err(|_| End::Stalled).and_then(|written| self.on_written(written)) {
                return end;
            }
        }
        End::Closed
    }

    fn on_bytes(&mut self, mut bytes: &[u8], subscriber: &mut Subscriber) -> Result<(), End> {
        while let Some(request) = self.reader.read(&mut bytes)? {
            if let Some(reason) = &request.error {
                self.sds.metrics.nacks.inc();
                if let Some(suppressed) = NACKS.line(std::time::Instant::now()) {
                    // Both are a stranger's words: escaped, so that no line of theirs passes for one of ours.
                    let names = &request.names;
                    tracing::warn!(?names, ?reason, suppressed, "Envoy refused a secret (E0801)");
                }
            }
            // The subscriber counts this state as seen, so what is new in it must go out now: an ACK that crosses
            // a rotation would swallow it.
            let identities = subscriber.current();
            let message = self.subscription.on_request(request, &identities, &self.sds.names);
            self.queue(message)?;
            let message = self.subscription.on_update(&identities, &self.sds.names);
            self.queue(message)?;
            self.check(&identities)?;
        }
        Ok(())
    }

    /// After the answer: a name that was lost says more than that the process has changed.
    fn check(&self, identities: &Identities) -> Result<(), End> {
        check_holder(identities.holder, || self.subscription.names().to_vec())
    }

    fn queue(&mut self, message: Result<Option<Message>, Denied>) -> Result<(), End> {
        let message = match message {
            Ok(Some(message)) => message.bytes,
            // What was asked for is on its way: the update that brings it answers.
            Ok(None) | Err(Denied::Pending) => return Ok(()),
            Err(denied) => return Err(denied.into()),
        };
        self.sds.metrics.pushes.inc();
        if self.waiting.replace(message).is_some() {
            self.sds.metrics.superseded.inc();
        }
        Ok(())
    }

    /// Begins the waiting response when the one before is written.
    fn has_something_to_send(&mut self) -> bool {
        if self.sending.is_empty()
            && let Some(next) = self.waiting.take()
        {
            self.sending = next;
            self.stalled_at = Instant::now() + self.sds.stalled;
        }
        !self.sending.is_empty()
    }

    fn on_written(&mut self, written: Result<(), Gone>) -> Result<(), End> {
        self.stalled_at = Instant::now() + self.sds.stalled;
        Ok(written?)
    }
}

#[cfg(test)]
mod tests;
