//! Allocations of the steps that are taken most often: `cargo xtask bench gate`.
//!
//! One line for each step: its name, how often it allocates or reallocates, and how many bytes that asks for.
#![expect(unsafe_code, reason = "an allocator is unsafe to be")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

use tokio::runtime::Builder;
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

#[global_allocator]
static HEAP: Counting = Counting;

thread_local! {
    /// Of this thread alone, so that nobody else counts.
    static COUNT: Cell<Count> = const { Cell::new(Count { allocations: 0, bytes: 0 }) };
}

#[derive(Debug, Clone, Copy)]
struct Count {
    allocations: usize,
    bytes: usize,
}

struct Counting;

fn main() {
    for (name, entries) in [("entries_1000", 1_000), ("entries_10000", 10_000), ("entries_100000", 100_000)] {
        let matching = Matching::among(entries);
        count(&format!("matching.{name}"), || matching.run());
    }
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (mut subscriber, _cache) = reading::subscriber(&runtime);
    count("read.all", || subscriber.current());
    count("look.nothing_new", || subscriber.look());
    let answer = FirstAnswer::new();
    count("answer.first", || answer.run());
    let mut ack = Ack::without_node();
    count("ack.without_node", || ack.run());
    let mut ack = Ack::with_node();
    count("ack.with_node", || ack.run());
    let issuing = Issuing::new();
    count("issue.new_key", || issuing.with_a_new_key());
    count("issue.key_made_ahead", || issuing.with_a_key_made_ahead());
}

/// What `work` gives is dropped once it is counted.
fn count<T>(name: &str, work: impl FnOnce() -> T) {
    let before = COUNT.get();
    let result = work();
    let after = COUNT.get();
    println!("{name} {} {}", after.allocations - before.allocations, after.bytes - before.bytes);
    drop(result);
}

fn add(bytes: usize) {
    // A thread that is ending has no count any more.
    let _ = COUNT.try_with(|count| {
        let Count { allocations, bytes: before } = count.get();
        count.set(Count { allocations: allocations + 1, bytes: before + bytes });
    });
}

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        // SAFETY: the caller keeps to the contract of the same function.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        // SAFETY: the caller keeps to the contract of the same function.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        add(size);
        // SAFETY: the caller keeps to the contract of the same function.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps to the contract of the same function.
        unsafe { System.dealloc(block, layout) }
    }
}
