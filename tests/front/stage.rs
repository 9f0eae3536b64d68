//! Plays a script to the front and to the oracle at once.

use std::{rc::Rc, time::Duration};

use envoy_types::pb::{
    envoy::{
        config::core::v3::{BuildVersion, Extension, Node as EnvoyNode, node::UserAgentVersionType},
        service::discovery::v3::{DiscoveryRequest, DiscoveryResponse},
        r#type::v3::SemanticVersion,
    },
    google::rpc,
};
use prost::Message as _;
use tokio::time::sleep;
use vouch_tests::{
    link::Link,
    node::{MAX_NAMES, MAX_REQUEST, Node, spiffe_id},
    oracle::Oracle,
    sds::{SECRET_TYPE, secrets},
    wire::{Client, FETCH_SECRETS, STREAM_SECRETS, Shape, Stream, frame, framed},
};

use crate::script::{CONNECTIONS, Garbage, Line, Name, PATHS, Script, Speaker, Step};

/// In virtual time what can move takes none, but that a busy connection rests for a millisecond.
const MOMENT: Duration = Duration::from_millis(50);
const WIDE: u32 = 16 << 20;
const ROOM: usize = 64 << 10;

/// What both are told, and what each says.
pub(crate) struct Stage {
    pub(crate) node: Node,
    oracle: Oracle,
    script_lines: [Line; CONNECTIONS],
    calm: bool,
    lines: Vec<Pair<Rc<Link>>>,
    pub(crate) calls: Vec<Call>,
    settled: bool,
    pings: [usize; CONNECTIONS],
}

#[derive(Debug, Clone)]
pub(crate) struct Pair<T> {
    pub(crate) front: T,
    pub(crate) oracle: T,
}

/// One call as it is made to both.
pub(crate) struct Call {
    pub(crate) front: Side,
    pub(crate) oracle: Side,
    /// Asks once.
    pub(crate) fetches: bool,
    /// What it is asked for at the end: a later answer to something else does not count.
    names: Vec<String>,
    speaker: Speaker,
    pub(crate) sent_garbage: bool,
    over: bool,
}

pub(crate) struct Side {
    link: Rc<Link>,
    id: u32,
    /// Messages that were acknowledged, and the last one of them.
    heard: usize,
    last: DiscoveryResponse,
}

impl Side {
    /// What came so far.
    pub(crate) fn stream<T>(&self, look: impl FnOnce(&Stream) -> T) -> T {
        self.link.with(|client| look(&client.streams[&self.id]))
    }

    pub(crate) fn responses(&self) -> Vec<DiscoveryResponse> {
        let decode = |bytes: &Vec<u8>| DiscoveryResponse::decode(&bytes[..]).expect("a response");
        self.stream(|stream| stream.messages.iter().map(decode).collect())
    }

    /// The last version that it has, and of which names.
    fn knows(&self) -> Option<(String, Vec<String>)> {
        let last = self.responses().pop()?;
        let names = secrets(&last).into_iter().map(|secret| secret.name).collect();
        Some((last.version_info, names))
    }

    fn is_open(&self) -> bool {
        self.stream(|stream| stream.end.is_none())
    }

    fn say(&self, request: &DiscoveryRequest) {
        let bytes = framed(&request.encode_to_vec());
        self.link.with(|client| client.send(self.id, &bytes));
    }

    fn ack(&self, names: &[String], speaker: Speaker) {
        self.say(&DiscoveryRequest {
            version_info: self.last.version_info.clone(),
            response_nonce: self.last.nonce.clone(),
            ..request(names, speaker)
        });
    }

    /// Whether there was a message that had not been heard.
    fn hear(&mut self) -> bool {
        let heard = self.stream(|stream| stream.messages.len());
        if heard == std::mem::replace(&mut self.heard, heard) {
            return false;
        }
        self.last = self.responses().pop().expect("a message");
        true
    }
}

impl Stage {
    pub(crate) async fn play(script: &Script) -> Self {
        let mut node = Node::start(&PATHS);
        node.remember_certificates();
        let oracle = Oracle::start(std::sync::Arc::clone(&node.caller));
        let lines = script.lines.iter().map(|line| connect(&mut node, &oracle, line)).collect();
        let mut stage = Self {
            node,
            oracle,
            script_lines: script.lines.clone(),
            calm: script.calm,
            lines,
            calls: Vec::new(),
            settled: true,
            pings: [0; CONNECTIONS],
        };
        for step in script.steps.iter().filter(|step| !(script.calm && step.slows())) {
            stage.step(step).await;
        }
        stage.finish().await;
        stage
    }

    async fn step(&mut self, step: &Step) {
        if !step.may_overtake() && !self.settled {
            self.everybody_reads().await;
        }
        self.settled = false;
        self.act(step).await;
        if self.calm || !step.may_overtake() {
            self.settle().await;
        }
    }

    async fn act(&mut self, step: &Step) {
        match step {
            Step::Open { on, names, speaker } => self.open(*on, names, *speaker, false),
            Step::Fetch { on, names, speaker } => self.open(*on, names, *speaker, true),
            Step::Ask { stream, names } => {
                let Some(call) = self.call(*stream).filter(|call| call.was_answered()) else { return };
                call.names = texts(names);
                call.ack();
            }
            Step::Again { stream } => {
                if let Some(call) = self.call(*stream).filter(|call| call.was_answered()) {
                    call.ack();
                }
            }
            Step::Nack { stream } => {
                if let Some(call) = self.call(*stream).filter(|call| call.was_answered()) {
                    call.each(|call, side| side.say(&refusal(call, side)));
                }
            }
            Step::Stale { stream, names } => {
                if let Some(call) = self.call(*stream).filter(|call| call.was_answered()) {
                    let request = request(&texts(names), Speaker::Nobody);
                    let request = DiscoveryRequest { response_nonce: "never".into(), ..request };
                    call.each(|_, side| side.say(&request));
                }
            }
            Step::WrongType { stream } => {
                if let Some(call) = self.call(*stream).filter(|call| call.was_answered()) {
                    let type_url = "type.googleapis.com/envoy.config.cluster.v3.Cluster".to_owned();
                    call.each(|call, side| {
                        let response_nonce = side.last.nonce.clone();
                        let request = request(&call.names, Speaker::Nobody);
                        side.say(&DiscoveryRequest { type_url: type_url.clone(), response_nonce, ..request });
                    });
                }
            }
            Step::Garbage { stream, what } => {
                if let Some(call) = self.call(*stream) {
                    call.sent_garbage = true;
                    call.each(|_, side| garbage(side, *what));
                }
            }
            Step::HalfClose { stream } => {
                if let Some(call) = self.call(*stream) {
                    call.half_close();
                }
            }
            Step::Reset { stream } => {
                if let Some(call) = self.call(*stream) {
                    call.over = true;
                    call.each(|_, side| side.link.with(|client| client.reset(side.id, frame::CANCEL)));
                }
            }
            Step::HangUp { on } => self.hang_up(*on),
            Step::Rotate => _ = self.node.rotate().await,
            Step::RotateOne { path } => self.node.rotate_one(PATHS[*path]).await,
            Step::ChangeAuthority => self.node.change_authority(),
            Step::Entries(which) => {
                let paths: Vec<_> =
                    PATHS.into_iter().zip(which).filter(|(_, there)| **there).map(|(path, _)| path).collect();
                self.node.set_entries(&paths);
            }
            Step::Stall { stream } => {
                if let Some(call) = self.call(*stream) {
                    call.front.link.with(|client| client.stall(call.front.id));
                }
            }
            Step::Oversleep { stream, versions } => {
                if let Some(call) = self.call(*stream) {
                    call.front.link.with(|client| client.stall(call.front.id));
                }
                for _ in 0..*versions {
                    self.node.rotate().await;
                    sleep(MOMENT).await;
                }
            }
            Step::Resume { stream } => {
                if let Some(call) = self.call(*stream) {
                    call.front.link.with(|client| client.resume(call.front.id));
                }
            }
            Step::Deafen { on } => self.lines[*on].front.hears(false),
            Step::Listen { on } => self.lines[*on].front.hears(true),
            Step::Window { on, window } => self.lines[*on].front.with(|client| client.announce(*window)),
            Step::Ping { on } => {
                self.pings[*on] += 1;
                self.lines[*on].front.with(Client::ping);
            }
            Step::Pause => sleep(MOMENT).await,
            Step::Settle => {}
        }
    }

    fn open(&mut self, on: usize, names: &[Name], speaker: Speaker, fetches: bool) {
        let path = if fetches { FETCH_SECRETS } else { STREAM_SECRETS };
        let names = texts(names);
        let side = |link: &Rc<Link>| {
            let id = link.with(|client| client.open(path));
            Side { link: Rc::clone(link), id, heard: 0, last: DiscoveryResponse::default() }
        };
        let line = &self.lines[on];
        let (front, oracle) = (side(&line.front), side(&line.oracle));
        let mut call = Call { front, oracle, fetches, names, speaker, sent_garbage: false, over: fetches };
        call.each(|call, side| side.say(&request(&call.names, call.speaker)));
        if fetches {
            call.half_close();
        }
        self.calls.push(call);
    }

    /// Closes a connection with all its calls, and makes another one in its place.
    fn hang_up(&mut self, on: usize) {
        let old = self.lines[on].clone();
        for call in self.calls.iter_mut().filter(|call| Rc::ptr_eq(&call.front.link, &old.front)) {
            call.over = true;
        }
        let pongs = old.front.with(|client| client.pongs);
        assert_eq!(pongs, std::mem::take(&mut self.pings[on]), "a ping without a pong");
        for link in [&old.front, &old.oracle] {
            link.hang_up();
        }
        self.lines[on] = connect(&mut self.node, &self.oracle, &self.script_lines[on]);
    }

    /// A stream that may still be spoken on.
    fn call(&mut self, number: usize) -> Option<&mut Call> {
        let count = self.calls.len().max(1);
        self.calls
            .get_mut(number % count)
            .filter(|call| !call.over && call.front.is_open() && call.oracle.is_open())
    }

    /// Nobody is slow any more, and nothing moves.
    async fn everybody_reads(&mut self) {
        for (line, like) in self.lines.iter().zip(&self.script_lines) {
            line.front.hears(true);
            line.front.with(|client| client.announce(like.window));
        }
        for call in &self.calls {
            call.front.link.with(|client| client.resume(call.front.id));
        }
        self.settle().await;
    }

    /// Waits until nothing moves; every answer is acknowledged, as Envoy does.
    async fn settle(&mut self) {
        loop {
            sleep(MOMENT).await;
            let mut spoke = false;
            for call in self.calls.iter_mut().filter(|call| !call.over) {
                let Call { front, oracle, names, speaker, .. } = call;
                for side in [front, oracle] {
                    if side.hear() && side.is_open() {
                        side.ack(names, *speaker);
                        spoke = true;
                    }
                }
            }
            if !spoke {
                break;
            }
        }
        self.settled = true;
        for (number, call) in self.calls.iter().enumerate() {
            if call.front.is_open() && call.oracle.is_open() && !call.fetches {
                assert_eq!(call.front.knows(), call.oracle.knows(), "call {number} at rest");
            }
        }
    }

    async fn finish(&mut self) {
        self.everybody_reads().await;
        for (line, pings) in self.lines.iter().zip(self.pings) {
            assert_eq!(line.front.with(|client| client.pongs), pings, "a ping without a pong");
            assert_eq!(line.front.with(|client| client.goodbye), None, "nobody did anything wrong");
        }
        for call in self.calls.iter_mut().filter(|call| !call.over) {
            call.half_close();
        }
        self.settle().await;
    }

    /// Lets go of everything; what is left must be nothing.
    pub(crate) async fn close(mut self) {
        self.lines.clear();
        self.calls.iter().for_each(|call| call.front.link.hang_up());
        self.calls.clear();
        drop(self.oracle);
        self.node.connections_end().await;
        sleep(MOMENT).await;
        self.node.assert_nothing_is_left();
        self.node.stop().await;
    }
}

impl Call {
    /// A first answer has come to both and was heard.
    fn was_answered(&self) -> bool {
        self.front.heard > 0 && self.oracle.heard > 0
    }

    fn each(&mut self, act: impl Fn(&Self, &Side)) {
        act(self, &self.front);
        act(self, &self.oracle);
    }

    fn ack(&mut self) {
        self.each(|call, side| side.ack(&call.names, call.speaker));
    }

    fn half_close(&mut self) {
        self.over = true;
        self.each(|_, side| side.link.with(|client| client.half_close(side.id)));
    }
}

fn connect(node: &mut Node, oracle: &Oracle, line: &Line) -> Pair<Rc<Link>> {
    let client = Client::new(line.shape, line.window);
    let front = Link::new(node.connect(line.room), client, line.cuts.clone());
    let oracle = Link::new(oracle.connect(ROOM), Client::new(Shape::default(), WIDE), vec![]);
    Pair { front: Rc::new(front), oracle: Rc::new(oracle) }
}

fn texts(names: &[Name]) -> Vec<String> {
    let text = |name: &Name| match name {
        Name::Default => "default".into(),
        Name::Roots => "ROOTCA".into(),
        Name::All => "ALL".into(),
        Name::TrustDomain => "spiffe://example.org".into(),
        Name::Path(number) => spiffe_id(PATHS[*number]),
        Name::Nobodys => spiffe_id("nobody"),
    };
    names.iter().map(text).collect()
}

fn request(names: &[String], speaker: Speaker) -> DiscoveryRequest {
    let version = |minor_number| {
        let version = Some(SemanticVersion { major_number: 1, minor_number, patch: 0 });
        UserAgentVersionType::UserAgentBuildVersion(BuildVersion { version, metadata: None })
    };
    let envoy = |minor, extensions| EnvoyNode {
        id: "an Envoy".into(),
        user_agent_version_type: Some(version(minor)),
        extensions: (0..extensions)
            .map(|number| Extension { name: format!("envoy.{number}"), ..Default::default() })
            .collect(),
        ..Default::default()
    };
    let node = match speaker {
        Speaker::Nobody => None,
        Speaker::Small => Some(envoy(40, 1)),
        Speaker::Long => Some(envoy(40, 700)),
        Speaker::Old => Some(envoy(17, 1)),
    };
    DiscoveryRequest {
        resource_names: names.to_vec(),
        type_url: SECRET_TYPE.into(),
        node,
        ..Default::default()
    }
}

fn refusal(call: &Call, side: &Side) -> DiscoveryRequest {
    let error = rpc::Status { code: 13, message: "none of it".into(), details: vec![] };
    DiscoveryRequest {
        response_nonce: side.last.nonce.clone(),
        error_detail: Some(error),
        ..request(&call.names, call.speaker)
    }
}

fn garbage(side: &Side, what: Garbage) {
    let bytes = match what {
        Garbage::NotProtobuf => framed(&[0xff; 64]),
        Garbage::TooLong => {
            let length = u32::try_from(MAX_REQUEST + 1).expect("a megabyte").to_be_bytes();
            [&[0], &length[..], &[0x0a; 64]].concat()
        }
        Garbage::TooManyNames => {
            let names: Vec<_> = (0..=MAX_NAMES).map(|number| number.to_string()).collect();
            let request = DiscoveryRequest {
                response_nonce: side.last.nonce.clone(),
                ..request(&names, Speaker::Nobody)
            };
            framed(&request.encode_to_vec())
        }
        Garbage::CutShort => vec![0, 0, 0, 1, 0, 0x0a],
    };
    side.link.with(|client| {
        client.send(side.id, &bytes);
        if matches!(what, Garbage::CutShort) {
            client.half_close(side.id);
        }
    });
}
