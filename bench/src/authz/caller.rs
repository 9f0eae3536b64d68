//! The Envoy that asks, a process of its own: one connection, questions at a steady rate whatever becomes of them, or one
//! after the other.

use std::{
    collections::HashMap,
    io::{BufRead as _, Write as _, stdin, stdout},
    os::fd::AsFd as _,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use nix::{
    poll::{PollFd, PollFlags, ppoll},
    sys::{prctl::set_timerslack, time::TimeSpec},
};
use serde::{Deserialize, Serialize};

use super::{
    connection::Connection,
    endpoint::Endpoint,
    mesh::{self, Service},
    question::{self, Said},
};
use crate::process::Process;

/// Questions before anything counts: the first one is attested.
const WARM_UP: usize = 200;
/// How long the last answers may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The caller; `authz` starts it, and it begins when its input says so.
#[derive(Debug, Clone, Args)]
pub(crate) struct Caller {
    #[arg(long)]
    pub(crate) at: Endpoint,
    /// Services that are asked for, in turns
    #[arg(long, value_enum, value_delimiter = ',', default_value = "ec-backend")]
    pub(crate) services: Vec<Service>,
    /// Questions in a second; 0: each follows the answer before it
    #[arg(long, default_value_t = 0)]
    pub(crate) rate: u32,
    #[arg(long, default_value_t = 1_000)]
    pub(crate) millis: u64,
    #[arg(long, value_enum, default_value_t = Expected::Allowed)]
    pub(crate) expected: Expected,
}

/// Which answers are right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Expected {
    /// Yes, with or without an id
    Allowed,
    /// Yes, and what it is called
    Decided,
    /// What the policy of that version says, and never an older one than was answered before the question
    Versioned,
}

/// What came of the questions.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Answers {
    /// From the moment a question was due until its call ended, sorted.
    pub(crate) took_ns: Vec<u64>,
    /// Without an answer.
    pub(crate) failed: u64,
    /// With an answer that nobody may give.
    pub(crate) wrong: u64,
    /// One of those, in words.
    pub(crate) example: Option<String>,
    /// Policies that answered, by their version.
    pub(crate) versions: Vec<u32>,
    pub(crate) load_cpu_ns: u64,
}

impl Answers {
    /// In microseconds; the time that this share of all calls is done in.
    pub(crate) fn percentile_us(&self, share: f64) -> f64 {
        let at = (self.took_ns.len() as f64 * share).ceil() as usize;
        self.took_ns.get(at.saturating_sub(1)).map_or(f64::NAN, |&nanos| nanos as f64 / 1e3)
    }
}

/// Prints `ready`, waits for a line, asks, and prints what came of it.
pub(crate) fn run(caller: &Caller) -> Result<()> {
    // As exact as the machine can be: a server that waits for us would look slow.
    set_timerslack(1)?;
    let mut asking = Asking::connect(caller)?;
    for _ in 0..WARM_UP {
        asking.one()?;
    }
    println!("ready");
    let mut line = String::new();
    stdin().lock().read_line(&mut line).context("waiting to begin")?;
    asking.forget();
    let (process, length) = (Process::own()?, Duration::from_millis(caller.millis));
    let before = process.cpu()?;
    match caller.rate {
        0 => asking.one_by_one(length)?,
        rate => asking.at_rate(rate, length)?,
    }
    asking.answers.load_cpu_ns = u64::try_from((process.cpu()? - before).as_nanos())?;
    asking.answers.took_ns.sort_unstable();
    let mut out = stdout().lock();
    serde_json::to_writer(&mut out, &asking.answers)?;
    Ok(writeln!(out)?)
}

/// Questions that are under way, and what came of those before.
#[derive(Debug)]
struct Asking {
    connection: Connection,
    messages: Vec<Vec<u8>>,
    asked: HashMap<u32, Asked>,
    count: usize,
    expected: Expected,
    newest: u32,
    answers: Answers,
}

#[derive(Debug, Clone, Copy)]
struct Asked {
    due: Instant,
    /// The newest version that had answered by then.
    newest: u32,
}

impl Asking {
    fn connect(caller: &Caller) -> Result<Self> {
        let socket = caller.at.connect().with_context(|| format!("connecting to {}", caller.at))?;
        let message = |service: &Service| question::message(question::attributes(*service, true));
        Ok(Self {
            connection: Connection::new(socket),
            messages: caller.services.iter().map(message).collect(),
            asked: HashMap::new(),
            count: 0,
            expected: caller.expected,
            newest: 0,
            answers: Answers::default(),
        })
    }

    /// What the warm-up found.
    fn forget(&mut self) {
        self.answers = Answers::default();
    }

    /// Asks, and waits for the answer.
    fn one(&mut self) -> Result<()> {
        let began = Instant::now();
        self.ask(began);
        while !self.asked.is_empty() {
            ensure!(began.elapsed() < PATIENCE, "no answer within {PATIENCE:?}");
            self.turn(PATIENCE)?;
        }
        Ok(())
    }

    fn one_by_one(&mut self, length: Duration) -> Result<()> {
        let end = Instant::now() + length;
        while Instant::now() < end {
            self.one()?;
        }
        Ok(())
    }

    /// Each question is due at a moment that no answer moves.
    fn at_rate(&mut self, rate: u32, length: Duration) -> Result<()> {
        let (start, pause) = (Instant::now(), Duration::from_secs(1) / rate);
        let total = u32::try_from(length.as_nanos() / pause.as_nanos().max(1))?;
        let mut next = 0;
        while next < total || !self.asked.is_empty() {
            let now = Instant::now();
            while next < total && start + pause * next <= now && self.ask(start + pause * next) {
                next += 1;
            }
            let until = if next < total { start + pause * next } else { start + length + PATIENCE };
            if next == total && now > until {
                break;
            }
            self.turn(until.saturating_duration_since(now).max(Duration::from_micros(1)))?;
        }
        self.answers.failed += self.asked.len() as u64;
        Ok(())
    }

    /// Whether the server takes one more.
    fn ask(&mut self, due: Instant) -> bool {
        let message = &self.messages[self.count % self.messages.len()];
        let Some(stream) = self.connection.ask(message) else { return false };
        self.count += 1;
        self.asked.insert(stream, Asked { due, newest: self.newest });
        true
    }

    /// Writes, and reads what has come by `patience`.
    fn turn(&mut self, patience: Duration) -> Result<()> {
        self.connection.flush()?;
        let mut wanted = PollFlags::POLLIN;
        if self.connection.is_behind() {
            wanted |= PollFlags::POLLOUT;
        }
        let socket = self.connection.socket();
        let ready =
            ppoll(&mut [PollFd::new(socket.as_fd(), wanted)], Some(TimeSpec::from_duration(patience)), None)?;
        if ready == 0 {
            return Ok(());
        }
        let mut ended = Vec::new();
        self.connection.read(&mut ended)?;
        let now = Instant::now();
        for (stream, message) in ended {
            if let Some(asked) = self.asked.remove(&stream) {
                self.note(asked, message.as_deref(), now);
            }
        }
        Ok(())
    }

    fn note(&mut self, asked: Asked, message: Option<&[u8]>, now: Instant) {
        let Some(message) = message else {
            self.answers.failed += 1;
            return;
        };
        self.answers.took_ns.push(u64::try_from((now - asked.due).as_nanos()).unwrap_or(u64::MAX));
        let said = Said::read(message);
        let is_right = said.as_ref().is_ok_and(|said| self.expected.is(said, asked.newest));
        if !is_right {
            self.answers.wrong += 1;
            self.answers.example = Some(format!("{said:?}, after version {}", asked.newest));
        }
        if let Some(version) = said.ok().and_then(|said| said.version) {
            self.newest = self.newest.max(version);
            if !self.answers.versions.contains(&version) {
                self.answers.versions.push(version);
            }
        }
    }
}

impl Expected {
    /// Whether `said` is right for a question that was asked when `newest` was the newest version.
    fn is(self, said: &Said, newest: u32) -> bool {
        match self {
            Self::Allowed => said.is_allowed,
            Self::Decided => said.is_allowed && said.has_decision_id,
            Self::Versioned => said.version.is_some_and(|version| {
                said.has_decision_id && said.is_allowed == mesh::allows(version) && version >= newest
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_of_an_older_version_than_was_seen_before_is_wrong_and_so_is_one_of_neither() {
        let said = |is_allowed, version| Said { is_allowed, has_decision_id: true, version };
        let is = |said: Said, newest| Expected::Versioned.is(&said, newest);
        assert!(is(said(true, Some(3)), 3) && is(said(false, Some(4)), 3));
        assert!(!is(said(true, Some(3)), 4), "older");
        assert!(!is(said(false, Some(3)), 3) && !is(said(true, Some(4)), 4), "what another version says");
        assert!(!is(said(false, None), 0), "no version's");
    }

    #[test]
    fn percentiles_are_of_calls_that_ended() {
        let answers =
            Answers { took_ns: (1..=1_000).map(|micros| micros * 1_000).collect(), ..Answers::default() };
        assert_eq!([0.5, 0.99, 1.0].map(|share| answers.percentile_us(share)), [500.0, 990.0, 1_000.0]);
        assert!(Answers::default().percentile_us(0.5).is_nan());
    }
}
