//! SVIDs rotate while streams are opening: at the end everybody has the last one, and nobody has seen an older one after a
//! newer one.

use tokio::{task::yield_now, time::sleep};
use vouch_tests::node::Node;

use crate::{
    crowd::{MOMENT, Member, ack, decoded, newest, virtual_time},
    heap::alone,
};

const STREAMS: usize = 4_000;
const BETWEEN_ROTATIONS: usize = 50;

#[test]
fn rotations_while_streams_open_miss_nobody() {
    let _alone = alone();
    virtual_time().block_on(async {
        let mut node = Node::start(&["web"]);
        let mut members: Vec<Member> = Vec::new();
        let mut seen = vec![0; STREAMS];
        for number in 0..STREAMS {
            members.push(Member::join(&mut node));
            if number % 7 == 0 {
                yield_now().await;
            }
            if number % BETWEEN_ROTATIONS == 0 {
                node.rotate().await;
                // Some acknowledge at once, so that the next rotation crosses their words.
                for (member, seen) in members.iter().zip(&mut seen).rev().take(2 * BETWEEN_ROTATIONS) {
                    hear(member, seen);
                }
            }
        }
        sleep(MOMENT).await;
        let last = newest(&node).await;
        let generation = generation(&last);
        for (number, (member, seen)) in members.iter().zip(&mut seen).enumerate() {
            hear(member, seen);
            assert_eq!(*seen, generation, "{number} has not the last version: {:?}", member.end());
        }
        drop(members);
        node.connections_end().await;
        sleep(MOMENT).await;
        node.assert_nothing_is_left();
        node.stop().await;
    });
}

/// Acknowledges what has come. `seen` is the last generation that it had.
fn hear(member: &Member, seen: &mut u64) {
    let heard = member.hear();
    for message in &heard {
        let generation = generation(message);
        assert!(generation > *seen, "{generation} after {seen}");
        *seen = generation;
    }
    if let Some(last) = heard.last() {
        member.send(&ack(last));
    }
}

/// The nonce of a single secret is the generation of its SVID.
fn generation(message: &[u8]) -> u64 {
    decoded(message).nonce.parse().expect("a generation")
}
