//! One call against a client that is slow, says several things at once, or stops in the middle.

use std::{
    future::poll_fn,
    sync::{Arc, Mutex},
    time::SystemTime,
};

use prost::Message as _;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, sleep, sleep_until, timeout},
};
use vouch_proto::envoy::service::discovery::v3::DiscoveryResponse;

use super::*;
use crate::{
    registration::EntryIndex,
    sds::names::NamesConfig,
    svid::{
        Schedule, SvidCache, SvidOwner,
        tests::{Switch, caller, entry},
    },
};

const STALLED: Duration = Duration::from_secs(3);
const FIRST: Duration = Duration::from_secs(2);
const WITHIN: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn a_request_behind_one_that_must_wait_is_answered() {
    // Nobody issues, so the SVID is on its way for ever.
    let mut client = Client::open(Reads::Slowly);
    client.says(&[request(&["default"]), request(&["ROOTCA"])].concat());
    assert_eq!(client.hears().await, ["ROOTCA"]);
}

#[tokio::test(start_paused = true)]
async fn a_request_cut_in_two_behind_one_that_must_wait_is_answered() {
    let mut client = Client::open(Reads::Slowly);
    let bytes = [request(&["default"]), request(&["ROOTCA"])].concat();
    let (first, second) = bytes.split_at(bytes.len() - 3);
    client.says(first);
    client.says(second);
    assert_eq!(client.hears().await, ["ROOTCA"]);
}

#[tokio::test(start_paused = true)]
async fn what_was_asked_for_before_the_client_had_said_all_is_sent() {
    for _ in 0..40 {
        let mut client = Client::open(Reads::Slowly);
        client.says(&request(&["ROOTCA"]));
        client.has_said_all();
        assert_eq!(client.hears().await, ["ROOTCA"]);
        assert_eq!(client.end().await, (Ended::Served, Some(Code::Ok)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_has_said_all_and_takes_nothing_is_cut_off() {
    let mut client = Client::open(Reads::Nothing);
    client.says(&request(&["ROOTCA"]));
    client.has_said_all();
    assert_eq!(client.end().await, (Ended::Shed("stalled"), None));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_has_said_all_is_told_that_its_identity_is_not_there_yet() {
    let mut client = Client::open(Reads::Slowly);
    client.says(&request(&["default"]));
    client.has_said_all();
    assert_eq!(client.end().await, (Ended::Refused("denied"), Some(Code::Unavailable)));
}

#[tokio::test(start_paused = true)]
async fn a_request_without_an_end_is_malformed() {
    let mut client = Client::open(Reads::Slowly);
    let bytes = request(&["ROOTCA"]);
    client.says(&bytes[..bytes.len() - 1]);
    client.has_said_all();
    assert_eq!(client.end().await, (Ended::Refused("malformed"), Some(Code::InvalidArgument)));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_talks_without_reading_is_cut_off_in_time() {
    let mut client = Client::open(Reads::Nothing);
    let start = Instant::now();
    client.says(&request(&["ROOTCA"]));
    let requests = client.requests.clone().unwrap();
    tokio::spawn(async move {
        // A stale request each second: it needs no answer, but wakes the stream.
        while requests.send(request(&["ROOTCA"]).into()).is_ok() {
            sleep(Duration::from_secs(1)).await;
        }
    });
    assert_eq!(client.end().await, (Ended::Shed("stalled"), None));
    assert!(start.elapsed() < STALLED * 2, "it took {:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_call_that_asks_for_nothing_ends() {
    let mut client = Client::open(Reads::Slowly);
    let start = Instant::now();
    assert_eq!(client.end().await, (Ended::Shed("first_request_timeout"), Some(Code::DeadlineExceeded)));
    assert!(start.elapsed() < FIRST * 2, "it took {:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_first_request_byte_by_byte_is_not_waited_for_longer_than_one_at_once() {
    let mut client = Client::open(Reads::Slowly);
    let start = Instant::now();
    client.dribbles(request(&["ROOTCA"]), Duration::from_millis(500));
    assert_eq!(client.end().await, (Ended::Shed("first_request_timeout"), Some(Code::DeadlineExceeded)));
    assert!(start.elapsed() < FIRST * 2, "it took {:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_later_request_that_is_never_finished_ends_the_call_and_silence_between_requests_does_not() {
    let mut client = Client::open(Reads::Slowly);
    client.says(&request(&["ROOTCA"]));
    assert_eq!(client.hears().await, ["ROOTCA"]);
    sleep(STALLED * 10).await;
    let start = Instant::now();
    client.dribbles(request(&["ROOTCA"]), Duration::from_secs(1));
    assert_eq!(client.end().await, (Ended::Shed("unfinished"), Some(Code::DeadlineExceeded)));
    assert!(start.elapsed() < STALLED * 2, "it took {:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn requests_that_each_begin_where_the_last_one_ends_are_each_given_their_time() {
    let mut client = Client::open(Reads::Slowly);
    client.says(&request(&["ROOTCA"]));
    let bytes = request(&["ROOTCA"]);
    let (head, tail) = bytes.split_at(7);
    client.says(head);
    for _ in 0..10 {
        sleep(STALLED * 2 / 3).await;
        client.says(&[tail, head].concat());
    }
    sleep(STALLED * 2 / 3).await;
    client.says(tail);
    client.has_said_all();
    assert_eq!(client.end().await, (Ended::Served, Some(Code::Ok)));
}

#[tokio::test(start_paused = true)]
async fn nacks_can_neither_forge_nor_flood_the_log() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let _default = tracing::subscriber::set_default(subscriber);
    let mut client = Client::open(Reads::Slowly);
    client.says(&nack("bad key\n2026-01-01T00:00:00Z ERROR the signing key is gone").repeat(1000));
    client.says(&request(&["ROOTCA"]));
    client.hears().await;

    let log = log.0.lock().unwrap();
    let lines: Vec<_> = std::str::from_utf8(&log).unwrap().lines().collect();
    assert!((1..=20).contains(&lines.len()), "{} lines", lines.len());
    assert!(lines.iter().all(|line| line.contains("Envoy refused a secret (E0801)")), "{lines:?}");
    assert!(lines[0].contains(r"bad key\n2026"), "{}", lines[0]);
}

#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What a client does with what it is sent.
#[derive(Debug, Clone, Copy)]
enum Reads {
    /// A piece at a time, never at once.
    Slowly,
    Nothing,
}

struct Client {
    requests: Option<mpsc::UnboundedSender<Bytes>>,
    responses: mpsc::UnboundedReceiver<Bytes>,
    call: JoinHandle<Ended>,
    status: watch::Receiver<Option<Code>>,
    _svids: SvidOwner,
}

impl Client {
    /// A StreamSecrets call of a process that earns one SVID, which nobody issues.
    fn open(reads: Reads) -> Self {
        let (svids, owner) = svids();
        let (requests, incoming) = mpsc::unbounded_channel();
        let (taken, responses) = mpsc::unbounded_channel();
        let (ended, status) = watch::channel(None);
        let outgoing = Outgoing { reads, taken, ended, yielded: false };
        let subscriber = svids.subscribe(caller(1));
        let call = tokio::spawn(serve(Incoming(incoming), outgoing, subscriber));
        Self { requests: Some(requests), responses, call, status, _svids: owner }
    }

    fn says(&self, bytes: &[u8]) {
        self.requests.as_ref().unwrap().send(bytes.to_vec().into()).unwrap();
    }

    /// Says `bytes` one at a time, with a pause before each.
    fn dribbles(&self, bytes: Vec<u8>, pause: Duration) {
        let requests = self.requests.clone().unwrap();
        tokio::spawn(async move {
            for byte in bytes {
                sleep(pause).await;
                if requests.send(vec![byte].into()).is_err() {
                    return;
                }
            }
        });
    }

    fn has_said_all(&mut self) {
        self.requests = None;
    }

    /// The names in the next whole response.
    async fn hears(&mut self) -> Vec<String> {
        let mut bytes = Vec::new();
        loop {
            bytes.extend(timeout(WITHIN, self.responses.recv()).await.unwrap().expect("an answer"));
            let Some((head, message)) = bytes.split_first_chunk::<5>() else { continue };
            if message.len() == u32::from_be_bytes(head[1..].try_into().unwrap()) as usize {
                let response = DiscoveryResponse::decode(message).unwrap();
                let secret = |any: &prost_types::Any| SecretName::decode(&*any.value).unwrap().name;
                return response.resources.iter().map(secret).collect();
            }
        }
    }

    async fn end(&mut self) -> (Ended, Option<Code>) {
        let ended = timeout(WITHIN, &mut self.call).await.expect("the call ends").unwrap();
        (ended, *self.status.borrow())
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct SecretName {
    #[prost(string, tag = "1")]
    name: String,
}

/// Polls a StreamSecrets call whenever something has happened, as the owner of its connection does.
async fn serve(requests: Incoming, responses: Outgoing, mut subscriber: Subscriber) -> Ended {
    let sds = sds();
    let mut call = Call::stream(&sds, requests, responses, Instant::now());
    let end = loop {
        let identities = subscriber.current();
        // A deadline may come of the very poll that is waited for: it is looked at often enough.
        let until = Instant::now() + Duration::from_millis(100);
        let until = call.deadline().unwrap_or(until).min(until);
        let polled = poll_fn(|cx| call.poll(&sds, &identities, Instant::now(), cx));
        tokio::select! {
            end = polled => break end,
            _ = subscriber.next() => {}
            () = sleep_until(until) => {}
        }
    };
    call.finish(&sds, &end, &mut subscriber)
}

struct Incoming(mpsc::UnboundedReceiver<Bytes>);

impl RequestBytes for Incoming {
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Gone>>> {
        self.0.poll_recv(cx).map(|bytes| bytes.map(Ok))
    }
}

struct Outgoing {
    reads: Reads,
    yielded: bool,
    taken: mpsc::UnboundedSender<Bytes>,
    ended: watch::Sender<Option<Code>>,
}

impl ResponseBytes for Outgoing {
    fn poll_write(&mut self, message: &mut Bytes, cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        if matches!(self.reads, Reads::Nothing) {
            return Poll::Pending;
        }
        self.yielded = !self.yielded;
        if self.yielded {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let piece = message.split_to(message.len().min(100));
        Poll::Ready(self.taken.send(piece).map_err(|_| Gone))
    }

    fn finish(&mut self, status: &Status) {
        self.ended.send_replace(Some(status.code()));
    }

    fn reset(&mut self) {}
}

fn svids() -> (SvidCache, SvidOwner) {
    let (_, entries) = watch::channel(Arc::new(EntryIndex::new([entry("web", 1)])));
    let schedule = Schedule { at: 0.5, jitter: 0.1 };
    SvidOwner::new(Arc::new(Switch::new()), entries, schedule, SystemTime::now())
}

fn sds() -> Sds {
    Sds {
        names: Names::new(NamesConfig::default(), &"example.org".parse().unwrap()),
        limits: Limits { request_bytes: 1 << 10, names: 8 },
        stalled: STALLED,
        issue_wait: Duration::from_secs(1),
        first_request: FIRST,
        metrics: Metrics::default(),
    }
}

/// A first request for `names`, as it lies on the wire.
fn request(names: &[&str]) -> Vec<u8> {
    let mut message = Vec::new();
    for name in names {
        prost::encoding::string::encode(3, &(*name).to_owned(), &mut message);
    }
    framed(&message)
}

/// Refuses whatever was sent, for `why`.
fn nack(why: &str) -> Vec<u8> {
    let (mut status, mut message) = (Vec::new(), Vec::new());
    prost::encoding::string::encode(2, &why.to_owned(), &mut status);
    prost::encoding::bytes::encode(6, &status, &mut message);
    framed(&message)
}

fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap();
    [&[0], &length.to_be_bytes()[..], message].concat()
}
