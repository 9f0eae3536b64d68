//! TCP ports that nobody else in this run takes.

use std::{
    net::{Ipv4Addr, TcpListener},
    sync::atomic::{AtomicU16, Ordering},
};

/// Below the range from which the kernel takes ports for outgoing connections.
const FIRST: u16 = 21_000;
const LAST: u16 = 31_999;
static NEXT: AtomicU16 = AtomicU16::new(FIRST);

/// A free port on loopback. Given once in this process, so two tests at once never share it.
///
/// # Panics
/// When all are taken.
pub fn free_port() -> u16 {
    for _ in FIRST..=LAST {
        let port = NEXT.fetch_add(1, Ordering::Relaxed);
        if (FIRST..=LAST).contains(&port) && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
        if port >= LAST {
            NEXT.store(FIRST, Ordering::Relaxed);
        }
    }
    panic!("every port between {FIRST} and {LAST} is taken");
}
