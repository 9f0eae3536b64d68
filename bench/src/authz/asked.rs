//! A server that is asked, and what that costs it.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{ChildStdin, ChildStdout, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum as _;
use serde::Serialize;

use super::{
    caller::{Answers, Caller},
    servers::{How, Server},
};
use crate::child::Tended;

/// Of the time in which somebody else may have had the CPU of a process before a round counts as disturbed.
const DISTURBED: f64 = 0.1;

/// A caller that is connected and waits to begin.
#[derive(Debug)]
pub(crate) struct Waiting {
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    tended: Tended,
}

/// One round.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Round {
    pub(crate) calls: u64,
    pub(crate) failed: u64,
    pub(crate) wrong: u64,
    pub(crate) cpu_us_per_call: f64,
    pub(crate) load_cpu_us_per_call: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) max_us: f64,
    /// Somebody else had the server's CPU for more than a tenth of the time in which it wanted it or had it.
    pub(crate) disturbed: bool,
    /// Of the policy, as far as they answered.
    pub(crate) versions: usize,
    pub(crate) newest: u32,
}

impl Waiting {
    /// Starts it on the CPUs of the calling thread.
    pub(crate) fn start(how: &How, caller: &Caller) -> Result<Self> {
        let services: Vec<_> = caller.services.iter().map(|service| service.name()).collect();
        let expected = caller.expected.to_possible_value().context("an expectation without a name")?;
        let mut command = how.command(&std::env::current_exe()?);
        command.args(["authz-caller", "--at", &caller.at.to_string(), "--services", &services.join(",")]);
        command.args(["--rate", &caller.rate.to_string(), "--millis", &caller.millis.to_string()]);
        command.args(["--expected", expected.get_name()]);
        let mut tended = Tended::start(command.stdin(Stdio::piped()).stdout(Stdio::piped()))?;
        let input = tended.child().stdin.take().context("its input")?;
        let output = BufReader::new(tended.child().stdout.take().context("its output")?);
        let mut waiting = Self { input, output, tended };
        let line = waiting.line()?;
        ensure!(line == "ready\n", "the caller is not ready: it says {line:?}");
        Ok(waiting)
    }

    /// Lets it ask `server`, and does `meanwhile` in that time.
    pub(crate) fn ask(mut self, server: &Server, meanwhile: impl FnOnce() -> Result<()>) -> Result<Round> {
        let before = Used::by(server)?;
        self.input.write_all(b"go\n")?;
        meanwhile()?;
        let answers: Answers = serde_json::from_str(&self.line()?).context("the caller broke off")?;
        let used = Used::by(server)?.since(&before);
        self.tended.wait()?;
        if let Some(example) = &answers.example {
            crate::progress::say(&format!("{}: a wrong answer: {example}", server.kind.name()));
        }
        Ok(used.round(&answers))
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(line)
    }
}

/// What a process has used by a moment, or between two.
#[derive(Debug)]
struct Used {
    cpu: Duration,
    waited: Duration,
}

impl Used {
    fn by(server: &Server) -> Result<Self> {
        Ok(Self { cpu: server.process.cpu()?, waited: server.process.waited()? })
    }

    fn since(self, before: &Self) -> Self {
        Self { cpu: self.cpu - before.cpu, waited: self.waited.saturating_sub(before.waited) }
    }

    fn round(&self, answers: &Answers) -> Round {
        let calls = answers.took_ns.len() as u64;
        let each = |nanos: f64| nanos / 1e3 / (calls.max(1)) as f64;
        let wanted = (self.cpu + self.waited).as_secs_f64();
        Round {
            calls,
            failed: answers.failed,
            wrong: answers.wrong,
            cpu_us_per_call: each(self.cpu.as_nanos() as f64),
            load_cpu_us_per_call: each(answers.load_cpu_ns as f64),
            p50_us: answers.percentile_us(0.5),
            p99_us: answers.percentile_us(0.99),
            max_us: answers.percentile_us(1.0),
            disturbed: self.waited.as_secs_f64() > wanted * DISTURBED,
            versions: answers.versions.len(),
            newest: answers.versions.iter().copied().max().unwrap_or_default(),
        }
    }
}
