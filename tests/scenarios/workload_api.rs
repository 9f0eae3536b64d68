//! Independent clients use the Workload API as the SPIFFE standard describes it, and `openssl` accepts what
//! `vouch fetch` writes.

use std::{fs, os::unix::fs::PermissionsExt, process::Command, time::Duration};

use spiffe::{TrustDomain, WorkloadApiClient};
use tokio_stream::StreamExt;
use tonic::Code;
use vouch_tests::{
    Agent, Need, Settings, agent::temporary_dir, grpc, require, settings::entry_of_user, user, x509,
};

const WEB: &str = "spiffe://example.org/web";
const FETCH_SVID: &str = "/SpiffeWorkloadAPI/FetchX509SVID";
const FETCH_BUNDLES: &str = "/SpiffeWorkloadAPI/FetchX509Bundles";
const HEADER: (&str, &str) = ("workload.spiffe.io", "true");
const LIMIT: Duration = Duration::from_secs(15);

async fn client(agent: &Agent) -> WorkloadApiClient {
    let endpoint = format!("unix://{}", agent.socket().display());
    WorkloadApiClient::connect_to(endpoint).await.expect("the client connects")
}

#[tokio::test]
async fn an_independent_client_fetches_its_identity() {
    require!(Need::Agent, Need::Root);
    let agent = Agent::start(Settings::new([entry_of_user(WEB, 0)]));
    let client = client(&agent).await;

    let context = client.fetch_x509_context().await.expect("a context");

    let svid = context.default_svid().expect("an identity");
    assert_eq!(svid.spiffe_id().to_string(), WEB);
    let domain = TrustDomain::new("example.org").expect("a trust domain");
    let bundle = context.bundle_set().get(&domain).expect("a bundle");
    assert_eq!(bundle.authorities().len(), 1);
    let bundles = client.fetch_x509_bundles().await.expect("bundles");
    assert_eq!(bundles.get(&domain).expect("ours").authorities(), bundle.authorities());
}

#[tokio::test]
async fn an_independent_client_sees_a_rotation() {
    require!(Need::Agent, Need::Root);
    let agent = Agent::start(Settings::new([entry_of_user(WEB, 0)]).svid_ttl("6s"));
    let client = client(&agent).await;
    let mut updates = client.stream_x509_contexts().await.expect("a stream");
    let mut serials = Vec::new();
    for _ in 0..3 {
        let next = tokio::time::timeout(LIMIT, updates.next()).await.expect("an update in time");
        let context = next.expect("the stream goes on").expect("a context");
        let svid = context.default_svid().expect("an identity");
        serials.push(x509::facts(svid.leaf().as_bytes()).serial);
    }
    serials.sort();
    serials.dedup();
    assert_eq!(serials.len(), 3, "each update carries a fresh SVID");
}

#[tokio::test]
async fn a_request_without_the_security_header_is_refused() {
    require!(Need::Agent, Need::Root);
    let agent = Agent::start(Settings::new([entry_of_user(WEB, 0)]));
    let wrong: [&[(&str, &str)]; 2] = [&[], &[("workload.spiffe.io", "false")]];
    for path in [FETCH_SVID, FETCH_BUNDLES] {
        for metadata in wrong {
            let status = first_status(&agent, path, metadata).await.expect_err("it is refused");
            assert_eq!(status.code(), Code::InvalidArgument, "{path} {metadata:?}: {status}");
            assert_eq!(status.message(), "security header missing from request");
        }
    }
}

#[tokio::test]
async fn a_caller_without_an_entry_has_no_identity() {
    require!(Need::Agent, Need::Root);
    let agent = Agent::start(Settings::new([entry_of_user(WEB, user::STRANGER)]));
    for path in [FETCH_SVID, FETCH_BUNDLES] {
        let status = first_status(&agent, path, &[HEADER]).await.expect_err("it is refused");
        assert_eq!(
            (status.code(), grpc::before_the_decision(&status)),
            (Code::PermissionDenied, "no identity issued"),
            "{path}"
        );
    }
}

#[tokio::test]
async fn an_identity_lost_while_watching_ends_the_stream() {
    require!(Need::Agent, Need::Root);
    let agent = Agent::start(Settings::new([entry_of_user(WEB, 0)]));
    let channel = grpc::channel(&agent.socket());
    let mut stream = grpc::server_streaming(&channel, FETCH_SVID, &[HEADER]).await.expect("a stream");
    stream.message().await.expect("no error").expect("an identity");
    agent.write_entries(&[]);
    let ended = tokio::time::timeout(LIMIT, stream.message()).await.expect("the stream ends in time");
    assert_eq!(ended.expect_err("it is refused").code(), Code::PermissionDenied);
}

#[test]
fn openssl_accepts_what_fetch_writes() {
    require!(Need::Agent, Need::Root, Need::OpenSsl);
    let agent = Agent::start(Settings::new([entry_of_user(WEB, user::FRONTEND)]));
    let dir = temporary_dir();
    std::os::unix::fs::chown(dir.path(), Some(user::FRONTEND), None).expect("root gives it away");
    let path = |name: &str| dir.path().join(name);

    let fetched = agent.cli(Some(user::FRONTEND), &["fetch", "--write", dir.path().to_str().expect("text")]);

    assert!(fetched.status.success(), "{fetched:?}");
    let mode = fs::metadata(path("svid.0.key")).expect("a key").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let svid = path("svid.0.pem");
    let mut verify = Command::new("openssl");
    verify.args(["verify", "-x509_strict", "-CAfile"]).arg(path("bundle.0.pem"));
    let verified = verify.arg("-untrusted").arg(&svid).arg(&svid).output().expect("openssl runs");
    assert!(verified.status.success(), "{verified:?}");
    let leaf = x509::certificates(&fs::read(&svid).expect("it is there")).remove(0);
    assert_eq!(x509::facts(&leaf).uris, [WEB]);
}

/// The first message of the stream at `path`, or the status that came instead.
async fn first_status(
    agent: &Agent,
    path: &'static str,
    metadata: &[(&'static str, &'static str)],
) -> Result<(), tonic::Status> {
    let channel = grpc::channel(&agent.socket());
    let mut stream = grpc::server_streaming(&channel, path, metadata).await?;
    stream.message().await.map(|_| ())
}
