//! A reader that does not read costs nobody else anything, holds one pending message, and is ended after a while; if it
//! reads again before that it gets the newest at once.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use vouch::front::Outcome;
use vouch_tests::{
    node::{Node, STALLED},
    wire::End,
};

use crate::{
    crowd::{MOMENT, Member, WIDE, ack, all_are_up_to_date, newest, virtual_time},
    heap::{allocated, alone},
};

const HEALTHY: usize = 990;
/// One in a hundred, by its window.
const SLOW: usize = 10;
/// Less than a message.
const WINDOW: u32 = 100;
/// Less than a message, and more than the first frames of a connection.
const ROOM: usize = 600;
const ROTATIONS: usize = 20;
/// By then buffers have the size that they keep.
const WARM: usize = 5;
const EVERY: Duration = Duration::from_secs(1);
const ENHANCE_YOUR_CALM: u32 = 11;
/// What the counts of so many may differ by from one rest to the next.
const NOISE: isize = 64 << 10;

#[test]
fn slow_readers_cost_one_message_and_nobody_elses_time() {
    let _alone = alone();
    virtual_time().block_on(async {
        let mut node = Node::start(&["web"]);
        let healthy: Vec<_> = (0..HEALTHY).map(|_| Member::join(&mut node)).collect();
        let mut slow: Vec<_> = (0..SLOW).map(|_| Member::with(&mut node, 16 << 10, WINDOW)).collect();
        // Others do not even read their sockets.
        let [deaf, dozing] = [(); 2].map(|()| Member::with(&mut node, ROOM, WIDE));
        all_are_up_to_date(&node, &healthy).await;
        for member in slow.iter().chain([&deaf, &dozing]) {
            let heard = member.hear();
            assert_eq!(heard.len(), 1);
            member.send(&ack(&heard[0]));
        }
        sleep(MOMENT).await;

        slow.iter().for_each(|member| member.link.with(|client| client.stall(member.id)));
        [&deaf, &dozing].into_iter().for_each(|member| member.link.hears(false));
        let stalled_since = Instant::now();
        let mut first = Vec::new();
        let mut held = Vec::new();
        for rotation in 0..ROTATIONS {
            node.rotate().await;
            let version = healthy_hear_one(&node, &healthy).await;
            if rotation == 0 {
                first = version;
            }
            held.push(allocated());
            sleep(EVERY).await;
        }
        for member in &slow {
            let (heard, partial) = member.link.with(|client| {
                (client.streams[&member.id].messages.len(), client.streams[&member.id].partial())
            });
            assert_eq!((heard, partial), (0, WINDOW as usize), "as much as its window lets through");
        }
        // The message on its way and the newest: nothing more is held as more versions come.
        let growth = held[ROTATIONS - 1] - held[WARM];
        assert!(growth < NOISE, "{growth} bytes more after {ROTATIONS} rotations than after {WARM}");
        let superseded = node.front.sds.metrics.superseded.get();
        assert!(superseded >= (SLOW * (ROTATIONS - 2)) as u64, "{superseded}");

        // One reads again: what was on its way, and the newest, and none between them.
        let awake = slow.pop().expect("a slow one");
        awake.link.with(|client| client.resume(awake.id));
        sleep(MOMENT).await;
        assert!(awake.hear() == [first, newest(&node).await], "the one on its way and the newest");
        dozing.link.hears(true);
        sleep(MOMENT).await;
        let heard = dozing.hear();
        assert!(heard.last() == Some(&newest(&node).await), "{} messages", heard.len());

        sleep(stalled_since + STALLED - Instant::now() - MOMENT).await;
        assert!(slow.iter().all(|member| member.end().is_none()), "ended too early");
        sleep(Duration::from_secs(1)).await;
        for member in &slow {
            assert_eq!(member.end(), Some(End::Reset(ENHANCE_YOUR_CALM)));
        }
        assert_eq!(node.front.sds.metrics.stalled.get(), slow.len() as u64);
        node.rotate().await;
        healthy_hear_one(&node, &healthy).await;
        for member in [&awake, &dozing] {
            assert!(
                member.hear() == [newest(&node).await],
                "who read again in time is served: {:?}",
                member.end()
            );
        }

        // Its connection has been given up, and its last frames too.
        sleep(Duration::from_secs(2)).await;
        deaf.link.hears(true);
        drop((healthy, slow, awake, dozing));
        sleep(MOMENT).await;
        assert_eq!(deaf.end(), Some(End::Closed), "its socket was full for too long");
        let outcomes = node.connections_end().await;
        let shed = outcomes.iter().filter(|outcome| **outcome == Outcome::shed("stalled")).count();
        assert_eq!(shed, 1, "only whoever does not read its socket loses its connection");
        sleep(MOMENT).await;
        node.assert_nothing_is_left();
        node.stop().await;
    });
}

/// Everybody has exactly one message, which is the newest.
async fn healthy_hear_one(node: &Node, healthy: &[Member]) -> Vec<u8> {
    sleep(MOMENT).await;
    let version = newest(node).await;
    for member in healthy {
        assert!(member.hear() == [&version[..]], "a healthy reader gets each version once");
        member.send(&ack(&version));
    }
    sleep(MOMENT).await;
    version
}
