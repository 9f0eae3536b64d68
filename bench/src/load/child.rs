//! The load as a process of its own, one for each server: it does what it is told on its input, a line at a time, and
//! reports on its output.

use std::{
    io::{self, BufRead as _, ErrorKind, Write as _},
    os::{fd::AsFd as _, unix::net::UnixStream},
    path::{Path, PathBuf},
    rc::Rc,
    thread::sleep,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::{Deserialize, Serialize};

use super::{Load, Watch, Woken, threads};
use crate::{
    clock::Moment,
    connection::Connection,
    http2::OUR_WINDOW,
    machine,
    sds::{AckShape, Requests},
    stand_in::Shape,
};

/// All streams have their first secret by then.
const CONNECT_LIMIT: Duration = Duration::from_secs(120);
/// A rotation that is not over by then is an error.
const ROUND_LIMIT: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(100);
/// Between two attempts to reach a socket that is not there yet.
const RETRY: Duration = Duration::from_micros(500);
/// What a stalled reader lets its server send: less than any secret has.
const STALLED_WINDOW: u32 = 64;

/// What the streams of a load are.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Setup {
    pub(crate) socket: PathBuf,
    /// Whether the server frames what it sends and knows nothing else of HTTP/2.
    pub(crate) raw: bool,
    pub(crate) streams: u32,
    pub(crate) per_connection: u32,
    /// Whether a sleeping thread waits behind each socket, instead of one reader for all.
    pub(crate) threads: bool,
    /// Further connections, each with a stream, that read nothing.
    pub(crate) stalled: u32,
    pub(crate) names: Names,
    pub(crate) ack: AckShape,
    pub(crate) watch: Watch,
}

/// What streams ask for, in turns: `pattern` with its `{}` replaced by a number below `distinct`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Names {
    pub(crate) pattern: String,
    pub(crate) distinct: u32,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Opens every stream, with no more than `unanswered` waiting for their first secret; a `patient` load waits for
    /// the socket to be there.
    Connect {
        unanswered: u32,
        patient: bool,
    },
    /// Something new is due to every stream.
    Round {
        due: Moment,
    },
    /// The round is over, and the server quiet.
    Settle,
    /// The same after connecting.
    SettleFirst,
    /// From now on every delivery is kept.
    Log,
    EndLog,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    Connected {
        began: Moment,
        delivered: Vec<Moment>,
        last_ack: Option<Moment>,
    },
    /// Ready for what comes next.
    Armed,
    Round {
        delivered: Vec<Moment>,
        last_ack: Moment,
    },
    Settled(Settled),
    /// Stream and moment; and which name each stream has.
    Log {
        deliveries: Vec<(usize, Moment)>,
        names: Vec<usize>,
        behind: usize,
    },
    Failed(String),
}

/// What there is to be said between two rounds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Settled {
    pub(crate) shape: Shape,
    /// Of an ACK as a gRPC message.
    pub(crate) ack_bytes: usize,
    /// Stalled readers whose connection the server has closed.
    pub(crate) stalled_closed: usize,
}

impl Names {
    pub(crate) fn one(name: &str) -> Self {
        Self { pattern: name.into(), distinct: 1 }
    }

    pub(crate) fn name(&self, number: u32) -> String {
        self.pattern.replace("{}", &number.to_string())
    }
}

/// Does what is ordered until the input ends; a failure is the last report.
pub(crate) fn run() -> Result<()> {
    // Whoever reads the report is to say it.
    serve().or_else(|error| report(&Report::Failed(format!("{error:#}"))))
}

fn serve() -> Result<()> {
    machine::raise_descriptors()?;
    let setup: Setup = next_order()?.context("a load without orders")?;
    if setup.threads {
        return threads::serve(&setup);
    }
    let names = (0..setup.names.distinct).map(|number| setup.names.name(number)).collect();
    let load = Load::new(names, setup.watch, Requests::new(setup.ack))?;
    load.listen(io::stdin())?;
    report(&Report::Armed)?;
    let mut at_work = AtWork { load, setup, stalled: Vec::new(), contents: Vec::new() };
    loop {
        while at_work.load.serve(None)? == Woken::Streams {}
        match next_order()? {
            Some(order) => at_work.obey(&order)?,
            None => return Ok(()),
        }
    }
}

/// Standard input holds one line at a time: whoever orders waits for the report.
pub(super) fn next_order<O: for<'de> Deserialize<'de>>() -> Result<Option<O>> {
    let mut line = String::new();
    match io::stdin().lock().read_line(&mut line)? {
        0 => Ok(None),
        _ => Ok(Some(serde_json::from_str(&line)?)),
    }
}

pub(super) fn report(report: &Report) -> Result<()> {
    let mut line = serde_json::to_vec(report)?;
    line.push(b'\n');
    let mut out = io::stdout().lock();
    out.write_all(&line)?;
    Ok(out.flush()?)
}

#[derive(Debug)]
struct AtWork {
    load: Load,
    setup: Setup,
    stalled: Vec<Connection>,
    /// Of each name, when it was looked at last.
    contents: Vec<Vec<u8>>,
}

impl AtWork {
    fn obey(&mut self, order: &Order) -> Result<()> {
        match *order {
            Order::Connect { unanswered, patient } => self.connect(unanswered, patient),
            Order::Round { due } => self.round(due),
            Order::Settle => self.settle(),
            Order::SettleFirst => self.settled(),
            Order::Log => {
                self.load.keep_log();
                report(&Report::Armed)
            }
            Order::EndLog => {
                let deliveries = self.load.log().iter().map(|one| (one.stream, one.at)).collect();
                let (names, behind) = (self.load.names_of_streams(), self.load.behind());
                report(&Report::Log { deliveries, names, behind })
            }
        }
    }

    fn connect(&mut self, unanswered: u32, patient: bool) -> Result<()> {
        let began = Moment::now();
        let deadline = began + CONNECT_LIMIT;
        for number in 0..self.setup.stalled {
            let request = self.load.first_request(number as usize % self.setup.names.distinct as usize);
            let socket = reach(&self.setup.socket, patient, deadline)?;
            self.stalled.push(Connection::ask(socket, STALLED_WINDOW, &[request])?);
        }
        let mut opened = 0;
        while opened < self.setup.streams {
            let socket = reach(&self.setup.socket, patient, deadline)?;
            let count = self.setup.per_connection.min(self.setup.streams - opened);
            let names: Vec<_> = (opened..opened + count)
                .map(|stream| (stream % self.setup.names.distinct) as usize)
                .collect();
            let connection = if self.setup.raw {
                Connection::raw(socket)?
            } else {
                let requests: Vec<Rc<[u8]>> =
                    names.iter().map(|&name| self.load.first_request(name)).collect();
                Connection::ask(socket, OUR_WINDOW, &requests)?
            };
            self.load.add(connection, &names)?;
            opened += count;
            while !self.setup.raw && self.waiting() >= unanswered as usize {
                self.wait_for_first(deadline)?;
            }
        }
        if self.setup.raw {
            return report(&Report::Connected { began, delivered: Vec::new(), last_ack: None });
        }
        while self.waiting() > 0 || self.load.acknowledged() < self.load.len() {
            self.wait_for_first(deadline)?;
        }
        self.contents = self.load.contents().context("the first secret")?;
        let delivered = self.load.delivery_times().collect();
        report(&Report::Connected { began, delivered, last_ack: self.load.last_acknowledged() })
    }

    fn waiting(&self) -> usize {
        self.load.len() - self.load.delivered()
    }

    fn wait_for_first(&mut self, deadline: Moment) -> Result<()> {
        self.serve()?;
        let (have, of) = (self.load.delivered(), self.load.len());
        ensure!(Moment::now() < deadline, "{have} of {of} streams have a secret after {CONNECT_LIMIT:?}");
        Ok(())
    }

    fn serve(&mut self) -> Result<()> {
        let woken = self.load.serve(Some(LOOK))?;
        ensure!(
            woken == Woken::Streams,
            "an order before the last one was carried out, or nobody to give any"
        );
        Ok(())
    }

    fn round(&mut self, due: Moment) -> Result<()> {
        self.load.expect_next();
        report(&Report::Armed)?;
        while self.load.acknowledged() < self.load.len() {
            self.serve()?;
            let (have, of) = (self.load.delivered(), self.load.len());
            ensure!(
                Moment::now() < due + ROUND_LIMIT,
                "{have} of {of} streams have the new secret after {ROUND_LIMIT:?}"
            );
        }
        let delivered = self.load.delivery_times().collect();
        let last_ack = self.load.last_acknowledged().context("a load without streams")?;
        report(&Report::Round { delivered, last_ack })
    }

    /// Nobody may have got more than was asked for, and each content has to be another one than before.
    fn settle(&mut self) -> Result<()> {
        let behind = self.load.behind();
        ensure!(behind == 0, "a further version came in between, and {behind} streams do not have it");
        let contents = self.load.contents()?;
        let changed = contents.iter().zip(&self.contents).all(|(new, old)| new != old);
        ensure!(changed, "a new version with the old chain");
        self.contents = contents;
        self.settled()
    }

    fn settled(&self) -> Result<()> {
        let (shape, ack_bytes) = self.load.shape()?;
        report(&Report::Settled(Settled { shape, ack_bytes, stalled_closed: self.closed()? }))
    }

    fn closed(&self) -> Result<usize> {
        let mut fds: Vec<_> =
            self.stalled.iter().map(|stalled| PollFd::new(stalled.as_fd(), PollFlags::empty())).collect();
        poll(&mut fds, PollTimeout::ZERO)?;
        let hung_up = |fd: &&PollFd<'_>| fd.revents().is_some_and(|told| told.contains(PollFlags::POLLHUP));
        Ok(fds.iter().filter(hung_up).count())
    }
}

fn reach(socket: &Path, patient: bool, deadline: Moment) -> Result<UnixStream> {
    loop {
        match UnixStream::connect(socket) {
            Ok(stream) => return Ok(stream),
            Err(error)
                if patient
                    && matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused)
                    && Moment::now() < deadline =>
            {
                sleep(RETRY);
            }
            Err(error) => return Err(error).with_context(|| format!("connecting to {}", socket.display())),
        }
    }
}
