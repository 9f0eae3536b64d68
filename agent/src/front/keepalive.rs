//! Finds out that a client is no longer there.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use h2::{Ping, PingPong};
use tokio::time::Instant;

use super::Limits;

/// Pings one client.
pub(super) struct Keepalive {
    ping_pong: PingPong,
    /// When it is asked, or must have answered.
    next: Instant,
    is_asked: bool,
    /// How often it is asked, and how long it may take to answer.
    interval: Duration,
    limit: Duration,
}

impl Keepalive {
    pub(super) fn new(ping_pong: PingPong, limits: &Limits, now: Instant) -> Self {
        let (interval, limit) = (limits.keepalive_interval, limits.keepalive_timeout);
        Self { ping_pong, next: now + interval, is_asked: false, interval, limit }
    }

    /// When [`Self::is_silent`] has to be asked again though nothing has come.
    pub(super) fn next(&self) -> Instant {
        self.next
    }

    /// Asks when it is time. Says whether the client has not answered in time.
    pub(super) fn is_silent(&mut self, now: Instant, cx: &mut Context<'_>) -> bool {
        if !self.is_asked {
            if now < self.next {
                return false;
            }
            if self.ping_pong.send_ping(Ping::opaque()).is_err() {
                return true;
            }
            (self.is_asked, self.next) = (true, now + self.limit);
        }
        match self.ping_pong.poll_pong(cx) {
            Poll::Ready(Ok(_)) => {
                (self.is_asked, self.next) = (false, now + self.interval);
                false
            }
            Poll::Ready(Err(_)) => true,
            Poll::Pending => self.next <= now,
        }
    }
}
