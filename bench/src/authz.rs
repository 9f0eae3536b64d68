//! What authorization costs: decisions beside Open Policy Agent's library, whole questions beside a plain server, memory,
//! and what becomes of questions while policies change.

mod asked;
mod caller;
mod connection;
mod decision;
mod endpoint;
mod goals;
mod mesh;
mod opa;
mod plain;
mod question;
mod servers;
mod stages;
mod table;

use std::{
    path::PathBuf,
    process::ExitCode,
    time::{Duration, SystemTime},
};

use anyhow::Result;
use clap::{Args, value_parser};
use serde_json::{Value, json};

pub(crate) use self::{
    caller::{Caller, run as call},
    plain::{Plain, serve as serve_plain},
};
use self::{
    decision::{Effort, InputRow, Row},
    opa::Opa,
    servers::How,
    stages::{Memory, Reloads, Stage, Whole},
};
use crate::{agent::agent_program, child, cpus, surroundings::Surroundings};

/// The word of the exit code for a run without Open Policy Agent.
const INCOMPLETE: u8 = 3;

#[derive(Debug, Args)]
pub(crate) struct Authz {
    /// The program of tests/interop/opa; without it decisions are compared with nothing
    #[arg(long, value_name = "PATH")]
    opa: Option<PathBuf>,
    /// Rounds of decisions and of whole questions; all servers take turns in each
    #[arg(long, default_value_t = 7, value_parser = value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Questions in a second
    #[arg(long, default_value_t = 2_000, value_parser = value_parser!(u32).range(1..=50_000))]
    rate: u32,
    /// How long a server is asked at that rate in a round
    #[arg(long, default_value_t = 4, value_parser = value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Decisions of each kind in a round
    #[arg(long, default_value_t = 10_000, value_parser = value_parser!(u32).range(1..=10_000_000))]
    decisions: u32,
    /// Changes of the policy under load
    #[arg(long, default_value_t = 50, value_parser = value_parser!(u32).range(1..=10_000))]
    reloads: u32,
    /// Shows that everything works, and takes seconds
    #[arg(long)]
    quick: bool,
    /// Servers and callers go before everything that has no real-time priority, so that neighbours matter less
    #[arg(long)]
    real_time: bool,
    /// The agent's kernel.hooks: auto, off or require. Off, it does not follow the processes of the machine, whose number
    /// is not the run's
    #[arg(long, default_value = "off")]
    hooks: String,
    /// The agent; the one beside this program when not given
    #[arg(long, value_name = "PATH")]
    agent: Option<PathBuf>,
    /// Where the numbers go
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Everything that a run found out.
#[derive(Debug)]
pub(crate) struct Outcome {
    started: String,
    surroundings: String,
    machine: Value,
    settings: Value,
    decisions: Vec<Row>,
    input: InputRow,
    whole: Vec<Whole>,
    memory: Memory,
    reloads: Reloads,
}

/// Ends with 0 when everything was measured and no call failed or was answered wrongly, with 1 when one was, and with 3
/// when there was no Open Policy Agent to compare with. Goals that are missed are said, and left to who reads it: one run
/// on a busy machine proves nothing.
pub(crate) fn run(authz: &Authz) -> Result<ExitCode> {
    child::clean_up_on_interrupt()?;
    let outcome = measure(authz)?;
    table::publish(&outcome, authz.json.as_deref())?;
    Ok(match (outcome.bad(), &authz.opa) {
        (0, Some(_)) => ExitCode::SUCCESS,
        (0, None) => ExitCode::from(INCOMPLETE),
        (bad, _) => {
            eprintln!("{bad} calls failed or were answered wrongly");
            ExitCode::FAILURE
        }
    })
}

fn measure(authz: &Authz) -> Result<Outcome> {
    let started = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let around = Surroundings::look()?;
    let how = How {
        agent: agent_program(authz.agent.as_deref())?,
        hooks: authz.hooks.clone(),
        is_real_time: authz.real_time,
    };
    let places = around.places().clone();
    cpus::pin(places.load)?;
    let opa = authz.opa.as_deref().map(|program| places.at_the_server(|| Opa::start(program))).transpose()?;
    let (decisions, input) = places.at_the_server(|| decision::run(authz.effort(), opa))?;
    let stage = Stage {
        how: &how,
        places: &places,
        rounds: authz.effort().rounds,
        rate: authz.rate(),
        length: if authz.quick { Duration::from_millis(300) } else { Duration::from_secs(authz.seconds) },
    };
    let whole = stage.whole()?;
    let memory = stage.memory()?;
    let reloads = if authz.quick { stage.reloads(3, 1)? } else { stage.reloads(authz.reloads, 3)? };
    let (surroundings, machine) = around.done()?;
    let settings = authz.settings();
    Ok(Outcome { started, surroundings, machine, settings, decisions, input, whole, memory, reloads })
}

impl Authz {
    fn effort(&self) -> Effort {
        match self.quick {
            true => Effort { rounds: 1, iterations: 50 },
            false => Effort { rounds: self.rounds, iterations: self.decisions },
        }
    }

    /// A debug build answers in a quick run, too.
    fn rate(&self) -> u32 {
        if self.quick { self.rate.min(200) } else { self.rate }
    }

    fn settings(&self) -> Value {
        json!({
            "rate_per_second": self.rate(),
            "hooks": self.hooks,
            "real_time": self.real_time,
            "quick": self.quick,
            "opa": self.opa.is_some(),
            "metrics": "on",
            "policies": "the four of the OPA mesh as published, told apart by context_extensions; over TCP by listener",
        })
    }
}

impl Outcome {
    /// Calls without an answer, and with a wrong one.
    fn bad(&self) -> u64 {
        let whole = self.whole.iter().flat_map(|row| row.at_rate.iter().chain(&row.one_by_one));
        whole.map(|round| round.failed + round.wrong).sum::<u64>() + self.reloads.bad()
    }
}
