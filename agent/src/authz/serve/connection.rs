//! One connection's HTTP/2. Its calls are answered in its own task, nearly all of them at once: a framework with a task for each
//! call costs as much as a decision.

use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use h2::{
    Ping, PingPong, RecvStream,
    server::{Builder, Connection, SendResponse},
};
use http::Request;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, Sleep, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    super::{asker::Asker, check::Judge},
    budget::Budgets,
    call,
};

/// Questions of one connection that are answered at the same time; Envoy has one connection for each of its threads.
const STREAMS: u32 = 1024;
/// What may be on its way to us, of a stream and of all of them.
const WINDOW: u32 = 1 << 20;
/// What a client may have put into its trace headers comes along.
const HEADER_LIST: u32 = 256 << 10;
/// What one stream may have handed over and not yet written.
const SEND_BUFFER: usize = 16 << 10;
/// A client of Envoy's that gives up many requests at once makes Envoy give up as many questions, on the connection where
/// others' are answered.
const RESETS: usize = STREAMS as usize;
/// How long a client may take to say that it speaks HTTP/2.
const PREFACE: Duration = Duration::from_secs(5);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(30);
const KEEPALIVE_WAIT: Duration = Duration::from_secs(20);
/// Answers of one connection after which others have their turn.
const TURN: usize = 16;
/// How long open calls may take when the agent stops.
const LINGER: Duration = Duration::from_secs(2);

/// Serves it to its end, or until what is open when `stop` comes has been answered.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    socket: S,
    judge: &Judge,
    asker: &Asker,
    budgets: &Budgets,
    stop: &CancellationToken,
) {
    let Ok(Ok(mut connection)) = timeout(PREFACE, builder().handshake(socket)).await else { return };
    // A new connection has its pings to give.
    let Some(pings) = connection.ping_pong() else { return };
    let (mut keepalive, mut calls) = (Keepalive::new(pings), Calls::default());
    let (mut stopped, mut last_moment) = (pin!(stop.cancelled()), None);
    poll_fn(|cx| {
        if last_moment.is_none() && stopped.as_mut().poll(cx).is_ready() {
            connection.graceful_shutdown();
            last_moment = Some(Box::pin(sleep(LINGER)));
        }
        let is_late = last_moment.as_mut().is_some_and(|moment| moment.as_mut().poll(cx).is_ready());
        if is_late || keepalive.is_silent(cx) {
            return Poll::Ready(());
        }
        let mut left = TURN;
        loop {
            // What was answered before leaves with this, too.
            let begin = |request, respond| calls.begin(call::answer(judge, asker, budgets, request, respond));
            if accept(&mut connection, begin, cx).is_ready() {
                return Poll::Ready(());
            }
            let answered = calls.answer(left, cx);
            left -= answered;
            if left == 0 {
                cx.waker().wake_by_ref();
            }
            if answered == 0 || left == 0 {
                return Poll::Pending;
            }
        }
    })
    .await;
}

/// The open calls of a connection.
struct Calls<F> {
    /// Have not been looked at.
    new: VecDeque<Pin<Box<F>>>,
    /// Wait for something.
    waiting: FuturesUnordered<Pin<Box<F>>>,
}

impl<F> Default for Calls<F> {
    fn default() -> Self {
        Self { new: VecDeque::new(), waiting: FuturesUnordered::new() }
    }
}

impl<F: Future<Output = ()>> Calls<F> {
    fn begin(&mut self, call: F) {
        self.new.push_back(Box::pin(call));
    }

    /// Goes on with all that can go on, until `most` of them have ended; says how many have.
    fn answer(&mut self, most: usize, cx: &mut Context<'_>) -> usize {
        let mut ended = 0;
        while ended < most {
            let Some(mut call) = self.new.pop_front() else { break };
            match call.as_mut().poll(cx) {
                Poll::Ready(()) => ended += 1,
                // It is looked at once more there, and then whenever something has happened to it.
                Poll::Pending => self.waiting.push(call),
            }
        }
        while ended < most && matches!(self.waiting.poll_next_unpin(cx), Poll::Ready(Some(()))) {
            ended += 1;
        }
        ended
    }
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder
        .initial_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEADER_LIST)
        .max_send_buffer_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(RESETS)
        .max_local_error_reset_streams(Some(RESETS));
    builder
}

/// Reads and writes what can be, and begins the calls that have come. Ready when the connection is over.
fn accept<S: AsyncRead + AsyncWrite + Unpin>(
    connection: &mut Connection<S, Bytes>,
    mut begin: impl FnMut(Request<RecvStream>, SendResponse<Bytes>),
    cx: &mut Context<'_>,
) -> Poll<()> {
    loop {
        match connection.poll_accept(cx) {
            Poll::Ready(Some(Ok((request, respond)))) => begin(request, respond),
            // h2 has told it why.
            Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(()),
            Poll::Pending => return Poll::Pending,
        }
    }
}

/// Finds out that a client is no longer there.
struct Keepalive {
    pings: PingPong,
    is_asked: bool,
    /// When it is asked, or must have answered.
    due: Pin<Box<Sleep>>,
}

impl Keepalive {
    fn new(pings: PingPong) -> Self {
        Self { pings, is_asked: false, due: Box::pin(sleep(KEEPALIVE_EVERY)) }
    }

    /// Asks when it is time. Says whether the client has not answered in time.
    fn is_silent(&mut self, cx: &mut Context<'_>) -> bool {
        loop {
            if self.is_asked {
                match self.pings.poll_pong(cx) {
                    Poll::Ready(Ok(_)) => self.wait(false, KEEPALIVE_EVERY),
                    Poll::Ready(Err(_)) => return true,
                    Poll::Pending => {}
                }
            }
            if self.due.as_mut().poll(cx).is_pending() {
                return false;
            }
            if self.is_asked || self.pings.send_ping(Ping::opaque()).is_err() {
                return true;
            }
            self.wait(true, KEEPALIVE_WAIT);
        }
    }

    fn wait(&mut self, is_asked: bool, time: Duration) {
        self.is_asked = is_asked;
        self.due.as_mut().reset(Instant::now() + time);
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, duplex};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_client_that_says_nothing_is_left() {
        let (ours, mut theirs) = duplex(1 << 16);
        let handshake = builder().handshake::<_, Bytes>(ours);
        assert!(timeout(PREFACE, handshake).await.is_err(), "no preface");
        let mut settings = Vec::new();
        theirs.read_buf(&mut settings).await.unwrap();
        assert!(!settings.is_empty(), "ours came without one of theirs");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_answers_no_ping_is_gone_after_both_times() {
        let (ours, theirs) = duplex(1 << 16);
        let (client, _their_driver) = h2::client::handshake(theirs).await.unwrap();
        let mut connection = builder().handshake::<_, Bytes>(ours).await.unwrap();
        let (mut keepalive, began) = (Keepalive::new(connection.ping_pong().unwrap()), Instant::now());
        let silent = poll_fn(|cx| {
            let _ = accept(&mut connection, |_, _| {}, cx);
            if keepalive.is_silent(cx) { Poll::Ready(()) } else { Poll::Pending }
        });
        silent.await;
        assert_eq!(began.elapsed().as_secs(), (KEEPALIVE_EVERY + KEEPALIVE_WAIT).as_secs());
        drop(client);
    }
}
