//! SDS on a plain tonic server, over the same identities as the front: what a client of the front ought to see.
//!
//! Other people's HTTP/2, gRPC and protobuf; of ours only the state machine of a stream. Slow, and easy to read.

use std::{io, pin::Pin, sync::Arc};

use envoy_types::pb::envoy::service::{
    discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse},
    secret::v3::secret_discovery_service_server::{SecretDiscoveryService, SecretDiscoveryServiceServer},
};
use prost::Message as _;
use tokio::{io::DuplexStream, sync::mpsc, task::JoinHandle};
use tokio_stream::{Stream, StreamExt as _, wrappers::UnboundedReceiverStream};
use tonic::{Request, Response, Status, Streaming, transport::Server};
use vouch::{
    caller::Caller,
    sds::{Denied, Limits, Message, Names, NodeFacts, RequestReader, Subscription},
    svid::{Holder, Identities, Subscriber},
};

use crate::{node, wire};

/// A running server. It ends when this is dropped.
#[derive(Debug)]
pub struct Oracle {
    connections: mpsc::UnboundedSender<io::Result<DuplexStream>>,
    server: JoinHandle<()>,
}

impl Oracle {
    /// Serves `caller` on every connection.
    pub fn start(caller: Arc<Caller>) -> Self {
        let (connections, incoming) = mpsc::unbounded_channel();
        let service = SecretDiscoveryServiceServer::new(Service { caller, names: Arc::new(node::names()) })
            .max_decoding_message_size(node::MAX_REQUEST);
        let server = Server::builder().add_service(service);
        let serve = server.serve_with_incoming(UnboundedReceiverStream::new(incoming));
        let server = tokio::spawn(async move { serve.await.expect("pipes do not fail") });
        Self { connections, server }
    }

    /// # Panics
    /// When the server has ended.
    pub fn connect(&self, room: usize) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(room);
        self.connections.send(Ok(theirs)).expect("the server runs");
        ours
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        self.server.abort();
    }
}

struct Service {
    caller: Arc<Caller>,
    names: Arc<Names>,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl SecretDiscoveryService for Service {
    type StreamSecretsStream = Answers<DiscoveryResponse>;
    type DeltaSecretsStream = Answers<DeltaDiscoveryResponse>;

    async fn stream_secrets(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamSecretsStream>, Status> {
        let subscriber = self.subscribe().await?;
        let (answers, receiver) = mpsc::unbounded_channel();
        let call =
            Call { answers, subscriber, subscription: Subscription::default(), names: self.names.clone() };
        tokio::spawn(call.run(request.into_inner()));
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(receiver))))
    }

    async fn fetch_secrets(
        &self,
        request: Request<DiscoveryRequest>,
    ) -> Result<Response<DiscoveryResponse>, Status> {
        let mut subscriber = self.subscribe().await?;
        let request = converted(&request.into_inner())?;
        let identities = subscriber.current();
        let answer = Subscription::default().on_request(request, &identities, &self.names);
        let message = answer.map_err(|denied| status(&denied, &mut subscriber))?.expect("a first request");
        // One answer, which nobody acknowledges.
        Ok(Response::new(DiscoveryResponse { nonce: String::new(), ..decoded(&message) }))
    }

    async fn delta_secrets(
        &self,
        _: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaSecretsStream>, Status> {
        Err(Status::unimplemented("nobody here asks for it"))
    }
}

impl Service {
    async fn subscribe(&self) -> Result<Subscriber, Status> {
        let subscriber = self.caller.subscribe().await;
        let mut subscriber = subscriber.map_err(|failure| Status::unavailable(failure.to_string()))?;
        subscriber.settled(node::ISSUE_WAIT).await;
        Ok(subscriber)
    }
}

struct Call {
    answers: mpsc::UnboundedSender<Result<DiscoveryResponse, Status>>,
    subscriber: Subscriber,
    subscription: Subscription,
    names: Arc<Names>,
}

impl Call {
    async fn run(mut self, mut requests: Streaming<DiscoveryRequest>) {
        loop {
            let done = tokio::select! {
                request = requests.next() => match request {
                    Some(request) => self.on_request(request),
                    None if self.subscription.awaits_its_first_answer() => {
                        Err(status(&Denied::Pending, &mut self.subscriber))
                    }
                    None => return,
                },
                identities = self.subscriber.next() => self.on_update(&identities),
                () = self.answers.closed() => return,
            };
            if let Err(status) = done {
                // The client may have left.
                let _ = self.answers.send(Err(status));
                return;
            }
        }
    }

    fn on_request(&mut self, request: Result<DiscoveryRequest, Status>) -> Result<(), Status> {
        let request = converted(&request?)?;
        let identities = self.subscriber.current();
        let answer = self.subscription.on_request(request, &identities, &self.names);
        self.answer(answer)?;
        // What is new in these identities counts as seen, so it goes out now.
        self.on_update(&identities)
    }

    fn on_update(&mut self, identities: &Identities) -> Result<(), Status> {
        assert_eq!(identities.holder, Holder::Current, "this process changes in no test");
        let answer = self.subscription.on_update(identities, &self.names);
        self.answer(answer)
    }

    fn answer(&mut self, answer: Result<Option<Message>, Denied>) -> Result<(), Status> {
        match answer {
            Ok(Some(message)) => _ = self.answers.send(Ok(decoded(&message))),
            Ok(None) | Err(Denied::Pending) => {}
            Err(denied) => return Err(status(&denied, &mut self.subscriber)),
        }
        Ok(())
    }
}

fn converted(request: &DiscoveryRequest) -> Result<vouch::sds::Request, Status> {
    if request.resource_names.len() > node::MAX_NAMES {
        return Err(Status::invalid_argument("too many names"));
    }
    Ok(vouch::sds::Request {
        version: request.version_info.clone(),
        names: request.resource_names.iter().filter(|name| !name.is_empty()).cloned().collect(),
        type_url: request.type_url.clone(),
        nonce: request.response_nonce.clone(),
        error: request.error_detail.as_ref().map(|error| error.message.clone()),
        node: request
            .node
            .clone()
            .map(|node| facts(&DiscoveryRequest { node: Some(node), ..Default::default() })),
    })
}

/// Only a reader of requests makes these.
fn facts(request: &DiscoveryRequest) -> NodeFacts {
    let limits = Limits { request_bytes: node::MAX_REQUEST, names: node::MAX_NAMES };
    let bytes = wire::framed(&request.encode_to_vec());
    let read = RequestReader::new(limits).read(&mut &*bytes).expect("a request");
    read.and_then(|request| request.node).unwrap_or_default()
}

fn decoded(message: &Message) -> DiscoveryResponse {
    DiscoveryResponse::decode(&message.bytes[5..]).expect("a response")
}

fn status(denied: &Denied, subscriber: &mut Subscriber) -> Status {
    match denied {
        Denied::NotAuthorized(names) => {
            Status::invalid_argument(subscriber.denial(&denied.to_string(), names))
        }
        Denied::WrongType(_) => Status::invalid_argument(denied.to_string()),
        Denied::NoValidator => Status::internal(denied.to_string()),
        Denied::Pending => Status::unavailable(denied.to_string()),
    }
}
