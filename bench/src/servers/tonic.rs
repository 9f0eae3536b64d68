//! A server as one writes it first: tonic, a task for each stream, each of which builds and encodes its own answer and
//! decodes whole requests, `Node` and all.

use std::{
    convert::Infallible,
    io,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll},
    thread,
};

use ::tonic::{
    Request, Response, Status, Streaming,
    body::Body,
    codegen::{BoxFuture, Service, http},
    server::{Grpc, NamedService, StreamingService},
    transport::Server,
};
use anyhow::{Context as _, Result};
use tokio::{
    net::UnixListener,
    sync::{mpsc, oneshot, watch},
};
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic_prost::ProstCodec;
use vouch_proto::envoy::{
    extensions::transport_sockets::tls::v3::Secret, service::discovery::v3::DiscoveryResponse,
};

use super::told::{Order, next_order};
use crate::{node::Node, sds};

/// A whole `DiscoveryRequest`, with everything that an Envoy says of itself.
#[derive(Clone, PartialEq, prost::Message)]
struct WholeRequest {
    #[prost(string, tag = "1")]
    version_info: String,
    #[prost(message, optional, tag = "2")]
    node: Option<Node>,
    #[prost(string, repeated, tag = "3")]
    resource_names: Vec<String>,
    #[prost(string, tag = "4")]
    type_url: String,
    #[prost(string, tag = "5")]
    response_nonce: String,
}

/// What the streams are to have.
#[derive(Debug)]
struct Current {
    order: Order,
    secret: Secret,
}

/// Counts streams that connected, and then those that acknowledged the round.
#[derive(Debug)]
struct Progress {
    streams: u32,
    connected: AtomicU32,
    acknowledged: AtomicU32,
}

#[derive(Debug, Clone)]
struct Secrets {
    current: watch::Receiver<Option<Arc<Current>>>,
    progress: Arc<Progress>,
}

/// Serves what it is told until its input ends.
pub(crate) fn serve(told: &crate::Served) -> Result<()> {
    crate::machine::raise_descriptors()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (publish, current) = watch::channel(None);
    let progress = Arc::new(Progress {
        streams: told.streams,
        connected: AtomicU32::new(0),
        acknowledged: AtomicU32::new(0),
    });
    let service = Secrets { current, progress: Arc::clone(&progress) };
    runtime.block_on(async {
        let listener = UnixListener::bind(&told.socket)?;
        println!("listening");
        let (ended, input_ended) = oneshot::channel();
        thread::spawn(move || {
            // Its failure is as good an end as any.
            let _ = ended.send(obey(&publish, &progress));
        });
        let serving =
            Server::builder().add_service(service).serve_with_incoming(UnixListenerStream::new(listener));
        tokio::select! {
            served = serving => Ok(served?),
            obeyed = input_ended => obeyed.context("reading orders")?,
        }
    })
}

fn obey(publish: &watch::Sender<Option<Arc<Current>>>, progress: &Progress) -> Result<()> {
    let mut orders = io::stdin().lock();
    while let Some(order) = next_order(&mut orders)? {
        progress.acknowledged.store(0, Ordering::Relaxed);
        let secret = order.shape.secret(order.round);
        publish.send_replace(Some(Arc::new(Current { order, secret })));
    }
    Ok(())
}

impl Progress {
    fn on_request(&self, is_ack: bool) {
        let (counter, word) =
            if is_ack { (&self.acknowledged, "acknowledged") } else { (&self.connected, "connected") };
        if counter.fetch_add(1, Ordering::Relaxed) + 1 == self.streams {
            println!("{word}");
        }
    }
}

impl NamedService for Secrets {
    const NAME: &'static str = "envoy.service.secret.v3.SecretDiscoveryService";
}

impl Service<http::Request<Body>> for Secrets {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if request.uri().path() != sds::STREAM_SECRETS {
            return Box::pin(async { Ok(Status::unimplemented("nobody here asks for it").into_http()) });
        }
        let streams = self.clone();
        Box::pin(async { Ok(Grpc::new(ProstCodec::default()).streaming(streams, request).await) })
    }
}

impl StreamingService<WholeRequest> for Secrets {
    type Response = DiscoveryResponse;
    type ResponseStream = ReceiverStream<Result<DiscoveryResponse, Status>>;
    type Future = BoxFuture<Response<Self::ResponseStream>, Status>;

    fn call(&mut self, request: Request<Streaming<WholeRequest>>) -> Self::Future {
        let (answers, stream) = mpsc::channel(1);
        tokio::spawn(self.clone().stream(request.into_inner(), answers));
        Box::pin(async { Ok(Response::new(ReceiverStream::new(stream))) })
    }
}

impl Secrets {
    /// One stream, until its client has enough of it.
    async fn stream(
        mut self,
        mut requests: Streaming<WholeRequest>,
        answers: mpsc::Sender<Result<DiscoveryResponse, Status>>,
    ) {
        let mut asked = false;
        self.current.mark_changed();
        loop {
            tokio::select! {
                request = requests.message() => {
                    let Ok(Some(request)) = request else { return };
                    asked = true;
                    self.progress.on_request(!request.response_nonce.is_empty());
                }
                changed = self.current.changed(), if asked => {
                    if changed.is_err() {
                        return;
                    }
                    let now = self.current.borrow_and_update().clone();
                    let Some(now) = now else { continue };
                    let answer = now.order.shape.response(now.order.round, &now.secret);
                    if answers.send(Ok(answer)).await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}
