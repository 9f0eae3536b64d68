//! Open Policy Agent's library, in a program that times its prepared queries: tests/interop/opa.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::mesh::{Module, Syntax};
use crate::child::Tended;

const QUERY: &str = "data.envoy.authz.allow";

/// Ends with the harness.
#[derive(Debug)]
pub(crate) struct Opa {
    jobs: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// After its pipes, so that it ends by itself.
    _tended: Tended,
}

impl Opa {
    /// Starts `program` on the CPUs of the calling thread.
    pub(crate) fn start(program: &Path) -> Result<Self> {
        let mut tended = Tended::start(Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()))?;
        let jobs = tended.child().stdin.take().context("its input")?;
        let answers = BufReader::new(tended.child().stdout.take().context("its output")?);
        Ok(Self { jobs, answers, _tended: tended })
    }

    /// What it says of `input`, as JSON; `Null` for nothing.
    pub(crate) fn decide(&mut self, module: &Module, input: &str) -> Result<Value> {
        Ok(self.ask(module, input, 0)?["result"].take())
    }

    /// CPU time of one evaluation, in nanoseconds: that of all its threads over `iterations`.
    pub(crate) fn time(&mut self, module: &Module, input: &str, iterations: u32) -> Result<f64> {
        let answer = self.ask(module, input, iterations)?;
        answer["ns_per_decision"].as_f64().context("it gave no time")
    }

    fn ask(&mut self, module: &Module, input: &str, iterations: u32) -> Result<Value> {
        let version = match module.syntax {
            Syntax::V0 => "v0",
            Syntax::V1 => "v1",
        };
        let input: Value = serde_json::from_str(input)?;
        let job = json!({
            "id": "1", "version": version, "modules": { &module.name: module.text }, "query": QUERY,
            "input": input, "iterations": iterations,
        });
        writeln!(self.jobs, "{job}").context("Open Policy Agent's program takes no question")?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        let answer: Value = serde_json::from_str(&line).context("Open Policy Agent's program ended")?;
        for key in ["load_error", "error"] {
            if let Some(error) = answer.get(key) {
                bail!("{} with Open Policy Agent: {error}", module.name);
            }
        }
        Ok(answer)
    }
}
