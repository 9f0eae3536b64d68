//! A sleeping thread behind each socket of the raw anchor: waking somebody else for each message is what a node with
//! thousands of processes has to do, and no load with one reader shows it.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, Thread},
};

use anyhow::{Context as _, Result, bail, ensure};

use super::child::{Order, Report, Settled, Setup, next_order, report};
use crate::{
    clock::Moment,
    connection::STREAM,
    http2::{self, HEADER_LEN, MAX_PAYLOAD},
    sds::{self, AckShape, Answer, Requests},
    stand_in::Shape,
};

/// A thread reads and writes, and calls nothing deep.
const STACK: usize = 64 << 10;

/// What the threads of one round come to.
#[derive(Debug)]
struct Shared {
    streams: usize,
    done: AtomicUsize,
    each: Mutex<Vec<(Moment, Moment)>>,
    /// Of one stream, for whoever wants to know what was sent.
    last: Mutex<Vec<u8>>,
    failed: OnceLock<String>,
    waiting: Thread,
}

/// As a load with one reader, for an anchor and small ACKs.
pub(super) fn serve(setup: &Setup) -> Result<()> {
    ensure!(setup.raw && setup.ack == AckShape::Small, "threads are for raw sockets and small ACKs");
    let shared = Arc::new(Shared {
        streams: setup.streams as usize,
        done: AtomicUsize::new(0),
        each: Mutex::default(),
        last: Mutex::default(),
        failed: OnceLock::new(),
        waiting: thread::current(),
    });
    report(&Report::Armed)?;
    while let Some(order) = next_order()? {
        match order {
            Order::Connect { .. } => {
                let began = Moment::now();
                for _ in 0..setup.streams {
                    let (socket, shared) = (UnixStream::connect(&setup.socket)?, Arc::clone(&shared));
                    let named = thread::Builder::new().stack_size(STACK);
                    named.spawn(move || shared.follow(socket))?;
                }
                report(&Report::Connected { began, delivered: Vec::new(), last_ack: None })?;
            }
            Order::Round { .. } => {
                report(&Report::Armed)?;
                report(&shared.round()?)?;
            }
            Order::Settle | Order::SettleFirst => {
                report(&Report::Settled(shared.settled(&setup.names.name(0))?))?;
            }
            Order::Log | Order::EndLog => bail!("threads keep no log"),
        }
    }
    Ok(())
}

impl Shared {
    /// The thread of one stream, until its socket is closed.
    fn follow(&self, socket: UnixStream) {
        if let Err(error) = self.read_and_answer(socket) {
            // The first failure is the one to be told.
            let _ = self.failed.set(format!("{error:#}"));
            self.waiting.unpark();
        }
    }

    fn read_and_answer(&self, mut socket: UnixStream) -> Result<()> {
        let requests = Requests::new(AckShape::Small);
        let mut frame = Vec::new();
        loop {
            let mut header = [0; HEADER_LEN];
            if socket.read(&mut header[..1])? == 0 {
                return Ok(());
            }
            socket.read_exact(&mut header[1..])?;
            let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
            ensure!(length <= MAX_PAYLOAD, "a frame of {length} bytes");
            frame.resize(length, 0);
            socket.read_exact(&mut frame)?;
            let delivered = Moment::now();
            let message = sds::first_message(&frame)?.context("a frame without a whole message")?;
            let answer = Answer::read(message)?;
            let ack = requests.ack("default", answer.version, answer.nonce)?;
            let mut bytes = http2::frame_header(http2::DATA, 0, STREAM, ack.len()).to_vec();
            bytes.extend_from_slice(&ack);
            socket.write_all(&bytes)?;
            let acknowledged = Moment::now();
            let mut each = self.each.lock().unwrap_or_else(PoisonError::into_inner);
            each.push((delivered, acknowledged));
            drop(each);
            if self.done.fetch_add(1, Ordering::Relaxed) + 1 == self.streams {
                *self.last.lock().unwrap_or_else(PoisonError::into_inner) = message.to_vec();
                self.waiting.unpark();
            }
        }
    }

    fn round(&self) -> Result<Report> {
        while self.done.load(Ordering::Relaxed) < self.streams {
            thread::park();
            if let Some(why) = self.failed.get() {
                bail!("{why}");
            }
        }
        self.done.store(0, Ordering::Relaxed);
        let each = std::mem::take(&mut *self.each.lock().unwrap_or_else(PoisonError::into_inner));
        let last_ack = each.iter().map(|(_, at)| *at).max().context("a load without streams")?;
        Ok(Report::Round { delivered: each.iter().map(|(at, _)| *at).collect(), last_ack })
    }

    fn settled(&self, name: &str) -> Result<Settled> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = Answer::read(&last)?;
        sds::content(answer.resource, name)?;
        let ack = Requests::new(AckShape::Small).ack(name, answer.version, answer.nonce)?;
        Ok(Settled { shape: Shape::of(&answer)?, ack_bytes: ack.len(), stalled_closed: 0 })
    }
}
