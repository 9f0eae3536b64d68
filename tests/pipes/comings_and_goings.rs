//! Streams come and go for ten minutes, in every way in which a client can go, while SVIDs rotate. Nobody misses a
//! version, and nothing of those who went is left.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::{Instant, sleep};
use vouch_tests::{
    node::Node,
    wire::{STREAM_SECRETS, frame},
};

use crate::{
    crowd::{Dice, MOMENT, Member, all_are_up_to_date, first_request, virtual_time},
    heap::{allocated, alone},
};

const STREAMS: usize = 10_000;
const FOR: Duration = Duration::from_secs(600);
const ROTATES_EVERY: Duration = Duration::from_secs(60);
/// How many go between two rotations, and as many come.
const GO: usize = 500;
const SEED: u64 = 0x5d5;
/// What lazily made tables and the runtime's own may keep.
const MAY_STAY: isize = 256 << 10;

#[test]
fn ten_thousand_streams_that_come_and_go_for_ten_minutes_leave_nothing_behind() {
    let _alone = alone();
    println!("seed {SEED:#x}");
    virtual_time().block_on(async {
        let mut node = Node::start(&["web"]);
        let mut dice = Dice::new(SEED);
        // Whatever is made once is made now.
        run(&mut node, &mut dice, 100, ROTATES_EVERY * 2).await;
        let before = allocated();
        run(&mut node, &mut dice, STREAMS, FOR).await;
        let stayed = allocated() - before;
        assert!(stayed < MAY_STAY, "{stayed} bytes are still allocated");
        node.stop().await;
    });
}

/// `count` streams for so long, and until nobody is left.
async fn run(node: &mut Node, dice: &mut Dice, count: usize, how_long: Duration) {
    let end = Instant::now() + how_long;
    let (mut made, mut members) = (count, Vec::new());
    members.extend((0..count).map(|_| Member::join(node)));
    all_are_up_to_date(node, &members).await;
    while Instant::now() < end {
        sleep(ROTATES_EVERY - MOMENT * 2).await;
        // One half goes before the new version is there, the other while it is on its way.
        let go = GO * count / STREAMS;
        made += go;
        (0..go / 2).for_each(|_| replace(node, dice, &mut members));
        assert_eq!(node.rotate().await, 1);
        (go / 2..go).for_each(|_| replace(node, dice, &mut members));
        all_are_up_to_date(node, &members).await;
        assert_eq!(node.front.metrics.connections.get(), count as i64);
    }
    drop(members);
    let outcomes = node.connections_end().await;
    sleep(MOMENT).await;
    node.assert_nothing_is_left();
    let mut reasons = BTreeMap::<_, usize>::new();
    for outcome in outcomes {
        *reasons.entry((outcome.outcome, outcome.reason)).or_default() += 1;
    }
    // Who leaves before the preface is whole has not spoken HTTP/2.
    assert!(
        reasons.keys().all(|key| [("served", ""), ("refused", "not_http2")].contains(key)),
        "{reasons:?}"
    );
    assert!(reasons.values().sum::<usize>() >= made, "{reasons:?} of {made}");
}

/// One goes, in one of many ways, and another one comes.
fn replace(node: &mut Node, dice: &mut Dice, members: &mut [Member]) {
    let place = dice.roll(members.len());
    let goes = &members[place];
    match dice.roll(7) {
        // In the middle of whatever it is.
        0 => {}
        1 => goes.link.with(|client| client.reset(goes.id, frame::CANCEL)),
        2 => goes.link.with(|client| client.half_close(goes.id)),
        // In the middle of a request.
        3 => goes.send(&first_request()[..9]),
        4 => goes.link.hears(false),
        // Behind a stream that it has just opened.
        5 => _ = goes.link.with(|client| client.open(STREAM_SECRETS)),
        // Before it has said a word.
        _ => drop(Member::join(node)),
    }
    members[place] = Member::join(node);
}
