//! All calls of one connection, in one task: SDS calls are advanced by it, calls of tonic services are tasks beside it.

use std::{
    collections::HashSet,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use h2::{
    RecvStream,
    server::{Connection, SendResponse},
};
use http::Request;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::JoinSet,
    time::{Instant, Sleep, sleep_until, timeout},
};
use tonic::{Code, Status};

use super::{
    Front, Outcome, Refused,
    admission::{ConnectionPlace, StreamPlace},
    bell::{Bell, Hung},
    bridge,
    connection::LINGER,
    grpc::{Incoming, Outgoing},
    keepalive::Keepalive,
    limits::ended_by_h2,
    reader::Reader,
    wire::{Valve, Wire},
};
use crate::{
    attestation::Run,
    caller::{Caller, Failure},
    sds::{Call, Ended, Sds, transport::ResponseBytes},
    svid::{Holder, Identities},
};

const SDS_STREAM: &str = "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets";
const SDS_FETCH: &str = "/envoy.service.secret.v3.SecretDiscoveryService/FetchSecrets";

/// A call that ended in a way that no call should.
pub(super) const BROKEN: Outcome = Outcome { outcome: "shed", reason: "broken" };

/// Up to so many calls, a connection keeps no room for more: most have one, or one for each secret.
const FEW_CALLS: usize = 8;

/// Names that a connection's bell tells apart.
const MOST_NAMES: usize = 256;

/// So often a turn goes round again because something rang inside. What rings each time must not keep the thread.
const ROUNDS: usize = 16;

pub(super) struct Session<'a, S> {
    front: &'a Front,
    connection: Connection<Wire<S>, Bytes>,
    valve: Valve<S>,
    caller: Arc<Caller>,
    place: &'a ConnectionPlace,
    /// Rings the bell of this connection.
    waker: Waker,
    hung: Hung<'a>,
    /// A call has come or gone, or asks for other names, since the bell was hung.
    refocused: bool,
    /// The bell was hung for all SVIDs, whatever calls ask for.
    any_matters: bool,
    /// What was written since the handshake waits for the end of the first turn.
    held_back: bool,
    calls: Vec<SdsCall<S>>,
    /// Calls of tonic services.
    others: JoinSet<Outcome>,
    /// From the first SDS call on.
    reader: Option<Box<Reader>>,
    /// A call has come.
    asked: bool,
    /// When a connection without calls ends.
    idle_until: Instant,
    /// When a connection that no longer speaks for its process ends.
    leave_at: Option<Instant>,
    keepalive: Keepalive,
    alarm: Pin<Box<Sleep>>,
    alarm_at: Instant,
}

struct SdsCall<S> {
    call: Call<Incoming, Outgoing<S>>,
    /// Finding out whom the call is for. `None` when that is known.
    admission: Option<BoxFuture<'static, Result<Arc<Run>, Failure>>>,
    _place: StreamPlace,
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin> Session<'a, S> {
    pub(super) fn new(
        front: &'a Front,
        connection: Connection<Wire<S>, Bytes>,
        valve: Valve<S>,
        caller: Arc<Caller>,
        place: &'a ConnectionPlace,
        keepalive: Keepalive,
        (waker, hung): (Waker, Hung<'a>),
    ) -> Self {
        let idle_until = Instant::now() + front.limits.first_request_timeout;
        let held_back = valve.is_closed();
        Self {
            front,
            connection,
            valve,
            caller,
            place,
            waker,
            hung,
            refocused: false,
            any_matters: false,
            held_back,
            calls: Vec::new(),
            others: JoinSet::new(),
            reader: None,
            asked: false,
            idle_until,
            leave_at: None,
            keepalive,
            alarm: Box::pin(sleep_until(idle_until)),
            // Armed by the first turn.
            alarm_at: Instant::now(),
        }
    }

    /// One turn: moves everything that can be moved. Ready when the connection is to end.
    pub(super) fn poll(
        &mut self,
        cx: &Context<'_>,
        bell: &Bell,
        is_stopping: impl Fn() -> bool,
    ) -> Poll<Outcome> {
        bell.enter(cx);
        let waker = self.waker.clone();
        let mut inside = Context::from_waker(&waker);
        let outcome = self.rounds(&mut inside, cx.waker(), bell, is_stopping);
        if std::mem::take(&mut self.held_back) {
            match self.valve.open(&mut inside) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(Outcome::SERVED),
                // The next turn arms the alarm for that.
                Poll::Pending => waker.wake_by_ref(),
            }
        }
        outcome
    }

    fn rounds(
        &mut self,
        cx: &mut Context<'_>,
        task: &Waker,
        bell: &Bell,
        is_stopping: impl Fn() -> bool,
    ) -> Poll<Outcome> {
        for _ in 0..ROUNDS {
            let now = Instant::now();
            let told = self.hear_news(now, cx);
            if told {
                self.advance_calls(now, cx);
            }
            // What the calls have written leaves in this turn. Whoever else has rung is heard from here on, but for news,
            // which is looked for once more. An alarm that rang is over by the clock that is read next.
            bell.answer();
            let now = Instant::now();
            if is_stopping() {
                return Poll::Ready(Outcome::SERVED);
            }
            if let Some(outcome) = self.turn(told, now, cx).or_else(|| self.overdue(now, cx)) {
                return Poll::Ready(outcome);
            }
            self.focus();
            // What was published since the look did not ring for what has come into focus only now.
            if !self.has_news() && !bell.leave() {
                return Poll::Pending;
            }
        }
        // Others have their turn before the next.
        bell.rest();
        task.wake_by_ref();
        Poll::Pending
    }

    /// Cuts off the calls that are open: they ended as their connection did. What is still to be written may leave, but
    /// not for ever.
    pub(super) async fn end(&mut self, outcome: &Outcome) {
        for _ in self.calls.drain(..) {
            self.front.metrics.call_ended(outcome);
        }
        self.others.abort_all();
        while let Some(ended) = self.others.join_next().await {
            let ended =
                ended.unwrap_or_else(|error| if error.is_cancelled() { outcome.clone() } else { BROKEN });
            self.front.metrics.call_ended(&ended);
        }
        self.connection.graceful_shutdown();
        let _ = timeout(LINGER, async { while let Some(Ok(_)) = self.connection.accept().await {} }).await;
    }

    /// The outcome, when there is no more connection. `told`: the calls have been advanced in this turn.
    fn turn(&mut self, told: bool, now: Instant, cx: &mut Context<'_>) -> Option<Outcome> {
        // One call's frame leaves as it is; those of several leave together.
        let together = self.calls.len() + self.others.len() > 1 && !self.held_back;
        if together {
            self.valve.close();
        }
        // Behind a frame of its own that it could not write, `h2` keeps what it has read.
        let was_blocked = self.valve.blocked_since().is_some();
        let outcome = self.accept_calls(now, cx);
        if together && matches!(self.valve.open(cx), Poll::Ready(Err(_))) {
            return Some(Outcome::SERVED);
        }
        let has_arrived = self.valve.take_arrived() || was_blocked;
        if outcome.is_none() {
            if !told || has_arrived || !self.calls.iter().all(SdsCall::is_at_rest) {
                self.advance_calls(now, cx);
            }
            while !self.others.is_empty() {
                let Poll::Ready(Some(ended)) = self.others.poll_join_next(cx) else { break };
                self.call_ended(&ended.unwrap_or(BROKEN), now);
                if self.caller.is_over() {
                    self.leave(now);
                }
            }
        }
        outcome
    }

    fn accept_calls(&mut self, now: Instant, cx: &mut Context<'_>) -> Option<Outcome> {
        loop {
            match self.connection.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, respond)))) => self.begin(request, respond, now),
                // h2 has told it why.
                Poll::Ready(Some(Err(error))) if error.is_library() => {
                    return Some(ended_by_h2(&error));
                }
                // The client left.
                Poll::Ready(_) => return Some(Outcome::SERVED),
                Poll::Pending => return None,
            }
        }
    }

    fn begin(&mut self, mut request: Request<RecvStream>, respond: SendResponse<Bytes>, now: Instant) {
        (self.asked, self.refocused) = (true, true);
        self.front.metrics.calls.inc();
        let admitted = self.front.limits.admit_head(request.headers()).and_then(|()| self.place.stream());
        let place = match admitted {
            Ok(place) => place,
            Err(Refused { reason }) => {
                let status = Status::unavailable(format!("limit {reason} is reached"));
                Outgoing::new(respond, &self.valve).finish(&status);
                return self.front.metrics.call_ended(&Outcome::shed(reason));
            }
        };
        let caller = Arc::clone(&self.caller);
        let open: fn(&Sds, _, _, Instant) -> _ = match request.uri().path() {
            SDS_STREAM => Call::stream,
            SDS_FETCH => Call::fetch,
            _ => {
                request.extensions_mut().insert(caller);
                let (routes, limits) = (self.front.routes.clone(), self.front.limits.clone());
                self.others.spawn(async move {
                    let _place = place;
                    bridge::call(routes, request, respond, &limits).await
                });
                return;
            }
        };
        let call =
            open(&self.front.sds, Incoming(request.into_body()), Outgoing::new(respond, &self.valve), now);
        let admission = Box::pin(async move { caller.admit().await });
        if self.calls.len() < FEW_CALLS {
            self.calls.reserve_exact(1);
        }
        self.calls.push(SdsCall { call, admission: Some(admission), _place: place });
    }

    fn has_news(&self) -> bool {
        self.reader.as_ref().is_some_and(|reader| reader.subscriber.has_news())
    }

    /// Says whether the calls have to be told something.
    fn hear_news(&mut self, now: Instant, cx: &mut Context<'_>) -> bool {
        let Some(reader) = &mut self.reader else { return false };
        let is_news = reader.refresh(cx);
        if reader.holder() != Holder::Current {
            self.leave(now);
        }
        is_news
    }

    /// The calls end by themselves, with a status; then the connection does, so that the next one has a record of what
    /// the process is now.
    fn leave(&mut self, now: Instant) {
        if self.leave_at.is_none() {
            self.connection.graceful_shutdown();
            self.leave_at = Some(now + LINGER);
        }
    }

    fn advance_calls(&mut self, now: Instant, cx: &mut Context<'_>) {
        // One look for all of them.
        let mut identities = self.reader.as_mut().map(|reader| reader.identities(cx));
        let mut index = 0;
        while index < self.calls.len() {
            match self.advance(index, &mut identities, now, cx) {
                Poll::Pending => index += 1,
                Poll::Ready(outcome) => {
                    self.calls.swap_remove(index);
                    self.call_ended(&outcome, now);
                }
            }
        }
    }

    fn advance(
        &mut self,
        index: usize,
        identities: &mut Option<Identities>,
        now: Instant,
        cx: &mut Context<'_>,
    ) -> Poll<Outcome> {
        let SdsCall { call, admission, .. } = &mut self.calls[index];
        if let Some(admitting) = admission {
            match ready!(admitting.as_mut().poll(cx)) {
                Ok(run) => {
                    *admission = None;
                    let reader = match &mut self.reader {
                        // It may have changed since the last call.
                        Some(reader) => {
                            if reader.refresh(cx) {
                                // The calls before this one have had their turn.
                                self.waker.wake_by_ref();
                            }
                            reader
                        }
                        None => {
                            let subscriber = self.caller.follow(&run);
                            self.reader.insert(Box::new(Reader::new(subscriber, cx)))
                        }
                    };
                    *identities = Some(reader.identities(cx));
                }
                Err(failure) => {
                    call.refuse(&Status::new(Code::Unavailable, failure.to_string()));
                    return Poll::Ready(Outcome::refused("attestation"));
                }
            }
        }
        let (Some(reader), Some(identities)) = (&mut self.reader, identities) else { return Poll::Pending };
        // What a call waits for comes with the connection, which has been polled and will be again.
        let mut connection_wakes = Context::from_waker(Waker::noop());
        let sds = &self.front.sds;
        let polled = call.poll(sds, identities, now, &mut connection_wakes);
        self.refocused |= call.take_refocused();
        let end = ready!(polled);
        Poll::Ready(match call.finish(sds, &end, &mut reader.subscriber) {
            Ended::Served => Outcome::SERVED,
            Ended::Refused(reason) => Outcome::refused(reason),
            Ended::Shed(reason) => Outcome::shed(reason),
        })
    }

    fn call_ended(&mut self, outcome: &Outcome, now: Instant) {
        self.front.metrics.call_ended(outcome);
        self.refocused = true;
        self.idle_until = now + self.front.limits.idle_timeout;
    }

    /// Has the bell rung for the SVIDs that the calls can be told of.
    fn focus(&mut self) {
        let Some(reader) = &self.reader else { return };
        let Some(matched) = reader.subscriber.entries() else { return };
        // While some are pending, nothing of what the process is told has been taken down yet.
        let any = reader.is_pending();
        if !self.refocused && self.any_matters == any && self.hung.is_for(matched) {
            return;
        }
        (self.refocused, self.any_matters) = (false, any);
        let names = if any { None } else { in_focus(&self.calls, &self.front.sds) };
        self.hung.serve(matched, names.as_ref());
    }

    /// The outcome, when some time is up. Sees to it that the bell rings when the next one is.
    fn overdue(&mut self, now: Instant, cx: &mut Context<'_>) -> Option<Outcome> {
        let is_up = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let blocked_until = self.valve.blocked_since().map(|since| since + self.front.limits.stalled_timeout);
        let is_idle = self.calls.is_empty() && self.others.is_empty();
        let idle_until = is_idle.then_some(self.idle_until);
        if is_up(blocked_until) {
            return Some(Outcome::shed("stalled"));
        }
        if is_up(self.leave_at) {
            return Some(Outcome::refused("outdated"));
        }
        if self.keepalive.is_silent(now, cx) {
            return Some(Outcome::shed("keepalive"));
        }
        if is_up(idle_until) {
            return Some(if self.asked { Outcome::SERVED } else { Outcome::shed("first_request_timeout") });
        }
        let of_calls = self.calls.iter().map(SdsCall::deadline);
        let next = of_calls.chain([blocked_until, self.leave_at, idle_until]).flatten().min();
        self.set_alarm(next.map_or(self.keepalive.next(), |next| next.min(self.keepalive.next())), now, cx);
        None
    }

    /// Touches the timer only when it rings too late, or has rung.
    fn set_alarm(&mut self, at: Instant, now: Instant, cx: &mut Context<'_>) {
        if self.alarm_at <= at && now < self.alarm_at {
            return;
        }
        self.alarm_at = at;
        self.alarm.as_mut().reset(at);
        if self.alarm.as_mut().poll(cx).is_ready() {
            self.waker.wake_by_ref();
        }
    }
}

/// The names that all calls together ask for. `None` when any SVID matters to one of them, or when these are so many that
/// telling them apart costs more than being rung for nothing.
fn in_focus<'c, S: AsyncWrite + Unpin>(calls: &'c [SdsCall<S>], sds: &Sds) -> Option<HashSet<&'c str>> {
    let mut all = HashSet::new();
    for SdsCall { call, .. } in calls {
        let names = call.focus(sds)?;
        if all.len() + names.len() > MOST_NAMES {
            return None;
        }
        all.extend(names.iter().map(String::as_str));
    }
    Some(all)
}

impl<S: AsyncWrite + Unpin> SdsCall<S> {
    /// When it has to be advanced though nothing has come. One that is being admitted waits for that alone.
    fn deadline(&self) -> Option<Instant> {
        if self.admission.is_some() { None } else { self.call.deadline() }
    }

    /// Only what comes from outside moves it.
    fn is_at_rest(&self) -> bool {
        self.admission.is_none() && self.call.deadline().is_none()
    }
}
