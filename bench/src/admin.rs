//! The agent's admin socket, over the HTTP/2 of this program: the call that starts a rotation costs the load thread
//! one write, and its answer is read when the round is over.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use prost::Message;
use vouch_proto::admin::{RotateSvidsRequest, RotateSvidsResponse, StatusRequest, StatusResponse};

use crate::{
    http2::{self, Frame},
    sds,
};

const ROTATE: &str = "/vouch.admin.v1.Admin/RotateSvids";
const STATUS: &str = "/vouch.admin.v1.Admin/Status";
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// One connection; a call at a time. Requests are so small that the peer's windows never matter.
#[derive(Debug)]
pub(crate) struct Admin {
    socket: UnixStream,
    /// The stream of the last call.
    stream: u32,
    received: Vec<u8>,
}

impl Admin {
    pub(crate) fn connect(path: &Path) -> Result<Self> {
        let mut socket = UnixStream::connect(path)?;
        socket.set_read_timeout(Some(ANSWER_LIMIT))?;
        let mut preface = Vec::new();
        http2::put_preface(&mut preface);
        socket.write_all(&preface)?;
        Ok(Self { socket, stream: 0, received: Vec::new() })
    }

    pub(crate) fn status(&mut self) -> Result<StatusResponse> {
        self.ask(STATUS, &StatusRequest {})?;
        self.answer().context("asking the agent how it is")
    }

    /// Starts a rotation of everything; [`Self::rotated`] hears what came of it.
    pub(crate) fn rotate(&mut self) -> Result<()> {
        self.ask(ROTATE, &RotateSvidsRequest::default())
    }

    /// How many SVIDs the rotation replaced.
    pub(crate) fn rotated(&mut self) -> Result<u64> {
        let answer: RotateSvidsResponse = self.answer().context("rotating")?;
        Ok(answer.rotated)
    }

    fn ask(&mut self, path: &str, request: &impl Message) -> Result<()> {
        self.stream = if self.stream == 0 { 1 } else { self.stream + 2 };
        let mut bytes = Vec::new();
        http2::put_call(&mut bytes, self.stream, path);
        http2::put_frame(&mut bytes, http2::DATA, http2::END_STREAM, self.stream, &sds::grpc(request));
        Ok(self.socket.write_all(&bytes)?)
    }

    fn answer<A: Message + Default>(&mut self) -> Result<A> {
        let mut body = Vec::new();
        loop {
            let mut used = 0;
            while let Some(frame) = Frame::first(&self.received[used..])? {
                used += frame.len();
                if frame.kind == http2::GOAWAY {
                    bail!("the agent is going away");
                }
                if matches!(frame.kind, http2::SETTINGS | http2::PING) && !frame.is_ack() {
                    let payload = if frame.kind == http2::PING { frame.payload } else { &[] };
                    let mut ack = Vec::new();
                    http2::put_frame(&mut ack, frame.kind, http2::ACK, 0, payload);
                    self.socket.write_all(&ack)?;
                }
                if frame.stream != self.stream {
                    continue;
                }
                if frame.kind == http2::DATA {
                    body.extend_from_slice(frame.payload);
                }
                if frame.ends_stream() || frame.kind == http2::RST_STREAM {
                    self.received.drain(..used);
                    let message = sds::first_message(&body)?.context("the agent refused the call")?;
                    return Ok(A::decode(message)?);
                }
            }
            self.received.drain(..used);
            let mut bytes = [0; 4096];
            let read = self.socket.read(&mut bytes).context("waiting for the admin socket")?;
            ensure!(read > 0, "the agent closed the admin socket");
            self.received.extend_from_slice(&bytes[..read]);
        }
    }
}
