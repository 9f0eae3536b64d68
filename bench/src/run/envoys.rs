//! Real Envoys, until they have said that they use the new secret, and until a fresh TLS handshake shows it.

use std::{collections::BTreeMap, path::Path, thread::sleep, time::Duration};

use anyhow::{Context as _, Result, ensure};
use vouch_bench::results;

use super::{
    Stage,
    plan::Point,
    side::{IDLE, LEAD, quiet},
};
use crate::{
    child::Directory,
    clock::{Moment, micros},
    envoy::{Envoy, Settings},
    handshake::Handshakes,
    histogram::encoded,
    numbers::Spread,
    process::Process,
    progress::Progress,
    sds::AckShape,
    servers::{Kind, Server},
    tap::Tap,
};

/// An Envoy with hundreds of contexts takes its time.
const START_LIMIT: Duration = Duration::from_secs(90);
const ROUND_LIMIT: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_micros(200);
const PATIENCE: Duration = Duration::from_millis(100);
/// Nothing more is said after an ACK for so long: it was whole.
const SILENCE: Duration = Duration::from_millis(60);
const SPARE: Duration = Duration::from_millis(20);

/// Envoys with the taps between them and the agent.
#[derive(Debug)]
struct Fleet {
    envoys: Vec<(Envoy, Tap)>,
    handshakes: Handshakes,
    /// What each presented last.
    leaves: Vec<Vec<u8>>,
}

/// One rotation, as the Envoys saw it.
#[derive(Debug)]
struct InUse {
    acknowledged: Vec<Moment>,
    /// The first Envoy's, and when a handshake begun after its ACK was over.
    presented: Moment,
}

pub(super) fn perform(
    stage: &Stage<'_>,
    point: &Point,
    progress: &Progress,
) -> Result<(Vec<results::Scenario>, Vec<results::Server>)> {
    let program = stage.run.envoy.as_deref().context("real Envoys are named with --envoy PATH")?;
    let mut vouch = stage.start_vouch(point, Kind::Vouch)?;
    let process = Process::of(vouch.pid())?;
    let directory = Directory::new("vouch-envoys-")?;
    progress.at("starting Envoys");
    let mut fleet = Fleet::start(program, &vouch, point, directory.path())?;
    let (before, start) = (process.cpu()?, Moment::now());
    sleep(IDLE);
    let idle_share = (process.cpu()? - before).as_secs_f64() / Moment::now().since(start).as_secs_f64();

    let length = point.timetable()[1].max(Duration::from_secs(1));
    let start = Moment::now() + LEAD;
    let (mut rounds, mut handshakes, mut ack_bytes) = (Vec::new(), Vec::new(), 0);
    for number in 0..point.warmup + point.counted {
        progress.at(&format!("round {}", number + 1));
        let due = start + length * number;
        due.wait();
        let (late, cpu, begun) = (Moment::now().since(due), process.cpu()?, Moment::now());
        let said: Vec<_> = fleet.envoys.iter().map(|(_, tap)| tap.said().bytes).collect();
        vouch.rotate()?;
        let seen = fleet.wait(&said).with_context(|| vouch.log())?;
        vouch.rotated()?;
        quiet(&process, due + length - SPARE)?;
        let idle = Moment::now().since(begun).mul_f64(idle_share);
        let cpu = (process.cpu()? - cpu).saturating_sub(idle);
        let times: Vec<_> = seen.acknowledged.iter().map(|at| at.since(due)).collect();
        let (first, last) = (times.iter().min(), times.iter().max());
        let counted = number >= point.warmup;
        if counted {
            handshakes.push(micros(seen.presented.since(due)));
        }
        ack_bytes = (fleet.envoys[0].1.said().bytes - said[0]) as usize;
        rounds.push(results::Round {
            counted,
            disturbed: false,
            started_late_us: micros(late),
            updates: u64::from(point.streams),
            server_cpu_us_per_update: micros(cpu) / f64::from(point.streams),
            server_user_us_per_update: None,
            server_switches_per_update: None,
            load_cpu_us_per_update: 0.0,
            first_delivery_us: first.copied().map_or(0.0, micros),
            last_delivery_us: last.copied().map_or(0.0, micros),
            last_ack_us: last.copied().map_or(0.0, micros),
            delivery: encoded(times.iter().copied())?,
        });
    }
    let spread = Spread::of(handshakes).context("no round was counted")?;
    let numbers = BTreeMap::from([
        ("handshake_with_new_certificate_us_median".into(), spread.median),
        ("handshake_with_new_certificate_us_max".into(), spread.max),
    ]);
    let parameters = BTreeMap::from([
        ("contexts".into(), point.contexts.to_string()),
        ("delivered_is".into(), "acknowledged by Envoy".into()),
        ("interval_ms".into(), length.as_millis().to_string()),
    ]);
    let series =
        results::Series { server: vouch.name().into(), rounds, numbers, ..results::Series::default() };
    let scenario = point.scenario(0, ack_bytes, parameters, vec![series]);
    Ok((vec![scenario], vec![vouch.describe()]))
}

impl Fleet {
    /// Comes back when all present a certificate.
    fn start(program: &Path, vouch: &dyn Server, point: &Point, directory: &Path) -> Result<Self> {
        let mut envoys = Vec::new();
        for number in 0..point.streams {
            let name = format!("envoy-{number}");
            let tap = Tap::open(directory.join(format!("{name}.sock")), vouch.socket().to_owned())?;
            let settings = Settings {
                program,
                socket: tap.socket(),
                contexts: point.contexts,
                node_in_each_request: point.ack == AckShape::Envoy,
            };
            envoys.push((Envoy::start(settings, directory, &name)?, tap));
        }
        let (handshakes, deadline) = (Handshakes::new()?, Moment::now() + START_LIMIT);
        let mut leaves = Vec::new();
        for (envoy, _) in &mut envoys {
            leaves.push(loop {
                envoy.look()?;
                match handshakes.leaf(envoy.listener) {
                    Ok(leaf) => break leaf,
                    Err(error) if Moment::now() > deadline => {
                        return Err(error.context("an Envoy is not ready"));
                    }
                    Err(_) => sleep(PATIENCE),
                }
            });
        }
        Ok(Self { envoys, handshakes, leaves })
    }

    /// Waits until each has said more than it `had`, and presents another certificate. The others' certificates are looked
    /// at when all have acknowledged, so that handshakes do not hold them up.
    fn wait(&mut self, had: &[u64]) -> Result<InUse> {
        let deadline = Moment::now() + ROUND_LIMIT;
        let spoken = |fleet: &Self, place: usize| fleet.envoys[place].1.said().bytes > had[place];
        while !spoken(self, 0) {
            ensure!(Moment::now() < deadline, "an Envoy did not acknowledge within {ROUND_LIMIT:?}");
            sleep(LOOK);
        }
        self.renewed(0, deadline)?;
        let presented = Moment::now();
        for place in 1..self.envoys.len() {
            while !spoken(self, place) {
                ensure!(Moment::now() < deadline, "Envoy {place} did not acknowledge within {ROUND_LIMIT:?}");
                sleep(LOOK);
            }
        }
        while self.envoys.iter().any(|(_, tap)| Moment::now().since(tap.said().last) < SILENCE) {
            sleep(SILENCE / 4);
        }
        let acknowledged = self.envoys.iter().map(|(_, tap)| tap.said().last).collect();
        for place in 1..self.envoys.len() {
            self.renewed(place, deadline)?;
        }
        Ok(InUse { acknowledged, presented })
    }

    fn renewed(&mut self, place: usize, deadline: Moment) -> Result<()> {
        loop {
            let leaf = self.handshakes.leaf(self.envoys[place].0.listener)?;
            if leaf != self.leaves[place] {
                self.leaves[place] = leaf;
                return Ok(());
            }
            ensure!(Moment::now() < deadline, "Envoy {place} acknowledged, and presents the old certificate");
        }
    }
}
