//! Each call in the task of its connection, without a framework.

use std::future::poll_fn;

use anyhow::{Context as _, Result, bail};
use bytes::{Bytes, BytesMut};
use h2::{RecvStream, server::SendResponse};
use http::{HeaderMap, HeaderValue, Request, Response, header::CONTENT_TYPE};
use prost::Message as _;
use tokio::net::{UnixListener, UnixStream};
use vouch_proto::envoy::service::auth::v3::{CheckRequest, CheckResponse};

use super::Endpoint;
use crate::sds;

/// At sockets alone.
pub(super) async fn serve(at: &Endpoint) -> Result<()> {
    let Endpoint::Unix(path) = at else { bail!("the bare server has a socket") };
    let listener = UnixListener::bind(path)?;
    loop {
        let (socket, _) = listener.accept().await?;
        tokio::spawn(async move {
            if let Err(error) = connection(socket).await {
                eprintln!("{error:#}");
            }
        });
    }
}

async fn connection(socket: UnixStream) -> Result<()> {
    let mut connection = h2::server::handshake(socket).await?;
    while let Some(call) = connection.accept().await {
        let (request, respond) = call?;
        tokio::spawn(async move {
            if let Err(error) = answer(request, respond).await {
                eprintln!("{error:#}");
            }
        });
    }
    Ok(())
}

async fn answer(request: Request<RecvStream>, mut respond: SendResponse<Bytes>) -> Result<()> {
    let mut body = request.into_body();
    let mut bytes = BytesMut::new();
    while let Some(part) = poll_fn(|cx| body.poll_data(cx)).await {
        let part = part?;
        body.flow_control().release_capacity(part.len())?;
        bytes.extend_from_slice(&part);
    }
    let message = sds::first_message(&bytes)?.context("a call without a message")?;
    drop(CheckRequest::decode(message)?);
    let mut headers = Response::new(());
    headers.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    let mut stream = respond.send_response(headers, false)?;
    stream.send_data(sds::grpc(&CheckResponse::default()).into(), false)?;
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    Ok(stream.send_trailers(trailers)?)
}
