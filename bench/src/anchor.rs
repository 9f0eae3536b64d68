//! The physical limit beside which the agent is put: a plain process that writes as many bytes to as many Unix
//! sockets, framed alike, and reads an ACK of the same size back from each. One thread, epoll, nothing else.

use std::{
    io::{self, BufRead as _, BufReader, IoSlice, Read as _, Write as _},
    os::{
        fd::AsFd as _,
        unix::net::{UnixListener, UnixStream},
    },
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
    sys::uio::writev,
};

use crate::{
    connection::{Connection, STREAM},
    http2::{self, MAX_PAYLOAD},
    load::Load,
};

const BATCH: usize = 1_024;
const SCRATCH: usize = 64 << 10;

/// The running anchor, as the load sees it.
#[derive(Debug)]
pub(crate) struct AnchorProcess {
    process: Child,
    orders: ChildStdin,
    reports: BufReader<ChildStdout>,
}

impl AnchorProcess {
    /// Starts it on the CPUs of the calling thread.
    pub(crate) fn start(socket: &Path, streams: u32) -> Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg("anchor")
            .arg("--socket")
            .arg(socket)
            .args(["--streams", &streams.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting the anchor")?;
        let orders = process.stdin.take().context("the anchor's input")?;
        let reports = BufReader::new(process.stdout.take().context("the anchor's output")?);
        let mut anchor = Self { process, orders, reports };
        anchor.hear("listening")?;
        Ok(anchor)
    }

    /// Connects `streams` sockets.
    pub(crate) fn connect(&mut self, socket: &Path, streams: u32) -> Result<Load> {
        let mut load = Load::new()?;
        for _ in 0..streams {
            load.add(Connection::raw(UnixStream::connect(socket)?)?)?;
        }
        self.hear("connected")?;
        Ok(load)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Starts a round: `message` goes to every socket, and an ACK of `ack_bytes` comes back from each.
    pub(crate) fn send(&mut self, message: &[u8], ack_bytes: usize) -> Result<()> {
        let mut order = Vec::with_capacity(message.len() + 8);
        for number in [message.len(), ack_bytes] {
            order.extend_from_slice(&(number as u32).to_be_bytes());
        }
        order.extend_from_slice(message);
        Ok(self.orders.write_all(&order)?)
    }

    /// Waits until every ACK of the round has been read.
    pub(crate) fn finished(&mut self) -> Result<()> {
        self.hear("acknowledged")
    }

    fn hear(&mut self, word: &str) -> Result<()> {
        let mut line = String::new();
        self.reports.read_line(&mut line)?;
        ensure!(line.trim_end() == word, "the anchor said {line:?} instead of {word:?}");
        Ok(())
    }
}

impl Drop for AnchorProcess {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The anchor's own side: accepts, then does what it is told until its input ends.
pub(crate) fn serve(anchor: &crate::Anchor) -> Result<()> {
    crate::machine::raise_descriptors()?;
    let listener = UnixListener::bind(&anchor.socket)?;
    println!("listening");
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    let mut sockets = Vec::new();
    for index in 0..anchor.streams {
        let (socket, _) = listener.accept()?;
        socket.set_nonblocking(true)?;
        epoll.add(&socket, EpollEvent::new(EpollFlags::EPOLLIN, index.into()))?;
        sockets.push(socket);
    }
    println!("connected");
    let mut orders = io::stdin().lock();
    while let Some((message, ack_bytes)) = order(&mut orders)? {
        ensure!(message.len() <= MAX_PAYLOAD, "the message does not fit one frame");
        let header = http2::frame_header(http2::DATA, 0, STREAM, message.len());
        let parts = [IoSlice::new(&header), IoSlice::new(&message)];
        for socket in &sockets {
            let written = writev(socket.as_fd(), &parts)?;
            ensure!(written == header.len() + message.len(), "a socket is full");
        }
        read_acks(&epoll, &sockets, ack_bytes)?;
        println!("acknowledged");
    }
    Ok(())
}

fn read_acks(epoll: &Epoll, sockets: &[UnixStream], ack_bytes: usize) -> Result<()> {
    let mut missing = sockets.len() * ack_bytes;
    let mut events = [EpollEvent::empty(); BATCH];
    let mut scratch = [0; SCRATCH];
    while missing > 0 {
        let count = epoll.wait(&mut events, EpollTimeout::NONE)?;
        for event in &events[..count] {
            let read = (&sockets[event.data() as usize]).read(&mut scratch)?;
            ensure!(read > 0, "the load has gone");
            missing = missing.checked_sub(read).context("more came back than was agreed")?;
        }
    }
    Ok(())
}

fn order(orders: &mut impl io::BufRead) -> Result<Option<(Vec<u8>, usize)>> {
    if orders.fill_buf()?.is_empty() {
        return Ok(None);
    }
    let mut number = || -> io::Result<usize> {
        let mut bytes = [0; 4];
        orders.read_exact(&mut bytes)?;
        Ok(u32::from_be_bytes(bytes) as usize)
    };
    let (length, ack_bytes) = (number()?, number()?);
    let mut message = vec![0; length.min(MAX_PAYLOAD + 1)];
    orders.read_exact(&mut message)?;
    Ok(Some((message, ack_bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_read_one_by_one_until_the_input_ends() {
        let bytes = [0, 0, 0, 3, 0, 0, 0, 9, b'a', b'b', b'c', 0, 0, 0, 0, 0, 0, 0, 1];
        let mut orders = BufReader::new(&bytes[..]);
        assert_eq!(order(&mut orders).unwrap(), Some((b"abc".to_vec(), 9)));
        assert_eq!(order(&mut orders).unwrap(), Some((vec![], 1)));
        assert_eq!(order(&mut orders).unwrap(), None);
        assert!(order(&mut BufReader::new(&bytes[..9])).is_err());
    }
}
