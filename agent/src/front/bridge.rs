//! Hands a call to the tonic services and carries their answer back, within the client's windows.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, server::SendResponse};
use http::Request;
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use tokio::time::timeout;
use tonic::service::Routes;
use tower::ServiceExt as _;

use super::{Outcome, grpc};

/// Serves one call; the services find what the front put into the extensions of `request`.
pub(super) async fn call(
    routes: Routes,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    stalled: Duration,
) -> Outcome {
    let Ok(response) = routes.oneshot(request.map(Incoming)).await;
    let (head, body) = response.into_parts();
    let ends = body.is_end_stream();
    match respond.send_response(http::Response::from_parts(head, ()), ends) {
        Ok(_) if ends => Outcome::SERVED,
        Ok(mut stream) => match carry(body, &mut stream, stalled).await {
            Ok(()) => Outcome::SERVED,
            Err(Broken::Gone) => Outcome::SERVED,
            Err(Broken::Stalled) => {
                stream.send_reset(Reason::ENHANCE_YOUR_CALM);
                Outcome::shed("stalled")
            }
        },
        Err(_) => Outcome::SERVED,
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
) -> Result<(), Broken> {
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
                return stream.send_trailers(trailers).map_err(|_| Broken::Gone);
            }
        }
    }
    stream.send_data(Bytes::new(), true).map_err(|_| Broken::Gone)
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
