//! One gRPC call on an `h2` stream, as `sds::transport` wants it.

use std::{
    future::poll_fn,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, server::SendResponse};
use http::{HeaderMap, HeaderValue, Response, header::CONTENT_TYPE};
use tokio::io::AsyncWrite;
use tonic::Status;

use super::wire::Valve;
use crate::sds::transport::{Gone, RequestBytes, ResponseBytes};

/// The client's half. Room is given back as bytes are taken, so at most one window is ever held.
#[derive(Debug)]
pub(super) struct Incoming(pub(super) RecvStream);

impl RequestBytes for Incoming {
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Gone>>> {
        let Some(bytes) = ready!(self.0.poll_data(cx)) else { return Poll::Ready(None) };
        let taken = bytes.and_then(|bytes| {
            self.0.flow_control().release_capacity(bytes.len())?;
            Ok(bytes)
        });
        Poll::Ready(Some(taken.map_err(|_| Gone)))
    }
}

/// Our half. The response's headers go out with its first byte, or with its status when there is none.
#[derive(Debug)]
pub(super) struct Outgoing<S> {
    respond: SendResponse<Bytes>,
    stream: Option<SendStream<Bytes>>,
    valve: Valve<S>,
}

impl<S: AsyncWrite + Unpin> Outgoing<S> {
    pub(super) fn new(respond: SendResponse<Bytes>, valve: &Valve<S>) -> Self {
        Self { respond, stream: None, valve: valve.clone() }
    }

    fn open(&mut self) -> Result<&mut SendStream<Bytes>, Gone> {
        if self.stream.is_none() {
            let stream = self.respond.send_response(headers(HeaderMap::new()), false).map_err(|_| Gone)?;
            self.stream = Some(stream);
        }
        self.stream.as_mut().ok_or(Gone)
    }
}

impl<S: AsyncWrite + Unpin> ResponseBytes for Outgoing<S> {
    fn poll_write(&mut self, message: &mut Bytes, cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        // A client that leaves its socket unread has room in its windows, and would be sent what is old by then.
        if self.valve.blocked_since().is_some() {
            return Poll::Pending;
        }
        poll_write(self.open()?, message, cx)
    }

    fn finish(&mut self, status: &Status) {
        let mut trailers = HeaderMap::new();
        // A text that no header can carry is left out; the code stays.
        if status.add_header(&mut trailers).is_err() {
            trailers.insert("grpc-status", HeaderValue::from(status.code() as i32));
        }
        // Either fails only when the client is gone, and then there is nobody to tell.
        let _ = match &mut self.stream {
            Some(stream) => stream.send_trailers(trailers),
            None => self.respond.send_response(headers(trailers), true).map(drop),
        };
    }

    fn reset(&mut self) {
        match &mut self.stream {
            Some(stream) => stream.send_reset(Reason::ENHANCE_YOUR_CALM),
            None => self.respond.send_reset(Reason::ENHANCE_YOUR_CALM),
        }
    }
}

/// Sends as much of `bytes` as the client has room for, once it has room for some.
pub(super) async fn write(stream: &mut SendStream<Bytes>, bytes: &mut Bytes) -> Result<(), Gone> {
    poll_fn(|cx| poll_write(stream, bytes, cx)).await
}

fn poll_write(
    stream: &mut SendStream<Bytes>,
    bytes: &mut Bytes,
    cx: &mut Context<'_>,
) -> Poll<Result<(), Gone>> {
    stream.reserve_capacity(bytes.len());
    // A stream is told of room once: what it was told before still holds.
    while stream.capacity() == 0 {
        match ready!(stream.poll_capacity(cx)) {
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return Poll::Ready(Err(Gone)),
        }
    }
    let part = bytes.split_to(stream.capacity().min(bytes.len()));
    Poll::Ready(stream.send_data(part, false).map_err(|_| Gone))
}

fn headers(mut fields: HeaderMap) -> Response<()> {
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    let mut response = Response::new(());
    *response.headers_mut() = fields;
    response
}
