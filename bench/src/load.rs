//! All streams of one server, on one thread: reads what comes, checks it, acknowledges it, and notes when.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::{
    connection::Connection,
    sds::{self, Answer},
};

/// Events taken from the kernel at once.
const BATCH: usize = 512;
/// Read from one socket at once.
const SCRATCH: usize = 64 << 10;

/// All streams of one server.
#[derive(Debug)]
pub(crate) struct Load {
    epoll: Epoll,
    streams: Vec<Stream>,
    versions: Versions,
    scratch: Vec<u8>,
    /// Which version, counted from 1, every stream is to get now.
    expected: usize,
    delivered: usize,
    acknowledged: usize,
}

#[derive(Debug)]
struct Stream {
    connection: Connection,
    /// Whether epoll tells when the socket takes bytes again.
    watches_socket: bool,
    /// Versions that it was sent.
    versions: usize,
    delivered_at: Instant,
    /// An ACK is queued and not wholly written.
    acknowledging: bool,
    acknowledged_at: Instant,
}

/// Every version in the order in which the first stream got it.
#[derive(Debug, Default)]
struct Versions {
    seen: Vec<(Vec<u8>, Vec<u8>)>,
    /// The last ACK and the nonce in it: mostly the next stream's is the same.
    ack: (Vec<u8>, Vec<u8>),
}

impl Load {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            streams: Vec::new(),
            versions: Versions::default(),
            scratch: vec![0; SCRATCH],
            expected: 1,
            delivered: 0,
            acknowledged: 0,
        })
    }

    pub(crate) fn add(&mut self, connection: Connection) -> Result<()> {
        let event = EpollEvent::new(EpollFlags::EPOLLIN, self.streams.len() as u64);
        self.epoll.add(&connection, event)?;
        let now = Instant::now();
        self.streams.push(Stream {
            connection,
            watches_socket: false,
            versions: 0,
            delivered_at: now,
            acknowledging: false,
            acknowledged_at: now,
        });
        Ok(())
    }

    pub(crate) fn len(&self) -> usize {
        self.streams.len()
    }

    /// From here on every stream is to get one more version.
    pub(crate) fn expect_next(&mut self) {
        (self.expected, self.delivered, self.acknowledged) = (self.versions.seen.len() + 1, 0, 0);
    }

    /// Streams that have what is expected.
    pub(crate) fn delivered(&self) -> usize {
        self.delivered
    }

    /// Streams that have it, and whose ACK was taken by the kernel.
    pub(crate) fn acknowledged(&self) -> usize {
        self.acknowledged
    }

    /// When each stream got its last version.
    pub(crate) fn delivery_times(&self) -> impl Iterator<Item = Instant> {
        self.streams.iter().map(|stream| stream.delivered_at)
    }

    /// When the last ACK was written.
    pub(crate) fn last_acknowledged(&self) -> Option<Instant> {
        self.streams.iter().map(|stream| stream.acknowledged_at).max()
    }

    /// The newest secret, as an `Any`.
    pub(crate) fn newest(&self) -> Option<&[u8]> {
        self.versions.seen.last().map(|(_, resource)| &resource[..])
    }

    /// What the raw anchor sends in `round`, and how many bytes each ACK has on the wire.
    pub(crate) fn same_size(&self, round: usize) -> Result<(Vec<u8>, usize)> {
        let (version, resource) = self.versions.seen.last().context("nothing was received yet")?;
        let answer = Answer { version, nonce: &self.versions.ack.0, resource };
        let ack = self.versions.ack.1.len() + crate::http2::HEADER_LEN;
        Ok((sds::same_size(&answer, round)?, ack))
    }

    /// Serves until `moment`.
    pub(crate) fn until(&mut self, moment: Instant) -> Result<()> {
        while self.poll(moment.saturating_duration_since(Instant::now()))? {}
        Ok(())
    }

    /// Serves whatever comes within `limit`, which is cut to whole milliseconds. Returns whether there was room for
    /// more waiting.
    ///
    /// # Errors
    /// When a stream ended, missed a version, got one twice, or got another secret under the same version.
    pub(crate) fn poll(&mut self, limit: Duration) -> Result<bool> {
        let milliseconds = u16::try_from(limit.as_millis()).unwrap_or(u16::MAX);
        let mut events = [EpollEvent::empty(); BATCH];
        let count = self.epoll.wait(&mut events, EpollTimeout::from(milliseconds))?;
        for event in &events[..count] {
            let index = event.data() as usize;
            self.serve(index).with_context(|| format!("stream {index}"))?;
        }
        Ok(milliseconds > 0)
    }

    fn serve(&mut self, index: usize) -> Result<()> {
        let stream = &mut self.streams[index];
        let (versions, before) = (&mut self.versions, stream.versions);
        let (had, delivered_at) = (&mut stream.versions, &mut stream.delivered_at);
        stream.connection.read(&mut self.scratch, &mut |message, body| {
            *delivered_at = Instant::now();
            *had = versions.take(&Answer::read(message)?, *had)?;
            body.extend_from_slice(&versions.ack.1);
            Ok(())
        })?;
        stream.connection.flush()?;
        if stream.versions != before {
            stream.acknowledging = true;
            self.delivered += usize::from(stream.versions == self.expected);
        }
        if stream.acknowledging && stream.connection.is_flushed() {
            stream.acknowledging = false;
            stream.acknowledged_at = Instant::now();
            self.acknowledged += usize::from(stream.versions == self.expected);
        }
        if stream.connection.wants_socket() != stream.watches_socket {
            stream.watches_socket = !stream.watches_socket;
            let mut flags = EpollFlags::EPOLLIN;
            flags.set(EpollFlags::EPOLLOUT, stream.watches_socket);
            self.epoll.modify(&stream.connection, &mut EpollEvent::new(flags, index as u64))?;
        }
        Ok(())
    }
}

impl Versions {
    /// Notes an answer to a stream that had `had` versions before, and makes its ACK. Gives how many it has now.
    fn take(&mut self, answer: &Answer<'_>, had: usize) -> Result<usize> {
        match self.seen.iter().rposition(|(version, _)| version == answer.version) {
            Some(position) if self.seen[position].1 != answer.resource => {
                bail!("another secret under the same version than the streams before");
            }
            Some(position) if position < had => bail!("a version that it had already"),
            Some(position) if position > had => bail!("missed {} versions", position - had),
            Some(_) => {}
            None if had < self.seen.len() => bail!("missed {} versions", self.seen.len() - had),
            None => self.seen.push((answer.version.to_vec(), answer.resource.to_vec())),
        }
        if self.ack.0 != answer.nonce || had + 1 == self.seen.len() {
            self.ack = (answer.nonce.to_vec(), sds::ack(answer.version, answer.nonce)?);
        }
        Ok(had + 1)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        os::unix::net::UnixStream,
    };

    use prost_types::Any;
    use vouch_proto::envoy::service::discovery::v3::DiscoveryResponse;

    use super::*;
    use crate::{connection::STREAM, http2};

    /// A DATA frame with one resource.
    fn frame(version: &str, resource: &[u8]) -> Vec<u8> {
        let message = DiscoveryResponse {
            version_info: version.into(),
            resources: vec![Any { type_url: "t".into(), value: resource.to_vec() }],
            type_url: "t".into(),
            nonce: "5".into(),
        };
        let mut bytes = Vec::new();
        http2::put_frame(&mut bytes, http2::DATA, 0, STREAM, &sds::grpc(&message));
        bytes
    }

    fn load(streams: usize) -> (Load, Vec<UnixStream>) {
        let mut load = Load::new().unwrap();
        let mut peers = Vec::new();
        for _ in 0..streams {
            let (ours, peer) = UnixStream::pair().unwrap();
            load.add(Connection::raw(ours).unwrap()).unwrap();
            peers.push(peer);
        }
        (load, peers)
    }

    #[test]
    fn a_version_is_counted_when_it_came_and_when_its_ack_went() {
        let (mut load, mut peers) = load(2);
        for round in 1..=2 {
            load.expect_next();
            let version = round.to_string();
            for (sent, peer) in peers.iter_mut().enumerate() {
                assert_eq!(load.acknowledged(), sent);
                peer.write_all(&frame(&version, b"secret")).unwrap();
                load.poll(Duration::from_secs(1)).unwrap();
                let ack = sds::ack(version.as_bytes(), b"5").unwrap();
                let mut received = vec![0; ack.len() + http2::HEADER_LEN];
                peer.read_exact(&mut received).unwrap();
                assert_eq!(received[http2::HEADER_LEN..], ack);
            }
            assert_eq!((load.delivered(), load.acknowledged()), (2, 2));
        }
    }

    #[test]
    fn another_secret_a_repeated_one_and_a_closed_stream_fail_the_run() {
        let (mut load, mut peers) = load(2);
        peers[0].write_all(&frame("1", b"secret")).unwrap();
        load.poll(Duration::from_secs(1)).unwrap();
        peers[1].write_all(&frame("1", b"another")).unwrap();
        assert!(load.poll(Duration::from_secs(1)).is_err());
        peers[0].write_all(&frame("1", b"secret")).unwrap();
        assert!(load.poll(Duration::from_secs(1)).is_err());
        drop(peers);
        assert!(load.poll(Duration::from_secs(1)).is_err());
    }

    fn answer<'a>(version: &'a str, resource: &'a str) -> Answer<'a> {
        Answer { version: version.as_bytes(), nonce: b"1", resource: resource.as_bytes() }
    }

    #[test]
    fn each_stream_gets_each_version_once() {
        let mut versions = Versions::default();
        assert_eq!(versions.take(&answer("a", "1"), 0).unwrap(), 1);
        assert_eq!(versions.take(&answer("a", "1"), 0).unwrap(), 1);
        assert_eq!(versions.take(&answer("b", "2"), 1).unwrap(), 2);
        // A slow stream still gets the one that the others have behind them.
        assert_eq!(versions.take(&answer("a", "1"), 0).unwrap(), 1);
        assert!(versions.take(&answer("a", "1"), 1).is_err(), "twice");
        assert!(versions.take(&answer("a", "1"), 2).is_err(), "back");
        assert!(versions.take(&answer("b", "2"), 0).is_err(), "missed one that others got");
        assert!(versions.take(&answer("c", "3"), 0).is_err(), "missed two");
    }

    #[test]
    fn one_version_has_one_content() {
        let mut versions = Versions::default();
        versions.take(&answer("a", "1"), 0).unwrap();
        assert!(versions.take(&answer("a", "2"), 0).is_err());
    }

    #[test]
    fn an_ack_names_what_it_acknowledges() {
        let mut versions = Versions::default();
        for (version, nonce, had) in [("a", "7", 0), ("b", "8", 1), ("c", "8", 2)] {
            let answer = Answer { nonce: nonce.as_bytes(), ..answer(version, version) };
            versions.take(&answer, had).unwrap();
            assert_eq!(versions.ack.1, sds::ack(version.as_bytes(), nonce.as_bytes()).unwrap());
        }
    }
}
