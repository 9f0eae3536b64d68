//! Requests without pause, and how many of them failed.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::http::Connection;

/// Between two requests of one connection: load, not a benchmark.
const PAUSE: Duration = Duration::from_millis(2);
const FAILURES_KEPT: usize = 5;

/// Clients that each keep one connection and ask again and again.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stopped: AtomicBool,
    requests: AtomicU64,
    failed: AtomicU64,
    reconnects: AtomicU64,
    failures: Mutex<Vec<String>>,
}

/// What came of a load.
#[derive(Debug)]
pub struct Outcome {
    pub requests: u64,
    pub failed: u64,
    /// Connections that ended although their client wanted to keep them.
    pub reconnects: u64,
    /// The first few failures, in words.
    pub failures: Vec<String>,
}

impl Load {
    pub fn start(server: SocketAddr, clients: usize) -> Self {
        let shared = Arc::<Shared>::default();
        let client = |_| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.ask_until_stopped(server))
        };
        let clients = (0..clients).map(client).collect();
        Self { shared, clients }
    }

    /// Requests that were answered so far, well or not.
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::Relaxed)
    }

    /// Ends it.
    pub fn stop(mut self) -> Outcome {
        self.end();
        let shared = &self.shared;
        Outcome {
            requests: self.requests(),
            failed: shared.failed.load(Ordering::Relaxed),
            reconnects: shared.reconnects.load(Ordering::Relaxed),
            failures: shared.failures.lock().expect("no client panics").clone(),
        }
    }

    fn end(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        for client in self.clients.drain(..) {
            client.join().ok();
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.end();
    }
}

impl Shared {
    fn ask_until_stopped(&self, server: SocketAddr) {
        let mut connection: Option<Connection> = None;
        while !self.stopped.load(Ordering::Relaxed) {
            let opened = connection.take().map_or_else(|| Connection::open(server), Ok);
            match opened.and_then(|mut open| open.get("/").map(|response| (open, response))) {
                Ok((open, response)) => {
                    if response.status != 200 {
                        self.fail(format!("{} {}", response.status, response.body));
                    }
                    if response.closes {
                        self.reconnects.fetch_add(1, Ordering::Relaxed);
                    } else {
                        connection = Some(open);
                    }
                }
                Err(error) => self.fail(error.to_string()),
            }
            self.requests.fetch_add(1, Ordering::Relaxed);
            thread::sleep(PAUSE);
        }
    }

    fn fail(&self, how: String) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        let mut failures = self.failures.lock().expect("no client panics");
        if failures.len() < FAILURES_KEPT {
            failures.push(how);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Upstream, eventually};

    #[test]
    fn a_server_that_goes_away_is_a_failure() {
        let upstream = Upstream::start();
        let server = ([127, 0, 0, 1], upstream.port()).into();
        let load = Load::start(server, 2);
        eventually("some requests are answered", Duration::from_secs(5), || {
            (upstream.hits() > 20).then_some(())
        });
        let hits = upstream.hits();
        drop(upstream);
        eventually("load goes on", Duration::from_secs(5), || (load.requests() > hits + 20).then_some(()));
        let outcome = load.stop();
        assert!(outcome.failed > 0 && !outcome.failures.is_empty(), "{outcome:?}");
    }

    #[test]
    fn a_server_that_stays_fails_nothing() {
        let upstream = Upstream::start();
        let load = Load::start(([127, 0, 0, 1], upstream.port()).into(), 2);
        eventually("some requests are answered", Duration::from_secs(5), || {
            (upstream.hits() > 20).then_some(())
        });
        let outcome = load.stop();
        assert_eq!((outcome.failed, outcome.reconnects), (0, 0), "{outcome:?}");
        assert_eq!(outcome.requests, upstream.hits());
    }
}
