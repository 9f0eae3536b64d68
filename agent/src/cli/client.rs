//! How the commands reach the agent.

use std::{
    future::Future,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::{
    Code, Request, Status,
    transport::{Channel, Endpoint},
};
use tower::service_fn;
use vouch_proto::{
    admin::admin_client::AdminClient, workload::spiffe_workload_api_client::SpiffeWorkloadApiClient,
};

use super::{Common, exit};
use crate::{
    config::{self, Layout},
    problem::Problem,
};

impl Common {
    /// Where the public socket is: flag, environment, or the first default that is there.
    pub(super) fn public_socket(&self) -> Result<PathBuf, Problem> {
        match &self.socket {
            Some(text) if text.contains("://") => config::endpoint_socket(text),
            Some(path) => Ok(PathBuf::from(path)),
            None => Ok(first_there(Layout::public_socket)),
        }
    }

    pub(super) fn admin_socket(&self) -> PathBuf {
        self.admin_socket.clone().unwrap_or_else(|| first_there(Layout::admin_socket))
    }

    pub(super) async fn workload_api(&self) -> Result<SpiffeWorkloadApiClient<Channel>, Problem> {
        Ok(SpiffeWorkloadApiClient::new(connect(&self.public_socket()?, self.timeout).await?))
    }

    pub(super) async fn admin(&self) -> Result<AdminClient<Channel>, Problem> {
        Ok(AdminClient::new(connect(&self.admin_socket(), self.timeout).await?))
    }
}

/// A node of this user first, then the one of the machine.
fn first_there(path: fn(&Layout) -> PathBuf) -> PathBuf {
    let own = path(&Layout::of_this_process());
    let machine = path(&Layout::of_root());
    if !own.exists() && machine.exists() { machine } else { own }
}

/// Connects to the socket at `path`.
///
/// # Errors
/// E0310 when nobody listens there, or we may not connect.
pub(super) async fn connect(path: &Path, timeout: Duration) -> Result<Channel, Problem> {
    let socket = UnixStream::connect(path).await.map_err(|error| unreachable(path, &error))?;
    // For the first connection only: a command that loses it has nothing to go on with.
    let mut first = Some(TokioIo::new(socket));
    let connector = service_fn(move |_| {
        let socket = first.take().ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected));
        async move { socket }
    });
    let endpoint = Endpoint::from_static("http://vouch.local").connect_timeout(timeout);
    endpoint.connect_with_connector(connector).await.map_err(|error| {
        Problem::new(
            exit::UNREACHABLE,
            format!("what listens at unix://{} does not speak HTTP/2", path.display()),
        )
        .why(error.to_string())
        .fix("is that the agent's socket? name it: --socket, --admin-socket")
    })
}

fn unreachable(path: &Path, error: &io::Error) -> Problem {
    let fix = match error.kind() {
        io::ErrorKind::PermissionDenied => "run it as the agent's user, or as root: sudo",
        _ => "start it: vouch up, or vouch run --config FILE; or say where it is: --socket, --admin-socket",
    };
    Problem::new(exit::UNREACHABLE, format!("cannot reach the agent at unix://{}", path.display()))
        .why(match error.kind() {
            io::ErrorKind::NotFound => "there is no such socket".to_owned(),
            io::ErrorKind::ConnectionRefused => "nobody listens at it any more".to_owned(),
            _ => error.to_string(),
        })
        .fix(fix)
}

/// A Workload API request: with the header that the standard demands.
pub(super) fn secured<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("workload.spiffe.io", tonic::metadata::MetadataValue::from_static("true"));
    request
}

/// What a refused call means to whoever typed the command.
pub(super) fn call_problem(status: &Status) -> Problem {
    let text = status.message();
    match status.code() {
        Code::PermissionDenied => Problem::new(exit::NO_IDENTITY, text)
            .why("no registration entry has only selectors that this process has")
            .fix("compare vouch entry list with what this process is: id"),
        Code::Unavailable => {
            Problem::new(exit::UNAVAILABLE, text).fix("try again; if it stays so: vouch status")
        }
        code => Problem::new(exit::CALL_FAILED, format!("{text} ({code:?})")).fix("vouch status"),
    }
}

/// Runs `work` to its end, within `limit` when there is one.
pub(super) fn block_on<T>(
    limit: Option<Duration>,
    work: impl Future<Output = Result<T, Problem>>,
) -> Result<T, Problem> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime =
        runtime.map_err(|error| Problem::new("E0314", "no thread can be started").why(error.to_string()))?;
    runtime.block_on(async {
        let Some(limit) = limit else { return work.await };
        tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
            let took = humantime::format_duration(limit);
            Err(Problem::new(exit::TIMED_OUT, format!("the agent did not answer within {took}"))
                .fix("see what it does: vouch status; or wait longer: --timeout 30s"))
        })
    })
}
