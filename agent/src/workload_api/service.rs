//! FetchX509SVID and FetchX509Bundles: the whole state at once, and again whenever it changes.

use std::{collections::HashMap, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::stream::{self, Stream};
use prometheus_client::metrics::gauge::Gauge;
use tonic::{Request, Response, Status, metadata::MetadataMap};
use vouch_proto::workload::{
    JwtBundlesRequest, JwtBundlesResponse, JwtsvidRequest, JwtsvidResponse, ValidateJwtsvidRequest,
    ValidateJwtsvidResponse, X509BundlesRequest, X509BundlesResponse, X509svid, X509svidRequest,
    X509svidResponse, spiffe_workload_api_server::SpiffeWorkloadApi,
};

use crate::{
    caller::{Caller, Failure},
    open::Open,
    svid::{Holder, Identities, IssuedSvid, Subscriber},
};

/// Serves the Workload API to callers that the front has put into a request's extensions.
#[derive(Debug)]
pub struct WorkloadApi {
    /// How long a first answer waits for an SVID that is being issued.
    pub issue_wait: Duration,
    pub metrics: Metrics,
}

#[derive(Debug, Clone, Default)]
pub struct Metrics {
    pub streams: Gauge,
}

type Updates<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl SpiffeWorkloadApi for WorkloadApi {
    type FetchX509SVIDStream = Updates<X509svidResponse>;
    type FetchX509BundlesStream = Updates<X509BundlesResponse>;
    type FetchJWTBundlesStream = Updates<JwtBundlesResponse>;

    async fn fetch_x509svid(
        &self,
        request: Request<X509svidRequest>,
    ) -> Result<Response<Self::FetchX509SVIDStream>, Status> {
        self.updates(&request, Content { message: svids, generations: svid_generations }).await
    }

    async fn fetch_x509_bundles(
        &self,
        request: Request<X509BundlesRequest>,
    ) -> Result<Response<Self::FetchX509BundlesStream>, Status> {
        self.updates(&request, Content { message: bundles, generations: bundle_generation }).await
    }

    async fn fetch_jwtsvid(
        &self,
        request: Request<JwtsvidRequest>,
    ) -> Result<Response<JwtsvidResponse>, Status> {
        Err(no_jwt(request.metadata()))
    }

    async fn fetch_jwt_bundles(
        &self,
        request: Request<JwtBundlesRequest>,
    ) -> Result<Response<Self::FetchJWTBundlesStream>, Status> {
        Err(no_jwt(request.metadata()))
    }

    async fn validate_jwtsvid(
        &self,
        request: Request<ValidateJwtsvidRequest>,
    ) -> Result<Response<ValidateJwtsvidResponse>, Status> {
        Err(no_jwt(request.metadata()))
    }
}

impl WorkloadApi {
    async fn updates<R, T: Send + 'static>(
        &self,
        request: &Request<R>,
        content: Content<T>,
    ) -> Result<Response<Updates<T>>, Status> {
        check_header(request.metadata())?;
        let caller =
            request.extensions().get::<Arc<Caller>>().ok_or_else(|| Status::internal("caller is unknown"))?;
        let attestation_failed = |failure: Failure| Status::unavailable(failure.to_string());
        let mut subscriber = caller.subscribe().await.map_err(attestation_failed)?;
        subscriber.settled(self.issue_wait).await;
        let first = subscriber.current();
        if first.svids.is_empty() && first.pending > 0 {
            return Err(Status::unavailable("identity is being issued"));
        }
        let state = State {
            subscriber,
            next: Some(first),
            sent: None,
            content,
            _open: Open::count(&self.metrics.streams),
        };
        Ok(Response::new(Box::pin(stream::unfold(Some(state), State::next))))
    }
}

/// One stream of updates. Pulled by the transport, so a slow reader misses what lies between.
struct State<T> {
    subscriber: Subscriber,
    next: Option<Identities>,
    /// Generations of what was sent last.
    sent: Option<Vec<u64>>,
    content: Content<T>,
    _open: Open,
}

/// What a stream sends of what its caller has earned.
struct Content<T> {
    message: fn(&Identities) -> T,
    /// Equal when the message would be.
    generations: fn(&Identities) -> Vec<u64>,
}

impl<T> State<T> {
    async fn next(state: Option<Self>) -> Option<(Result<T, Status>, Option<Self>)> {
        let mut state = state?;
        loop {
            let identities = match state.next.take() {
                Some(identities) => identities,
                None => state.subscriber.next().await,
            };
            if identities.svids.is_empty() && identities.pending == 0 || identities.holder == Holder::Gone {
                // Workload Endpoint §6, also when the identity is lost in mid-stream.
                let text = state.subscriber.denial("no identity issued", &[]);
                return Some((Err(Status::permission_denied(text)), None));
            }
            if identities.holder == Holder::Outdated {
                let why = "process has changed since it connected, and would be served something else: connect again";
                return Some((Err(Status::unavailable(why)), None));
            }
            let generations = (state.content.generations)(&identities);
            if identities.svids.is_empty() || state.sent.as_ref() == Some(&generations) {
                continue;
            }
            state.sent = Some(generations);
            return Some((Ok((state.content.message)(&identities)), Some(state)));
        }
    }
}

/// Workload Endpoint §3: present, once, and exactly `true`.
fn check_header(metadata: &MetadataMap) -> Result<(), Status> {
    let mut values = metadata.get_all("workload.spiffe.io").iter();
    match (values.next(), values.next()) {
        (Some(value), None) if value.as_bytes() == b"true" => Ok(()),
        _ => Err(Status::invalid_argument("security header missing from request")),
    }
}

fn no_jwt(metadata: &MetadataMap) -> Status {
    match check_header(metadata) {
        Ok(()) => Status::unimplemented("JWT-SVIDs are not served yet"),
        Err(status) => status,
    }
}

fn svids(identities: &Identities) -> X509svidResponse {
    let bundle = identities.bundle.bundle.concatenated_der();
    let mut hints: Vec<&str> = vec![];
    let mut svids = vec![];
    for issued in identities.svids.iter() {
        let hint = &*issued.entry.hint;
        // Workload API §5.2.1: a hint is unique in a response. By entry id, the first keeps it.
        if !hint.is_empty() && hints.contains(&hint) {
            continue;
        }
        hints.push(hint);
        svids.push(svid(issued, bundle.clone()));
    }
    X509svidResponse { svids, crl: vec![], federated_bundles: HashMap::new() }
}

fn svid(issued: &IssuedSvid, bundle: Vec<u8>) -> X509svid {
    X509svid {
        spiffe_id: issued.svid.id.to_string(),
        x509_svid: issued.svid.concatenated_der(),
        x509_svid_key: Bytes::from_owner(issued.svid.key.clone()),
        bundle,
        hint: issued.entry.hint.clone(),
    }
}

fn bundles(identities: &Identities) -> X509BundlesResponse {
    let bundle = &identities.bundle.bundle;
    let bundles = HashMap::from([(bundle.trust_domain.id().to_string(), bundle.concatenated_der())]);
    X509BundlesResponse { crl: vec![], bundles }
}

fn svid_generations(identities: &Identities) -> Vec<u64> {
    let svids = identities.svids.iter().map(|issued| issued.generation);
    svids.chain([identities.bundle.generation]).collect()
}

fn bundle_generation(identities: &Identities) -> Vec<u64> {
    vec![identities.bundle.generation]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_header_with_the_word_true_will_do() {
        let metadata = |values: &[&'static str]| {
            let mut metadata = MetadataMap::new();
            for value in values {
                metadata.append("workload.spiffe.io", value.parse().unwrap());
            }
            metadata
        };
        assert!(check_header(&metadata(&["true"])).is_ok());
        for wrong in [&[][..], &["True"], &["false"], &["true", "true"], &[""]] {
            let status = check_header(&metadata(wrong)).unwrap_err();
            assert_eq!(status.code(), tonic::Code::InvalidArgument);
            assert_eq!(status.message(), "security header missing from request");
        }
    }
}
