//! Calls that fail before there is a question: what Envoy sends is longer than a question may be, or is none. To Envoy an error
//! of the call is what its failure_mode_allow is about, so these are judged, too.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response, header::CONTENT_TYPE};
use http_body_util::{BodyExt as _, Full};
use prost::Message as _;
use tonic::{Code, Status, body::Body, server::NamedService};
use tower::Service;

use super::super::{asker::Asker, check::Judge, settings::OnError};
use vouch_proto::envoy::service::auth::v3::CheckResponse;

/// A service whose failed calls are answered as the judge says.
#[derive(Debug, Clone)]
pub(super) struct Unreadable<S> {
    judge: Arc<Judge>,
    inner: S,
}

type Answer<E> = Pin<Box<dyn Future<Output = Result<Response<Body>, E>> + Send>>;

impl<S> Unreadable<S> {
    pub(super) fn answered_by(judge: Arc<Judge>, inner: S) -> Self {
        Self { judge, inner }
    }
}

impl<S: NamedService> NamedService for Unreadable<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Unreadable<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer<Infallible>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let is_question = request.uri().path().ends_with("/Check");
        let asker = request.extensions().get::<Arc<Asker>>().filter(|_| is_question).cloned();
        let (judge, answer) = (Arc::clone(&self.judge), self.inner.call(request));
        Box::pin(async move {
            let response = answer.await?;
            let (Some(asker), Some(status)) = (asker, failure(&response, judge.settings.on_error)) else {
                return Ok(response);
            };
            Ok(match judge.unreadable(&asker, &status) {
                Ok(answer) => whole(&answer),
                Err(status) => status.into_http(),
            })
        })
    }
}

/// Why there was no question; `None` when the judge has answered.
fn failure(response: &Response<Body>, on_error: OnError) -> Option<Status> {
    let status = Status::from_header_map(response.headers()).filter(|status| status.code() != Code::Ok)?;
    match on_error {
        OnError::Deny => Some(status),
        // The judge has errors of its own, all of one code.
        OnError::Grpc => (status.code() != Code::Unknown).then_some(status),
    }
}

/// The one answer of a call.
fn whole(answer: &CheckResponse) -> Response<Body> {
    let length = answer.encoded_len();
    let mut message = BytesMut::with_capacity(length + 5);
    message.put_u8(0);
    message.put_u32(u32::try_from(length).expect("a refusal is short"));
    message.extend_from_slice(&answer.encode_to_vec());
    let trailers =
        HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), HeaderValue::from(0))]);
    let body = Full::new(Bytes::from(message)).with_trailers(async { Some(Ok(trailers)) });
    let mut response = Response::new(Body::new(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}
