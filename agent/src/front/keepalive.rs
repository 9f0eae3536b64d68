//! Finds out that a client is no longer there.

use std::{future::poll_fn, time::Duration};

use h2::{Ping, PingPong};
use tokio::time::{sleep, timeout};

/// How often a client is asked, and how long it may take to answer.
const EVERY: Duration = Duration::from_secs(30);
const WITHIN: Duration = Duration::from_secs(20);

/// Pings until a ping is not answered. For ever when the connection has no pings to give.
pub(super) async fn until_silent(ping_pong: Option<PingPong>) {
    let Some(mut ping_pong) = ping_pong else { return std::future::pending().await };
    loop {
        sleep(EVERY).await;
        if ping_pong.send_ping(Ping::opaque()).is_err() {
            return;
        }
        match timeout(WITHIN, poll_fn(|cx| ping_pong.poll_pong(cx))).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) | Err(_) => return,
        }
    }
}
