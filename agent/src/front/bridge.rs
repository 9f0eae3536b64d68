//! Hands a call to the tonic services and carries their answer back, within the client's windows.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, server::SendResponse};
use http::{HeaderMap, Request};
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use tokio::time::timeout;
use tonic::{Code, Status, service::Routes};
use tower::ServiceExt as _;

use super::{Outcome, grpc};

/// Serves one call and reads in its status how it ended; the services find what the front put into the extensions of `request`.
pub(super) async fn call(
    routes: Routes,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    stalled: Duration,
) -> Outcome {
    let Ok(response) = routes.oneshot(request.map(Incoming)).await;
    let (head, body) = response.into_parts();
    let ends = body.is_end_stream();
    // A refusal may stand in the headers, with nothing behind it.
    let refused_at_once = outcome(&head.headers);
    match respond.send_response(http::Response::from_parts(head, ()), ends) {
        Ok(mut stream) if !ends => match carry(body, &mut stream, stalled).await {
            Ok(trailers) => outcome(&trailers),
            Err(Broken::Gone) => Outcome::SERVED,
            Err(Broken::Stalled) => {
                stream.send_reset(Reason::ENHANCE_YOUR_CALM);
                Outcome::shed("stalled")
            }
        },
        Ok(_) | Err(_) => refused_at_once,
    }
}

/// How a call ended whose status is in `headers`, which may be its trailers.
fn outcome(headers: &HeaderMap) -> Outcome {
    match Status::from_header_map(headers).map(|status| status.code()) {
        Some(Code::Ok | Code::Cancelled) => Outcome::SERVED,
        Some(Code::PermissionDenied | Code::Unauthenticated) => Outcome::refused("denied"),
        Some(Code::InvalidArgument | Code::OutOfRange | Code::ResourceExhausted) => {
            Outcome::refused("malformed")
        }
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

/// The client's half as a body.
struct Incoming(RecvStream);

impl Body for Incoming {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if let Some(bytes) = ready!(self.0.poll_data(cx)) {
            return Poll::Ready(Some(bytes.and_then(|bytes| {
                self.0.flow_control().release_capacity(bytes.len())?;
                Ok(Frame::data(bytes))
            })));
        }
        let trailers = ready!(self.0.poll_trailers(cx));
        Poll::Ready(trailers.map(|trailers| trailers.map(Frame::trailers)).transpose())
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
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
        assert_eq!(with(Code::Unimplemented), Outcome::refused("unknown"));
        assert_eq!(with(Code::Unavailable), Outcome::refused("unavailable"));
        assert_eq!(with(Code::Internal), Outcome::refused("failed"));
        assert_eq!(outcome(&HeaderMap::new()), Outcome::refused("malformed"));
    }
}
