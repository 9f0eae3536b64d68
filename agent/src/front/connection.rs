//! One connection: its preface, then a [`Session`] until nothing is asked of it any more.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{Arc, atomic::Ordering},
    task::Poll,
    time::Duration,
};

use h2::server::Builder;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::unconstrained,
    time::{Instant, timeout},
};

use super::{
    Outcome, Shard,
    admission::ConnectionPlace,
    bell::Bell,
    keepalive::Keepalive,
    pace::Paced,
    session::{BROKEN, Session},
    wire::wire,
};
use crate::caller::Caller;

/// Two default requests of an Envoy, 61 KB each, must fit, or it waits for us to open the window again.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// How much one stream may have handed to `h2` and not yet written.
const SEND_BUFFER: usize = 64 << 10;
/// How long the last frames of a connection may take to leave.
pub(super) const LINGER: Duration = Duration::from_secs(1);

/// Serves a connection to its end.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    shard: &Shard,
    socket: S,
    caller: Arc<Caller>,
    place: &ConnectionPlace,
) -> Outcome {
    // Boxed: a task keeps room for all that its states hold, to its end.
    let (bell, mut session) = match Box::pin(shake_hands(shard, socket, caller, place)).await {
        Ok(begun) => begun,
        Err(outcome) => return outcome,
    };
    let is_stopping = || shard.stopping.load(Ordering::Relaxed);
    // What the runtime takes for its share of a turn would be asked for over and over by the bell, which rings inside
    // the turn. `Paced` ends the turn of a peer that always has more to say.
    let outcome = unconstrained(poll_fn(|cx| session.poll(cx, &bell, is_stopping))).await;
    Box::pin(session.end(&outcome)).await;
    outcome
}

async fn shake_hands<'a, S: AsyncRead + AsyncWrite + Unpin>(
    shard: &'a Shard,
    socket: S,
    caller: Arc<Caller>,
    place: &'a ConnectionPlace,
) -> Result<(Arc<Bell>, Box<Session<'a, Paced<S>>>), Outcome> {
    let front = &*shard.front;
    let limits = &front.limits;
    let mut builder = Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(limits.streams_per_connection)
        .max_header_list_size(limits.header_list)
        .max_send_buffer_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(limits.pending_resets)
        .max_local_error_reset_streams(Some(limits.local_resets));
    let socket = Paced::new(socket, place.pace(), front.metrics.paused.clone());
    let (socket, valve) = wire(socket);
    // To a peer that has spoken already our settings go with its first answer.
    valve.close();
    let mut handshake = pin!(builder.handshake(socket));
    let shaken = match poll_fn(|cx| Poll::Ready(handshake.as_mut().poll(cx))).await {
        Poll::Ready(shaken) => Ok(shaken),
        Poll::Pending => {
            // What does not leave now leaves before the next that is written.
            let _ = poll_fn(|cx| Poll::Ready(valve.open(cx))).await;
            timeout(limits.preface_timeout, handshake).await
        }
    };
    let mut connection = match shaken {
        Ok(Ok(connection)) => connection,
        Ok(Err(_)) => return Err(Outcome::refused("not_http2")),
        Err(_) => return Err(Outcome::shed("preface_timeout")),
    };
    // A new connection has its pings to give.
    let Some(ping_pong) = connection.ping_pong() else { return Err(BROKEN) };
    let keepalive = Keepalive::new(ping_pong, limits, Instant::now());
    let (bell, waker, hung) = shard.bells.hang();
    let session = Session::new(front, connection, valve, caller, place, keepalive, (waker, hung));
    Ok((bell, Box::new(session)))
}
