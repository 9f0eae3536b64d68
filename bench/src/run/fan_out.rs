//! Something new for all streams, again and again; the servers take turns on one schedule.

use std::{collections::BTreeMap, path::Path, thread::sleep, time::Duration};

use anyhow::{Context as _, Result};
use vouch_bench::{report::Delivery, results};

use super::{
    Stage,
    plan::{Point, ScenarioId},
    side::{IDLE, LEAD, Side},
};
use crate::{
    agent::{Agent, Settings, TRUST_DOMAIN},
    clock::Moment,
    load::{
        child::{Names, Settled, Setup},
        remote::LoadProcess,
    },
    numbers::Spread,
    progress::Progress,
    roots::Roots,
    servers::{Kind, Rotates, Server, SpireAgent, Told, Vouch},
};

/// A server knows its entries by then.
const SERVES_LIMIT: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(200);

pub(super) fn perform(
    stage: &Stage<'_>,
    point: &Point,
    progress: &Progress,
) -> Result<(Vec<results::Scenario>, Vec<results::Server>)> {
    let mut sides: Vec<Side<'_>> = Vec::new();
    for &kind in &point.kinds {
        let model = sides.first().and_then(|first| first.settled.clone());
        let server = stage.start(kind, point)?;
        progress.at(&format!("connecting to {}", server.name()));
        let setup = setup(stage, kind, &*server, point);
        if server.finds_out() {
            first_secret(&setup).with_context(|| format!("{}: {}", server.name(), server.log()))?;
        }
        let mut side = Side::new(server, &setup)?;
        if let Some(model) = model {
            side.prepare(&model.shape, model.ack_bytes, 0);
        }
        let connected = side.connect(point.unanswered);
        connected.with_context(|| format!("{}: {}", side.server.name(), side.server.log()))?;
        sides.push(side);
    }
    progress.at("idle");
    Side::watch_idle(&mut sides, IDLE)?;

    let timetable = point.timetable();
    let length = *timetable.last().context("a timetable has an end")?;
    let start = Moment::now() + LEAD;
    let rounds = point.warmup + point.counted;
    for round in 0..rounds {
        let begin = start + length * round;
        for place in 0..sides.len() {
            let model = sides[0].settled.clone().context("the first server has sent nothing")?;
            let side = &mut sides[place];
            side.prepare(&model.shape, model.ack_bytes, round as usize + 1);
            let (due, next) = (begin + timetable[place], begin + timetable[place + 1]);
            let rotated = side.rotate(due, next, round >= point.warmup).map(|round| round.last_delivery_us);
            let last = rotated
                .with_context(|| format!("round {round} of {}: {}", side.server.name(), side.server.log()))?;
            progress.at(&format!(
                "round {} of {rounds}, {} after {:.1} ms",
                round + 1,
                side.server.name(),
                last / 1e3
            ));
        }
    }
    let servers = sides.iter().map(|side| side.server.describe()).collect();
    Ok((scenarios(point, sides, length)?, servers))
}

/// One; or two, when some servers had stalled readers and others had not.
fn scenarios(point: &Point, sides: Vec<Side<'_>>, interval: Duration) -> Result<Vec<results::Scenario>> {
    let model = sides[0].settled.clone().context("the first server has sent nothing")?;
    let message_bytes = model.shape.message(0).len();
    let mut scenarios: Vec<results::Scenario> = Vec::new();
    for (side, kind) in sides.into_iter().zip(&point.kinds) {
        let mut parameters = BTreeMap::from([
            ("interval_ms".to_owned(), interval.as_millis().to_string()),
            ("unanswered".to_owned(), point.unanswered.to_string()),
        ]);
        if point.id == ScenarioId::S7 {
            let share = f64::from(point.stalled(*kind)) / f64::from(point.streams);
            parameters.insert("stalled_share".to_owned(), share.to_string());
        }
        if point.names.distinct > 1 {
            parameters.insert("identities".to_owned(), point.names.distinct.to_string());
        }
        let mut series = side.finish()?;
        if point.id == ScenarioId::S4 && *kind == Kind::Vouch {
            let each = series
                .rounds
                .iter()
                .filter(|round| round.counted)
                .map(|round| round.server_cpu_us_per_update);
            let fresh = Spread::of(each).context("no round was counted")?.median;
            series.numbers.insert("fresh_identity_cpu_us".into(), fresh);
        }
        match scenarios.iter_mut().find(|known| known.parameters == parameters) {
            Some(known) => known.series.push(series),
            None => scenarios.push(point.scenario(message_bytes, model.ack_bytes, parameters, vec![series])),
        }
    }
    if let Some(first) = scenarios.first_mut() {
        first.series.extend(point.left_out.iter().map(|(server, why)| results::Series {
            server: (*server).to_owned(),
            missing: Some(why.clone()),
            ..results::Series::default()
        }));
    }
    if let [without, with] = &mut scenarios[..] {
        compare_tails(&without.series[0], &mut with.series[0])?;
    }
    Ok(scenarios)
}

/// What stalled readers do to the others' p99, round by round.
fn compare_tails(without: &results::Series, with: &mut results::Series) -> Result<()> {
    let tails = |series: &results::Series| -> Result<Vec<f64>> {
        let counted = series.rounds.iter().filter(|round| round.counted);
        let tail =
            |round: &results::Round| Delivery::parse(&round.delivery)?.quantile(0.99).context("no streams");
        counted.map(tail).collect()
    };
    let ratio = Spread::of_ratios(&tails(with)?, &tails(without)?).context("no round was counted")?;
    for (name, value) in [("", ratio.median), ("_min", ratio.min), ("_max", ratio.max)] {
        with.numbers.insert(format!("healthy_p99_over_quiet{name}"), value);
    }
    Ok(())
}

/// Waits until one stream gets its secret: a server may not know yet who earns it.
pub(super) fn first_secret(setup: &Setup) -> Result<Settled> {
    let deadline = Moment::now() + SERVES_LIMIT;
    let one = Setup { streams: 1, per_connection: 1, ..setup.clone() };
    loop {
        let mut load = LoadProcess::start(&one)?;
        match load.connect(1, false) {
            Ok(_) => return load.settle_first(),
            Err(error) if Moment::now() > deadline => return Err(error),
            Err(_) => sleep(LOOK),
        }
    }
}

pub(super) fn setup(stage: &Stage<'_>, kind: Kind, server: &dyn Server, point: &Point) -> Setup {
    let names = match kind {
        Kind::Peer(place) => {
            let of = |names: &&crate::servers::PeerNames| names.peer == stage.run.peers[place].name;
            let asked = stage.run.peer_names.iter().find(of);
            asked.map_or_else(|| point.names.clone(), |names| Names::one(&names.resource))
        }
        // What one server can send to all.
        Kind::Anchor | Kind::AnchorThreads | Kind::Tonic => Names::one(&point.names.name(0)),
        _ => point.names.clone(),
    };
    Setup {
        socket: server.socket().to_owned(),
        raw: server.is_raw(),
        streams: point.streams,
        per_connection: if server.is_raw() { 1 } else { point.per_connection },
        threads: kind == Kind::AnchorThreads,
        stalled: point.stalled(kind),
        names,
        ack: point.ack,
        watch: server.watch(),
    }
}

impl Stage<'_> {
    /// On the server's CPU.
    pub(super) fn start_vouch(&self, point: &Point, kind: Kind) -> Result<Vouch> {
        let (paths, directory) = (point.paths(), Agent::directory()?);
        let entries: Vec<_> = paths.iter().map(|path| (&**path, Self::selector())).collect();
        let (rotates, issuer) = if point.id == ScenarioId::S3 {
            let roots = Roots::write(directory.path(), TRUST_DOMAIN)?;
            (Rotates::Bundle(roots), Some(Roots::configuration as fn(&Path) -> String))
        } else {
            (Rotates::Svids(u64::from(point.names.distinct)), None)
        };
        let settings = Settings {
            streams: point.streams + point.stalled(kind),
            hooks: &self.run.hooks,
            entries: &entries,
            metrics: None,
            issuer,
        };
        let agent = self.places.at_the_server(|| Agent::start(&self.agent, directory, &settings))?;
        Vouch::new(agent, &self.run.hooks, rotates)
    }

    /// On the server's CPU.
    pub(super) fn start<'a>(&'a self, kind: Kind, point: &Point) -> Result<Box<dyn Server + 'a>> {
        let directory: &Path = self.directory.path();
        self.places.at_the_server(|| {
            Ok(match kind {
                Kind::Vouch | Kind::VouchStalled => {
                    Box::new(self.start_vouch(point, kind)?) as Box<dyn Server>
                }
                Kind::Anchor => Box::new(Told::anchor(directory, point.streams)?),
                Kind::AnchorThreads => Box::new(Told::anchor_of_threads(directory, point.streams)?),
                Kind::Tonic => Box::new(Told::tonic(directory, point.streams)?),
                Kind::Spire => {
                    let spire = self.spire.as_ref().context("no SPIRE was named with --spire")?;
                    let name = point.name().replace('/', "-");
                    Box::new(SpireAgent::start(spire, &name, &Self::selector())?)
                }
                Kind::Peer(place) => Box::new(self.run.peers[place].running()),
            })
        })
    }
}
