//! Everything that can be put side by side: each serves streams on a socket, and rotates when it is told.

pub(crate) mod anchor;
mod peer;
pub(crate) mod spire;
mod told;
pub(crate) mod tonic;
mod vouch;

use std::{fmt::Debug, path::Path, time::Duration};

use anyhow::{Result, bail};
use vouch_bench::results;

pub(crate) use peer::{Peer, PeerNames};
pub(crate) use spire::SpireAgent;
pub(crate) use told::Told;
pub(crate) use vouch::{Rotates, Vouch};

use crate::{clock::Moment, load::Watch, sds::AckShape, stand_in::Shape};

/// A running server.
pub(crate) trait Server: Debug {
    fn name(&self) -> &str;
    fn socket(&self) -> &Path;
    fn pid(&self) -> u32;

    /// What a reader of the numbers has to know of it.
    fn describe(&self) -> results::Server;

    /// Whether it frames what it sends and knows nothing else of HTTP/2.
    fn is_raw(&self) -> bool {
        false
    }

    /// How closely its streams can be watched.
    fn watch(&self) -> Watch {
        Watch::Each
    }

    /// Whether a rotation begins when the server finds out about it by itself: times then count from the first push.
    fn finds_out(&self) -> bool {
        false
    }

    /// The sizes of what a stand-in sends in `round`, and of the ACK as a gRPC message.
    fn prepare(&mut self, _shape: &Shape, _ack_bytes: usize, _round: usize) {}

    /// Streams are about to come.
    fn connecting(&mut self) -> Result<()> {
        Ok(())
    }

    /// All streams are connected, and have their first secret where there is one.
    fn connected(&mut self) -> Result<()> {
        Ok(())
    }

    /// Begins a rotation, and does not wait for it.
    fn rotate(&mut self) -> Result<()>;

    /// Looks, while a rotation is waited for, whether it can still come.
    fn look(&mut self) -> Result<()> {
        Ok(())
    }

    /// Hears the server's own word of the rotation.
    fn rotated(&mut self) -> Result<()>;

    /// Whether [`Self::restart`] does anything.
    fn can_restart(&self) -> bool {
        false
    }

    /// Ends it and starts it anew, with the same state and another process, and does not wait for it to serve. Gives the
    /// moment at which the new process was started.
    fn restart(&mut self) -> Result<Moment> {
        bail!("{} is not started anew", self.name())
    }

    /// What it said lately, for when something goes wrong.
    fn log(&self) -> String {
        String::new()
    }
}

/// What can be started, or is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Vouch,
    /// With readers beside its streams that read nothing.
    VouchStalled,
    Anchor,
    /// With a sleeping thread behind each socket of the load.
    AnchorThreads,
    Tonic,
    Spire,
    /// By its place on the command line.
    Peer(usize),
}

impl Kind {
    /// So long a rotation to `streams` may take, with what has to be done around it; a slow machine needs more.
    pub(crate) fn slot(self, streams: u32, ack: AckShape) -> Duration {
        let (base_ms, each_us) = match (self, ack) {
            (Self::Vouch | Self::VouchStalled, AckShape::Small) => (150, 70),
            (Self::Anchor, AckShape::Small) => (120, 40),
            (Self::AnchorThreads, _) => (150, 60),
            (Self::Tonic, AckShape::Small) => (150, 80),
            (Self::Vouch | Self::VouchStalled, AckShape::Envoy) => (200, 160),
            (Self::Anchor, AckShape::Envoy) => (150, 70),
            (Self::Tonic, AckShape::Envoy) => (200, 600),
            // They find out within some seconds.
            (Self::Spire | Self::Peer(_), AckShape::Small) => (3_500, 250),
            (Self::Spire | Self::Peer(_), AckShape::Envoy) => (3_500, 700),
        };
        let slow = if cfg!(debug_assertions) { 3 } else { 1 };
        Duration::from_millis(base_ms) + Duration::from_micros(each_us * slow) * streams
    }
}
