//! Many clients, each with one stream on a pipe of its own, that all ask for the same.

use std::time::Duration;

use envoy_types::pb::envoy::service::discovery::v3::{DiscoveryRequest, DiscoveryResponse};
use prost::Message as _;
use tokio::{
    runtime::{Builder, Runtime},
    time::sleep,
};
use vouch_tests::{
    link::Link,
    node::Node,
    sds::request,
    wire::{Client, End, STREAM_SECRETS, Shape, framed},
};

/// In virtual time what can move takes none, but that a busy connection rests for a millisecond.
pub(crate) const MOMENT: Duration = Duration::from_millis(10);
pub(crate) const WIDE: u32 = 16 << 20;
const ROOM: usize = 16 << 10;
const NAME: &str = "default";

pub(crate) fn virtual_time() -> Runtime {
    Builder::new_current_thread().enable_all().start_paused(true).build().expect("a runtime")
}

/// One client and its stream.
pub(crate) struct Member {
    pub(crate) link: Link,
    pub(crate) id: u32,
}

impl Member {
    /// Connects and asks at once.
    pub(crate) fn join(node: &mut Node) -> Self {
        Self::with(node, ROOM, WIDE)
    }

    /// The same with a pipe of `room` bytes and windows of `window` bytes.
    pub(crate) fn with(node: &mut Node, room: usize, window: u32) -> Self {
        let link = Link::new(node.connect(room), Client::new(Shape::default(), window), vec![]);
        let id = link.with(|client| client.open(STREAM_SECRETS));
        let member = Self { link, id };
        member.send(&first_request());
        member
    }

    pub(crate) fn send(&self, bytes: &[u8]) {
        self.link.with(|client| client.send(self.id, bytes));
    }

    /// The messages that have come since the last time.
    pub(crate) fn hear(&self) -> Vec<Vec<u8>> {
        let take = |client: &mut Client| {
            std::mem::take(&mut client.streams.get_mut(&self.id).expect("its stream").messages)
        };
        self.link.with(take)
    }

    pub(crate) fn end(&self) -> Option<End> {
        self.link.with(|client| client.streams[&self.id].end.clone())
    }
}

pub(crate) fn first_request() -> Vec<u8> {
    framed(&request(&[NAME]).encode_to_vec())
}

/// What acknowledges `message`.
pub(crate) fn ack(message: &[u8]) -> Vec<u8> {
    let response = decoded(message);
    let request = DiscoveryRequest {
        version_info: response.version_info,
        response_nonce: response.nonce,
        ..request(&[NAME])
    };
    framed(&request.encode_to_vec())
}

pub(crate) fn decoded(message: &[u8]) -> DiscoveryResponse {
    DiscoveryResponse::decode(message).expect("a response")
}

/// Waits until nothing moves. Then each of `members` that has heard something acknowledges the last of it.
///
/// Every one must have the last version there is; all streams ask for the same, so it is the same bytes for all.
pub(crate) async fn all_are_up_to_date(node: &Node, members: &[Member]) -> Vec<u8> {
    sleep(MOMENT).await;
    let last = newest(node).await;
    let ack = ack(&last);
    for (number, member) in members.iter().enumerate() {
        let heard = member.hear();
        let newest = heard.last().unwrap_or_else(|| panic!("{number} heard nothing: {:?}", member.end()));
        assert!(*newest == last, "{number} has an older version");
        member.send(&ack);
    }
    sleep(MOMENT).await;
    last
}

/// What a stream that begins now is sent.
pub(crate) async fn newest(node: &Node) -> Vec<u8> {
    let subscriber = &mut node.caller.subscribe().await.expect("this process is alive");
    let request = vouch::sds::Request { names: vec![NAME.into()], ..Default::default() };
    let names = vouch_tests::node::names();
    let answer = vouch::sds::Subscription::default().on_request(request, &subscriber.current(), &names);
    answer.expect("an identity").expect("an answer").bytes[5..].to_vec()
}

/// Numbers that look random and are the same for the same seed.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// Below `limit`.
    pub(crate) fn roll(&mut self, limit: usize) -> usize {
        // xorshift64*, Vigna 2016.
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        usize::try_from(self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33).expect("31 bits") % limit
    }
}
