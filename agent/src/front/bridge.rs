//! Hands a call to the tonic services and carries their answer back, within the client's windows.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, server::SendResponse};
use http::{HeaderMap, Request};
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use tokio::time::{Sleep, sleep, timeout};
use tonic::{Code, Status, service::Routes};
use tower::ServiceExt as _;

use super::{Limits, Outcome, grpc};

/// Serves one call and reads in its status how it ended; the services find what the front put into the extensions of `request`.
pub(super) async fn call(
    routes: Routes,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    limits: &Limits,
) -> Outcome {
    let stalled = limits.stalled_timeout;
    let late = Arc::new(AtomicBool::new(false));
    let incoming = |body| Incoming::new(body, limits, Arc::clone(&late));
    let Ok(response) = routes.oneshot(request.map(incoming)).await;
    let (head, body) = response.into_parts();
    let ends = body.is_end_stream();
    // A refusal may stand in the headers, with nothing behind it.
    let refused_at_once = outcome(&head.headers);
    match respond.send_response(http::Response::from_parts(head, ()), ends) {
        Ok(mut stream) if !ends => match carry(body, &mut stream, stalled).await {
            Ok(trailers) => unless_late(&late, outcome(&trailers)),
            Err(Broken::Gone) => Outcome::SERVED,
            Err(Broken::Stalled) => {
                stream.send_reset(Reason::ENHANCE_YOUR_CALM);
                Outcome::shed("stalled")
            }
        },
        Ok(_) | Err(_) => unless_late(&late, refused_at_once),
    }
}

/// How a call ended that the client kept waiting, if it did; else `outcome`.
fn unless_late(late: &AtomicBool, outcome: Outcome) -> Outcome {
    if late.load(Ordering::Relaxed) { Outcome::shed("first_request_timeout") } else { outcome }
}

/// How a call ended whose status is in `headers`, which may be its trailers.
fn outcome(headers: &HeaderMap) -> Outcome {
    match Status::from_header_map(headers).map(|status| status.code()) {
        Some(Code::Ok | Code::Cancelled) => Outcome::SERVED,
        Some(Code::PermissionDenied | Code::Unauthenticated) => Outcome::refused("denied"),
        Some(Code::InvalidArgument) => Outcome::refused("malformed"),
        Some(Code::OutOfRange | Code::ResourceExhausted) => Outcome::refused("request"),
        Some(Code::Unimplemented | Code::NotFound) => Outcome::refused("unknown"),
        Some(Code::Unavailable) => Outcome::refused("unavailable"),
        Some(_) => Outcome::refused("failed"),
        // Not gRPC: a wrong method or content type.
        None => Outcome::refused("malformed"),
    }
}

enum Broken {
    Gone,
    Stalled,
}

async fn carry(
    mut body: tonic::body::Body,
    stream: &mut SendStream<Bytes>,
    stalled: Duration,
) -> Result<HeaderMap, Broken> {
    loop {
        let frame = tokio::select! {
            frame = body.frame() => frame,
            // A client that resets an idle stream ends the call.
            _ = std::future::poll_fn(|cx| stream.poll_reset(cx)) => return Err(Broken::Gone),
        };
        let Some(Ok(frame)) = frame else { break };
        match frame.into_data() {
            Ok(mut bytes) => {
                while !bytes.is_empty() {
                    let written = timeout(stalled, grpc::write(stream, &mut bytes)).await;
                    written.map_err(|_| Broken::Stalled)?.map_err(|_| Broken::Gone)?;
                }
            }
            Err(frame) => {
                let trailers = frame.into_trailers().unwrap_or_default();
                stream.send_trailers(trailers.clone()).map_err(|_| Broken::Gone)?;
                return Ok(trailers);
            }
        }
    }
    stream.send_data(Bytes::new(), true).map_err(|_| Broken::Gone)?;
    Ok(HeaderMap::new())
}

/// The client's half as a body, which fails when a message does not come in time.
struct Incoming {
    body: RecvStream,
    messages: Messages,
    stalled: Duration,
    /// When the message that is awaited must be whole; `None` between messages.
    due: Option<Pin<Box<Sleep>>>,
    late: Arc<AtomicBool>,
}

/// Where in its messages a gRPC stream stands.
#[derive(Debug, Default)]
struct Messages {
    /// Bytes of the current prefix that have come: a flag, and the length.
    prefix: u8,
    length: u32,
    /// Bytes of the current message that are to come.
    left: u32,
}

const PREFIX: u8 = 5;

impl Messages {
    /// Whether a message has ended in `bytes`.
    fn pass(&mut self, mut bytes: &[u8]) -> bool {
        let mut ended = false;
        loop {
            while self.prefix < PREFIX {
                let Some((&byte, rest)) = bytes.split_first() else { return ended };
                bytes = rest;
                self.length = if self.prefix == 0 { 0 } else { self.length << 8 | u32::from(byte) };
                self.prefix += 1;
                self.left = self.length;
            }
            let passed = bytes.len().min(self.left as usize);
            bytes = &bytes[passed..];
            // No more than `left`, which is a u32.
            self.left -= passed as u32;
            if self.left > 0 {
                return ended;
            }
            (self.prefix, ended) = (0, true);
        }
    }

    fn is_between(&self) -> bool {
        self.prefix == 0
    }
}

impl Incoming {
    fn new(body: RecvStream, limits: &Limits, late: Arc<AtomicBool>) -> Self {
        let due = Some(Box::pin(sleep(limits.first_request_timeout)));
        Self { body, messages: Messages::default(), stalled: limits.stalled_timeout, due, late }
    }

    fn took(&mut self, bytes: &[u8]) {
        if self.messages.pass(bytes) {
            self.due = None;
        }
        if !self.messages.is_between() && self.due.is_none() {
            self.due = Some(Box::pin(sleep(self.stalled)));
        }
    }
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let gone = |error: h2::Error| Status::cancelled(error.to_string());
        match self.body.poll_data(cx) {
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(gone(error)))),
            Poll::Ready(Some(Ok(bytes))) => {
                self.took(&bytes);
                let released = self.body.flow_control().release_capacity(bytes.len());
                Poll::Ready(Some(released.map(|()| Frame::data(bytes)).map_err(gone)))
            }
            Poll::Ready(None) => {
                let trailers = ready!(self.body.poll_trailers(cx));
                Poll::Ready(
                    trailers
                        .map(|trailers| trailers.map(Frame::trailers))
                        .transpose()
                        .map(|frame| frame.map_err(gone)),
                )
            }
            Poll::Pending => {
                let Some(due) = &mut self.due else { return Poll::Pending };
                ready!(due.as_mut().poll(cx));
                self.late.store(true, Ordering::Relaxed);
                Poll::Ready(Some(Err(Status::deadline_exceeded("client did not finish its request in time"))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_counted_by_the_status_that_its_client_reads() {
        let with = |code: Code| {
            let mut headers = HeaderMap::new();
            Status::new(code, "why").add_header(&mut headers).unwrap();
            outcome(&headers)
        };
        assert_eq!(with(Code::Ok), Outcome::SERVED);
        assert_eq!(with(Code::PermissionDenied), Outcome::refused("denied"));
        assert_eq!(with(Code::InvalidArgument), Outcome::refused("malformed"));
        assert_eq!(with(Code::OutOfRange), Outcome::refused("request"));
        assert_eq!(with(Code::Unimplemented), Outcome::refused("unknown"));
        assert_eq!(with(Code::Unavailable), Outcome::refused("unavailable"));
        assert_eq!(with(Code::Internal), Outcome::refused("failed"));
        assert_eq!(outcome(&HeaderMap::new()), Outcome::refused("malformed"));
    }

    #[test]
    fn a_message_has_ended_when_its_last_byte_has_come_however_it_is_cut() {
        let bytes = [&[0, 0, 0, 0, 3][..], b"abc", &[0, 0, 0, 0, 0], &[0, 0, 0, 1, 0], &[7; 256]].concat();
        let mut messages = Messages::default();
        let ends: Vec<_> =
            bytes.iter().enumerate().filter(|(_, byte)| messages.pass(&[**byte])).map(|(at, _)| at).collect();
        assert_eq!(ends, [7, 12, bytes.len() - 1]);
        assert!(messages.is_between());
        assert!(messages.pass(&bytes) && messages.is_between());
        assert!(!messages.pass(&[0, 0, 0, 0, 2, b'x']) && !messages.is_between());
    }
}
