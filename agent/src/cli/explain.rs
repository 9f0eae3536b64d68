//! `vouch explain`: why somebody has an identity or has none, and what a number means.

mod json;
mod number;
mod owners;
mod page;
mod target;

use std::process::ExitCode;

use clap::Args;
use tonic::Code;
use vouch_proto::admin::{ExplainRequest, ExplainResponse, GetCheckRequest, explain_request::About};

use super::{
    Common,
    client::{admin_problem, block_on},
    output,
};
use crate::problem::Problem;
use owners::Owners;
use target::{Socket, Target};

#[derive(Debug, Args)]
pub(super) struct Explain {
    /// A pid, a decision (0197b2c4-6e11, or 0197b2c4-6e11-0003 of authorization), a SPIFFE ID, a number (E0412), IP:PORT, or a Unix socket
    #[arg(value_name = "WHAT")]
    what: String,
    /// Compare with this entry, by id or SPIFFE ID, instead of the closest ones
    #[arg(long, value_name = "ENTRY")]
    entry: Option<String>,
}

/// Everything that is said about one thing.
#[derive(Debug, Default)]
struct Answer {
    /// What was asked, as it was written.
    about: String,
    kind: &'static str,
    number: Option<number::Number>,
    /// Of a socket.
    owners: Option<Owners>,
    /// One for each process of a socket, else one.
    agent: Vec<ExplainResponse>,
    /// Of authorization: the event of the decision log.
    check: Option<serde_json::Value>,
}

pub(super) fn explain(explain: &Explain, common: &Common) -> Result<ExitCode, Problem> {
    let target = Target::of(&explain.what)?;
    let mut answer = Answer { about: explain.what.clone(), ..Answer::default() };
    match target {
        Target::Number(text) => {
            answer.kind = "number";
            answer.number = Some(number::look_up(&text).ok_or_else(|| no_such_number(&text))?);
        }
        Target::Pid(pid) => {
            answer.kind = "process";
            answer.agent = ask(explain, common, &[About::Pid(pid)])?;
        }
        Target::Decision(id) => {
            answer.kind = "decision";
            answer.agent = ask(explain, common, &[About::Decision(id.to_string())])?;
        }
        Target::Check(id) => {
            answer.kind = "check";
            answer.check = Some(check(&id, common)?);
        }
        Target::Id(id) => {
            answer.kind = "spiffe_id";
            answer.agent = ask(explain, common, &[About::SpiffeId(id.to_string())])?;
        }
        Target::Socket(socket) => {
            answer.kind = "socket";
            let owners = owned(&socket, &explain.what)?;
            let asked: Vec<About> = owners.pids.iter().map(|pid| About::Pid(*pid)).collect();
            answer.agent = ask(explain, common, &asked)?;
            answer.owners = Some(owners);
        }
    }
    output::print(common.output, &json::answer(&answer), |out| page::write(&answer, out))?;
    Ok(ExitCode::SUCCESS)
}

fn ask(explain: &Explain, common: &Common, about: &[About]) -> Result<Vec<ExplainResponse>, Problem> {
    block_on(Some(common.timeout), async {
        let mut admin = common.admin().await?;
        let mut answers = vec![];
        for about in about {
            let entry = explain.entry.clone().unwrap_or_default();
            let answer = admin.explain(ExplainRequest { about: Some(about.clone()), entry }).await;
            answers.push(answer.map_err(|status| refused(about, &status))?.into_inner());
        }
        Ok(answers)
    })
}

fn check(id: &str, common: &Common) -> Result<serde_json::Value, Problem> {
    let asked = GetCheckRequest { decision: id.to_owned(), unmasked_input: false };
    let answer = block_on(Some(common.timeout), async {
        let answer = common.admin().await?.get_check(asked).await;
        Ok(answer.map_err(|status| check_refused(&status))?.into_inner())
    })?;
    serde_json::from_str(&answer.event_json)
        .map_err(|error| Problem::new("E0313", "the agent's answer cannot be read").why(error.to_string()))
}

pub(super) fn check_refused(status: &tonic::Status) -> Problem {
    if status.code() != Code::NotFound {
        return admin_problem(status);
    }
    Problem::new("E0420", status.message())
        .why("the agent remembers the last [authz] remembered decisions of authorization since its start")
        .fix("look into the decision log, or raise [authz] remembered")
}

fn refused(about: &About, status: &tonic::Status) -> Problem {
    if status.code() != Code::NotFound {
        return admin_problem(status);
    }
    let problem = |code| Problem::new(code, status.message());
    match about {
        _ if status.message().starts_with("no entry is called") => {
            problem("E0425").fix("see which there are: vouch entry list")
        }
        About::Decision(_) => problem("E0420")
            .why("the agent remembers the last [attest] decisions since its start")
            .fix("ask about the process while it runs: vouch explain PID; or raise [attest] decisions"),
        About::Pid(_) => problem("E0421")
            .why("it has ended, or it is hidden from the agent")
            .fix("name a process that runs; for an earlier one the decision's id is in the agent's log"),
        About::SpiffeId(_) => problem("E0425").fix("see which there are: vouch entry list"),
    }
}

fn owned(socket: &Socket, asked: &str) -> Result<Owners, Problem> {
    let cannot = |error: std::io::Error| {
        Problem::new("E0422", format!("whose {asked} is cannot be learned")).why(error.to_string())
    };
    let owners = owners::of(socket).map_err(cannot)?;
    if !owners.pids.is_empty() {
        return Ok(owners);
    }
    let problem = Problem::new("E0422", format!("no process of this node was found that has {asked}"));
    Err(match (owners.is_known, owners.hidden) {
        (true, hidden) if hidden > 0 => problem
            .why(format!("the socket is there, but {hidden} processes hide what they have from this user"))
            .fix("run it as root: sudo"),
        (true, _) => problem.why("the socket is there, but its process has left"),
        (false, _) => problem
            .why("only sockets in the network namespace of this command are seen, and only this node's end")
            .fix("name the other end's address, or the pid; in another namespace: nsenter -t PID -n vouch explain"),
    })
}

fn no_such_number(text: &str) -> Problem {
    let problem = Problem::new("E0424", format!("{text} is no number of this version"));
    match crate::problem::nearest(text, number::all()) {
        Some(near) => problem.fix(format!("did you mean {near}? all of them: agent/ERRORS.md")),
        None => problem.fix("all of them: agent/ERRORS.md"),
    }
}
