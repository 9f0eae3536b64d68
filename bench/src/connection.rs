//! One client connection with one stream: bytes in, messages out, and never more sent than there is room for.

mod room;

use std::{
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
};

use anyhow::{Result, bail};
use room::Room;

use crate::{
    http2::{self, Frame, MAX_PAYLOAD, OUR_WINDOW},
    sds,
};

/// The one stream of each connection.
pub(crate) const STREAM: u32 = 1;

/// A connection to the agent, or to the anchor, which frames what it sends and expects nothing but ACKs.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: UnixStream,
    speaks_http2: bool,
    /// The start of a frame whose end has not come yet.
    frame: Vec<u8>,
    /// The start of a message whose end has not come yet.
    message: Vec<u8>,
    /// Of our stream, waiting for the peer to grant room.
    body: Vec<u8>,
    /// Framed, waiting for the socket to take it.
    unsent: Vec<u8>,
    room: Room,
    /// Taken from the peer's windows and not given back yet.
    taken: u32,
}

impl Connection {
    /// Opens the stream and asks for the secret, all in one write.
    pub(crate) fn ask(socket: UnixStream) -> Result<Self> {
        let mut connection = Self::raw(socket)?;
        connection.speaks_http2 = true;
        http2::put_preface(&mut connection.unsent);
        http2::put_call(&mut connection.unsent, STREAM, sds::STREAM_SECRETS, &[]);
        connection.send(&sds::first_request())?;
        Ok(connection)
    }

    /// Says nothing until there is something to acknowledge.
    pub(crate) fn raw(socket: UnixStream) -> Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket,
            speaks_http2: false,
            frame: Vec::new(),
            message: Vec::new(),
            body: Vec::new(),
            unsent: Vec::new(),
            room: Room::default(),
            taken: 0,
        })
    }

    /// Reads once and gives every message that is whole to `take`; what that puts into its second argument is sent.
    ///
    /// # Errors
    /// When the peer has ended the stream or the connection, or does not speak HTTP/2.
    pub(crate) fn read(
        &mut self,
        scratch: &mut [u8],
        take: &mut impl FnMut(&[u8], &mut Vec<u8>) -> Result<()>,
    ) -> Result<()> {
        let read = match self.socket.read(scratch) {
            Ok(0) => bail!("the peer closed the connection"),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        if self.frame.is_empty() {
            let used = self.frames(&scratch[..read], take)?;
            self.frame.extend_from_slice(&scratch[used..read]);
        } else {
            let mut bytes = std::mem::take(&mut self.frame);
            bytes.extend_from_slice(&scratch[..read]);
            let used = self.frames(&bytes, take)?;
            bytes.drain(..used);
            self.frame = bytes;
        }
        self.give_back();
        self.flush()
    }

    /// Sends a gRPC message as soon as there is room.
    pub(crate) fn send(&mut self, message: &[u8]) -> Result<()> {
        self.body.extend_from_slice(message);
        self.flush()
    }

    /// Writes what the peer and the socket have room for.
    pub(crate) fn flush(&mut self) -> Result<()> {
        while !self.body.is_empty() {
            let room = if self.speaks_http2 { self.room.now() } else { MAX_PAYLOAD };
            let length = self.body.len().min(room).min(MAX_PAYLOAD);
            if length == 0 {
                break;
            }
            http2::put_frame(&mut self.unsent, http2::DATA, 0, STREAM, &self.body[..length]);
            self.body.drain(..length);
            self.room.take(length);
        }
        while !self.unsent.is_empty() {
            match self.socket.write(&self.unsent) {
                Ok(written) => drop(self.unsent.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Whether everything that was to be sent has gone to the kernel.
    pub(crate) fn is_flushed(&self) -> bool {
        self.body.is_empty() && self.unsent.is_empty()
    }

    /// Whether the socket, and not the peer's window, is what we wait for.
    pub(crate) fn wants_socket(&self) -> bool {
        !self.unsent.is_empty()
    }

    fn frames(
        &mut self,
        bytes: &[u8],
        take: &mut impl FnMut(&[u8], &mut Vec<u8>) -> Result<()>,
    ) -> Result<usize> {
        let mut used = 0;
        while let Some(frame) = Frame::first(&bytes[used..])? {
            used += frame.len();
            self.on_frame(&frame, take)?;
        }
        Ok(used)
    }

    fn on_frame(
        &mut self,
        frame: &Frame<'_>,
        take: &mut impl FnMut(&[u8], &mut Vec<u8>) -> Result<()>,
    ) -> Result<()> {
        if frame.ends_stream() {
            bail!("the peer ended the stream");
        }
        match frame.kind {
            http2::DATA => self.on_data(frame.payload, take)?,
            http2::RST_STREAM => bail!("the peer reset the stream with code {}", frame.number()),
            http2::GOAWAY => bail!("the peer is going away"),
            http2::SETTINGS if !frame.is_ack() => {
                if let Some(window) = frame.initial_window() {
                    self.room.set_initial(window);
                }
                http2::put_frame(&mut self.unsent, http2::SETTINGS, http2::ACK, 0, &[]);
            }
            http2::PING if !frame.is_ack() => {
                http2::put_frame(&mut self.unsent, http2::PING, http2::ACK, 0, frame.payload);
            }
            http2::WINDOW_UPDATE => self.room.open(frame.stream, frame.number()),
            _ => {}
        }
        Ok(())
    }

    fn on_data(
        &mut self,
        data: &[u8],
        take: &mut impl FnMut(&[u8], &mut Vec<u8>) -> Result<()>,
    ) -> Result<()> {
        self.taken += data.len() as u32;
        let mut joined = std::mem::take(&mut self.message);
        let mut bytes = if joined.is_empty() {
            data
        } else {
            joined.extend_from_slice(data);
            &joined
        };
        while let Some(message) = sds::first_message(bytes)? {
            take(message, &mut self.body)?;
            bytes = &bytes[sds::PREFIX_LEN + message.len()..];
        }
        self.message = bytes.to_vec();
        Ok(())
    }

    /// Opens the peer's windows again when half of them is used up.
    fn give_back(&mut self) {
        if self.speaks_http2 && self.taken >= OUR_WINDOW / 2 {
            http2::put_window_update(&mut self.unsent, 0, self.taken);
            http2::put_window_update(&mut self.unsent, STREAM, self.taken);
            self.taken = 0;
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `connection` takes out of `written`, one read of `step` bytes at a time.
    fn taken(
        connection: &mut Connection,
        mut peer: &UnixStream,
        written: &[u8],
        step: usize,
    ) -> Vec<Vec<u8>> {
        let mut taken = Vec::new();
        for part in written.chunks(step) {
            peer.write_all(part).unwrap();
            let mut take = |message: &[u8], _: &mut Vec<u8>| {
                taken.push(message.to_vec());
                Ok(())
            };
            connection.read(&mut [0; 4096], &mut take).unwrap();
        }
        taken
    }

    fn sent(mut peer: &UnixStream) -> Vec<u8> {
        let mut bytes = vec![0; 1 << 20];
        let read = peer.read(&mut bytes).unwrap();
        bytes.truncate(read);
        bytes
    }

    #[test]
    fn messages_are_taken_in_any_cut() {
        let mut bytes = Vec::new();
        for text in [&b"\0\0\0\0\x03abc\0\0\0\0\x02d"[..], b"e\0\0\0\0\0"] {
            http2::put_frame(&mut bytes, http2::DATA, 0, STREAM, text);
        }
        for step in 1..=bytes.len() {
            let (ours, peer) = UnixStream::pair().unwrap();
            let mut connection = Connection::raw(ours).unwrap();
            let messages = taken(&mut connection, &peer, &bytes, step);
            assert_eq!(messages, [&b"abc"[..], b"de", b""], "step {step}");
        }
    }

    #[test]
    fn nothing_is_sent_beyond_the_peers_window() {
        let (ours, peer) = UnixStream::pair().unwrap();
        let mut connection = Connection::raw(ours).unwrap();
        connection.speaks_http2 = true;
        let mut settings = Vec::new();
        http2::put_frame(&mut settings, http2::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 10]);
        taken(&mut connection, &peer, &settings, 4096);
        assert_eq!(sent(&peer), http2::frame_header(http2::SETTINGS, http2::ACK, 0, 0));
        connection.send(b"0123456789abc").unwrap();
        assert!(!connection.is_flushed() && !connection.wants_socket());
        assert_eq!(Frame::first(&sent(&peer)).unwrap().unwrap().payload, b"0123456789");
        let mut update = Vec::new();
        http2::put_window_update(&mut update, STREAM, 2);
        taken(&mut connection, &peer, &update, 4096);
        assert_eq!(Frame::first(&sent(&peer)).unwrap().unwrap().payload, b"ab");
        taken(&mut connection, &peer, &update, 4096);
        assert!(connection.is_flushed());
    }

    #[test]
    fn windows_are_given_back_when_half_is_used() {
        let (ours, peer) = UnixStream::pair().unwrap();
        let mut connection = Connection::raw(ours).unwrap();
        connection.speaks_http2 = true;
        connection.taken = OUR_WINDOW / 2 - 1;
        let mut data = Vec::new();
        http2::put_frame(&mut data, http2::DATA, 0, STREAM, b"\0\0\0\0\x01x");
        taken(&mut connection, &peer, &data, 4096);
        let sent = sent(&peer);
        let first = Frame::first(&sent).unwrap().unwrap();
        let second = Frame::first(&sent[first.len()..]).unwrap().unwrap();
        assert_eq!((first.stream, second.stream), (0, STREAM));
        assert_eq!((first.number(), second.number()), (OUR_WINDOW / 2 + 5, OUR_WINDOW / 2 + 5));
    }

    #[test]
    fn an_ended_stream_is_an_error() {
        for (kind, flags) in [(http2::HEADERS, http2::END_STREAM), (http2::RST_STREAM, 0), (http2::GOAWAY, 0)]
        {
            let (ours, mut peer) = UnixStream::pair().unwrap();
            let mut connection = Connection::raw(ours).unwrap();
            peer.write_all(&http2::frame_header(kind, flags, STREAM, 0)).unwrap();
            assert!(connection.read(&mut [0; 64], &mut |_, _| Ok(())).is_err(), "{kind}");
        }
    }
}
