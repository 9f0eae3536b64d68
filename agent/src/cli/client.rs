//! How the commands reach the agent.

use std::{
    ffi::OsString,
    future::Future,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use nix::unistd::geteuid;
use tokio::{
    net::UnixStream,
    time::{Instant, sleep},
};
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
    decision::DecisionId,
    problem::Problem,
};

/// The variables by which clients are told where the agent is. An empty one says nothing.
const PUBLIC_VARIABLE: &str = "SPIFFE_ENDPOINT_SOCKET";
const ADMIN_VARIABLE: &str = "VOUCH_ADMIN_SOCKET";

/// Between two tries where the agent has no room for another connection that waits.
const DIAL_PAUSE: Duration = Duration::from_millis(5);

/// What helps whoever may not speak to the agent.
pub(super) const AS_AGENT: &str = "run it as the agent's user, or as root: sudo";

impl Common {
    /// The public socket that the flag names. What an agent serves at: the variable speaks to clients.
    pub(super) fn public_socket(&self) -> Result<Option<PathBuf>, Problem> {
        self.socket.as_deref().map(public_path).transpose()
    }

    pub(super) async fn channel(&self) -> Result<Channel, Problem> {
        let told = match &self.socket {
            Some(flag) => Some(flag.clone()),
            None => variable(PUBLIC_VARIABLE).map(|text| text.to_string_lossy().into_owned()),
        };
        match told {
            Some(text) => connect(&public_path(&text)?, self.timeout).await,
            None => connect_to_first(&defaults(Layout::public_socket), self.timeout).await,
        }
    }

    pub(super) async fn workload_api(&self) -> Result<SpiffeWorkloadApiClient<Channel>, Problem> {
        Ok(SpiffeWorkloadApiClient::new(self.channel().await?))
    }

    pub(super) async fn admin(&self) -> Result<AdminClient<Channel>, Problem> {
        let told = self.admin_socket.clone().or_else(|| variable(ADMIN_VARIABLE).map(PathBuf::from));
        let channel = match told {
            Some(path) => connect(&path, self.timeout).await,
            None => connect_to_first(&defaults(Layout::admin_socket), self.timeout).await,
        };
        Ok(AdminClient::new(channel?))
    }
}

fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// A path as it is, or an address.
fn public_path(text: &str) -> Result<PathBuf, Problem> {
    let is_path = text.starts_with(['/', '.']) || !text.contains(':');
    if is_path && !text.is_empty() { Ok(PathBuf::from(text)) } else { config::endpoint_socket(text) }
}

/// A node of this user first, then the one of the machine.
fn defaults(path: fn(&Layout) -> PathBuf) -> Vec<PathBuf> {
    let mut paths = vec![path(&Layout::of_this_process()), path(&Layout::of_root())];
    paths.dedup();
    paths
}

/// Connects to the socket at `path`, which somebody chose: whoever listens there is meant.
///
/// # Errors
/// E0310 when nobody listens there, or we may not connect.
async fn connect(path: &Path, timeout: Duration) -> Result<Channel, Problem> {
    let socket = dial(path, timeout).await.map_err(|error| unreachable(path, &error))?;
    speak(socket, path, timeout).await
}

/// Connects to the first of `paths` at which root or this user listens. Nobody chose them, and some lie where
/// anyone may have been first.
///
/// # Errors
/// E0310 when there is none, E0319 when only strangers listen.
async fn connect_to_first(paths: &[PathBuf], timeout: Duration) -> Result<Channel, Problem> {
    let mut failures = vec![];
    for path in paths {
        let failure = match dial(path, timeout).await {
            Ok(socket) => match socket.peer_cred() {
                Ok(peer) if is_trusted(peer.uid(), geteuid().as_raw()) => {
                    return speak(socket, path, timeout).await;
                }
                Ok(peer) => (3, stranger(path, peer.uid())),
                Err(error) => (1, unreachable(path, &error)),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => (0, unreachable(path, &error)),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => (2, unreachable(path, &error)),
            Err(error) => (1, unreachable(path, &error)),
        };
        failures.push(failure);
    }
    // The one that says most; of equals the first.
    let told = failures.into_iter().rev().max_by_key(|(weight, _)| *weight);
    Err(told.map(|(_, problem)| problem).expect("there is a default"))
}

/// Where so many wait to be accepted that there is no room for one more, waits for it, as a blocking `connect()` does.
async fn dial(path: &Path, limit: Duration) -> io::Result<UnixStream> {
    let deadline = Instant::now() + limit;
    loop {
        match UnixStream::connect(path).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < deadline => {
                sleep(DIAL_PAUSE).await;
            }
            connected => return connected,
        }
    }
}

fn is_trusted(listener: u32, own: u32) -> bool {
    listener == 0 || listener == own
}

async fn speak(socket: UnixStream, path: &Path, timeout: Duration) -> Result<Channel, Problem> {
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
        io::ErrorKind::PermissionDenied => AS_AGENT,
        _ => "start it: vouch up, or vouch run --config FILE; or say where it is: --socket, --admin-socket",
    };
    Problem::new(exit::UNREACHABLE, format!("cannot reach the agent at unix://{}", path.display()))
        .why(match error.kind() {
            io::ErrorKind::NotFound => "there is no such socket".to_owned(),
            io::ErrorKind::ConnectionRefused => "nobody listens at it any more".to_owned(),
            io::ErrorKind::PermissionDenied => "only its owner may enter its directory".to_owned(),
            _ => error.to_string(),
        })
        .fix(fix)
}

fn stranger(path: &Path, uid: u32) -> Problem {
    Problem::new(exit::STRANGER, format!("uid {uid} listens at unix://{}", path.display()))
        .why("where no socket was named, only an agent of root or of this user is believed")
        .fix(format!("if that agent is meant, name it: --socket, --admin-socket, or {PUBLIC_VARIABLE}"))
}

/// A Workload API request: with the header that the standard demands.
pub(super) fn secured<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("workload.spiffe.io", tonic::metadata::MetadataValue::from_static("true"));
    request
}

/// What a refused call of the Workload API means to whoever typed the command.
pub(super) fn call_problem(status: &Status) -> Problem {
    match status.code() {
        Code::PermissionDenied => Problem::new(exit::NO_IDENTITY, status.message())
            .why("no registration entry has only conditions that this process meets")
            .fix(match DecisionId::at_the_end_of(status.message()) {
                Some(decision) => format!("vouch explain {decision}   (as root or the agent's user)"),
                None => "vouch explain PID, or compare vouch entry list with what this process is: id".into(),
            }),
        _ => match DecisionId::at_the_end_of(status.message()) {
            Some(decision) => {
                failed(status).fix(format!("try again; if it stays so: vouch explain {decision}"))
            }
            None => failed(status),
        },
    }
}

/// What a refused call of the admin API means to whoever typed the command.
pub(super) fn admin_problem(status: &Status) -> Problem {
    match status.code() {
        Code::PermissionDenied => Problem::new(exit::NOT_ADMITTED, status.message())
            .why(format!("this is uid {}", geteuid()))
            .fix(AS_AGENT),
        _ => failed(status),
    }
}

fn failed(status: &Status) -> Problem {
    match status.code() {
        Code::Unavailable => Problem::new(exit::UNAVAILABLE, status.message())
            .why("the agent starts, stops, or is at one of its limits")
            .fix("try again; if it stays so: vouch status"),
        code => Problem::new(exit::CALL_FAILED, status.message())
            .why(format!("the agent answered: {}", code.description()))
            .fix("see how it is: vouch status"),
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

#[cfg(test)]
mod tests {
    use tokio::net::UnixListener;

    use super::*;

    #[tokio::test]
    async fn room_among_those_who_wait_to_be_accepted_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("full");
        let socket = tokio::net::UnixSocket::new_stream().unwrap();
        socket.bind(&path).unwrap();
        let listener = socket.listen(1).unwrap();
        let mut waiting = Vec::new();
        while let Ok(connection) = UnixStream::connect(&path).await {
            waiting.push(connection);
        }
        let error = dial(&path, Duration::from_millis(30)).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        let accepting = tokio::spawn(async move {
            sleep(Duration::from_millis(50)).await;
            listener.accept().await.unwrap();
            listener
        });
        dial(&path, Duration::from_secs(20)).await.unwrap();
        accepting.await.unwrap();
    }

    #[test]
    fn only_root_and_this_user_are_believed() {
        assert!(is_trusted(0, 1000) && is_trusted(1000, 1000) && is_trusted(0, 0));
        assert!(!is_trusted(1001, 1000) && !is_trusted(1001, 0));
    }

    #[test]
    fn a_socket_is_a_path_or_an_address() {
        for (text, path) in [
            ("/run/a.sock", "/run/a.sock"),
            ("a.sock", "a.sock"),
            ("./a:b.sock", "./a:b.sock"),
            ("unix:///run/a.sock", "/run/a.sock"),
            ("unix:/run/a.sock", "/run/a.sock"),
        ] {
            assert_eq!(public_path(text).unwrap(), Path::new(path));
        }
        for bad in ["", "http://x", "tcp:127.0.0.1:80", "unix:a.sock"] {
            assert_eq!(public_path(bad).unwrap_err().code, "E0114", "{bad}");
        }
    }

    #[tokio::test]
    async fn of_several_failures_the_one_that_says_most_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let [missing, dead, other] = ["missing", "dead", "other"].map(|name| directory.path().join(name));
        drop(UnixListener::bind(&dead).unwrap());
        let told = |paths: Vec<PathBuf>| async move {
            connect_to_first(&paths, Duration::from_secs(1)).await.unwrap_err().to_string()
        };
        let text = told(vec![missing.clone(), dead.clone()]).await;
        assert!(text.contains("/dead") && text.contains("any more"), "{text}");
        let text = told(vec![missing.clone(), other]).await;
        assert!(text.contains("/missing") && text.contains("no such socket"), "{text}");
    }

    #[test]
    fn a_refusal_of_the_admin_socket_is_not_about_identities() {
        let denied = Status::permission_denied("only root");
        assert_eq!(admin_problem(&denied).code, exit::NOT_ADMITTED);
        assert_eq!(call_problem(&denied).code, exit::NO_IDENTITY);
        for status in [Status::unavailable("not now"), Status::internal("broken"), denied] {
            for problem in [call_problem(&status), admin_problem(&status)] {
                assert!(problem.why.is_some() && problem.fix.is_some(), "{problem}");
            }
        }
    }
}
