//! SDS as Envoy speaks it, one message at a time.

use std::{path::Path, time::Duration};

use bytes::Bytes;
use envoy_types::pb::{
    envoy::{
        config::core::v3::Node,
        extensions::transport_sockets::tls::v3::{Secret, secret},
        service::discovery::v3::{DiscoveryRequest, DiscoveryResponse},
    },
    google::rpc,
};
use prost::Message;
use tokio::{sync::mpsc, time::timeout};
use tonic::{Code, Status, Streaming, transport::Channel};

use crate::grpc;

const STREAM: &str = "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets";
pub(crate) const FETCH: &str = "/envoy.service.secret.v3.SecretDiscoveryService/FetchSecrets";
pub const SECRET_TYPE: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
/// How long an answer may take that must come.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// How long nothing must come where nothing may come.
const QUIET: Duration = Duration::from_millis(700);

/// One open stream.
#[derive(Debug)]
pub struct Stream {
    requests: mpsc::Sender<Bytes>,
    answers: Streaming<Bytes>,
    names: Vec<String>,
    last: Option<DiscoveryResponse>,
}

impl Stream {
    /// Opens a stream on a connection of its own and asks for `names`.
    ///
    /// # Errors
    /// The server's status, when it refuses before the first answer.
    pub async fn open(socket: &Path, names: &[&str]) -> Result<Self, Status> {
        Self::open_as(&grpc::channel(socket), names, None).await
    }

    /// Like [`Self::open`], on a connection that may carry other streams, by an Envoy that describes itself as
    /// `node`.
    ///
    /// # Errors
    /// The server's status, when it refuses before the first answer.
    pub async fn open_as(channel: &Channel, names: &[&str], node: Option<Node>) -> Result<Self, Status> {
        let first = DiscoveryRequest { node, ..request(names) };
        let (requests, answers) = grpc::streaming(channel, STREAM, first.encode_to_vec().into()).await?;
        Ok(Self { requests, answers, names: names.iter().map(|&name| name.to_owned()).collect(), last: None })
    }

    /// The next answer, whose bytes must be what other people's code would have encoded.
    ///
    /// # Errors
    /// The status with which the stream ended.
    ///
    /// # Panics
    /// When nothing comes in time.
    pub async fn next(&mut self) -> Result<DiscoveryResponse, Status> {
        let answer = timeout(ANSWER_LIMIT, self.answers.message()).await.expect("an answer comes in time")?;
        let bytes = answer.ok_or_else(|| Status::new(Code::Ok, "the stream ended"))?;
        let response: DiscoveryResponse = grpc::decode(&bytes)?;
        assert_eq!(response.encode_to_vec(), bytes, "the answer is encoded as others encode it");
        self.last = Some(response.clone());
        Ok(response)
    }

    /// Takes the last answer.
    ///
    /// # Errors
    /// When the stream has ended.
    pub async fn ack(&self) -> Result<(), Status> {
        let last = self.last();
        self.send(DiscoveryRequest { version_info: last.version_info.clone(), ..self.answer_to(last) }).await
    }

    /// Refuses the last answer.
    ///
    /// # Errors
    /// When the stream has ended.
    pub async fn nack(&self, why: &str) -> Result<(), Status> {
        let error_detail = Some(rpc::Status { code: 13, message: why.to_owned(), details: Vec::new() });
        self.send(DiscoveryRequest { error_detail, ..self.answer_to(self.last()) }).await
    }

    /// Asks for other names, as an answer to the last answer.
    ///
    /// # Errors
    /// When the stream has ended.
    pub async fn ask(&mut self, names: &[&str]) -> Result<(), Status> {
        self.names = names.iter().map(|&name| name.to_owned()).collect();
        self.ack().await
    }

    /// # Errors
    /// When the stream has ended.
    pub async fn send(&self, request: DiscoveryRequest) -> Result<(), Status> {
        let bytes = request.encode_to_vec().into();
        self.requests.send(bytes).await.map_err(|_| Status::unavailable("the stream has ended"))
    }

    /// # Panics
    /// When an answer comes, or the stream ends.
    pub async fn stays_quiet(&mut self) {
        if let Ok(ended) = timeout(QUIET, self.next()).await {
            panic!("nothing was expected, but there is {ended:?}");
        }
    }

    /// The next status that ends the stream, past any answers before it.
    ///
    /// # Panics
    /// When the stream does not end in time.
    pub async fn end(&mut self) -> Status {
        timeout(ANSWER_LIMIT, async {
            loop {
                if let Err(status) = self.next().await {
                    return status;
                }
            }
        })
        .await
        .expect("the stream ends in time")
    }

    fn last(&self) -> &DiscoveryResponse {
        self.last.as_ref().expect("an answer came before")
    }

    fn answer_to(&self, last: &DiscoveryResponse) -> DiscoveryRequest {
        DiscoveryRequest {
            resource_names: self.names.clone(),
            type_url: SECRET_TYPE.to_owned(),
            response_nonce: last.nonce.clone(),
            ..DiscoveryRequest::default()
        }
    }
}

/// Asks once.
///
/// # Errors
/// The server's status.
pub async fn fetch(socket: &Path, names: &[&str]) -> Result<DiscoveryResponse, Status> {
    grpc::unary(&grpc::channel(socket), FETCH, &request(names)).await
}

/// The first request of a stream that wants `names`.
pub fn request(names: &[&str]) -> DiscoveryRequest {
    DiscoveryRequest {
        resource_names: names.iter().map(|&name| name.to_owned()).collect(),
        type_url: SECRET_TYPE.to_owned(),
        ..DiscoveryRequest::default()
    }
}

/// The secrets in `response`, whose bytes must be what other people's code would have encoded.
///
/// # Panics
/// When something in it is not a secret.
pub fn secrets(response: &DiscoveryResponse) -> Vec<Secret> {
    let decode = |any: &envoy_types::pb::google::protobuf::Any| {
        assert_eq!(any.type_url, SECRET_TYPE);
        let secret = Secret::decode(any.value.as_slice()).expect("a secret");
        assert_eq!(secret.encode_to_vec(), any.value, "the secret is encoded as others encode it");
        secret
    };
    response.resources.iter().map(decode).collect()
}

/// The chain of a TLS certificate, in PEM; `None` when `secret` is something else.
pub fn chain(secret: &Secret) -> Option<Vec<u8>> {
    match secret.r#type.as_ref()? {
        secret::Type::TlsCertificate(certificate) => inline(certificate.certificate_chain.as_ref()?),
        _ => None,
    }
}

/// The bytes of an inline data source.
pub fn inline(source: &envoy_types::pb::envoy::config::core::v3::DataSource) -> Option<Vec<u8>> {
    use envoy_types::pb::envoy::config::core::v3::data_source::Specifier;
    match source.specifier.as_ref()? {
        Specifier::InlineBytes(bytes) => Some(bytes.clone()),
        _ => None,
    }
}
