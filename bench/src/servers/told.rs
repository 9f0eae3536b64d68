//! A server of this program, in a process of its own, that sends what it is told: the raw anchor, and a plain tonic
//! server.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    path::{Path, PathBuf},
    process::{ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};
use vouch_bench::results;

use super::Server;
use crate::{child::Tended, stand_in::Shape};

/// Largest order: a shape and a few numbers.
const MAX_ORDER: usize = 64 << 10;

/// What goes to every stream now, and how many bytes of ACK come back from each, as a gRPC message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) shape: Shape,
    pub(crate) ack_bytes: usize,
    pub(crate) round: usize,
}

/// The running server, as the harness sees it.
#[derive(Debug)]
pub(crate) struct Told {
    name: &'static str,
    settings: Vec<String>,
    is_raw: bool,
    socket: PathBuf,
    next: Option<Order>,
    orders: ChildStdin,
    reports: BufReader<ChildStdout>,
    /// After its pipes, so that it ends by itself.
    tended: Tended,
}

impl Told {
    /// The raw anchor on the CPUs of the calling thread, for `streams` sockets.
    pub(crate) fn anchor(directory: &Path, streams: u32) -> Result<Self> {
        let settings = [
            "one socket for each stream, whatever the scenario",
            "one thread, epoll, frames and nothing else",
        ];
        Self::start("anchor", "anchor", true, directory, streams, &settings)
    }

    /// The same for a load with a thread behind each socket.
    pub(crate) fn anchor_of_threads(directory: &Path, streams: u32) -> Result<Self> {
        let settings =
            ["the anchor again, and a sleeping thread behind each socket of the load: for no ratio"];
        Self::start("anchor-threads", "anchor", true, directory, streams, &settings)
    }

    /// A plain tonic server on the CPUs of the calling thread.
    pub(crate) fn tonic(directory: &Path, streams: u32) -> Result<Self> {
        let settings =
            ["a task for each stream, each builds and encodes its own answer, and decodes whole requests"];
        Self::start("tonic", "tonic", false, directory, streams, &settings)
    }

    fn start(
        name: &'static str,
        program: &str,
        is_raw: bool,
        directory: &Path,
        streams: u32,
        settings: &[&str],
    ) -> Result<Self> {
        let socket = directory.join(format!("{name}.sock"));
        // Of an earlier one.
        let _ = std::fs::remove_file(&socket);
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(program).arg("--socket").arg(&socket).args(["--streams", &streams.to_string()]);
        let mut tended = Tended::start(command.stdin(Stdio::piped()).stdout(Stdio::piped()))?;
        let orders = tended.child().stdin.take().context("its input")?;
        let reports = BufReader::new(tended.child().stdout.take().context("its output")?);
        let settings = settings.iter().map(|text| (*text).to_owned()).collect();
        let mut told = Self { name, settings, is_raw, socket, next: None, orders, reports, tended };
        told.hear("listening")?;
        Ok(told)
    }

    fn hear(&mut self, word: &str) -> Result<()> {
        let mut line = String::new();
        self.reports.read_line(&mut line)?;
        ensure!(line.trim_end() == word, "{} said {line:?} instead of {word:?}", self.name);
        Ok(())
    }
}

impl Server for Told {
    fn name(&self) -> &str {
        self.name
    }

    fn socket(&self) -> &Path {
        &self.socket
    }

    fn pid(&self) -> u32 {
        self.tended.pid()
    }

    fn describe(&self) -> results::Server {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        results::Server { name: self.name.into(), version, settings: self.settings.clone() }
    }

    fn is_raw(&self) -> bool {
        self.is_raw
    }

    fn prepare(&mut self, shape: &Shape, ack_bytes: usize, round: usize) {
        self.next = Some(Order { shape: shape.clone(), ack_bytes, round });
    }

    fn connecting(&mut self) -> Result<()> {
        if self.is_raw { Ok(()) } else { self.rotate() }
    }

    fn connected(&mut self) -> Result<()> {
        self.hear("connected")?;
        if self.is_raw { Ok(()) } else { self.hear("acknowledged") }
    }

    fn rotate(&mut self) -> Result<()> {
        let order = self.next.take().context("nothing was prepared to be sent")?;
        let mut line = serde_json::to_vec(&order)?;
        line.push(b'\n');
        Ok(self.orders.write_all(&line)?)
    }

    fn rotated(&mut self) -> Result<()> {
        self.hear("acknowledged")
    }
}

/// The next order of `input`; `None` at its end.
pub(super) fn next_order(input: &mut impl io::BufRead) -> Result<Option<Order>> {
    let mut line = String::new();
    input.take(MAX_ORDER as u64).read_line(&mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    Ok(Some(serde_json::from_str(&line)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_read_one_by_one_until_the_input_ends() {
        let shape = serde_json::json!({
            "name": "default", "version_bytes": 16, "nonce_bytes": 2, "secret_bytes": 900,
            "certificate_bytes": [600, 241],
        });
        let text = [1, 2].map(|round| {
            serde_json::json!({ "shape": shape, "ack_bytes": 9, "round": round }).to_string() + "\n"
        });
        let bytes = text.concat();
        let mut input = bytes.as_bytes();
        assert_eq!(next_order(&mut input).unwrap().map(|order| order.round), Some(1));
        assert_eq!(next_order(&mut input).unwrap().map(|order| order.round), Some(2));
        assert_eq!(next_order(&mut input).unwrap(), None);
        assert!(next_order(&mut &bytes.as_bytes()[..20]).is_err());
    }
}
