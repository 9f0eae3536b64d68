//! One connection: preface, calls, and an end when nothing is asked of it any more.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use h2::{
    RecvStream,
    server::{Builder, Connection, SendResponse},
};
use http::Request;
use tokio::{
    net::UnixStream,
    pin,
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use super::{
    Front, Outcome, Refused,
    admission::ConnectionPlace,
    bridge,
    grpc::{Incoming, Outgoing},
    keepalive,
    watched::{Blocked, Watched},
};
use crate::{
    caller::Caller,
    sds::{self, transport::ResponseBytes},
};

const SDS_STREAM: &str = "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets";
const SDS_FETCH: &str = "/envoy.service.secret.v3.SecretDiscoveryService/FetchSecrets";

/// Two default requests of an Envoy, 61 KB each, must fit, or it waits for us to open the window again.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
const MAX_HEADER_LIST: u32 = 8 << 10;
/// How much one stream may have handed to `h2` and not yet written.
const SEND_BUFFER: usize = 64 << 10;
const PENDING_RESETS: usize = 20;
const LOCAL_ERROR_RESETS: usize = 64;
/// How long the last frames of a connection may take to leave.
const LINGER: Duration = Duration::from_secs(1);

/// A call that ended in a way that no call should.
const BROKEN: Outcome = Outcome { outcome: "shed", reason: "broken" };

/// Serves a connection to its end.
pub(super) async fn serve(
    front: &Arc<Front>,
    socket: UnixStream,
    caller: Arc<Caller>,
    place: &ConnectionPlace,
    stop: CancellationToken,
) -> Outcome {
    let limits = &front.limits;
    let mut builder = Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(limits.streams_per_connection)
        .max_header_list_size(MAX_HEADER_LIST)
        .max_send_buffer_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_local_error_reset_streams(Some(LOCAL_ERROR_RESETS));
    let (socket, blocked) = Watched::new(socket);
    let mut connection = match timeout(limits.preface_timeout, builder.handshake(socket)).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(_)) => return Outcome::refused("not_http2"),
        Err(_) => return Outcome::shed("preface_timeout"),
    };
    let mut open = JoinSet::new();
    let outcome = calls(front, &mut connection, &mut open, &blocked, &caller, place, stop).await;
    end_with_the_connection(front, open, &outcome).await;
    // What is still to be written may leave, but not for ever.
    connection.graceful_shutdown();
    let _ = timeout(LINGER, async { while let Some(Ok(_)) = connection.accept().await {} }).await;
    outcome
}

async fn calls(
    front: &Arc<Front>,
    connection: &mut Connection<Watched, Bytes>,
    open: &mut JoinSet<Outcome>,
    blocked: &Blocked,
    caller: &Arc<Caller>,
    place: &ConnectionPlace,
    stop: CancellationToken,
) -> Outcome {
    let silent = keepalive::until_silent(connection.ping_pong());
    let blocked = blocked.for_as_long_as(front.limits.stalled_timeout);
    pin!(silent, blocked);
    let mut asked = false;
    let mut leave_at = None;
    let mut idle_until = Instant::now() + front.limits.first_request_timeout;
    loop {
        tokio::select! {
            call = connection.accept() => match call {
                Some(Ok((request, respond))) => {
                    asked = true;
                    front.metrics.calls.inc();
                    match place.stream() {
                        Ok(stream) => {
                            let (front, caller) = (Arc::clone(front), Arc::clone(caller));
                            open.spawn(async move {
                                let _stream = stream;
                                self::call(&front, request, respond, caller).await
                            });
                        }
                        Err(Refused { reason }) => {
                            Outgoing::new(respond).finish(&Status::unavailable(format!("limit {reason} is reached")));
                            front.metrics.call_ended(&Outcome::shed(reason));
                        }
                    }
                }
                // h2 has told it why.
                Some(Err(error)) if error.is_library() => return Outcome::refused("protocol_error"),
                // The client left.
                Some(Err(_)) | None => return Outcome::SERVED,
            },
            Some(ended) = open.join_next() => {
                front.metrics.call_ended(&ended.unwrap_or(BROKEN));
                idle_until = Instant::now() + front.limits.idle_timeout;
            }
            () = sleep_until(idle_until), if open.is_empty() => {
                return if asked { Outcome::SERVED } else { Outcome::shed("first_request_timeout") };
            }
            // Its calls end by themselves, with a status; then the connection does, so that the next one has a record of
            // what the process is now.
            () = caller.over(), if leave_at.is_none() => {
                connection.graceful_shutdown();
                leave_at = Some(Instant::now() + LINGER);
            }
            () = sleep_until(leave_at.unwrap_or(idle_until)), if leave_at.is_some() => {
                return Outcome::refused("outdated");
            }
            () = &mut silent => return Outcome::shed("keepalive"),
            () = &mut blocked => return Outcome::shed("stalled"),
            () = stop.cancelled() => return Outcome::SERVED,
        }
    }
}

/// Cuts off the calls that are open. They ended as their connection did.
async fn end_with_the_connection(front: &Front, mut open: JoinSet<Outcome>, outcome: &Outcome) {
    open.abort_all();
    while let Some(ended) = open.join_next().await {
        let ended = ended.unwrap_or_else(|error| if error.is_cancelled() { outcome.clone() } else { BROKEN });
        front.metrics.call_ended(&ended);
    }
}

async fn call(
    front: &Front,
    mut request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
    caller: Arc<Caller>,
) -> Outcome {
    match request.uri().path() {
        path @ (SDS_STREAM | SDS_FETCH) => {
            let streams = path == SDS_STREAM;
            let mut responses = Outgoing::new(respond);
            let subscriber = match caller.subscribe().await {
                Ok(subscriber) => subscriber,
                Err(failure) => {
                    responses.finish(&Status::new(Code::Unavailable, failure.to_string()));
                    return Outcome::refused("attestation");
                }
            };
            let requests = Incoming(request.into_body());
            let ended = if streams {
                sds::serve(&front.sds, requests, responses, subscriber).await
            } else {
                sds::fetch(&front.sds, requests, responses, subscriber).await
            };
            match ended {
                sds::Ended::Served => Outcome::SERVED,
                sds::Ended::Refused(reason) => Outcome::refused(reason),
                sds::Ended::Shed(reason) => Outcome::shed(reason),
            }
        }
        _ => {
            request.extensions_mut().insert(caller);
            bridge::call(front.routes.clone(), request, respond, front.limits.stalled_timeout).await
        }
    }
}
