//! One connection of an Envoy that asks for authorization: any number of calls at once, each with one message there and
//! one back.

use std::{
    collections::HashMap,
    fs::File,
    io::{ErrorKind, Read as _, Write as _},
    os::fd::{AsFd, BorrowedFd},
};

use anyhow::{Result, bail};

use super::question::{CHECK, METADATA};
use crate::{
    http2::{self, Frame},
    sds,
};

/// How many bytes of answers we take before the peer may send more of them.
const REPLENISHED: u32 = 1 << 20;

#[derive(Debug)]
pub(crate) struct Connection {
    socket: File,
    stream: u32,
    /// Of calls that have not ended, what came of the answer.
    open: HashMap<u32, Vec<u8>>,
    received: Vec<u8>,
    unsent: Vec<u8>,
    /// What the peer still takes on this connection.
    window: u32,
    /// What it has sent since we let it send more.
    taken: u32,
}

/// A call that has ended: its stream, and the message that came, if one did.
pub(crate) type Ended = (u32, Option<Vec<u8>>);

impl Connection {
    /// Of a socket that does not block.
    pub(crate) fn new(socket: File) -> Self {
        let mut unsent = Vec::new();
        http2::put_preface(&mut unsent, http2::OUR_WINDOW);
        Self {
            socket,
            stream: 0,
            open: HashMap::new(),
            received: Vec::new(),
            unsent,
            window: http2::DEFAULT_WINDOW,
            taken: 0,
        }
    }

    /// Begins a call; `None` when the peer takes no more for now.
    pub(crate) fn ask(&mut self, message: &[u8]) -> Option<u32> {
        let length = u32::try_from(message.len()).ok()?;
        self.window = self.window.checked_sub(length)?;
        self.stream = if self.stream == 0 { 1 } else { self.stream + 2 };
        http2::put_call(&mut self.unsent, self.stream, CHECK, &METADATA);
        http2::put_frame(&mut self.unsent, http2::DATA, http2::END_STREAM, self.stream, message);
        self.open.insert(self.stream, Vec::new());
        Some(self.stream)
    }

    /// Writes what can be written.
    pub(crate) fn flush(&mut self) -> Result<()> {
        while !self.unsent.is_empty() {
            match self.socket.write(&self.unsent) {
                Ok(0) => bail!("the server takes nothing"),
                Ok(written) => drop(self.unsent.drain(..written)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Whether something waits to be written.
    pub(crate) fn is_behind(&self) -> bool {
        !self.unsent.is_empty()
    }

    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Reads what is there, once.
    pub(crate) fn read(&mut self, ended: &mut Vec<Ended>) -> Result<()> {
        let mut bytes = [0; 64 << 10];
        match self.socket.read(&mut bytes) {
            Ok(0) => bail!("the server closed the connection"),
            Ok(read) => self.received.extend_from_slice(&bytes[..read]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        let received = std::mem::take(&mut self.received);
        let mut used = 0;
        while let Some(frame) = Frame::first(&received[used..])? {
            used += frame.len();
            self.take(&frame, ended)?;
        }
        self.received = received;
        self.received.drain(..used);
        Ok(())
    }

    fn take(&mut self, frame: &Frame<'_>, ended: &mut Vec<Ended>) -> Result<()> {
        match frame.kind {
            http2::GOAWAY => bail!("the server goes away"),
            http2::SETTINGS if !frame.is_ack() => self.acknowledge(frame, &[]),
            http2::PING if !frame.is_ack() => self.acknowledge(frame, frame.payload),
            http2::WINDOW_UPDATE if frame.stream == 0 => {
                self.window = self.window.saturating_add(frame.number());
            }
            http2::DATA => self.take_data(frame),
            _ => {}
        }
        if frame.ends_stream() || frame.kind == http2::RST_STREAM {
            let body = self.open.remove(&frame.stream).unwrap_or_default();
            let message = sds::first_message(&body)?.map(<[u8]>::to_vec);
            ended.push((frame.stream, message));
        }
        Ok(())
    }

    fn acknowledge(&mut self, frame: &Frame<'_>, payload: &[u8]) {
        http2::put_frame(&mut self.unsent, frame.kind, http2::ACK, 0, payload);
    }

    fn take_data(&mut self, frame: &Frame<'_>) {
        if let Some(body) = self.open.get_mut(&frame.stream) {
            body.extend_from_slice(frame.payload);
        }
        self.taken += frame.payload.len() as u32;
        if self.taken >= REPLENISHED {
            http2::put_window_update(&mut self.unsent, 0, self.taken);
            self.taken = 0;
        }
    }
}
