//! One rotation of one server, from its moment in the schedule until the server is quiet again.

use std::{
    hint::spin_loop,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use crate::{admin::Admin, anchor::AnchorProcess, load::Load, process::Process, sds};

/// A rotation that is not over by then is an error.
const LIMIT: Duration = Duration::from_secs(20);
/// Before its moment we stop sleeping, so that the rotation starts on time.
const AWAKE: Duration = Duration::from_millis(2);
/// A server is quiet when it works less than so much of a span.
const QUIET_SPAN: Duration = Duration::from_millis(10);
const QUIET_WORK: Duration = Duration::from_micros(200);
/// Before the next rotation on the schedule the wait for quiet ends in any case: it must not make that one late.
const SPARE: Duration = Duration::from_millis(20);
/// A round in which either process waited for its CPU more than so much of the time is marked.
const DISTURBED: f64 = 0.1;

/// How a rotation is started.
#[derive(Debug)]
pub(super) enum Server {
    Agent(Admin),
    Anchor(AnchorProcess),
}

/// A server with all its streams.
#[derive(Debug)]
pub(super) struct Side {
    pub(super) load: Load,
    pub(super) process: Process,
    own: Process,
    server: Server,
    /// What the anchor sends next, and how long each ACK is.
    prepared: (Vec<u8>, usize),
    measure: Measure,
}

/// What was measured of one server.
#[derive(Debug, Default)]
pub(crate) struct Measure {
    /// Share of a core that it takes when nothing is asked of it.
    pub(crate) idle_share: f64,
    /// In their order, the first of them not to be counted.
    pub(crate) rounds: Vec<Round>,
}

/// One rotation. Times count from its moment in the schedule, also when it was started late.
#[derive(Debug)]
pub(crate) struct Round {
    pub(crate) started_late: Duration,
    /// Of each stream, in the order in which they were opened.
    pub(crate) delivered: Vec<Duration>,
    pub(crate) last_ack: Duration,
    /// Whether the server was quiet before the next rotation on the schedule; if not, it did something else as well.
    pub(crate) ended_quiet: bool,
    /// Of the whole process, from before the rotation until quiet, less what it takes when idle.
    pub(crate) server_cpu: Duration,
    /// Of this process, from the start of the rotation to the last ACK.
    pub(crate) load_cpu: Duration,
    pub(crate) server_waited: Duration,
    pub(crate) load_waited: Duration,
}

impl Round {
    pub(crate) fn last_delivery(&self) -> Duration {
        self.delivered.iter().max().copied().unwrap_or_default()
    }

    /// Whether somebody else had a CPU of ours for long.
    pub(crate) fn is_disturbed(&self) -> bool {
        let waited = self.server_waited.max(self.load_waited);
        waited.as_secs_f64() > DISTURBED * self.last_ack.as_secs_f64()
    }
}

impl Side {
    /// Watches the server for `idle` while nothing is asked of it.
    pub(super) fn watch(server: Server, mut load: Load, process: Process, idle: Duration) -> Result<Self> {
        let (start, before) = (Instant::now(), process.cpu()?);
        load.until(start + idle)?;
        let idle_share = (process.cpu()? - before).as_secs_f64() / start.elapsed().as_secs_f64();
        let (own, prepared) = (Process::own()?, Default::default());
        let measure = Measure { idle_share, rounds: Vec::new() };
        Ok(Self { load, process, own, server, prepared, measure })
    }

    pub(super) fn prepare(&mut self, message: (Vec<u8>, usize)) {
        self.prepared = message;
    }

    /// One rotation at `due`, whatever the time is, and a wait for quiet that ends before `next`. Gives how long the
    /// last delivery took.
    ///
    /// # Errors
    /// When a stream did not get exactly the new version and the same secret as all others.
    pub(super) fn rotate(&mut self, due: Instant, next: Instant) -> Result<Duration> {
        let old = self.load.newest().map(<[u8]>::to_vec);
        self.load.expect_next();
        self.load.until(due.checked_sub(AWAKE).unwrap_or(due))?;
        let (server_waited, load_waited) = (self.process.waited()?, self.own.waited()?);
        let (began, server_cpu) = (Instant::now(), self.process.cpu()?);
        while Instant::now() < due {
            spin_loop();
        }
        let load_cpu = self.own.cpu()?;
        let started_late = due.elapsed();
        self.start()?;
        while self.load.acknowledged() < self.load.len() {
            self.load.poll(QUIET_SPAN)?;
            let (have, of) = (self.load.delivered(), self.load.len());
            ensure!(due.elapsed() < LIMIT, "{have} of {of} streams have the new secret after {LIMIT:?}");
        }
        let load_cpu = self.own.cpu()? - load_cpu;
        let (server_waited, load_waited) =
            (self.process.waited()?.saturating_sub(server_waited), self.own.waited()? - load_waited);
        let ended_quiet = self.wait_until_quiet(next.checked_sub(SPARE).unwrap_or(next))?;
        let used = self.process.cpu()? - server_cpu;
        let idle = began.elapsed().mul_f64(self.measure.idle_share);
        self.finish(old.as_deref())?;
        let since = |moment: Instant| moment.saturating_duration_since(due);
        let round = Round {
            started_late,
            delivered: self.load.delivery_times().map(since).collect(),
            last_ack: self.load.last_acknowledged().map(since).unwrap_or_default(),
            ended_quiet,
            server_cpu: used.saturating_sub(idle),
            load_cpu,
            server_waited,
            load_waited,
        };
        let last = round.last_delivery();
        self.measure.rounds.push(round);
        Ok(last)
    }

    pub(super) fn measured(self) -> Measure {
        self.measure
    }

    fn start(&mut self) -> Result<()> {
        match &mut self.server {
            Server::Agent(admin) => admin.rotate(),
            Server::Anchor(anchor) => anchor.send(&self.prepared.0, self.prepared.1),
        }
    }

    fn wait_until_quiet(&mut self, deadline: Instant) -> Result<bool> {
        let mut before = self.process.cpu()?;
        while Instant::now() < deadline {
            self.load.until(Instant::now() + QUIET_SPAN)?;
            let now = self.process.cpu()?;
            if now - before < QUIET_WORK {
                return Ok(true);
            }
            before = now;
        }
        Ok(false)
    }

    /// Hears the server's own word, and looks into what it sent.
    fn finish(&mut self, old: Option<&[u8]>) -> Result<()> {
        let new = self.load.newest().context("no secret came")?;
        match &mut self.server {
            Server::Agent(admin) => {
                let rotated = admin.rotated()?;
                ensure!(rotated == 1, "{rotated} SVIDs were rotated, and one is in use");
                let old = sds::chain(old.context("no secret came before")?)?;
                ensure!(sds::chain(new)? != old, "a new version with the old chain");
            }
            Server::Anchor(anchor) => anchor.finished()?,
        }
        // Nobody may get more than was asked for while all were served.
        ensure!(self.load.delivered() == self.load.len(), "a further version came in between");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_is_marked_when_a_neighbour_took_a_tenth_of_it() {
        let milliseconds = Duration::from_millis;
        let mut round = Round {
            started_late: Duration::ZERO,
            delivered: vec![milliseconds(3), milliseconds(17)],
            last_ack: milliseconds(20),
            ended_quiet: true,
            server_cpu: milliseconds(9),
            load_cpu: milliseconds(5),
            server_waited: milliseconds(1),
            load_waited: milliseconds(2),
        };
        assert_eq!(round.last_delivery(), milliseconds(17));
        assert!(!round.is_disturbed());
        round.load_waited = milliseconds(3);
        assert!(round.is_disturbed());
    }
}
