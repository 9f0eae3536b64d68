//! Engines that lie, dribble, flood and break off. Each leaves one silence with its reason, and no memory behind.

use std::time::Duration;

use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    sync::oneshot,
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::*;

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const OTHER: &str = "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff";
const LIMIT: Duration = Duration::from_secs(10);

/// Takes one connection, reads the request, and does `then`.
struct Fixture {
    engine: Engine,
    served: JoinHandle<()>,
    _dir: TempDir,
}

impl Fixture {
    fn new<F: Future<Output = ()> + Send>(then: impl FnOnce(UnixStream) -> F + Send + 'static) -> Self {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("engine.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o660)).unwrap();
        let served = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let expected = format!("GET /containers/{ID}/json HTTP/1.1\r\n");
            assert!(head.starts_with(expected.as_bytes()), "{:?}", String::from_utf8_lossy(&head));
            then(stream).await;
        });
        let owner = nix::unistd::geteuid().as_raw();
        Self { engine: Engine { socket, owner }, served, _dir: dir }
    }

    fn answering(bytes: Vec<u8>) -> Self {
        Self::new(move |mut stream| async move {
            // Whoever has heard enough may be gone by now.
            let _ = stream.write_all(&bytes).await;
        })
    }

    async fn reason(self) -> String {
        let heard = timeout(LIMIT, self.engine.inspect(ID)).await.expect("it does not hang");
        let reason = heard.expect_err("it is not believed").reason;
        let place = format!("{}: ", self.engine.socket.display());
        self.served.await.unwrap();
        assert!(!reason.contains('\n'), "{reason}");
        reason.strip_prefix(&place).unwrap_or(&reason).to_owned()
    }
}

fn ok(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

fn container(id: &str) -> String {
    format!(
        r#"{{"Id":"{id}","Image":"sha256:aa","Name":"/x","State":{{"Pid":7}},"Config":{{"Image":"web:1",
        "Env":["A=b","C"],"Labels":{{"app":"web:x","a:b":"c","":"e","tier":""}}}}}}"#
    )
}

#[tokio::test]
async fn a_container_is_described_as_spire_does_but_for_names_with_a_colon() {
    let fixture = Fixture::answering(ok(&container(ID)));
    let inspected = fixture.engine.inspect(ID).await.unwrap();
    let said = |env| {
        let selectors = inspected.selectors("docker", env).unwrap();
        selectors.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let plain = [
        "docker:label::e",
        "docker:label:app:web:x",
        "docker:label:tier:",
        "docker:image_id:web:1",
        "docker:image_config_digest:sha256:aa",
    ];
    assert_eq!(said(false), plain);
    assert_eq!(said(true).len(), plain.len() + 2);
    assert!(said(true).contains(&"docker:env:A=b".to_owned()));
}

#[tokio::test]
async fn chunks_are_put_together() {
    let body = container(ID);
    let (one, two) = body.split_at(20);
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunks = format!("{head}{:x}\r\n{one}\r\n{:x}\r\n{two}\r\n0\r\n\r\n", one.len(), two.len());
    let fixture = Fixture::answering(chunks.into_bytes());
    assert_eq!(fixture.engine.inspect(ID).await.unwrap().id, ID);
}

#[tokio::test]
async fn what_is_missing_is_not_invented() {
    let bare = format!(r#"{{"Id":"{ID}","Config":{{"Labels":null}}}}"#);
    let fixture = Fixture::answering(ok(&bare));
    let inspected = fixture.engine.inspect(ID).await.unwrap();
    assert!(inspected.selectors("docker", true).unwrap().is_empty());
}

#[tokio::test]
async fn an_engine_that_speaks_of_another_container_is_not_believed() {
    let reason = Fixture::answering(ok(&container(OTHER))).reason().await;
    assert_eq!(reason, format!("asked about container {ID}, it speaks of another one"));
}

#[tokio::test]
async fn an_engine_that_does_not_know_the_container_or_fails_says_so() {
    let answer = |status: &str| format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\n{{}}").into_bytes();
    let unknown = Fixture::answering(answer("404 Not Found")).reason().await;
    assert_eq!(unknown, format!("it knows no container {ID}"));
    assert_eq!(Fixture::answering(answer("500 Oops")).reason().await, "it answers 500");
    assert_eq!(Fixture::answering(answer("301 Moved")).reason().await, "it answers 301");
}

#[tokio::test]
async fn what_is_no_json_or_no_container_is_not_believed() {
    for body in ["", "{", "[]", "null", r#"{"Id":7,"Config":{}}"#, r#"{"Id":"x"}"#, "\u{0}\u{1}"] {
        let reason = Fixture::answering(ok(body)).reason().await;
        assert!(reason.starts_with("its answer is no description of a container: "), "{body}: {reason}");
    }
    let deep = "[".repeat(100_000);
    assert!(Fixture::answering(ok(&deep)).reason().await.contains("no description"));
}

#[tokio::test]
async fn what_is_no_http_or_ends_early_is_not_believed() {
    let body = container(ID);
    let cut = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{}", body.len(), &body[..30]);
    let endless_head = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(2 * MAX_HEAD));
    for bytes in ["", "SSH-2.0-x\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-", &cut, &endless_head] {
        let reason = Fixture::answering(bytes.as_bytes().to_vec()).reason().await;
        assert!(reason.starts_with("no answer that can be read: "), "{bytes:.40}: {reason}");
    }
}

/// Announced or not, it is left as soon as it is too much.
#[tokio::test]
async fn an_answer_of_500_mib_is_left_after_one() {
    const FLOOD: usize = 500 << 20;
    let announced = format!("HTTP/1.1 200 OK\r\nContent-Length: {FLOOD}\r\n\r\n");
    let unannounced = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n".to_owned();
    for head in [announced, unannounced] {
        let (tell, told) = oneshot::channel();
        let fixture = Fixture::new(move |mut stream| async move {
            stream.write_all(head.as_bytes()).await.unwrap();
            let block = vec![b' '; 64 << 10];
            let mut sent = 0;
            while sent < FLOOD && stream.write_all(&block).await.is_ok() {
                sent += block.len();
            }
            tell.send(sent).unwrap();
        });
        assert_eq!(fixture.reason().await, format!("its answer is longer than {MAX_ANSWER} bytes"));
        let sent = told.await.unwrap();
        // What lies in buffers of hyper and of the socket comes on top.
        assert!(sent < 4 * MAX_ANSWER, "{sent} bytes were taken");
    }
}

#[tokio::test]
async fn a_dribble_ends_when_nobody_waits_any_more() {
    let (gone, seen) = oneshot::channel();
    let fixture = Fixture::new(move |mut stream| async move {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n").await.unwrap();
        while stream.write_all(b" ").await.is_ok() {
            sleep(Duration::from_millis(5)).await;
        }
        gone.send(()).unwrap();
    });
    assert!(timeout(Duration::from_millis(100), fixture.engine.inspect(ID)).await.is_err());
    timeout(LIMIT, seen).await.expect("the connection is closed").unwrap();
}

#[tokio::test]
async fn a_container_of_too_many_labels_is_not_described_in_part() {
    let labels: Vec<String> = (0..=MAX_SELECTORS).map(|n| format!("\"{n}\":\"\"")).collect();
    let body = format!(r#"{{"Id":"{ID}","Config":{{"Labels":{{{}}}}}}}"#, labels.join(","));
    let inspected = Fixture::answering(ok(&body)).engine.inspect(ID).await.unwrap();
    assert!(inspected.selectors("docker", false).is_err());
}
