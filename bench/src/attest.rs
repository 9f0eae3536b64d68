//! A fresh process and its first secret, and what a further one costs: Vouch beside a SPIRE agent on this machine, in
//! turns. And what both say of the same processes, set against set.

mod api;
pub(crate) mod client;
mod containers;
mod difference;
mod histogram;
mod ours;
mod pair;
mod programs;
pub(crate) mod rates;
mod subjects;
mod table;
mod timing;
mod workload;

use std::{
    fs::{self, Permissions},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use clap::{Args, value_parser};
use nix::unistd::geteuid;

use containers::Engine;
use difference::Comparison;
use pair::Pair;
use programs::Program;
use timing::{Executable, Plan, Row, Side};

use crate::{
    agent::agent_program,
    child::{self, Directory},
    cpus::{self, Places},
    machine::Machine,
    probe::{self, Share},
    progress::say,
    spire::{AgentSettings, Discovery, Pace, Server},
};

/// What could be measured was, and that is not all: there was no SPIRE.
const INCOMPLETE: u8 = 3;
/// Connections that may be open at once: they come one after the other, but are closed a little later.
const CONNECTIONS: u32 = 1_000;

#[derive(Debug, Args)]
pub(crate) struct Attest {
    /// The folder with spire-agent and spire-server; `cargo xtask bench attest` builds and names it
    #[arg(long, value_name = "FOLDER")]
    spire: Option<PathBuf>,
    /// Rounds that count; one more before them does not
    #[arg(long, default_value_t = 9, value_parser = value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Compare the selectors and time nothing
    #[arg(long)]
    selectors_only: bool,
    /// The socket of a Docker engine, in whose containers processes are compared as well
    #[arg(long, value_name = "SOCKET")]
    docker: Option<PathBuf>,
    /// The agent's kernel.hooks: auto, off or require
    #[arg(long, default_value = "auto")]
    hooks: String,
    /// The agent; the one beside this program when not given
    #[arg(long, value_name = "PATH")]
    agent: Option<PathBuf>,
    /// Where raw samples and sets go
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Everything that a run found out.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) machine: Machine,
    pub(crate) places: Places,
    pub(crate) rounds: u32,
    pub(crate) hooks: String,
    pub(crate) vouch_version: String,
    pub(crate) grade: String,
    /// `None` where there was none.
    pub(crate) spire_version: Option<String>,
    pub(crate) programs: Programs,
    pub(crate) load_average: [String; 2],
    pub(crate) probes: [Vec<Share>; 2],
    /// Names of the sides, in the order of each row's samples.
    pub(crate) sides: Vec<&'static str>,
    /// What each side takes when idle, in each stage.
    pub(crate) idle_shares: Vec<Vec<f64>>,
    pub(crate) rows: Vec<Row>,
    pub(crate) comparisons: Vec<Comparison>,
    /// Why Vouch's sets have no selectors of the kernel.
    pub(crate) without_hooks: Option<String>,
}

/// What the workloads run.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    pub(crate) small: Program,
    pub(crate) large: Program,
    /// The same content as the large one's, in a file of its own.
    pub(crate) unseen: Program,
}

/// Ends with 0 when everything was measured and no selector differs, with 1 when one does, and with 3 when there was
/// no SPIRE to compare with.
pub(crate) fn run(attest: &Attest) -> Result<ExitCode> {
    child::clean_up_on_interrupt()?;
    let directory = Directory::new("vouch-attest-")?;
    // Workloads of other users have to reach what lies in it.
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755))?;
    let outcome = measure(attest, directory.path())?;
    table::publish(&outcome, attest.json.as_deref())?;
    let differences: usize =
        outcome.comparisons.iter().map(|comparison| comparison.differences().len()).sum();
    Ok(match (differences, &outcome.spire_version) {
        (0, Some(_)) => ExitCode::SUCCESS,
        (0, None) => ExitCode::from(INCOMPLETE),
        _ => ExitCode::FAILURE,
    })
}

fn measure(attest: &Attest, directory: &Path) -> Result<Outcome> {
    let agent = agent_program(attest.agent.as_deref())?;
    let places = Places::choose()?;
    let programs = Programs {
        small: Program::copy(directory.join("small"), 0)?,
        large: Program::copy(directory.join("large"), programs::LARGE_BYTES)?,
        unseen: Program::copy(directory.join("unseen"), programs::LARGE_BYTES)?,
    };
    let mut outcome = Outcome {
        machine: Machine::look()?,
        places: places.clone(),
        rounds: attest.rounds,
        hooks: attest.hooks.clone(),
        vouch_version: String::new(),
        grade: String::new(),
        spire_version: None,
        programs: programs.clone(),
        load_average: [load_average()?, String::new()],
        probes: [probe::spin(&places.all)?, Vec::new()],
        sides: vec!["Vouch"],
        idle_shares: Vec::new(),
        rows: Vec::new(),
        comparisons: Vec::new(),
        without_hooks: None,
    };
    cpus::pin(places.load)?;
    let server = match &attest.spire {
        Some(binaries) => {
            say("starting a SPIRE server");
            let server = Server::start(binaries, directory, Pace::Default)?;
            outcome.spire_version = Some(server.version()?);
            outcome.sides.push("SPIRE");
            Some(server)
        }
        None => None,
    };
    if let Some(server) = &server {
        compare(&mut outcome, server, attest.docker.as_deref(), directory).with_context(|| server.log())?;
    }
    if !attest.selectors_only {
        let uid = format!("unix:uid:{}", geteuid());
        let plans = [plan(Executable::NotHashed, &programs.small)];
        let stage = Stage { name: "ids", discovery: Discovery::Ids, entries: &[("load", uid)] };
        stage.run(attest, &agent, server.as_ref(), &plans, &mut outcome)?;
        let hash = |program: &Program| format!("unix:sha256:{}", program.sha256);
        let entries = [("small", hash(&programs.small)), ("large", hash(&programs.large))];
        let plans = [
            plan(Executable::Small, &programs.small),
            plan(Executable::Large, &programs.large),
            plan(Executable::Unseen, &programs.unseen),
        ];
        let stage = Stage { name: "hash", discovery: Discovery::PathAndHash, entries: &entries };
        stage.run(attest, &agent, server.as_ref(), &plans, &mut outcome)?;
    }
    outcome.load_average[1] = load_average()?;
    outcome.probes[1] = probe::spin(&places.all)?;
    Ok(outcome)
}

/// Both agents with the same entries, for plans that need those.
struct Stage<'a> {
    name: &'a str,
    discovery: Discovery,
    entries: &'a [(&'a str, String)],
}

impl Stage<'_> {
    fn run(
        &self,
        attest: &Attest,
        program: &Path,
        server: Option<&Server>,
        plans: &[Plan],
        outcome: &mut Outcome,
    ) -> Result<()> {
        say(&format!("starting the agents of stage {:?}", self.name));
        let theirs = AgentSettings {
            discovery: self.discovery,
            log_level: "WARN",
            entries: self.entries,
            docker: None,
            pace: Pace::Default,
        };
        let ours = (program, &*attest.hooks);
        let mut pair = Pair::start(&outcome.places, ours, server, self.name, theirs)?;
        let status = pair.admin.status()?;
        (outcome.vouch_version, outcome.grade) = (status.version, status.grade);
        let known: Vec<_> = plans.iter().map(|plan| &plan.program).collect();
        let sides = pair.sides(["Vouch", "SPIRE"], &known)?;
        outcome.idle_shares.push(sides.iter().map(Side::idle_share).collect());
        outcome.rows.extend(timing::run(plans, &sides, attest.rounds as usize)?);
        Ok(())
    }
}

/// As many as take a second or so in each round, on the slower side.
fn plan(executable: Executable, program: &Program) -> Plan {
    let (processes, again) = match executable {
        Executable::NotHashed | Executable::Small => (30, 200),
        Executable::Large => (10, 20),
        Executable::Unseen => (5, 0),
    };
    Plan { executable, program: program.clone(), processes, again }
}

/// Lets processes of many kinds be attested by both.
fn compare(outcome: &mut Outcome, server: &Server, docker: Option<&Path>, directory: &Path) -> Result<()> {
    say("comparing selectors");
    let program = &outcome.programs.small;
    let mut subjects = vec![subjects::long_running(program)?];
    let url = docker.map(containers::url);
    let settings = AgentSettings {
        discovery: Discovery::PathAndHash,
        log_level: "DEBUG",
        entries: &[],
        docker: url.as_deref(),
        pace: Pace::Default,
    };
    let agent = server.agent("selectors", settings)?;
    let ours = ours::Ours::listen(directory, docker)?;
    subjects.extend(subjects::all(program, directory)?);
    let engine = docker.map(Engine::with_image).transpose()?;
    if let Some(engine) = &engine {
        subjects.extend(engine.subjects(program)?);
    }
    for subject in subjects {
        outcome.comparisons.push(subject.compare(&ours, &agent)?);
    }
    outcome.without_hooks = ours.without_hooks;
    Ok(())
}

fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// Of the last minute, five and fifteen.
fn load_average() -> Result<String> {
    let text = fs::read_to_string("/proc/loadavg")?;
    Ok(text.split_whitespace().take(3).collect::<Vec<_>>().join(" "))
}
