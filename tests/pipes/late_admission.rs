//! A call that waits for a witness, longer than any other thing that it may wait for, keeps nobody else from being served.

use std::{
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::time::sleep;
use vouch::attestation::{Selector, Silence, Subject, Witness};
use vouch_tests::node::{ISSUE_WAIT, Node, PATIENCE};

use crate::{
    crowd::{MOMENT, Member, virtual_time},
    heap::alone,
};

/// In real time; it takes a moment when nothing is wrong.
const LONG: Duration = Duration::from_secs(60);

/// Is asked, and never answers.
#[derive(Debug)]
struct Mute;

impl Witness for Mute {
    fn kind(&self) -> &'static str {
        "docker"
    }

    fn concerns(&self, _subject: &Subject) -> bool {
        true
    }

    fn testify<'a>(&'a self, _subject: &'a Subject) -> BoxFuture<'a, Result<Vec<Selector>, Silence>> {
        Box::pin(std::future::pending())
    }
}

#[test]
fn a_witness_that_says_nothing_for_longer_than_an_svid_takes_stops_no_thread() {
    let _alone = alone();
    let (done, is_done) = mpsc::channel();
    // A turn that never ends would not let this test end either.
    let serving = thread::spawn(move || {
        virtual_time().block_on(async {
            let mut node = Node::beside(&["web"], vec![Arc::new(Mute)]);
            let member = Member::join(&mut node);
            sleep(ISSUE_WAIT + (PATIENCE - ISSUE_WAIT) / 2).await;
            assert!(member.hear().is_empty() && member.end().is_none(), "it waits for the witness");
            sleep(PATIENCE).await;
            assert_eq!(member.hear().len(), 1, "{:?}", member.end());
            drop(member);
            node.connections_end().await;
            sleep(MOMENT).await;
            node.stop().await;
        });
        let _ = done.send(());
    });
    assert_ne!(is_done.recv_timeout(LONG), Err(mpsc::RecvTimeoutError::Timeout), "a turn does not end");
    serving.join().expect("what was asserted holds");
}
