//! What Open Policy Agent says of a policy and an input: the judge that `tests/interop/opa` is the source of.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread,
};

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::need;

/// Which syntax modules are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Syntax {
    /// That of OPA before 1.0, as with `--v0-compatible`.
    V0,
    V1,
}

/// What modules and data make of a query.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    pub syntax: Syntax,
    /// Texts by their names.
    pub modules: BTreeMap<String, String>,
    /// The data document, an object.
    pub data: Value,
    /// Such as `data.envoy.authz.allow`.
    pub query: String,
}

impl Policy {
    /// One module, called `policy.rego`, and no data.
    pub fn new(syntax: Syntax, module: &str, query: &str) -> Self {
        let modules = BTreeMap::from([("policy.rego".to_owned(), module.to_owned())]);
        Self { syntax, modules, data: serde_json::json!({}), query: query.to_owned() }
    }
}

/// What Open Policy Agent says.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// Sets are arrays, in order.
    Value(Value),
    Undefined,
    /// The evaluation ended without a result.
    Error(Failure),
    /// There is nothing to evaluate.
    LoadError(Failure),
}

/// Why, by Open Policy Agent's code: `eval_conflict_error`, `rego_parse_error`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub code: String,
    pub message: String,
}

/// The running judge. It ends when this is dropped, or with the process that asks.
#[derive(Debug)]
pub struct Judge {
    process: Child,
    jobs: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Judge {
    /// Starts it.
    ///
    /// # Panics
    /// When it cannot be started; [`crate::require!`] of [`need::Need::Opa`] comes first.
    pub fn start() -> Self {
        let mut command = Command::new(need::binary("VOUCH_OPA"));
        let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut process = spawned.expect("the judge starts");
        let jobs = process.stdin.take().expect("its input is a pipe");
        let answers = BufReader::new(process.stdout.take().expect("its output is a pipe"));
        Self { process, jobs, answers }
    }

    /// One answer for each question, in their order. The input of each is JSON; none means that it is undefined.
    ///
    /// # Panics
    /// When the judge does not answer all of them.
    pub fn ask(&mut self, questions: &[(&Policy, Option<&str>)]) -> Vec<Answer> {
        let jobs = questions.iter().enumerate().map(|(index, (policy, input))| job(index, policy, *input, 0));
        self.exchange(&jobs.collect::<Vec<_>>()).into_iter().map(answer).collect()
    }

    /// CPU time of the judge's process for one evaluation, in nanoseconds: the mean of `iterations`, with the query
    /// prepared and the input parsed before.
    ///
    /// # Panics
    /// When the policy does not load, or an evaluation ends with an error.
    pub fn nanoseconds(&mut self, policy: &Policy, input: &str, iterations: u32) -> f64 {
        let told = self.exchange(&[job(0, policy, Some(input), iterations)]);
        told[0]["ns_per_decision"]
            .as_f64()
            .unwrap_or_else(|| panic!("the judge measured nothing: {}", told[0]))
    }

    fn exchange(&mut self, jobs: &[String]) -> Vec<Value> {
        let Self { process, jobs: pipe, answers } = self;
        let told = thread::scope(|scope| {
            // Beside the reader: a pipe is full long before all jobs are written.
            let writer = scope.spawn(|| jobs.iter().try_for_each(|job| pipe.write_all(job.as_bytes())));
            let told: anyhow::Result<Vec<_>> = (0..jobs.len()).map(|index| read(answers, index)).collect();
            if told.is_err() {
                // Else the writer waits for ever.
                process.kill().ok();
            }
            let written = writer.join().expect("the writer does not panic");
            told.and_then(|told| Ok(written.map(|()| told)?))
        });
        told.expect("the judge answers all questions")
    }
}

impl Drop for Judge {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// One line. The input goes through as it is written, so that no number of it changes.
fn job(index: usize, policy: &Policy, input: Option<&str>, iterations: u32) -> String {
    let version = match policy.syntax {
        Syntax::V0 => "v0",
        Syntax::V1 => "v1",
    };
    let Policy { modules, data, query, .. } = policy;
    let head = serde_json::json!({
        "id": index.to_string(), "version": version, "modules": modules, "data": data, "query": query,
        "iterations": iterations,
    });
    let head = head.to_string();
    let input = input.map(|input| format!(",\"input\":{}", input.replace('\n', " "))).unwrap_or_default();
    format!("{}{input}}}\n", head.strip_suffix('}').expect("an object ends so"))
}

/// The next answer, which is to be that to job `index`.
fn read(answers: &mut impl BufRead, index: usize) -> anyhow::Result<Value> {
    let mut line = String::new();
    answers.read_line(&mut line)?;
    ensure!(!line.is_empty(), "it ended before it had answered question {index}");
    let told: Value = serde_json::from_str(&line).with_context(|| format!("its answer is {line}"))?;
    ensure!(told["id"].as_str() == Some(&index.to_string()), "it answers out of order: {line}");
    Ok(told)
}

fn answer(mut told: Value) -> Answer {
    let failure = |value: &Value| {
        let text = |key: &str| value[key].as_str().expect("a failure has texts").to_owned();
        Failure { code: text("code"), message: text("message") }
    };
    let fields = told.as_object_mut().expect("the judge answers with objects");
    if let Some(error) = fields.get("load_error") {
        return Answer::LoadError(failure(error));
    }
    if let Some(error) = fields.get("error") {
        return Answer::Error(failure(error));
    }
    fields.remove("result").map_or(Answer::Undefined, Answer::Value)
}
