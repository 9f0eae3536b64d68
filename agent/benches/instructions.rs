//! Instructions of the steps that are taken most often, counted by Valgrind: `cargo xtask bench gate`.
//!
//! What is here does the same each time. To issue an SVID does not: randomness decides how often a key is tried.
#![expect(unused_qualifications, reason = "in what gungraun makes of the functions")]

use std::{hint::black_box, sync::Arc};

use gungraun::{library_benchmark, library_benchmark_group, main};
use tokio::runtime::Builder;
use vouch::{
    registration::RegistrationEntry,
    sds::Message,
    svid::{Identities, Subscriber},
};
use work::{
    matching::Matching,
    reading,
    sds::{Ack, FirstAnswer},
};

mod work {
    pub(crate) mod authority;
    pub(crate) mod matching;
    pub(crate) mod reading;
    pub(crate) mod sds;
}

// Each gives back what it was given, so that the count is over before it is dropped.

#[library_benchmark]
#[bench::entries_1000(Matching::among(1_000))]
#[bench::entries_10000(Matching::among(10_000))]
#[bench::entries_100000(Matching::among(100_000))]
fn matching(matching: Matching) -> (Vec<Arc<RegistrationEntry>>, Matching) {
    (black_box(&matching).run(), matching)
}

// What there is, as a call reads it that begins.
#[library_benchmark]
#[bench::all(subscriber())]
fn read(mut subscriber: Subscriber) -> (Identities, Subscriber) {
    (black_box(&mut subscriber).current(), subscriber)
}

// Whether there is something new, as a connection asks that was woken.
#[library_benchmark]
#[bench::nothing_new(subscriber())]
fn look(mut subscriber: Subscriber) -> (Option<Identities>, Subscriber) {
    (black_box(&mut subscriber).look(), subscriber)
}

/// Whose owner has stopped, so that nothing happens but what is counted.
fn subscriber() -> Subscriber {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    reading::subscriber(&runtime).0
}

#[library_benchmark]
#[bench::first(FirstAnswer::new())]
fn answer(answer: FirstAnswer) -> (Message, FirstAnswer) {
    black_box(answer).run()
}

#[library_benchmark]
#[bench::without_node(Ack::without_node())]
#[bench::with_node(Ack::with_node())]
fn ack(mut ack: Ack) -> (Option<Message>, Ack) {
    (black_box(&mut ack).run(), ack)
}

library_benchmark_group!(name = steps, benchmarks = [matching, read, look, answer, ack]);
main!(library_benchmark_groups = steps);
