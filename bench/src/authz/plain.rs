//! The floor: a server as one writes it first, which allows at once; and one on the HTTP/2 library alone, for what the
//! framework around that costs.

mod bare;

use std::io::{Read as _, stdin};

use anyhow::Result;
use clap::Args;
use tokio::{
    net::{TcpListener, UnixListener},
    sync::oneshot,
};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{
    Request, Response, Status,
    transport::{Server, server::TcpIncoming},
};
use vouch_proto::envoy::service::auth::v3::{
    CheckRequest, CheckResponse,
    authorization_server::{Authorization, AuthorizationServer},
};

use super::endpoint::Endpoint;

/// The floor; `authz` starts it, and it ends with its input.
#[derive(Debug, Args)]
pub(crate) struct Plain {
    #[arg(long)]
    at: Endpoint,
    /// On the HTTP/2 library alone
    #[arg(long)]
    bare: bool,
}

#[derive(Debug)]
struct AllowsAll;

#[tonic::async_trait]
impl Authorization for AllowsAll {
    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        drop(request);
        Ok(Response::new(CheckResponse::default()))
    }
}

pub(crate) fn serve(plain: &Plain) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (ended, input_ended) = oneshot::channel::<()>();
        std::thread::spawn(move || {
            // Its end is all that is waited for, and its failure is as good an end as any.
            let _ = stdin().read_to_end(&mut Vec::new());
            drop(ended);
        });
        let stop = async { drop(input_ended.await) };
        if plain.bare {
            tokio::select! {
                served = bare::serve(&plain.at) => return served,
                () = stop => return Ok(()),
            }
        }
        let router = Server::builder().add_service(AuthorizationServer::new(AllowsAll));
        match &plain.at {
            Endpoint::Unix(path) => {
                let listener = UnixListenerStream::new(UnixListener::bind(path)?);
                router.serve_with_incoming_shutdown(listener, stop).await?;
            }
            Endpoint::Tcp(address) => {
                let listener = TcpIncoming::from(TcpListener::bind(address).await?).with_nodelay(Some(true));
                router.serve_with_incoming_shutdown(listener, stop).await?;
            }
        }
        Ok(())
    })
}
