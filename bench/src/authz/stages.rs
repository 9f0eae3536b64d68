//! What is measured of whole questions: what they cost and how long they take, what the agent grows by, and what becomes of
//! them while policies change.

use std::{thread::sleep, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use vouch_bench::numbers::Spread;

use super::{
    asked::{Round, Waiting},
    caller::{Caller, Expected},
    mesh::Service,
    servers::{How, Kind, Server},
};
use crate::{cpus::Places, progress::say};

/// Between two of them; a change is seen when nothing has followed it for 150 ms.
const RELOAD_PAUSE: Duration = Duration::from_millis(400);
/// An agent has settled after its start.
const SETTLED: Duration = Duration::from_millis(500);

/// Where and how long.
#[derive(Debug)]
pub(crate) struct Stage<'a> {
    pub(crate) how: &'a How,
    pub(crate) places: &'a Places,
    pub(crate) rounds: u32,
    pub(crate) rate: u32,
    /// Of one measurement.
    pub(crate) length: Duration,
}

/// One server in all rounds: asked at a rate, and with one question at a time.
#[derive(Debug, Serialize)]
pub(crate) struct Whole {
    pub(crate) server: &'static str,
    pub(crate) at_rate: Vec<Round>,
    pub(crate) one_by_one: Vec<Round>,
}

/// Anonymous memory of an agent in KiB, round by round.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Memory {
    pub(crate) without_policies_kib: Vec<u64>,
    pub(crate) with_policies_kib: Vec<u64>,
    pub(crate) after_load_kib: Vec<u64>,
    pub(crate) asked_seconds: f64,
}

/// Calls in quiet, and calls while the policy changes.
#[derive(Debug, Serialize)]
pub(crate) struct Reloads {
    pub(crate) reloads: u32,
    pub(crate) rate: u32,
    pub(crate) steady: Vec<Round>,
    pub(crate) changing: Vec<Round>,
}

impl Stage<'_> {
    fn start(&self, kind: Kind) -> Result<Server> {
        self.places.at_the_server(|| Server::start(kind, self.how))
    }

    fn caller(&self, server: &Server, rate: u32, length: Duration) -> Caller {
        let expected = match server.kind {
            Kind::Plain | Kind::PlainTcp | Kind::Bare => Expected::Allowed,
            Kind::Versioned => Expected::Versioned,
            _ => Expected::Decided,
        };
        let millis = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
        Caller { at: server.at().clone(), services: vec![Service::EcBackend], rate, millis, expected }
    }

    fn ask(&self, server: &Server, rate: u32, length: Duration) -> Result<Round> {
        let round = Waiting::start(self.how, &self.caller(server, rate, length))?.ask(server, || Ok(()));
        let round = round.with_context(|| server.log())?;
        ensure!(round.calls > 0, "{} answered nothing", server.kind.name());
        Ok(round)
    }

    /// All servers take turns in each round.
    pub(crate) fn whole(&self) -> Result<Vec<Whole>> {
        let kinds = [Kind::Bare, Kind::Plain, Kind::Mesh, Kind::MeshLogged, Kind::PlainTcp, Kind::MeshTcp];
        let servers = kinds.iter().map(|kind| self.start(*kind)).collect::<Result<Vec<_>>>()?;
        let empty = |kind: &Kind| Whole { server: kind.name(), at_rate: Vec::new(), one_by_one: Vec::new() };
        let mut rows: Vec<Whole> = kinds.iter().map(empty).collect();
        for round in 1..=self.rounds {
            say(&format!("whole questions, round {round} of {}", self.rounds));
            for (server, row) in servers.iter().zip(&mut rows) {
                row.at_rate.push(self.ask(server, self.rate, self.length)?);
                row.one_by_one.push(self.ask(server, 0, self.length / 2)?);
            }
        }
        Ok(rows)
    }

    /// Each round has an agent without policies and one with four, both started anew.
    pub(crate) fn memory(&self) -> Result<Memory> {
        let length = self.length * 3;
        let mut memory = Memory { asked_seconds: length.as_secs_f64(), ..Memory::default() };
        for round in 1..=self.rounds.min(5) {
            say(&format!("memory, round {round}"));
            let without = self.start(Kind::Idle)?;
            sleep(SETTLED);
            memory.without_policies_kib.push(without.process.anonymous_kib()?);
            drop(without);
            let with = self.start(Kind::Mesh)?;
            sleep(SETTLED);
            memory.with_policies_kib.push(with.process.anonymous_kib()?);
            let caller = Caller { services: Service::ALL.to_vec(), ..self.caller(&with, self.rate, length) };
            Waiting::start(self.how, &caller)?.ask(&with, || Ok(())).with_context(|| with.log())?;
            memory.after_load_kib.push(with.process.anonymous_kib()?);
        }
        Ok(memory)
    }

    /// As many calls in quiet as there are while the policy changes `reloads` times, at half the rate.
    pub(crate) fn reloads(&self, reloads: u32, rounds: u32) -> Result<Reloads> {
        let rate = self.rate.div_ceil(2);
        let mut found = Reloads { reloads, rate, steady: Vec::new(), changing: Vec::new() };
        for round in 1..=rounds {
            say(&format!("{reloads} reloads, round {round} of {rounds}"));
            let server = self.start(Kind::Versioned)?;
            let length = RELOAD_PAUSE * (reloads + 2);
            found.steady.push(self.ask(&server, rate, length)?);
            let waiting = Waiting::start(self.how, &self.caller(&server, rate, length))?;
            let changing = waiting.ask(&server, || {
                for version in 1..=reloads {
                    sleep(RELOAD_PAUSE);
                    server.replace(version)?;
                }
                Ok(())
            });
            let changing = changing.with_context(|| server.log())?;
            ensure!(changing.newest == reloads, "version {} is the last that answered", changing.newest);
            found.changing.push(changing);
        }
        Ok(found)
    }
}

impl Memory {
    /// What four policies and the questions add, in MiB.
    pub(crate) fn added_mib(&self) -> Option<Spread> {
        let added = self.after_load_kib.iter().zip(&self.without_policies_kib);
        Spread::of(added.map(|(with, without)| (*with as f64 - *without as f64) / 1024.0))
    }
}

impl Reloads {
    /// Calls that had no answer, or a wrong one.
    pub(crate) fn bad(&self) -> u64 {
        self.steady.iter().chain(&self.changing).map(|round| round.failed + round.wrong).sum()
    }

    /// The p99 while the policy changes by that in quiet.
    pub(crate) fn ratio(&self) -> Option<Spread> {
        let p99 = |rounds: &[Round]| rounds.iter().map(|round| round.p99_us).collect::<Vec<_>>();
        Spread::of_ratios(&p99(&self.changing), &p99(&self.steady))
    }
}
