//! One client connection with its streams: bytes in, messages out, and never more sent than there is room for.

mod room;

use std::{
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    rc::Rc,
};

use anyhow::{Context as _, Result, bail};
use room::{Room, StreamRoom};

use crate::{
    http2::{self, Frame, MAX_PAYLOAD, OUR_WINDOW},
    sds,
};

/// The first stream of each connection; the others follow in steps of two.
pub(crate) const STREAM: u32 = 1;
/// A buffer that grew beyond this is not kept when it is empty.
const KEPT_BUFFER: usize = 4 << 10;

/// What the owner of a connection does with a message, of which stream (from 0) it came: gives what is answered.
pub(crate) trait Take: FnMut(usize, &[u8]) -> Result<Rc<[u8]>> {}
impl<F: FnMut(usize, &[u8]) -> Result<Rc<[u8]>>> Take for F {}

/// A connection to a server; or to the anchor, which frames what it sends and expects nothing but ACKs.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: UnixStream,
    speaks_http2: bool,
    /// The start of a frame whose end has not come yet.
    frame: Vec<u8>,
    streams: Vec<Stream>,
    /// Framed, waiting for the socket to take it.
    unsent: Vec<u8>,
    room: Room,
    /// Taken from the peer's window for the connection and not given back yet.
    taken: u32,
}

#[derive(Debug)]
struct Stream {
    /// The start of a message whose end has not come yet.
    message: Vec<u8>,
    /// Waiting for the peer to grant room.
    waiting: Vec<u8>,
    room: StreamRoom,
    taken: u32,
}

impl Connection {
    /// Opens a stream for each of `requests`, all in one write. The peer may send `window` bytes on each before we
    /// open it further.
    pub(crate) fn ask(socket: UnixStream, window: u32, requests: &[Rc<[u8]>]) -> Result<Self> {
        let mut connection = Self::raw(socket)?;
        connection.speaks_http2 = true;
        connection.streams.clear();
        http2::put_preface(&mut connection.unsent, window);
        for (index, request) in requests.iter().enumerate() {
            let room = connection.room.stream();
            connection.streams.push(Stream { message: Vec::new(), waiting: Vec::new(), room, taken: 0 });
            http2::put_call(&mut connection.unsent, stream_id(index), sds::STREAM_SECRETS, &[]);
            connection.queue(index, request);
        }
        connection.flush()?;
        Ok(connection)
    }

    /// Has one stream, and says nothing until there is something to acknowledge.
    pub(crate) fn raw(socket: UnixStream) -> Result<Self> {
        socket.set_nonblocking(true)?;
        let room = Room::default();
        let stream = Stream { message: Vec::new(), waiting: Vec::new(), room: room.stream(), taken: 0 };
        Ok(Self {
            socket,
            speaks_http2: false,
            frame: Vec::new(),
            streams: vec![stream],
            unsent: Vec::new(),
            room,
            taken: 0,
        })
    }

    /// Reads once and gives every message that is whole to `take`; what that gives back is sent on its stream.
    ///
    /// # Errors
    /// When the peer has ended a stream or the connection, or does not speak HTTP/2.
    pub(crate) fn read(&mut self, scratch: &mut [u8], take: &mut impl Take) -> Result<()> {
        let read = match self.socket.read(scratch) {
            Ok(0) => bail!("the peer closed the connection"),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return self.flush(),
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

    /// Whether everything that was to be sent has gone to the kernel.
    pub(crate) fn is_flushed(&self) -> bool {
        self.unsent.is_empty() && self.streams.iter().all(|stream| stream.waiting.is_empty())
    }

    /// Whether the socket, and not the peer's window, is what we wait for.
    pub(crate) fn wants_socket(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Takes a gRPC message, to be sent as soon as there is room.
    fn queue(&mut self, index: usize, message: &[u8]) {
        let stream = &mut self.streams[index];
        if stream.waiting.is_empty() {
            let sent = self.frame_up(index, message);
            self.streams[index].waiting.extend_from_slice(&message[sent..]);
        } else {
            stream.waiting.extend_from_slice(message);
        }
    }

    /// Frames as much of `message` as there is room for, and gives how much that was.
    fn frame_up(&mut self, index: usize, message: &[u8]) -> usize {
        let mut sent = 0;
        while sent < message.len() {
            let left = message.len() - sent;
            let stream = &mut self.streams[index];
            let room = if self.speaks_http2 { self.room.now(stream.room) } else { MAX_PAYLOAD };
            let length = left.min(room).min(MAX_PAYLOAD);
            if length == 0 {
                break;
            }
            let part = &message[sent..sent + length];
            http2::put_frame(&mut self.unsent, http2::DATA, 0, stream_id(index), part);
            self.room.take(&mut stream.room, length);
            sent += length;
        }
        sent
    }

    /// Writes what the socket has room for.
    fn flush(&mut self) -> Result<()> {
        let mut written = 0;
        while written < self.unsent.len() {
            match self.socket.write(&self.unsent[written..]) {
                Ok(more) => written += more,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        if written < self.unsent.len() {
            self.unsent.drain(..written);
        } else if self.unsent.capacity() > KEPT_BUFFER {
            self.unsent = Vec::new();
        } else {
            self.unsent.clear();
        }
        Ok(())
    }

    /// Frames what waited for the peer's windows.
    fn resume(&mut self) {
        for index in 0..self.streams.len() {
            if !self.streams[index].waiting.is_empty() {
                let mut waiting = std::mem::take(&mut self.streams[index].waiting);
                let sent = self.frame_up(index, &waiting);
                if sent < waiting.len() {
                    waiting.drain(..sent);
                    self.streams[index].waiting = waiting;
                }
            }
        }
    }

    fn frames(&mut self, bytes: &[u8], take: &mut impl Take) -> Result<usize> {
        let mut used = 0;
        while let Some(frame) = Frame::first(&bytes[used..])? {
            used += frame.len();
            self.on_frame(&frame, take)?;
        }
        Ok(used)
    }

    fn on_frame(&mut self, frame: &Frame<'_>, take: &mut impl Take) -> Result<()> {
        if frame.ends_stream() {
            bail!("the peer ended the stream");
        }
        match frame.kind {
            http2::DATA => self.on_data(frame, take)?,
            http2::RST_STREAM => bail!("the peer reset the stream with code {}", frame.number()),
            http2::GOAWAY => bail!("the peer is going away"),
            http2::SETTINGS if !frame.is_ack() => {
                if let Some(window) = frame.initial_window() {
                    self.room.set_initial(window, self.streams.iter_mut().map(|stream| &mut stream.room));
                    self.resume();
                }
                http2::put_frame(&mut self.unsent, http2::SETTINGS, http2::ACK, 0, &[]);
            }
            http2::PING if !frame.is_ack() => {
                http2::put_frame(&mut self.unsent, http2::PING, http2::ACK, 0, frame.payload);
            }
            http2::WINDOW_UPDATE => {
                match frame.stream {
                    0 => self.room.open(frame.number()),
                    stream => self.stream(stream)?.room.open(frame.number()),
                }
                self.resume();
            }
            _ => {}
        }
        Ok(())
    }

    fn on_data(&mut self, frame: &Frame<'_>, take: &mut impl Take) -> Result<()> {
        let length = frame.payload.len() as u32;
        self.taken += length;
        let stream = self.stream(frame.stream)?;
        stream.taken += length;
        let index = stream_index(frame.stream);
        let mut joined = std::mem::take(&mut stream.message);
        let mut bytes = if joined.is_empty() {
            frame.payload
        } else {
            joined.extend_from_slice(frame.payload);
            &joined
        };
        while let Some(message) = sds::first_message(bytes)? {
            let answer = take(index, message)?;
            self.queue(index, &answer);
            bytes = &bytes[sds::PREFIX_LEN + message.len()..];
        }
        self.streams[index].message = bytes.to_vec();
        Ok(())
    }

    fn stream(&mut self, id: u32) -> Result<&mut Stream> {
        let stream = self.streams.get_mut(stream_index(id));
        stream.filter(|_| id % 2 == 1).with_context(|| format!("a frame of stream {id}, which is not ours"))
    }

    /// Opens the peer's windows again when half of them is used up.
    fn give_back(&mut self) {
        if !self.speaks_http2 {
            return;
        }
        if self.taken >= OUR_WINDOW / 2 {
            http2::put_window_update(&mut self.unsent, 0, self.taken);
            self.taken = 0;
        }
        for (index, stream) in self.streams.iter_mut().enumerate() {
            if stream.taken >= OUR_WINDOW / 2 {
                http2::put_window_update(&mut self.unsent, stream_id(index), stream.taken);
                stream.taken = 0;
            }
        }
    }
}

fn stream_id(index: usize) -> u32 {
    STREAM + 2 * index as u32
}

fn stream_index(id: u32) -> usize {
    (id.saturating_sub(STREAM) / 2) as usize
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
            let mut take = |_, message: &[u8]| {
                taken.push(message.to_vec());
                Ok(Rc::default())
            };
            connection.read(&mut [0; 4096], &mut take).unwrap();
        }
        taken
    }

    fn asking(requests: &[&[u8]]) -> (Connection, UnixStream) {
        let (ours, peer) = UnixStream::pair().unwrap();
        let requests: Vec<Rc<[u8]>> = requests.iter().map(|request| Rc::from(*request)).collect();
        let connection = Connection::ask(ours, OUR_WINDOW, &requests).unwrap();
        sent(&peer);
        (connection, peer)
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
        let (mut connection, peer) = asking(&[b""]);
        let mut settings = Vec::new();
        http2::put_frame(&mut settings, http2::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 10]);
        taken(&mut connection, &peer, &settings, 4096);
        assert_eq!(sent(&peer), http2::frame_header(http2::SETTINGS, http2::ACK, 0, 0));
        connection.queue(0, b"0123456789abc");
        connection.flush().unwrap();
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
    fn a_long_message_of_one_stream_does_not_hold_up_what_another_has_room_for() {
        let (mut connection, peer) = asking(&[b"", b""]);
        let mut settings = Vec::new();
        http2::put_frame(&mut settings, http2::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 10]);
        taken(&mut connection, &peer, &settings, 4096);
        sent(&peer);
        let mut data = Vec::new();
        for stream in [1, 3] {
            http2::put_frame(&mut data, http2::DATA, 0, stream, b"\0\0\0\0\x01x");
        }
        (&peer).write_all(&data).unwrap();
        let answers: [Rc<[u8]>; 2] = [Rc::from(&[b'a'; 50_000][..]), Rc::from(&b"short"[..])];
        connection.read(&mut [0; 4096], &mut |index, _: &[u8]| Ok(Rc::clone(&answers[index]))).unwrap();
        let bytes = sent(&peer);
        let first = Frame::first(&bytes).unwrap().unwrap();
        assert_eq!((first.stream, first.payload), (1, &b"aaaaaaaaaa"[..]));
        let second = Frame::first(&bytes[first.len()..]).unwrap().unwrap();
        assert_eq!((second.stream, second.payload), (3, &b"short"[..]));
        // Both windows are opened for the rest, and all of it comes.
        let mut update = Vec::new();
        http2::put_window_update(&mut update, 1, 1 << 20);
        taken(&mut connection, &peer, &update, 4096);
        assert!(connection.is_flushed());
        assert_eq!(sent(&peer).len(), 50_000 - 10 + 4 * http2::HEADER_LEN);
    }

    #[test]
    fn windows_are_given_back_when_half_is_used() {
        let (mut connection, peer) = asking(&[b""]);
        connection.taken = OUR_WINDOW / 2 - 1;
        connection.streams[0].taken = OUR_WINDOW / 2 - 1;
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
            assert!(connection.read(&mut [0; 64], &mut |_, _: &[u8]| Ok(Rc::default())).is_err(), "{kind}");
        }
    }
}
