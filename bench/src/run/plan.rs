//! Which scenarios there are, and what each is at a size.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Result, bail};
use vouch_bench::results;

use crate::{load::child::Names, sds::AckShape, servers::Kind};

/// Starting, connecting, watching idle, probing.
const AROUND: Duration = Duration::from_secs(6);
/// Each needs a load process, and some rest.
const STORM: Duration = Duration::from_millis(700);
/// Its start, and its share of the CPU while it does.
const ENVOY: Duration = Duration::from_millis(500);
/// One round of fresh processes, connections and streams, of two servers.
const ATTESTATION: Duration = Duration::from_secs(2);
/// SPIRE starts slowly, and every first secret takes an attestation.
const AROUND_SPIRE: Duration = Duration::from_secs(8);
/// Of a SPIRE agent, for each stream: most of a millisecond, and more with a whole `Node`.
const CONNECT_SPIRE: Duration = Duration::from_micros(1_300);

/// Of identities with a number, which are asked for by their SPIFFE ID.
const IDENTITY: &str = "spiffe://bench.example/load/{}";
/// Descriptors that a SPIRE agent needs beside its connections.
const SPIRE_SPARE: u64 = 100;
/// In the scenario with random moments.
const STREAMS_PER_IDENTITY: u32 = 10;

/// As performance engineers know them; bench/README.md says what each is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ScenarioId {
    S1,
    S2,
    S3,
    S4,
    S5,
    S6,
    S7,
    S8,
    S9,
    S10,
}

/// What is published: scenario, streams, and contexts of each Envoy where there are some.
pub(super) const FULL: [(ScenarioId, u32, u32); 16] = [
    (ScenarioId::S1, 100, 1),
    (ScenarioId::S1, 1_000, 1),
    (ScenarioId::S1, 5_000, 1),
    // As many as an agent takes that may have 20,000 descriptors.
    (ScenarioId::S1, 9_800, 1),
    (ScenarioId::S2, 5_000, 1),
    (ScenarioId::S3, 5_000, 1),
    (ScenarioId::S4, 1_000, 1),
    (ScenarioId::S5, 1_000, 1),
    (ScenarioId::S6, 1_000, 1),
    (ScenarioId::S7, 5_000, 1),
    (ScenarioId::S8, 1_000, 1),
    (ScenarioId::S8, 5_000, 1),
    (ScenarioId::S9, 1, 500),
    (ScenarioId::S9, 10, 1),
    (ScenarioId::S9, 30, 1),
    (ScenarioId::S10, 1, 1),
];
/// An Envoy takes some 65 MB.
const MOST_ENVOYS: u32 = 30;

impl ScenarioId {
    const ALL: [Self; 10] =
        [Self::S1, Self::S2, Self::S3, Self::S4, Self::S5, Self::S6, Self::S7, Self::S8, Self::S9, Self::S10];

    /// The scenarios that `names` stand for.
    pub(super) fn list(names: &[String]) -> Result<Vec<Self>> {
        let mut list = Vec::new();
        for name in names {
            match Self::ALL.iter().find(|id| id.name().eq_ignore_ascii_case(name)) {
                Some(id) => list.push(*id),
                None if name == "all" => list.extend(Self::ALL),
                None => bail!("there is no scenario {name:?}: S1 to S10, or all"),
            }
        }
        Ok(list)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::S1 => "S1",
            Self::S2 => "S2",
            Self::S3 => "S3",
            Self::S4 => "S4",
            Self::S5 => "S5",
            Self::S6 => "S6",
            Self::S7 => "S7",
            Self::S8 => "S8",
            Self::S9 => "S9",
            Self::S10 => "S10",
        }
    }

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::S1 => "one secret to N connections with one stream each",
            Self::S2 => "one secret to N streams, four on each connection",
            Self::S3 => "the trust bundle changes, for all",
            Self::S4 => "N identities with a stream each: all get new keys and certificates at once",
            Self::S5 => "random identities rotate at random moments, at a fixed rate",
            Self::S6 => "all connect at once, each for its first secret",
            Self::S7 => "one secret, and readers beside the streams that read nothing",
            Self::S8 => "one secret, and 61 KB of Node in each ACK, as an Envoy sends by default",
            Self::S9 => "real Envoys, until they use the new secret",
            Self::S10 => "a process and its first secret",
        }
    }
}

/// One scenario at one size.
#[derive(Debug, Clone)]
pub(super) struct Point {
    pub(super) id: ScenarioId,
    pub(super) streams: u32,
    /// TLS contexts of each Envoy.
    pub(super) contexts: u32,
    pub(super) per_connection: u32,
    pub(super) ack: AckShape,
    pub(super) names: Names,
    pub(super) unanswered: u32,
    pub(super) kinds: Vec<Kind>,
    /// Servers that cannot take part, and why.
    pub(super) left_out: Vec<(&'static str, String)>,
    pub(super) warmup: u32,
    pub(super) counted: u32,
    pub(super) interval: Option<Duration>,
    /// Of the scenario with random moments: how long it lasts, and rotations in a second.
    pub(super) lasts: Duration,
    pub(super) rate: f64,
}

impl Point {
    /// With `others` beside what is always there, where they can take part.
    pub(super) fn new(id: ScenarioId, streams: u32, others: &[Kind]) -> Self {
        let own = [Kind::Vouch, Kind::Anchor, Kind::Tonic];
        let (kinds, others_too) = match id {
            ScenarioId::S1 => (&[Kind::Vouch, Kind::Anchor, Kind::Tonic, Kind::AnchorThreads][..], true),
            ScenarioId::S2 | ScenarioId::S8 => (&own[..], true),
            ScenarioId::S3 => (&own[..], false),
            // Without keys and certificates of their own, the others have nothing to do here.
            ScenarioId::S4 => (&own[..2], false),
            ScenarioId::S5 | ScenarioId::S9 => (&own[..1], false),
            ScenarioId::S10 => (&own[..1], true),
            ScenarioId::S6 => (&[Kind::Vouch, Kind::Tonic][..], true),
            ScenarioId::S7 => (&[Kind::Vouch, Kind::VouchStalled, Kind::Anchor][..], false),
        };
        let names = match id {
            ScenarioId::S3 => Names::one("ROOTCA"),
            ScenarioId::S4 => Names { pattern: IDENTITY.into(), distinct: streams },
            ScenarioId::S5 => {
                Names { pattern: IDENTITY.into(), distinct: streams.div_ceil(STREAMS_PER_IDENTITY) }
            }
            _ => Names::one("default"),
        };
        let streams = match id {
            ScenarioId::S9 => streams.min(MOST_ENVOYS),
            ScenarioId::S10 => 1,
            _ => streams,
        };
        Self {
            id,
            streams,
            contexts: 1,
            per_connection: if id == ScenarioId::S2 { 4 } else { 1 },
            ack: if matches!(id, ScenarioId::S8 | ScenarioId::S9) {
                AckShape::Envoy
            } else {
                AckShape::Small
            },
            names,
            unanswered: 64,
            kinds: kinds.iter().chain(others.iter().filter(|_| others_too)).copied().collect(),
            left_out: Vec::new(),
            warmup: 3,
            counted: 12,
            interval: None,
            lasts: Duration::from_secs(60),
            rate: 50.0,
        }
    }

    /// What was found out here, by server.
    pub(super) fn scenario(
        &self,
        message_bytes: usize,
        ack_bytes: usize,
        parameters: BTreeMap<String, String>,
        series: Vec<results::Series>,
    ) -> results::Scenario {
        results::Scenario {
            id: self.id.name().into(),
            title: self.id.title().into(),
            streams: self.streams,
            streams_per_connection: self.per_connection,
            message_bytes,
            ack_bytes,
            parameters,
            series,
        }
    }

    /// Of connections beside the streams that read nothing.
    pub(super) fn stalled(&self, kind: Kind) -> u32 {
        if kind == Kind::VouchStalled { self.streams.div_ceil(100) } else { 0 }
    }

    /// Paths of the SPIFFE IDs that the load earns.
    pub(super) fn paths(&self) -> Vec<String> {
        match self.names.distinct {
            1 => vec!["load".into()],
            distinct => (0..distinct).map(|number| format!("load/{number}")).collect(),
        }
    }

    pub(super) fn name(&self) -> String {
        let per_connection =
            if self.per_connection > 1 { format!("x{}", self.per_connection) } else { String::new() };
        let contexts = if self.contexts > 1 { format!("x{}", self.contexts) } else { String::new() };
        format!("{}/{}{per_connection}{contexts}", self.id.name(), self.streams)
    }

    /// Whether the streams are ours, and not those of processes that come and go.
    pub(super) fn is_of_streams(&self) -> bool {
        !matches!(self.id, ScenarioId::S9 | ScenarioId::S10)
    }

    /// The most that one process has.
    pub(super) fn connections(&self) -> u32 {
        self.streams + self.kinds.iter().map(|kind| self.stalled(*kind)).max().unwrap_or_default()
    }

    /// Without the SPIRE agent where its process may not have as many `descriptors` as it would need.
    pub(super) fn within(mut self, descriptors: u64) -> Self {
        let connections = self.streams.div_ceil(self.per_connection);
        if 2 * u64::from(connections) + SPIRE_SPARE > descriptors {
            let before = self.kinds.len();
            self.kinds.retain(|kind| *kind != Kind::Spire);
            if self.kinds.len() < before {
                let why = format!("it takes two descriptors for a connection, and may have {descriptors}");
                self.left_out.push(("spire", why));
            }
        }
        self
    }

    /// The moment of each server in a round, counted from the round's begin; the last is when the next round begins.
    pub(super) fn timetable(&self) -> Vec<Duration> {
        let mut moments = vec![Duration::ZERO];
        for kind in &self.kinds {
            let slot = kind.slot(self.streams, self.ack);
            moments.push(moments.last().copied().unwrap_or_default() + slot);
        }
        let total = moments.last().copied().unwrap_or_default();
        let stretch = self.interval.map_or(1.0, |interval| interval.as_secs_f64() / total.as_secs_f64());
        moments.iter().map(|moment| moment.mul_f64(stretch)).collect()
    }

    /// What it will take, more or less.
    pub(super) fn duration(&self) -> Duration {
        let round = self.timetable().last().copied().unwrap_or_default();
        let spire = if self.kinds.contains(&Kind::Spire) {
            AROUND_SPIRE + CONNECT_SPIRE * self.streams
        } else {
            Duration::ZERO
        };
        match self.id {
            ScenarioId::S5 => AROUND + self.lasts,
            ScenarioId::S9 => {
                AROUND + ENVOY * self.streams + Duration::from_secs(1) * (self.warmup + self.counted)
            }
            ScenarioId::S10 => AROUND + spire + ATTESTATION * self.counted,
            // Paced, unpaced and with a restart.
            ScenarioId::S6 => AROUND + spire + (STORM + round) * 3 * (self.warmup + self.counted),
            _ => AROUND + spire + round * (self.warmup + self.counted),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_take_turns_and_an_interval_stretches_them() {
        let mut point = Point::new(ScenarioId::S1, 1_000, &[Kind::Spire]);
        let moments = point.timetable();
        assert_eq!(moments.len(), 6);
        assert!(moments.is_sorted());
        point.interval = Some(moments[5] * 2);
        assert_eq!(point.timetable()[5].as_millis(), (moments[5] * 2).as_millis());
    }

    #[test]
    fn a_server_without_enough_descriptors_is_left_out_and_that_is_said() {
        let point = |streams| Point::new(ScenarioId::S1, streams, &[Kind::Spire]).within(20_000);
        assert!(point(9_900).kinds.contains(&Kind::Spire) && point(9_900).left_out.is_empty());
        assert!(!point(10_000).kinds.contains(&Kind::Spire));
        assert_eq!(point(10_000).left_out[0].0, "spire");
    }

    #[test]
    fn scenarios_are_named_in_either_case() {
        let list = |names: &[&str]| {
            ScenarioId::list(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(list(&["s8", "S1"]).unwrap(), [ScenarioId::S8, ScenarioId::S1]);
        assert_eq!(list(&["all"]).unwrap(), ScenarioId::ALL);
        assert!(list(&["S99"]).is_err());
    }
}
