//! gRPC over a Unix socket or TCP, down to the bytes of each message: no generated client stands between a test and the
//! wire.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use bytes::{Buf, BufMut, Bytes};
use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    sync::mpsc,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Request, Status, Streaming,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    transport::{Channel, Endpoint, Uri},
};
use tower::service_fn;

/// Requests waiting to be sent on one stream.
const QUEUE: usize = 16;

/// A channel that connects to `socket` when it is first used.
pub fn channel(socket: &Path) -> Channel {
    let socket = socket.to_owned();
    let connect = move |_: Uri| {
        let socket: PathBuf = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    };
    Endpoint::from_static("http://localhost").connect_with_connector_lazy(service_fn(connect))
}

/// A channel that connects to `address` when it is first used.
///
/// # Panics
/// Never: an address is a URI's authority.
pub fn channel_at(address: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{address}")).expect("an address").connect_lazy()
}

/// A channel on a connection that somebody else has made. There is no second one when that ends.
pub fn channel_on(connection: std::os::unix::net::UnixStream) -> Channel {
    channel_once(move || {
        connection.set_nonblocking(true)?;
        UnixStream::from_std(connection)
    })
}

/// The same on a connection over TCP.
pub fn channel_on_tcp(connection: std::net::TcpStream) -> Channel {
    channel_once(move || {
        connection.set_nonblocking(true)?;
        TcpStream::from_std(connection)
    })
}

fn channel_once<C>(open: impl FnOnce() -> io::Result<C> + Send + 'static) -> Channel
where
    C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let open = Arc::new(Mutex::new(Some(open)));
    let connect = move |_: Uri| {
        let open = open.lock().expect("no panic").take();
        async move {
            let open = open.ok_or_else(|| io::Error::other("the connection has ended"))?;
            open().map(TokioIo::new)
        }
    };
    Endpoint::from_static("http://localhost").connect_with_connector_lazy(service_fn(connect))
}

/// The words of a denial, and the decision that stands behind them.
///
/// # Panics
/// When it names no decision.
pub fn denial(status: &Status) -> (&str, &str) {
    let message = status.message();
    let cut = message.strip_suffix(')').and_then(|message| message.rsplit_once(" (decision "));
    let (words, decision) = cut.unwrap_or_else(|| panic!("no decision in {message:?}"));
    let is_id = decision.len() == 13 && decision.chars().all(|c| c == '-' || c.is_ascii_hexdigit());
    assert!(is_id, "{decision:?} is no decision");
    (words, decision)
}

/// The words of a denial, which names a decision behind them.
///
/// # Panics
/// When it does not.
pub fn before_the_decision(status: &Status) -> &str {
    denial(status).0
}

/// Asks once and reads the one answer.
///
/// # Errors
/// The server's status.
pub async fn unary<A: Message + Default>(
    channel: &Channel,
    path: &'static str,
    request: &impl Message,
) -> Result<A, Status> {
    decode(&exchange(channel, path, request.encode_to_vec().into()).await?)
}

/// Sends one message, whatever it is, and reads the one answer.
///
/// # Errors
/// The server's status.
pub async fn exchange(channel: &Channel, path: &'static str, message: Bytes) -> Result<Bytes, Status> {
    let mut grpc = ready(channel).await?;
    Ok(grpc.unary(Request::new(message), PathAndQuery::from_static(path), Raw).await?.into_inner())
}

/// Asks once and reads a stream of answers. `metadata` goes with the request.
///
/// # Errors
/// The server's status.
pub async fn server_streaming(
    channel: &Channel,
    path: &'static str,
    metadata: &[(&'static str, &'static str)],
) -> Result<Streaming<Bytes>, Status> {
    let mut grpc = ready(channel).await?;
    let mut request = Request::new(Bytes::new());
    for (name, value) in metadata {
        request.metadata_mut().insert(*name, tonic::metadata::MetadataValue::from_static(value));
    }
    Ok(grpc.server_streaming(request, PathAndQuery::from_static(path), Raw).await?.into_inner())
}

/// Opens a stream in both directions. Whatever is put into the sender is sent as it is, `first` before the
/// server's answer is awaited.
///
/// # Errors
/// The server's status.
pub async fn streaming(
    channel: &Channel,
    path: &'static str,
    first: Bytes,
) -> Result<(mpsc::Sender<Bytes>, Streaming<Bytes>), Status> {
    let mut grpc = ready(channel).await?;
    let (requests, receiver) = mpsc::channel(QUEUE);
    requests.try_send(first).expect("the queue is empty");
    let stream = Request::new(ReceiverStream::new(receiver));
    let answers = grpc.streaming(stream, PathAndQuery::from_static(path), Raw).await?.into_inner();
    Ok((requests, answers))
}

/// # Errors
/// When `bytes` are not an `A`.
pub fn decode<A: Message + Default>(bytes: &[u8]) -> Result<A, Status> {
    A::decode(bytes).map_err(|error| Status::internal(format!("the answer does not decode: {error}")))
}

async fn ready(channel: &Channel) -> Result<Grpc<Channel>, Status> {
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await.map_err(|error| Status::unavailable(format!("cannot connect: {error:?}")))?;
    Ok(grpc)
}

/// Messages are bytes.
#[derive(Debug, Clone, Copy)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(message);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}
