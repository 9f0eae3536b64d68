//! What `run` is told, and which points that makes.

use std::{path::PathBuf, time::Duration};

use anyhow::{Result, ensure};
use clap::{Args, value_parser};

use super::plan::{Point, ScenarioId};
use crate::{
    progress::say,
    sds::AckShape,
    servers::{Kind, Peer, PeerNames},
};

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// S1 to S10, or all; bench/README.md says what each is
    #[arg(long, value_delimiter = ',', default_value = "S1", value_name = "ID,..")]
    scenario: Vec<String>,
    /// So many streams; the scenarios run with each of these
    #[arg(long, value_delimiter = ',', default_value = "1000", value_name = "N,..",
          value_parser = value_parser!(u32).range(1..=10_000))]
    streams: Vec<u32>,
    /// Instead of what the scenario has
    #[arg(long, value_parser = value_parser!(u32).range(1..=100))]
    streams_per_connection: Option<u32>,
    /// What each ACK carries, instead of what the scenario has
    #[arg(long)]
    ack: Option<AckShape>,
    /// Rotations that count
    #[arg(long, default_value_t = 12, value_parser = value_parser!(u32).range(1..=1_000))]
    pub(super) rotations: u32,
    /// Rotations before those, which are kept and counted nowhere
    #[arg(long, default_value_t = 3, value_parser = value_parser!(u32).range(0..=100))]
    pub(super) warmup: u32,
    /// From one rotation to the next of the same server, fixed before the run; the others take their turns in between.
    /// Default: what the streams and servers need
    #[arg(long, value_parser = value_parser!(u64).range(50..=600_000))]
    pub(super) interval_ms: Option<u64>,
    /// How long S5 goes on
    #[arg(long, default_value_t = 60, value_parser = value_parser!(u64).range(1..=3_600))]
    seconds: u64,
    /// Rotations in each second of S5
    #[arg(long, default_value_t = 50.0)]
    rate: f64,
    /// While connecting, so many streams may wait for their first secret
    #[arg(long, default_value_t = 64, value_parser = value_parser!(u32).range(1..))]
    pub(super) unanswered: u32,
    /// The agent's kernel.hooks: auto, off or require
    #[arg(long, default_value = "auto")]
    pub(super) hooks: String,
    /// The agent; the one beside this program when not given
    #[arg(long, value_name = "PATH")]
    pub(super) agent: Option<PathBuf>,
    /// A server that takes part, and how it is made to rotate
    #[arg(long = "peer", value_name = "NAME=SOCKET,PID,COMMAND")]
    pub(super) peers: Vec<Peer>,
    /// What a peer is asked for, unless it is `default`
    #[arg(long, value_name = "NAME=RESOURCE")]
    pub(super) peer_names: Vec<PeerNames>,
    /// The folder with spire-agent and spire-server, which then take part; `cargo xtask bench peer spire` names it
    #[arg(long, value_name = "FOLDER")]
    pub(super) spire: Option<PathBuf>,
    /// An Envoy, for S9; `cargo xtask bench` names it
    #[arg(long, value_name = "PATH")]
    pub(super) envoy: Option<PathBuf>,
    /// TLS contexts of each Envoy in S9, of which there are as many as --streams, and 30 at most
    #[arg(long, default_value_t = 1, value_parser = value_parser!(u32).range(1..=1_000))]
    contexts: u32,
    /// 100 streams and 3 rotations: whether everything works
    #[arg(long, conflicts_with_all = ["streams", "full"])]
    quick: bool,
    /// Every scenario at the sizes that are published
    #[arg(long, conflicts_with_all = ["scenario", "streams"])]
    full: bool,
    /// Where the results go
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

impl Run {
    /// Scenarios at their sizes, in the order in which they run.
    pub(super) fn points(&self) -> Result<Vec<Point>> {
        let known: Vec<&str> = self.peers.iter().map(|peer| &*peer.name).collect();
        for names in &self.peer_names {
            ensure!(known.contains(&&*names.peer), "there is no --peer {}", names.peer);
        }
        let sizes: Vec<(ScenarioId, u32, u32)> = if self.full {
            super::plan::FULL.to_vec()
        } else {
            let streams = if self.quick { &[100][..] } else { &self.streams };
            let ids = ScenarioId::list(&self.scenario)?;
            let contexts = self.contexts;
            ids.into_iter()
                .flat_map(|id| streams.iter().map(move |&streams| (id, streams, contexts)))
                .collect()
        };
        let (with, without): (Vec<_>, Vec<_>) = sizes
            .into_iter()
            .map(|(id, streams, contexts)| self.point(id, streams, contexts))
            .partition(|point| point.id != ScenarioId::S9 || self.envoy.is_some());
        if !without.is_empty() {
            say("S9 is left out: real Envoys are named with --envoy PATH");
        }
        ensure!(!with.is_empty(), "nothing is left to run");
        Ok(with)
    }

    fn point(&self, id: ScenarioId, streams: u32, contexts: u32) -> Point {
        let (warmup, rotations) = if self.quick { (1, 3) } else { (self.warmup, self.rotations) };
        let spire = self.spire.as_ref().map(|_| Kind::Spire);
        let peers = (0..self.peers.len()).map(Kind::Peer);
        let others: Vec<_> = spire.into_iter().chain(peers).collect();
        let mut point = Point::new(id, streams, &others);
        point.per_connection = self.streams_per_connection.unwrap_or(point.per_connection);
        point.ack = self.ack.unwrap_or(point.ack);
        if id == ScenarioId::S9 {
            point.contexts = contexts;
        }
        point.unanswered = self.unanswered;
        (point.warmup, point.counted) = (warmup, rotations);
        (point.lasts, point.rate) =
            (Duration::from_secs(if self.quick { 3 } else { self.seconds }), self.rate);
        point.interval = self.interval_ms.map(Duration::from_millis);
        point
    }
}
