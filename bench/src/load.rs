//! All streams to one server, on one thread: reads what comes, checks it, acknowledges it, and notes when.

pub(crate) mod child;
pub(crate) mod remote;
mod threads;
mod versions;

use std::{os::fd::AsFd, time::Duration};

use anyhow::{Context as _, Result};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::{
    clock::Moment,
    connection::Connection,
    sds::{self, Answer, Requests},
    stand_in::Shape,
};
use versions::Versions;
pub(crate) use versions::Watch;

/// Events taken from the kernel at once.
const BATCH: usize = 512;
/// Read from one socket at once.
const SCRATCH: usize = 64 << 10;
/// What epoll says when an order can be read.
const ORDERS: u64 = u64::MAX;

/// All streams to one server.
#[derive(Debug)]
pub(crate) struct Load {
    epoll: Epoll,
    links: Vec<Link>,
    streams: Vec<Stream>,
    names: Vec<Versions>,
    requests: Requests,
    scratch: Vec<u8>,
    delivered: usize,
    acknowledged: usize,
    /// Every delivery, when they are to be kept.
    log: Option<Vec<Delivery>>,
}

/// One stream got something new.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Delivery {
    pub(crate) stream: usize,
    pub(crate) at: Moment,
}

#[derive(Debug)]
struct Link {
    connection: Connection,
    /// Whether epoll tells when the socket takes bytes again.
    watches_socket: bool,
    /// Its streams.
    first: usize,
    count: usize,
}

#[derive(Debug)]
struct Stream {
    name: usize,
    /// Contents of that name that it was sent, or could have been.
    has: usize,
    delivered_at: Moment,
    /// An ACK is queued and not wholly written.
    acknowledging: bool,
    acknowledged_at: Moment,
}

/// Why [`Load::serve`] came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Woken {
    /// By streams, or because the time was over.
    Streams,
    /// An order can be read.
    Orders,
}

impl Load {
    /// Streams will ask for `names`.
    pub(crate) fn new(names: Vec<String>, watch: Watch, requests: Requests) -> Result<Self> {
        Ok(Self {
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            links: Vec::new(),
            streams: Vec::new(),
            names: names.into_iter().map(|name| Versions::new(name, watch)).collect(),
            requests,
            scratch: vec![0; SCRATCH],
            delivered: 0,
            acknowledged: 0,
            log: None,
        })
    }

    /// Tells when `orders` can be read.
    pub(crate) fn listen(&self, orders: impl AsFd) -> Result<()> {
        Ok(self.epoll.add(orders, EpollEvent::new(EpollFlags::EPOLLIN, ORDERS))?)
    }

    /// Takes a connection whose streams ask for these `names`, by their places.
    pub(crate) fn add(&mut self, connection: Connection, names: &[usize]) -> Result<()> {
        let event = EpollEvent::new(EpollFlags::EPOLLIN, self.links.len() as u64);
        self.epoll.add(&connection, event)?;
        let (first, now) = (self.streams.len(), Moment::now());
        self.streams.extend(names.iter().map(|&name| Stream {
            name,
            has: 0,
            delivered_at: now,
            acknowledging: false,
            acknowledged_at: now,
        }));
        self.links.push(Link { connection, watches_socket: false, first, count: names.len() });
        Ok(())
    }

    pub(crate) fn len(&self) -> usize {
        self.streams.len()
    }

    /// From here on every stream is to get one more content.
    pub(crate) fn expect_next(&mut self) {
        (self.delivered, self.acknowledged) = (0, 0);
        for name in &mut self.names {
            name.expected = name.count() + 1;
        }
    }

    /// From here on every delivery is kept.
    pub(crate) fn keep_log(&mut self) {
        self.log = Some(Vec::new());
    }

    pub(crate) fn log(&mut self) -> Vec<Delivery> {
        self.log.take().unwrap_or_default()
    }

    /// Streams that have what is expected.
    pub(crate) fn delivered(&self) -> usize {
        self.delivered
    }

    /// Streams that have it, and whose ACK was taken by the kernel.
    pub(crate) fn acknowledged(&self) -> usize {
        self.acknowledged
    }

    /// When each stream got what was expected last.
    pub(crate) fn delivery_times(&self) -> impl Iterator<Item = Moment> {
        self.streams.iter().map(|stream| stream.delivered_at)
    }

    /// When the last ACK was written.
    pub(crate) fn last_acknowledged(&self) -> Option<Moment> {
        self.streams.iter().map(|stream| stream.acknowledged_at).max()
    }

    /// The place of each stream's name.
    pub(crate) fn names_of_streams(&self) -> Vec<usize> {
        self.streams.iter().map(|stream| stream.name).collect()
    }

    /// Streams that do not have the newest that anybody got of their name.
    pub(crate) fn behind(&self) -> usize {
        self.streams.iter().filter(|stream| stream.has != self.names[stream.name].count()).count()
    }

    /// What of each name's newest secret changes with a rotation.
    pub(crate) fn contents(&self) -> Result<Vec<Vec<u8>>> {
        let content = |versions: &Versions| {
            let (_, resource) = versions.newest().context("no secret came")?;
            sds::content(resource, &versions.name).with_context(|| versions.name.clone())
        };
        self.names.iter().map(content).collect()
    }

    /// Sizes of the newest answer, and bytes of its ACK as a gRPC message.
    pub(crate) fn shape(&self) -> Result<(Shape, usize)> {
        let versions = self.names.first().context("no name was asked for")?;
        let (version, resource) = versions.newest().context("nothing was received yet")?;
        let answer = Answer { version, nonce: versions.nonce(), resource };
        let ack = self.requests.ack(&versions.name, version, versions.nonce())?;
        Ok((Shape::of(&answer)?, ack.len()))
    }

    /// The first request of a stream that asks for the name at `place`.
    pub(crate) fn first_request(&self, place: usize) -> std::rc::Rc<[u8]> {
        self.requests.first(&self.names[place].name)
    }

    /// Serves whatever comes within `limit`, which is cut to whole milliseconds; not at all when there is an order.
    ///
    /// # Errors
    /// When a stream ended, or got what it may not get by [`Watch`].
    pub(crate) fn serve(&mut self, limit: Option<Duration>) -> Result<Woken> {
        let milliseconds = |limit: Duration| u16::try_from(limit.as_millis()).unwrap_or(u16::MAX);
        let limit = limit.map_or(EpollTimeout::NONE, |limit| milliseconds(limit).into());
        let mut events = [EpollEvent::empty(); BATCH];
        let count = self.epoll.wait(&mut events, limit)?;
        let mut woken = Woken::Streams;
        for event in &events[..count] {
            match event.data() {
                ORDERS => woken = Woken::Orders,
                index => self.serve_link(index as usize).with_context(|| {
                    format!("connection {index}, of stream {}", self.links[index as usize].first)
                })?,
            }
        }
        Ok(woken)
    }

    fn serve_link(&mut self, index: usize) -> Result<()> {
        let link = &mut self.links[index];
        let streams = &mut self.streams[link.first..link.first + link.count];
        let (names, requests, log) = (&mut self.names, &self.requests, &mut self.log);
        let delivered = &mut self.delivered;
        link.connection.read(&mut self.scratch, &mut |place, message: &[u8]| {
            let at = Moment::now();
            let stream = streams.get_mut(place).context("an answer on no stream of ours")?;
            let versions = &mut names[stream.name];
            let (has, ack) = versions.take(&Answer::read(message)?, stream.has, requests)?;
            if has > stream.has {
                if stream.has < versions.expected && has >= versions.expected {
                    *delivered += 1;
                    stream.delivered_at = at;
                }
                if let Some(log) = log {
                    log.push(Delivery { stream: link.first + place, at });
                }
            }
            stream.has = has;
            stream.acknowledging = true;
            Ok(ack)
        })?;
        if link.connection.is_flushed() {
            let now = Moment::now();
            for stream in streams.iter_mut().filter(|stream| stream.acknowledging) {
                stream.acknowledging = false;
                stream.acknowledged_at = now;
                self.acknowledged += usize::from(stream.has >= names[stream.name].expected);
            }
        }
        if link.connection.wants_socket() != link.watches_socket {
            link.watches_socket = !link.watches_socket;
            let mut flags = EpollFlags::EPOLLIN;
            flags.set(EpollFlags::EPOLLOUT, link.watches_socket);
            self.epoll.modify(&link.connection, &mut EpollEvent::new(flags, index as u64))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
