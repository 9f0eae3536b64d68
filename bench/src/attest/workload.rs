//! One process that is attested, from the side of who gives it orders.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};

use super::api::Api;
use crate::child::Tended;

/// A process that runs [`super::client`].
#[derive(Debug)]
pub(super) struct Workload {
    // Before the process, so that its input ends before it is told to end.
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    process: Tended,
}

impl Workload {
    /// Starts `command`, which runs this program or a copy, with `arguments` of the client, and waits until it listens.
    pub(super) fn start(command: &mut Command, arguments: &[String]) -> Result<Self> {
        command.arg("attest-client").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Tended::start(command)?;
        let orders = process.child().stdin.take().context("a process without input")?;
        let answers = process.child().stdout.take().context("a process without output")?;
        let mut workload = Self { orders, answers: BufReader::new(answers), process };
        let first = workload.line()?;
        ensure!(first == "ready", "the workload says {first:?} instead of being ready");
        Ok(workload)
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// So many connections one after the other, each until its first secret.
    pub(super) fn connections(&mut self, api: Api, count: usize, socket: &Path) -> Result<Vec<Duration>> {
        self.order(&format!("connections {api} {count} {}", socket.display()))
    }

    /// Opens a connection that is served once.
    pub(super) fn open(&mut self, api: Api, socket: &Path) -> Result<()> {
        self.order(&format!("open {api} {}", socket.display())).map(drop)
    }

    /// So many calls over that connection, one after the other, each until its first secret.
    pub(super) fn streams(&mut self, api: Api, count: usize) -> Result<Vec<Duration>> {
        self.order(&format!("streams {api} {count}"))
    }

    /// Connects, and says nothing over that connection.
    pub(super) fn hold(&mut self, socket: &Path) -> Result<()> {
        self.order(&format!("hold {}", socket.display())).map(drop)
    }

    /// Lets it end, and waits until it has.
    pub(super) fn finish(self) -> Result<()> {
        let Self { orders, answers: _, mut process } = self;
        drop(orders);
        let ended = process.wait()?;
        ensure!(ended.success(), "the workload ended with {ended}");
        Ok(())
    }

    fn order(&mut self, order: &str) -> Result<Vec<Duration>> {
        writeln!(self.orders, "{order}")?;
        let answer = self.line().with_context(|| format!("after `{order}`"))?;
        numbers(&answer)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        let read = self.answers.read_line(&mut line)?;
        ensure!(read > 0, "the workload ended");
        Ok(line.trim_end().to_owned())
    }
}

fn numbers(answer: &str) -> Result<Vec<Duration>> {
    let (verdict, rest) = answer.split_once(' ').unwrap_or((answer, ""));
    match verdict {
        "ok" => rest.split_whitespace().map(|word| Ok(Duration::from_nanos(word.parse()?))).collect(),
        _ => bail!("the workload: {answer}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_numbers_or_an_error() {
        assert_eq!(numbers("ok 5 7").unwrap(), [5, 7].map(Duration::from_nanos));
        assert!(numbers("ok").unwrap().is_empty());
        assert!(numbers("error nobody is there").is_err() && numbers("").is_err());
    }
}
