//! One connection that makes a call at a time and waits for its answer: commands to an agent, and workloads that want
//! their first secret. Requests are so small that the peer's windows never matter.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use prost::Message;

use crate::{
    http2::{self, Frame},
    sds,
};

/// Everything that is waited for comes sooner.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// Error code of a stream that its client needs no more. RFC 9113 §7.
const CANCEL: u32 = 8;

/// A client's connection.
#[derive(Debug)]
pub(crate) struct Blocking {
    socket: UnixStream,
    /// The stream of the last call.
    stream: u32,
    received: Vec<u8>,
    /// What was sent on that stream, as far as it came.
    body: Vec<u8>,
    /// To be written before anything else.
    unsent: Vec<u8>,
}

impl Blocking {
    pub(crate) fn connect(path: &Path) -> Result<Self> {
        let socket = UnixStream::connect(path)?;
        socket.set_read_timeout(Some(ANSWER_LIMIT))?;
        let mut unsent = Vec::new();
        http2::put_preface(&mut unsent, http2::OUR_WINDOW);
        Ok(Self { socket, stream: 0, received: Vec::new(), body: Vec::new(), unsent })
    }

    /// Begins a call with its one request; `metadata` are further headers. Whether it is the last message of the
    /// client is for `ends` to say.
    pub(crate) fn ask(
        &mut self,
        path: &str,
        metadata: &[(&str, &str)],
        request: &[u8],
        ends: bool,
    ) -> Result<()> {
        self.stream = if self.stream == 0 { 1 } else { self.stream + 2 };
        self.body.clear();
        http2::put_call(&mut self.unsent, self.stream, path, metadata);
        let flags = if ends { http2::END_STREAM } else { 0 };
        http2::put_frame(&mut self.unsent, http2::DATA, flags, self.stream, request);
        self.flush()
    }

    /// Waits for the first message of the answer.
    ///
    /// # Errors
    /// When the call ends without one, or nothing comes for ten seconds.
    pub(crate) fn first_message(&mut self) -> Result<Vec<u8>> {
        loop {
            let ended = self.take_frames()?;
            if let Some(message) = sds::first_message(&self.body)? {
                return Ok(message.to_vec());
            }
            ensure!(!ended, "the call was refused");
            self.receive()?;
        }
    }

    /// Waits for the end of a call, and gives its one message.
    pub(crate) fn only_message<A: Message + Default>(&mut self) -> Result<A> {
        while !self.take_frames()? {
            self.receive()?;
        }
        let message = sds::first_message(&self.body)?.context("the agent refused the call")?;
        Ok(A::decode(message)?)
    }

    /// Ends the last call from this side.
    pub(crate) fn cancel(&mut self) -> Result<()> {
        http2::put_frame(&mut self.unsent, http2::RST_STREAM, 0, self.stream, &CANCEL.to_be_bytes());
        self.flush()
    }

    /// Whether the stream of the last call has ended.
    fn take_frames(&mut self) -> Result<bool> {
        let (mut used, mut ended) = (0, false);
        while let Some(frame) = Frame::first(&self.received[used..])? {
            used += frame.len();
            if frame.kind == http2::GOAWAY {
                bail!("the agent is going away");
            }
            if matches!(frame.kind, http2::SETTINGS | http2::PING) && !frame.is_ack() {
                let payload = if frame.kind == http2::PING { frame.payload } else { &[] };
                http2::put_frame(&mut self.unsent, frame.kind, http2::ACK, 0, payload);
            }
            if frame.stream != self.stream {
                continue;
            }
            if frame.kind == http2::DATA {
                self.body.extend_from_slice(frame.payload);
            }
            ended |= frame.ends_stream() || frame.kind == http2::RST_STREAM;
        }
        self.received.drain(..used);
        self.flush()?;
        Ok(ended)
    }

    fn receive(&mut self) -> Result<()> {
        let mut bytes = [0; 16 << 10];
        let read = self.socket.read(&mut bytes).context("waiting for an answer")?;
        ensure!(read > 0, "the agent closed the connection");
        self.received.extend_from_slice(&bytes[..read]);
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        if !self.unsent.is_empty() {
            self.socket.write_all(&self.unsent)?;
            self.unsent.clear();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use vouch_proto::admin::RotateSvidsResponse;

    use super::*;

    /// A connection, and what a peer of it that sends `frames` at once has read by the end.
    fn connected(frames: Vec<u8>) -> (Blocking, std::thread::JoinHandle<Vec<u8>>) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let connection = Blocking::connect(&path).unwrap();
        let peer = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            socket.write_all(&frames).unwrap();
            let mut read = Vec::new();
            socket.read_to_end(&mut read).unwrap();
            read
        });
        (connection, peer)
    }

    fn answer(stream: u32, message: &[u8], flags: u8) -> Vec<u8> {
        let mut frames = Vec::new();
        http2::put_frame(&mut frames, http2::PING, 0, 0, &[7; 8]);
        let (start, end) = message.split_at(3);
        http2::put_frame(&mut frames, http2::DATA, 0, stream, start);
        http2::put_frame(&mut frames, http2::DATA, flags, stream, end);
        frames
    }

    #[test]
    fn a_message_is_whole_before_its_call_ends() {
        let (mut connection, peer) = connected(answer(1, b"\0\0\0\0\x03abcrest", 0));
        connection.ask("/a/B", &[("name", "value")], b"\0\0\0\0\0", false).unwrap();
        assert_eq!(connection.first_message().unwrap(), b"abc");
        connection.cancel().unwrap();
        drop(connection);
        let sent = peer.join().unwrap();
        let mut ping = Vec::new();
        http2::put_frame(&mut ping, http2::PING, http2::ACK, 0, &[7; 8]);
        assert!(sent.windows(ping.len()).any(|window| window == ping), "a PING is answered");
        assert!(sent.ends_with(&[0, 0, 0, 8]), "the stream is cancelled");
    }

    #[test]
    fn a_refused_call_is_an_error() {
        let mut trailers = Vec::new();
        http2::put_frame(&mut trailers, http2::HEADERS, http2::END_STREAM, 1, b"");
        let (mut connection, _peer) = connected(trailers);
        connection.ask("/a/B", &[], b"", true).unwrap();
        assert!(connection.first_message().is_err());
    }

    #[test]
    fn an_answer_is_decoded_when_its_call_has_ended() {
        let message = sds::grpc(&RotateSvidsResponse { rotated: 3 });
        let (mut connection, _peer) = connected(answer(1, &message, http2::END_STREAM));
        connection.ask("/a/B", &[], b"", true).unwrap();
        let decoded: RotateSvidsResponse = connection.only_message().unwrap();
        assert_eq!(decoded.rotated, 3);
    }
}
