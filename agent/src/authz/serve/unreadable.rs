//! Calls that fail before there is an answer: what Envoy sends is longer than a question may be, is none, or takes too long.
//! To Envoy an error of the call is what its failure_mode_allow is about, so these are judged, too.

use std::{
    convert::Infallible,
    future::{Future, Ready, ready},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response, header::CONTENT_TYPE};
use http_body_util::{BodyExt as _, Full};
use prost::Message as _;
use tokio::time::timeout;
use tonic::{Code, Status, body::Body, server::NamedService};
use tower::Service;

use super::{
    super::{asker::Asker, check::Judge, settings::OnError},
    budget::Budget,
};
use vouch_proto::envoy::service::auth::v3::CheckResponse;

/// A service whose failed calls are answered as the judge says.
#[derive(Debug, Clone)]
pub(super) struct Unreadable<S> {
    judge: Arc<Judge>,
    budget: Budget,
    inner: S,
}

/// The older API, of which no call is understood: each is answered as the judge says.
#[derive(Debug, Clone)]
pub(super) struct Older(pub(super) Arc<Judge>);

/// How long a call may take whose caller does not say how long it waits.
const PATIENCE: Duration = Duration::from_secs(10);

type Answer<E> = Pin<Box<dyn Future<Output = Result<Response<Body>, E>> + Send>>;

impl<S> Unreadable<S> {
    pub(super) fn answered_by(judge: Arc<Judge>, inner: S) -> Self {
        Self { judge, budget: Budget::default(), inner }
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
        let patience = patience(request.headers());
        let request = request.map(|body| Body::new(self.budget.measure(body)));
        let (judge, answer) = (Arc::clone(&self.judge), self.inner.call(request));
        Box::pin(async move {
            let response = match timeout(patience, answer).await {
                Ok(response) => response?,
                Err(_elapsed) => Status::deadline_exceeded("the answer took too long").into_http(),
            };
            Ok(match (asker, failure(&response, judge.settings.on_error)) {
                (Some(asker), Some(status)) => judged(&judge, &asker, &status),
                _ => response,
            })
        })
    }
}

impl NamedService for Older {
    const NAME: &'static str = "envoy.service.auth.v2.Authorization";
}

impl Service<Request<Body>> for Older {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let status = Status::unimplemented("the v2 API is not served: set transport_api_version: V3");
        let asker = request.extensions().get::<Arc<Asker>>();
        ready(Ok(asker.map_or_else(|| status.clone().into_http(), |asker| judged(&self.0, asker, &status))))
    }
}

fn judged(judge: &Judge, asker: &Asker, status: &Status) -> Response<Body> {
    match judge.unreadable(asker, status) {
        Ok(answer) => whole(&answer),
        Err(status) => status.into_http(),
    }
}

/// A little less than the caller waits, so that it hears an answer of ours.
fn patience(headers: &HeaderMap) -> Duration {
    let told = headers.get("grpc-timeout").and_then(|told| told.to_str().ok());
    let told = told.and_then(|told| {
        let (digits, unit) = told.split_at_checked(told.len().checked_sub(1)?)?;
        let count = u32::try_from(digits.parse::<u64>().ok()?).unwrap_or(u32::MAX);
        let unit = match unit {
            "H" => Duration::from_secs(3600),
            "M" => Duration::from_secs(60),
            "S" => Duration::from_secs(1),
            "m" => Duration::from_millis(1),
            "u" => Duration::from_micros(1),
            "n" => Duration::from_nanos(1),
            _ => return None,
        };
        Some(unit.saturating_mul(count) / 10 * 9)
    });
    told.unwrap_or(PATIENCE).min(PATIENCE)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_is_answered_before_it_gives_up() {
        let of = |told: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", told.parse().unwrap());
            patience(&headers)
        };
        assert_eq!(of("500m"), Duration::from_millis(450));
        assert_eq!(of("200000u"), Duration::from_millis(180));
        assert_eq!(of("1n"), Duration::ZERO);
        for odd in ["99999999999999999999H", "1H", "m", "5x", "-1S"] {
            assert_eq!(of(odd), PATIENCE, "{odd}");
        }
        assert_eq!(patience(&HeaderMap::new()), PATIENCE);
    }
}
