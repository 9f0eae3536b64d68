//! How long the steps take that are taken most often: `cargo bench --package vouch --bench time`.
//!
//! Nothing here fails: a busy machine makes everything slow. What must not grow is counted by `instructions` and
//! `allocations`.

use std::{
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use tokio::runtime::Builder;
use vouch::svid::{SvidCache, Target};
use work::{
    issuing::Issuing,
    matching::Matching,
    reading,
    sds::{Ack, FirstAnswer},
};

mod work {
    pub(crate) mod authority;
    pub(crate) mod issuing;
    pub(crate) mod matching;
    pub(crate) mod reading;
    pub(crate) mod sds;
}

fn matching(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("match");
    for entries in [1_000, 10_000, 100_000] {
        let matching = Matching::among(entries);
        group.bench_function(BenchmarkId::from_parameter(entries), |bencher| {
            bencher.iter(|| black_box(&matching).run());
        });
    }
}

fn reading(criterion: &mut Criterion) {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let (mut subscriber, cache) = reading::subscriber(&runtime);
    let mut group = criterion.benchmark_group("read");
    group.bench_function("current", |bencher| bencher.iter(|| subscriber.current()));
    group.bench_function("look", |bencher| bencher.iter(|| subscriber.look()));
    let ends = Arc::new(AtomicBool::new(false));
    let writer = runtime.spawn(publish(cache, Arc::clone(&ends)));
    group.bench_function("current under writes", |bencher| bencher.iter(|| subscriber.current()));
    group.bench_function("look under writes", |bencher| bencher.iter(|| subscriber.look()));
    ends.store(true, Ordering::Relaxed);
    let published = runtime.block_on(writer).expect("a writer that ends");
    println!("{published} snapshots were published meanwhile");
}

/// Replaces the one SVID again and again; says how often.
async fn publish(cache: SvidCache, ends: Arc<AtomicBool>) -> usize {
    let mut published = 0;
    while !ends.load(Ordering::Relaxed) {
        published += cache.rotate(Target::All).await.expect("a new SVID");
    }
    published
}

fn issuing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("issue");
    let issuing = Issuing::new();
    group.bench_function("with a new key", |bencher| bencher.iter(|| issuing.with_a_new_key()));
    group.bench_function("with a key made ahead", |bencher| bencher.iter(|| issuing.with_a_key_made_ahead()));
}

fn sds(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("sds");
    group.bench_function("first answer", |bencher| {
        bencher.iter_batched(FirstAnswer::new, FirstAnswer::run, BatchSize::SmallInput);
    });
    for (name, mut ack) in [("ACK", Ack::without_node()), ("ACK with a Node", Ack::with_node())] {
        group.bench_function(name, |bencher| bencher.iter(|| black_box(&mut ack).run()));
    }
}

criterion_group!(steps, matching, reading, issuing, sds);
criterion_main!(steps);
