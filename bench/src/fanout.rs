//! One secret, N connections with one stream each: how long a rotation takes to reach the last of them, and what it
//! costs. The agent and the raw anchor take turns on one schedule.

mod round;
pub(crate) mod table;

use std::{
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

pub(crate) use round::{Measure, Round};
use round::{Server, Side};

use crate::{
    agent::Agent,
    anchor::AnchorProcess,
    connection::Connection,
    cpus::{self, Places},
    load::Load,
    machine::{self, Machine},
    probe::{self, Share},
    process::Process,
    sds,
};

/// All streams have their first secret by then.
const CONNECT_LIMIT: Duration = Duration::from_secs(60);
/// How long each server is watched doing nothing.
const IDLE: Duration = Duration::from_secs(2);
/// From the last preparation to the first rotation.
const LEAD: Duration = Duration::from_millis(500);

/// Everything that a run found out.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) machine: Machine,
    pub(crate) places: Places,
    pub(crate) agent_version: String,
    /// What the agent knows a caller by.
    pub(crate) grade: String,
    pub(crate) hooks: String,
    pub(crate) streams: u32,
    pub(crate) unanswered: u32,
    pub(crate) warmup: usize,
    pub(crate) interval: Duration,
    pub(crate) probe_before: Vec<Share>,
    pub(crate) probe_after: Vec<Share>,
    pub(crate) connect: Connect,
    pub(crate) memory: Memory,
    /// Bytes of one DATA frame with the secret, and of one ACK.
    pub(crate) message_bytes: usize,
    pub(crate) ack_bytes: usize,
    pub(crate) agent: Measure,
    pub(crate) anchor: Measure,
}

/// From the first `connect()` until every stream had its first secret.
#[derive(Debug)]
pub(crate) struct Connect {
    pub(crate) took: Duration,
    pub(crate) agent_cpu: Duration,
}

/// Resident memory of the agent.
#[derive(Debug)]
pub(crate) struct Memory {
    pub(crate) before_kib: u64,
    pub(crate) connected_kib: u64,
    pub(crate) rotated_kib: u64,
}

/// # Errors
/// When anything was not as it has to be: a stream that missed a version, got one twice, or got another secret than
/// the others is an error and not a number.
pub(crate) fn run(run: &crate::Run) -> Result<Outcome> {
    machine::check_descriptors(run.streams, machine::raise_descriptors()?)?;
    let program = agent_program(run.agent.as_deref())?;
    let places = Places::choose()?;
    let interval = Duration::from_millis(run.interval_ms.unwrap_or(500 + u64::from(run.streams) / 5));
    say("spin probe");
    let probe_before = probe::spin(&places.all)?;

    cpus::pin(places.server)?;
    let (agent, mut admin) = Agent::start(&program, run.streams, &run.hooks)?;
    let directory = tempfile::Builder::new().prefix("vouch-anchor-").tempdir()?;
    let anchor_socket = directory.path().join("anchor.sock");
    let mut anchor = AnchorProcess::start(&anchor_socket, run.streams)?;
    cpus::pin(places.load)?;

    let status = admin.status()?;
    let process = Process::of(agent.pid())?;
    let before_kib = process.resident_kib()?;
    say("connecting");
    let (load, connect) = connect(run, &agent, &process).with_context(|| agent.log())?;
    let anchor_process = Process::of(anchor.pid())?;
    let anchor_load = anchor.connect(&anchor_socket, run.streams)?;
    let mut agent_side = Side::watch(Server::Agent(admin), load, process, IDLE)?;
    let mut anchor_side = Side::watch(Server::Anchor(anchor), anchor_load, anchor_process, IDLE)?;
    let connected_kib = agent_side.process.resident_kib()?;

    let start = Instant::now() + LEAD;
    let rounds = run.warmup + run.rotations;
    for number in 0..rounds {
        let due = start + interval * number;
        let (middle, end) = (due + interval / 2, due + interval);
        let last =
            agent_side.rotate(due, middle).with_context(|| format!("round {number}: {}", agent.log()))?;
        anchor_side.prepare(agent_side.load.same_size(number as usize)?);
        anchor_side.rotate(middle, end).with_context(|| format!("the anchor's round {number}"))?;
        say(&format!("round {} of {rounds}: last stream after {last:.1?}", number + 1));
    }
    let rotated_kib = agent_side.process.resident_kib()?;
    let (message, ack_bytes) = agent_side.load.same_size(0)?;
    say("spin probe");
    let probe_after = probe::spin(&places.all)?;
    Ok(Outcome {
        machine: Machine::look()?,
        places,
        agent_version: status.version,
        grade: status.grade,
        hooks: run.hooks.clone(),
        streams: run.streams,
        unanswered: run.unanswered,
        warmup: run.warmup as usize,
        interval,
        probe_before,
        probe_after,
        connect,
        memory: Memory { before_kib, connected_kib, rotated_kib },
        message_bytes: message.len() + crate::http2::HEADER_LEN,
        ack_bytes,
        agent: agent_side.measured(),
        anchor: anchor_side.measured(),
    })
}

/// Progress: the numbers go elsewhere.
pub(crate) fn say(text: &str) {
    eprintln!("vouch-bench: {text}");
}

/// The agent that was named, or the one beside this program.
pub(crate) fn agent_program(named: Option<&Path>) -> Result<PathBuf> {
    let beside = || Ok(std::env::current_exe()?.with_file_name("vouch"));
    let program = named.map(Path::to_owned).map_or_else(beside, anyhow::Ok)?;
    ensure!(
        program.exists(),
        "there is no agent at {}: cargo build --release -p vouch, or name one with --agent",
        program.display()
    );
    Ok(program)
}

/// Opens every stream, with no more than `unanswered` waiting for their first secret.
fn connect(run: &crate::Run, agent: &Agent, process: &Process) -> Result<(Load, Connect)> {
    let mut load = Load::new()?;
    let (socket, waiting) = (agent.public_socket(), run.unanswered as usize);
    let (start, cpu) = (Instant::now(), process.cpu()?);
    for _ in 0..run.streams {
        load.add(Connection::ask(UnixStream::connect(&socket)?)?)?;
        while load.len() - load.delivered() >= waiting {
            wait_for_first(&mut load, start)?;
        }
    }
    while load.delivered() < load.len() {
        wait_for_first(&mut load, start)?;
    }
    let took = load.delivery_times().max().unwrap_or(start) - start;
    sds::chain(load.newest().context("no secret came")?).context("the first secret")?;
    // What the agent still does for these connections belongs to them.
    load.until(Instant::now() + LEAD)?;
    Ok((load, Connect { took, agent_cpu: process.cpu()? - cpu }))
}

fn wait_for_first(load: &mut Load, start: Instant) -> Result<()> {
    load.poll(Duration::from_millis(100))?;
    let (have, of) = (load.delivered(), load.len());
    ensure!(start.elapsed() < CONNECT_LIMIT, "{have} of {of} streams have a secret after {CONNECT_LIMIT:?}");
    Ok(())
}
