//! The other end of a load process: orders go in, reports come out.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    os::fd::AsFd as _,
    process::{ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::child::{Order, Report, Settled, Setup};
use crate::{child::Tended, clock::Moment, process::Process};

/// A running load. It ends with this.
#[derive(Debug)]
pub(crate) struct LoadProcess {
    pub(crate) process: Process,
    orders: ChildStdin,
    reports: BufReader<ChildStdout>,
    /// After its pipes, so that it ends by itself.
    _tended: Tended,
}

/// How connecting went.
#[derive(Debug)]
pub(crate) struct Connected {
    pub(crate) began: Moment,
    /// When each stream had its first secret; none of raw sockets, which wait for nothing.
    pub(crate) delivered: Vec<Moment>,
    pub(crate) last_ack: Option<Moment>,
}

/// When each stream had what was new, and when the last ACK was written.
#[derive(Debug)]
pub(crate) struct Delivered {
    pub(crate) each: Vec<Moment>,
    pub(crate) last_ack: Moment,
}

/// Every delivery while it was kept, as stream and moment.
#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) deliveries: Vec<(usize, Moment)>,
    /// Of each stream, the place of its name.
    pub(crate) names: Vec<usize>,
    /// Streams without the newest of their name.
    pub(crate) behind: usize,
}

impl LoadProcess {
    /// Starts it on the CPUs of the calling thread.
    pub(crate) fn start(setup: &Setup) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("load").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut tended = Tended::start(&mut command)?;
        let child = tended.child();
        let orders = child.stdin.take().context("the load's input")?;
        let reports = BufReader::new(child.stdout.take().context("the load's output")?);
        let process = Process::of(tended.pid())?;
        let mut load = Self { process, orders, reports, _tended: tended };
        load.write(setup)?;
        load.hear_armed()?;
        Ok(load)
    }

    pub(crate) fn connect(&mut self, unanswered: u32, patient: bool) -> Result<Connected> {
        self.begin_connecting(unanswered, patient)?;
        self.connected()
    }

    pub(crate) fn begin_connecting(&mut self, unanswered: u32, patient: bool) -> Result<()> {
        self.write(&Order::Connect { unanswered, patient })
    }

    pub(crate) fn connected(&mut self) -> Result<Connected> {
        match self.hear()? {
            Report::Connected { began, delivered, last_ack } => Ok(Connected { began, delivered, last_ack }),
            other => unexpected(&other),
        }
    }

    /// Something new is due to every stream; comes back when the load is ready for it.
    pub(crate) fn arm(&mut self, due: Moment) -> Result<()> {
        self.write(&Order::Round { due })?;
        self.hear_armed()
    }

    /// Whether there is a report within `limit`.
    pub(crate) fn has_report(&self, limit: Duration) -> Result<bool> {
        let mut fds = [PollFd::new(self.reports.get_ref().as_fd(), PollFlags::POLLIN)];
        Ok(poll(&mut fds, PollTimeout::try_from(limit)?)? > 0)
    }

    pub(crate) fn delivered(&mut self) -> Result<Delivered> {
        match self.hear()? {
            Report::Round { delivered, last_ack } => Ok(Delivered { each: delivered, last_ack }),
            other => unexpected(&other),
        }
    }

    /// # Errors
    /// When the round did not end as it has to.
    pub(crate) fn settle(&mut self) -> Result<Settled> {
        self.settle_by(&Order::Settle)
    }

    pub(crate) fn settle_first(&mut self) -> Result<Settled> {
        self.settle_by(&Order::SettleFirst)
    }

    fn settle_by(&mut self, order: &Order) -> Result<Settled> {
        self.write(order)?;
        match self.hear()? {
            Report::Settled(settled) => Ok(settled),
            other => unexpected(&other),
        }
    }

    pub(crate) fn keep_log(&mut self) -> Result<()> {
        self.write(&Order::Log)?;
        self.hear_armed()
    }

    pub(crate) fn end_log(&mut self) -> Result<Log> {
        self.write(&Order::EndLog)?;
        match self.hear()? {
            Report::Log { deliveries, names, behind } => Ok(Log { deliveries, names, behind }),
            other => unexpected(&other),
        }
    }

    fn hear_armed(&mut self) -> Result<()> {
        match self.hear()? {
            Report::Armed => Ok(()),
            other => unexpected(&other),
        }
    }

    fn write(&mut self, order: &impl serde::Serialize) -> Result<()> {
        let mut line = serde_json::to_vec(order)?;
        line.push(b'\n');
        self.orders.write_all(&line).context("the load does not listen")
    }

    fn hear(&mut self) -> Result<Report> {
        let mut line = String::new();
        if self.reports.read_line(&mut line)? == 0 {
            bail!("the load has ended");
        }
        match serde_json::from_str(&line)? {
            Report::Failed(why) => bail!("{why}"),
            report => Ok(report),
        }
    }
}

fn unexpected<T>(report: &Report) -> Result<T> {
    bail!("the load says what nobody asked for: {report:?}")
}
