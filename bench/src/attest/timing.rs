//! Vouch and SPIRE in turns, round by round: a fresh process and its first secret, then the same process again.

use std::{
    net::SocketAddr,
    path::PathBuf,
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use super::{api::Api, histogram::Histogram, programs::Program, workload::Workload};
use crate::{process::Process, progress::say};

/// From the last answer until the server has tidied up behind it.
const SETTLE: Duration = Duration::from_millis(20);
/// How long each server is watched doing nothing.
const IDLE: Duration = Duration::from_secs(2);
/// A server that waited for its CPU more than so much of the time was disturbed.
const DISTURBED: f64 = 0.1;
/// A server knows its entries by then.
const READY_LIMIT: Duration = Duration::from_secs(60);

/// What a workload runs, and what is learned of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Executable {
    NotHashed,
    Small,
    Large,
    /// As large, and changed before each process: no earlier hash is of use.
    Unseen,
}

/// What is timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// One connection of a process that has just started.
    Cold,
    /// A further connection of the same process.
    Connection,
    /// A further stream on the same connection.
    Stream,
}

/// So much is done in each round.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) executable: Executable,
    pub(super) program: Program,
    pub(super) processes: usize,
    /// Connections, and then streams, of one process that is known; none of one that is to stay unknown.
    pub(super) again: usize,
}

/// One server that takes part.
#[derive(Debug)]
pub(super) struct Side {
    name: &'static str,
    socket: PathBuf,
    process: Process,
    metrics: Option<SocketAddr>,
    idle_share: f64,
}

/// One server in one round of one row.
#[derive(Debug)]
pub(crate) struct Sample {
    /// From before `connect()`, or before the call, until the whole first secret was there.
    pub(super) took: Vec<Duration>,
    /// Of the server's process, all of it, less what it takes when idle.
    pub(super) cpu: Duration,
    /// How long the server stood ready to run while something else had its CPU, and out of how much time.
    pub(super) waited: Duration,
    pub(super) lasted: Duration,
    /// What the server itself says of its attestations.
    pub(super) own: Option<Histogram>,
}

/// All rounds of one thing that is timed.
#[derive(Debug)]
pub(crate) struct Row {
    pub(super) executable: Executable,
    pub(super) api: Api,
    pub(super) phase: Phase,
    /// A list of rounds for each server, in their order.
    pub(super) samples: Vec<Vec<Sample>>,
}

impl Side {
    /// Waits until the server answers `program`, then watches it doing nothing.
    pub(super) fn watch(
        name: &'static str,
        pid: u32,
        socket: PathBuf,
        metrics: Option<SocketAddr>,
        programs: &[&Program],
    ) -> Result<Self> {
        for program in programs {
            wait_for_identity(program, &socket).with_context(|| format!("{name} serves no identity"))?;
        }
        let process = Process::of(pid)?;
        sleep(SETTLE);
        let (start, before) = (Instant::now(), process.cpu()?);
        sleep(IDLE);
        let idle_share = (process.cpu()? - before).as_secs_f64() / start.elapsed().as_secs_f64();
        Ok(Self { name, socket, process, metrics, idle_share })
    }

    pub(super) fn idle_share(&self) -> f64 {
        self.idle_share
    }

    fn sample(&self, work: impl FnOnce() -> Result<Vec<Duration>>) -> Result<Sample> {
        let said_before = self.said()?;
        sleep(SETTLE);
        let (start, cpu, waited) = (Instant::now(), self.process.cpu()?, self.process.waited()?);
        let took = work().with_context(|| self.name)?;
        sleep(SETTLE);
        let (cpu, waited) = (self.process.cpu()? - cpu, self.process.waited()?.saturating_sub(waited));
        let lasted = start.elapsed();
        let said = self.said()?.zip(said_before).map(|(now, before)| now.since(&before));
        let cpu = cpu.saturating_sub(lasted.mul_f64(self.idle_share));
        Ok(Sample { took, cpu, waited, lasted, own: said })
    }

    fn said(&self) -> Result<Option<Histogram>> {
        self.metrics.map(Histogram::read).transpose()
    }
}

/// All `plans` over both APIs, `rounds` times, the sides in turns each time; one round before is not counted.
pub(super) fn run(plans: &[Plan], sides: &[Side], rounds: usize) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for plan in plans {
        for api in Api::BOTH {
            let phases = [Phase::Cold, Phase::Connection, Phase::Stream];
            let timed = if plan.again > 0 { &phases[..] } else { &phases[..1] };
            for phase in timed {
                let samples = sides.iter().map(|_| Vec::new()).collect();
                rows.push(Row { executable: plan.executable, api, phase: *phase, samples });
            }
        }
    }
    for round in 0..=rounds {
        say(&if round == 0 {
            "a round that does not count".into()
        } else {
            format!("round {round} of {rounds}")
        });
        let mut row = 0;
        for plan in plans {
            for api in Api::BOTH {
                let mut timed = 1;
                for (place, side) in sides.iter().enumerate() {
                    let samples = plan.measure(api, side)?;
                    timed = samples.len();
                    if round > 0 {
                        let rows = &mut rows[row..row + timed];
                        rows.iter_mut()
                            .zip(samples)
                            .for_each(|(row, sample)| row.samples[place].push(sample));
                    }
                }
                row += timed;
            }
        }
    }
    Ok(rows)
}

impl Plan {
    /// Cold, and if so planned further connections and streams.
    fn measure(&self, api: Api, side: &Side) -> Result<Vec<Sample>> {
        let mut samples = vec![side.sample(|| (0..self.processes).map(|_| self.cold(api, side)).collect())?];
        if self.again > 0 {
            let mut known = self.start()?;
            known.connections(api, 1, &side.socket)?;
            let sample = side.sample(|| known.connections(api, self.again, &side.socket))?;
            let counted = sample.own.as_ref().is_none_or(|own| own.count() > 0);
            ensure!(counted, "{} counts no attestation of its own", side.name);
            samples.push(sample);
            known.open(api, &side.socket)?;
            samples.push(side.sample(|| known.streams(api, self.again))?);
            known.finish()?;
        }
        Ok(samples)
    }

    fn cold(&self, api: Api, side: &Side) -> Result<Duration> {
        if self.executable == Executable::Unseen {
            self.program.renew()?;
        }
        let mut process = self.start()?;
        let took = process.connections(api, 1, &side.socket)?;
        process.finish()?;
        took.first().copied().context("one connection was to be timed")
    }

    fn start(&self) -> Result<Workload> {
        Workload::start(&mut Command::new(&self.program.path), &[])
    }
}

impl Sample {
    /// In microseconds, for each secret that was waited for.
    pub(super) fn cpu_each(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.took.len() as f64
    }

    /// Whether something else had the server's CPU for long.
    pub(super) fn is_disturbed(&self) -> bool {
        self.waited.as_secs_f64() > DISTURBED * self.lasted.as_secs_f64()
    }
}

fn wait_for_identity(program: &Program, socket: &std::path::Path) -> Result<()> {
    let deadline = Instant::now() + READY_LIMIT;
    loop {
        let mut workload = Workload::start(&mut Command::new(&program.path), &[])?;
        match workload.connections(Api::Workload, 1, socket) {
            Ok(_) => return workload.finish(),
            Err(error) => ensure!(Instant::now() < deadline, "after {READY_LIMIT:?}: {error:#}"),
        }
        sleep(Duration::from_millis(200));
    }
}
