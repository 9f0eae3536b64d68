//! A client of the system bus, as small as the few calls to the service manager need it: one call at a time, and answers
//! of bounded size.
//!
//! Source: D-Bus Specification 0.43, "Message Protocol" and "Authentication Protocol".

mod message;

use std::{
    io::{self, IoSlice},
    os::fd::{AsRawFd as _, OwnedFd},
    path::Path,
};

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, Interest},
    net::UnixStream,
};

use super::{
    Silence,
    socket::{self, Reach, plain},
};
pub(super) use message::{Argument, Body, Call};
use message::{Head, Outcome};

/// Longest line while it authenticates.
const MAX_LINE: usize = 512;
/// Largest message that is read.
const MAX_MESSAGE: usize = 64 << 10;
/// Messages that are passed over before the answer comes.
const MAX_BETWEEN: usize = 64;
const BUS: &str = "org.freedesktop.DBus";

/// A connection on which one call may be made after the other.
#[derive(Debug)]
pub(super) struct Bus {
    stream: UnixStream,
    takes_descriptors: bool,
    serial: u32,
}

/// Why a call has no answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// Whoever was called refuses, by the name of an error; the connection goes on.
    Refused { name: String },
    /// The connection is of no use any more.
    Broken(String),
}

impl Bus {
    /// Connects to the bus at `path`, a socket of `owner`.
    ///
    /// # Errors
    /// When it is not there or somebody else's, or does not let us in.
    pub(super) async fn connect(path: &Path, owner: u32) -> Result<Self, Silence> {
        let silent = |why: String| Silence::new(format!("{}: {why}", path.display()));
        let stream = socket::connect(path, owner, Reach::Open).await?;
        let mut bus = Self { stream, takes_descriptors: false, serial: 0 };
        bus.authenticate().await.map_err(|error| silent(plain(&error)))?;
        let hello =
            Call { to: BUS, at: "/org/freedesktop/DBus", interface: BUS, member: "Hello", arguments: &[] };
        bus.call(&hello, None).await.map_err(|failure| silent(failure.to_string()))?;
        Ok(bus)
    }

    /// Whether a call may carry a descriptor.
    pub(super) fn takes_descriptors(&self) -> bool {
        self.takes_descriptors
    }

    /// What comes back. `descriptor` is what [`Argument::Descriptor`] stands for. After [`Failure::Broken`], or when the
    /// future is dropped, the connection is of no use any more.
    pub(super) async fn call(
        &mut self,
        call: &Call<'_>,
        descriptor: Option<&OwnedFd>,
    ) -> Result<Body, Failure> {
        self.serial += 1;
        let bytes = call.encode(self.serial, descriptor.is_some());
        let broken = |error: io::Error| Failure::Broken(plain(&error));
        self.send(&bytes, descriptor).await.map_err(broken)?;
        for _ in 0..MAX_BETWEEN {
            let (head, rest) = self.receive().await.map_err(broken)?;
            match head.outcome(&rest, self.serial).map_err(|why| Failure::Broken(why.into()))? {
                Outcome::Returned(body) => return Ok(body),
                Outcome::Refused(name) => return Err(Failure::Refused { name }),
                Outcome::Unrelated => {}
            }
        }
        Err(Failure::Broken(format!("{MAX_BETWEEN} messages came, and none was the answer")))
    }

    async fn authenticate(&mut self) -> io::Result<()> {
        let uid = hex::encode(nix::unistd::geteuid().to_string());
        self.stream.write_all(format!("\0AUTH EXTERNAL {uid}\r\n").as_bytes()).await?;
        if !self.line().await?.starts_with("OK ") {
            return Err(io::Error::other("the bus does not let the agent in"));
        }
        self.stream.write_all(b"NEGOTIATE_UNIX_FD\r\n").await?;
        self.takes_descriptors = self.line().await? == "AGREE_UNIX_FD";
        self.stream.write_all(b"BEGIN\r\n").await
    }

    async fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            if line.len() == MAX_LINE {
                return Err(io::Error::other("the bus answers with a line that does not end"));
            }
            line.push(self.stream.read_u8().await?);
        }
        line.truncate(line.len() - 2);
        String::from_utf8(line).map_err(io::Error::other)
    }

    /// The descriptor travels with the first byte.
    async fn send(&mut self, bytes: &[u8], descriptor: Option<&OwnedFd>) -> io::Result<()> {
        let Some(descriptor) = descriptor else { return self.stream.write_all(bytes).await };
        let (socket, descriptors) = (self.stream.as_raw_fd(), [descriptor.as_raw_fd()]);
        let rights = [ControlMessage::ScmRights(&descriptors)];
        let message = [IoSlice::new(bytes)];
        let once = || Ok(sendmsg::<()>(socket, &message, &rights, MsgFlags::MSG_NOSIGNAL, None)?);
        let sent = self.stream.async_io(Interest::WRITABLE, once).await?;
        self.stream.write_all(&bytes[sent..]).await
    }

    async fn receive(&mut self) -> io::Result<(Head, Vec<u8>)> {
        let mut fixed = [0; Head::SIZE];
        self.stream.read_exact(&mut fixed).await?;
        let head = Head::parse(fixed).map_err(io::Error::other)?;
        let length = head.rest().filter(|length| *length <= MAX_MESSAGE);
        let length = length
            .ok_or_else(|| io::Error::other(format!("a message is longer than {MAX_MESSAGE} bytes")))?;
        let mut rest = vec![0; length];
        self.stream.read_exact(&mut rest).await?;
        Ok((head, rest))
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused { name } => write!(f, "it refuses with {name}"),
            Self::Broken(why) => f.write_str(why),
        }
    }
}
