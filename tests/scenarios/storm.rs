//! Ten thousand streams of one process come at once and nobody paces them: all are served, whatever rotates meanwhile, and the
//! process is attested once.

use std::{
    io::{Read, Write},
    os::{fd::AsFd, unix::net::UnixStream},
    path::Path,
    sync::{
        Barrier,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use envoy_types::pb::envoy::service::discovery::v3::{DiscoveryRequest, DiscoveryResponse};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::resource::{Resource, getrlimit, setrlimit},
};
use prost::Message as _;
use vouch_tests::{
    Agent, Need, Settings, eventually, metrics, require,
    sds::{fetch, request},
    settings::entry_of_user,
    wire::{Client, End, STREAM_SECRETS, Shape, framed},
};

/// As an Envoy asks: its own certificate and whom to trust, on one connection.
const NAMES: [&str; 2] = ["default", "ROOTCA"];
const CONNECTIONS: usize = 5_000;
const THREADS: usize = 4;
/// A debug build on a busy machine takes its time.
const SERVED_WITHIN: Duration = Duration::from_secs(60);
/// A connection is a socket and a pidfd of the agent's, and it needs some more.
const DESCRIPTORS: u64 = 2 * CONNECTIONS as u64 + 512;
const WINDOW: u32 = 16 << 20;

fn agent() -> Agent {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("it can be asked");
    assert!(hard >= DESCRIPTORS, "this needs {DESCRIPTORS} descriptors a process; `ulimit -Hn` says {hard}");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("the soft limit may rise to the hard one");
    let count = |count: usize| i64::try_from(count).expect("a small count");
    let streams = CONNECTIONS * NAMES.len();
    Agent::start(
        Settings::new([entry_of_user("spiffe://example.org/crowd", 0)])
            .set("limits.connections_per_caller", count(CONNECTIONS + 16))
            .set("limits.streams_per_caller", count(streams + 16))
            .set("limits.reserve", 0.0)
            // On a busy machine it takes more than a minute until the first of them reads, and answers a ping.
            .set("limits.keepalive_interval", "1h"),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_streams_opened_at_once_are_all_served() {
    require!(Need::Agent, Need::Root);
    let agent = agent();
    let away = agent.turned_away();
    let mut crowd = Crowd::of(&agent);
    // Nobody reads a word before everybody has said all.
    let all_have_asked = Barrier::new(THREADS);
    crowd.gather(|mine| {
        let open = mine.len() == CONNECTIONS / THREADS;
        if open {
            all_have_asked.wait();
        }
        open
    });
    crowd.each_has_an_answer();
    assert_eq!(metric(&agent, "vouch_sds_streams"), (CONNECTIONS * NAMES.len()) as f64);
    assert_eq!(agent.turned_away(), away, "{}", agent.metrics());
    assert_one_attestation(&agent, CONNECTIONS);
    drop(crowd);
    eventually("nobody is left", SERVED_WITHIN, || {
        (metric(&agent, "vouch_sds_streams") == 0.0).then_some(())
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn rotations_during_a_connect_storm_miss_nobody() {
    require!(Need::Agent, Need::Root);
    let agent = agent();
    let mut crowd = Crowd::of(&agent);
    let over = AtomicBool::new(false);
    let rotations = thread::scope(|scope| {
        let rotating = scope.spawn(|| {
            let mut rotations = 0;
            while !over.load(Ordering::Relaxed) {
                let rotated = agent.cli(None, &["svid", "rotate", "--all"]);
                assert!(rotated.status.success(), "{rotated:?}");
                rotations += 1;
            }
            rotations
        });
        // They read and acknowledge between connecting, so that words cross.
        crowd.gather(|mine| mine.len().is_multiple_of(25));
        over.store(true, Ordering::Relaxed);
        rotating.join().expect("rotations go on")
    });
    assert!(rotations >= 3, "{rotations} rotations");
    let mut newest = Vec::new();
    for name in NAMES {
        newest.push(fetch(&agent.socket(), &[name]).await.expect("an answer").version_info);
    }
    crowd.each_has(&newest);
    drop(crowd);
}

#[test]
fn streams_of_a_connection_and_connections_of_a_process_cost_one_attestation() {
    require!(Need::Agent, Need::Root);
    let agent = Agent::start(Settings::new([entry_of_user("spiffe://example.org/crowd", 0)]));
    let mut crowd = vec![Guest::connect(&agent.socket(), &["default"; 50])];
    crowd.extend((0..50).map(|_| Guest::connect(&agent.socket(), &["default"])));
    let start = Instant::now();
    while crowd.iter().any(|guest| !guest.is_served()) {
        assert!(start.elapsed() < SERVED_WITHIN, "not all are served");
        hear(&mut crowd);
    }
    assert_one_attestation(&agent, crowd.len());
}

/// Whatever a process has opened.
fn assert_one_attestation(agent: &Agent, connections: usize) {
    assert_eq!(metric(agent, "vouch_attestations_total"), 1.0, "{}", agent.metrics());
    assert_eq!(metric(agent, "vouch_attestations_shared_total"), (connections - 1) as f64);
}

fn metric(agent: &Agent, name: &str) -> f64 {
    let text = agent.metrics();
    metrics::value(&text, name).unwrap_or_else(|| panic!("no {name} in {text}"))
}

/// All connections of this process.
struct Crowd<'a> {
    agent: &'a Agent,
    guests: Vec<Guest>,
}

impl<'a> Crowd<'a> {
    fn of(agent: &'a Agent) -> Self {
        Self { agent, guests: Vec::new() }
    }

    /// Everybody connects, on some threads. Whoever `may_read`, seen how many they are, reads what is there.
    fn gather(&mut self, may_read: impl Fn(&[Guest]) -> bool + Sync) {
        let socket = self.agent.socket();
        let gather = || {
            let mut mine = Vec::with_capacity(CONNECTIONS / THREADS);
            while mine.len() < CONNECTIONS / THREADS {
                mine.push(Guest::connect(&socket, &NAMES));
                if may_read(&mine) {
                    hear(&mut mine);
                }
            }
            mine
        };
        self.guests = thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(gather)).collect();
            threads.into_iter().flat_map(|thread| thread.join().expect("a thread")).collect()
        });
    }

    fn each_has_an_answer(&mut self) {
        self.until(Guest::is_served);
    }

    /// The last version of each name is that of `versions`.
    fn each_has(&mut self, versions: &[String]) {
        self.until(|guest| {
            guest.calls.iter().zip(versions).all(|(call, version)| call.last.version_info == *version)
        });
    }

    fn until(&mut self, is_true: impl Fn(&Guest) -> bool) {
        let start = Instant::now();
        loop {
            let ended = self.guests.iter().flat_map(|guest| &guest.calls).find_map(|call| call.end.as_ref());
            assert_eq!(ended, None, "after {:?}: {}", start.elapsed(), self.agent.metrics());
            let waiting = self.guests.iter().filter(|guest| !is_true(guest)).count();
            if waiting == 0 {
                return;
            }
            assert!(start.elapsed() < SERVED_WITHIN, "{waiting} of {CONNECTIONS} wait");
            hear(&mut self.guests);
        }
    }
}

/// One connection.
struct Guest {
    socket: UnixStream,
    client: Client,
    calls: Vec<Call>,
}

struct Call {
    id: u32,
    name: &'static str,
    last: DiscoveryResponse,
    end: Option<End>,
}

impl Guest {
    /// Connects and asks for everything at once; waits while the agent's queue is full.
    fn connect(socket: &Path, names: &[&'static str]) -> Self {
        let socket = UnixStream::connect(socket).expect("it accepts");
        let mut client = Client::new(Shape::default(), WINDOW);
        let mut open = |&name| {
            let id = client.open(STREAM_SECRETS);
            client.send(id, &framed(&request(&[name]).encode_to_vec()));
            Call { id, name, last: DiscoveryResponse::default(), end: None }
        };
        let calls = names.iter().map(&mut open).collect();
        let mut guest = Self { socket, client, calls };
        guest.speak();
        guest
    }

    fn is_served(&self) -> bool {
        self.calls.iter().all(|call| !call.last.version_info.is_empty())
    }

    /// Reads once and acknowledges what has come.
    fn listen(&mut self) {
        let mut bytes = [0; 16 << 10];
        let length = self.socket.read(&mut bytes).expect("a connection");
        match length {
            0 => self.client.on_close(),
            _ => self.client.on_bytes(&bytes[..length]),
        }
        for call in &mut self.calls {
            let stream = self.client.streams.get_mut(&call.id).expect("its stream");
            let heard = std::mem::take(&mut stream.messages);
            call.end.clone_from(&stream.end);
            for message in &heard {
                call.hear(message);
            }
            if !heard.is_empty() {
                self.client.send(call.id, &call.ack());
            }
        }
        self.speak();
    }

    fn speak(&mut self) {
        let bytes = self.client.output();
        // Whoever is cut off hears of it when it reads.
        let _ = self.socket.write_all(&bytes);
    }
}

impl Call {
    fn hear(&mut self, message: &[u8]) {
        let response = DiscoveryResponse::decode(message).expect("a response");
        // The nonce of a single secret is the generation of what it holds.
        let generation = |response: &DiscoveryResponse| response.nonce.parse::<u64>().unwrap_or(0);
        let (before, now) = (generation(&self.last), generation(&response));
        assert!(now > before, "{}: {now} after {before}", self.name);
        self.last = response;
    }

    fn ack(&self) -> Vec<u8> {
        let request = DiscoveryRequest {
            version_info: self.last.version_info.clone(),
            response_nonce: self.last.nonce.clone(),
            ..request(&[self.name])
        };
        framed(&request.encode_to_vec())
    }
}

/// Whoever has something to read reads it.
fn hear(guests: &mut [Guest]) {
    let mut polled: Vec<_> =
        guests.iter().map(|guest| PollFd::new(guest.socket.as_fd(), PollFlags::POLLIN)).collect();
    poll(&mut polled, PollTimeout::from(50_u8)).expect("poll works");
    let ready: Vec<_> = polled.iter().map(|fd| fd.any() == Some(true)).collect();
    for (guest, ready) in guests.iter_mut().zip(ready) {
        if ready {
            guest.listen();
        }
    }
}
