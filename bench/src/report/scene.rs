//! A scenario as the pages need it: rounds paired, deliveries read, and whether its times may be published.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{self, Display, Formatter},
};

use crate::{
    numbers::Spread,
    report::{Delivery, words},
    results::{Memory, Results, Round, Scenario, Series},
};

/// The raw sockets that everything is compared with.
pub(crate) const ANCHOR: &str = "anchor";
/// The same with a thread for each stream; no server either.
const ANCHOR_THREADS: &str = "anchor-threads";
pub(crate) const OURS: &str = "vouch";
/// Above this share of disturbed rounds, times say more of the machine than of the servers.
const MOST_DISTURBED: f64 = 0.2;
/// An ACK that carries no `Node` is smaller.
const SMALL_ACK_BYTES: usize = 4096;

/// One scenario at one size.
#[derive(Debug)]
pub(crate) struct Scene<'a> {
    pub(crate) scenario: &'a Scenario,
    pub(crate) shape: Shape<'a>,
    pub(crate) runs: Vec<Run<'a>>,
}

/// One server in it.
#[derive(Debug)]
pub(crate) struct Run<'a> {
    pub(crate) series: &'a Series,
    /// Of its rounds, in their order; `None` where the histogram cannot be read.
    deliveries: Vec<Option<Delivery>>,
}

/// What makes numbers of two sizes comparable: all that tells scenarios of one file apart, but N.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shape<'a> {
    pub(crate) id: &'a str,
    streams_per_connection: u32,
    ack_bytes: usize,
    /// Only the [`Telling`] ones.
    parameters: Vec<(&'a str, &'a str)>,
}

/// Names of parameters, with the id of the scenarios that they tell apart: those in which two of one file differ that
/// are alike in id, N, streams per connection and size of ACK.
#[derive(Debug, Default)]
pub(crate) struct Telling<'a>(BTreeSet<(&'a str, &'a str)>);

impl<'a> Telling<'a> {
    /// What tells the scenarios of one file apart.
    pub(crate) fn add(&mut self, results: &'a Results) {
        let mut firsts = BTreeMap::new();
        for scenario in &results.scenarios {
            let Scenario { id, streams, streams_per_connection, ack_bytes, parameters, .. } = scenario;
            let first = firsts.entry((id, streams, streams_per_connection, ack_bytes)).or_insert(parameters);
            let names = parameters.keys().chain(first.keys());
            let differing = names.filter(|name| parameters.get(*name) != first.get(*name));
            self.0.extend(differing.map(|name| (id.as_str(), name.as_str())));
        }
    }
}

impl<'a> Shape<'a> {
    fn of(scenario: &'a Scenario, telling: &Telling) -> Self {
        let parameters = scenario.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        Self {
            id: &scenario.id,
            streams_per_connection: scenario.streams_per_connection,
            ack_bytes: scenario.ack_bytes,
            parameters: parameters.filter(|(name, _)| telling.0.contains(&(&scenario.id, *name))).collect(),
        }
    }
}

impl<'a> Scene<'a> {
    /// Of all scenarios, in the order of the file.
    pub(crate) fn all(results: &'a Results) -> Vec<Self> {
        let mut telling = Telling::default();
        telling.add(results);
        Self::told_apart(results, &telling)
    }

    /// The same, where parameters of more than this file tell scenarios apart.
    pub(crate) fn told_apart(results: &'a Results, telling: &Telling) -> Vec<Self> {
        let scene = |scenario: &'a Scenario| Self {
            scenario,
            shape: Shape::of(scenario, telling),
            runs: scenario.series.iter().map(Run::of).collect(),
        };
        results.scenarios.iter().map(scene).collect()
    }

    /// What `server` did; `None` when it took no part or has no rounds.
    pub(crate) fn run(&self, server: &str) -> Option<&Run<'a>> {
        self.runs.iter().find(|run| run.series.server == server)
    }

    /// Counted rounds that were disturbed, and counted rounds.
    pub(crate) fn disturbed(&self) -> (usize, usize) {
        let counted = || self.runs.iter().flat_map(|run| counted(run.series));
        (counted().filter(|round| round.disturbed).count(), counted().count())
    }

    /// Whether times may be published.
    pub(crate) fn has_times(&self) -> bool {
        let (disturbed, counted) = self.disturbed();
        disturbed as f64 <= MOST_DISTURBED * counted as f64
    }

    /// Why times are not published.
    pub(crate) fn why_no_times(&self) -> String {
        let (disturbed, counted) = self.disturbed();
        format!("not published: {disturbed} of {counted} rounds disturbed")
    }

    /// `over` by `under`, round by round.
    pub(crate) fn ratio(&self, over: &str, under: &str, number: impl Fn(&Round) -> f64) -> Option<Spread> {
        Spread::of(ratios(self.run(over)?.series, self.run(under)?.series, number))
    }

    /// What the server's memory grew to `kib` since before the first connection, by streams, in thousands of bytes.
    pub(crate) fn kilobytes_per_stream(&self, memory: &Memory, kib: u64) -> Option<f64> {
        let grown = kib as f64 - memory.before_kib as f64;
        (self.scenario.streams > 0).then(|| grown * 1.024 / f64::from(self.scenario.streams))
    }

    pub(crate) fn has_small_acks(&self) -> bool {
        self.scenario.ack_bytes < SMALL_ACK_BYTES
    }

    /// Tells this scenario and size from all others on a page.
    pub(crate) fn key(&self) -> String {
        format!("{}, {}", self.shape, self.scenario.streams)
    }
}

impl Display for Scene<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}, N = {}", self.shape, words::whole(self.scenario.streams.into()))
    }
}

impl Display for Shape<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { id, streams_per_connection, ack_bytes, parameters } = self;
        let streams = if *streams_per_connection == 1 { "stream" } else { "streams" };
        let ack = words::bytes(*ack_bytes);
        write!(f, "{id}, {streams_per_connection} {streams} per connection, ACK {ack}")?;
        parameters.iter().try_for_each(|(name, value)| write!(f, ", {name} {value}"))
    }
}

impl<'a> Run<'a> {
    fn of(series: &'a Series) -> Self {
        let deliveries = series.rounds.iter().map(|round| Delivery::parse(&round.delivery).ok());
        Self { series, deliveries: deliveries.collect() }
    }

    /// Over its counted rounds.
    pub(crate) fn spread(&self, number: impl Fn(&Round) -> f64) -> Option<Spread> {
        Spread::of(counted(self.series).map(number).filter(|number| number.is_finite()))
    }

    /// All streams of all counted rounds; `None` when there are none.
    pub(crate) fn delivery(&self) -> Option<Delivery> {
        let all = Delivery::merged(self.counted_deliveries().map(|(_, delivery)| delivery));
        (all.total() > 0).then_some(all)
    }

    /// The counted round whose last delivery is the median (of two, the earlier), with its number among all rounds.
    pub(crate) fn median_rotation(&self) -> Option<(usize, &Delivery)> {
        let mut rounds: Vec<_> =
            self.counted_deliveries().filter(|(_, delivery)| delivery.total() > 0).collect();
        let last = |round: &(usize, &Delivery)| self.series.rounds[round.0].last_delivery_us;
        rounds.sort_by(|one, other| last(one).total_cmp(&last(other)));
        rounds.get(rounds.len().saturating_sub(1) / 2).copied()
    }

    /// Counted rounds whose histogram cannot be read.
    pub(crate) fn unreadable(&self) -> usize {
        let rounds = self.series.rounds.iter().zip(&self.deliveries);
        rounds.filter(|(round, delivery)| round.counted && delivery.is_none()).count()
    }

    fn counted_deliveries(&self) -> impl Iterator<Item = (usize, &Delivery)> {
        let rounds = self.series.rounds.iter().zip(&self.deliveries).enumerate();
        rounds.filter_map(|(number, (round, delivery))| {
            delivery.as_ref().filter(|_| round.counted).map(|delivery| (number, delivery))
        })
    }
}

/// Rounds that are not warm-up.
pub(crate) fn counted(series: &Series) -> impl Iterator<Item = &Round> {
    series.rounds.iter().filter(|round| round.counted)
}

/// `over` by `under` in each round that counts for both: only what ran side by side is compared. Rounds are paired by
/// their place.
pub(crate) fn ratios(over: &Series, under: &Series, number: impl Fn(&Round) -> f64) -> Vec<f64> {
    let pairs = over.rounds.iter().zip(&under.rounds).filter(|(over, under)| over.counted && under.counted);
    let each = pairs.map(|(over, under)| number(over) / number(under));
    each.filter(|ratio| ratio.is_finite()).collect()
}

/// Servers other than ours and the anchors, in the order of the columns.
pub(crate) fn peers(results: &Results) -> Vec<&str> {
    servers(results).into_iter().filter(|name| is_peer(name)).collect()
}

pub(crate) fn is_peer(server: &str) -> bool {
    ![OURS, ANCHOR, ANCHOR_THREADS].contains(&server)
}

/// All servers, in the order of the columns; those that only a scenario names come last.
pub(crate) fn servers(results: &Results) -> Vec<&str> {
    let named = results.servers.iter().map(|server| &server.name);
    let mut all: Vec<&str> = Vec::new();
    for name in named.chain(
        results.scenarios.iter().flat_map(|scenario| scenario.series.iter().map(|series| &series.server)),
    ) {
        if !all.contains(&name.as_str()) {
            all.push(name);
        }
    }
    all
}
