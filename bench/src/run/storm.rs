//! All connect, and each waits for its first secret; again and again, the servers in turns. And once more after the agent
//! was started anew.

use std::{collections::BTreeMap, thread::sleep, time::Duration};

use anyhow::{Context as _, Result, ensure};
use vouch_bench::results;

use super::{
    Stage, fan_out,
    plan::Point,
    side::{quiet, spread_connect},
};
use crate::{
    clock::{Moment, micros},
    histogram::encoded,
    load::{
        child::{Settled, Setup},
        remote::LoadProcess,
    },
    process::Process,
    progress::Progress,
    servers::{Kind, Server},
};

/// What a server still does for its connections after the last first secret belongs to them.
const AFTER_CONNECTING: Duration = Duration::from_millis(200);
/// For tidying up behind a storm.
const REST_LIMIT: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// What a server opens besides, or opened before it was started anew.
const SPARE_DESCRIPTORS: usize = 16;
/// Of a peer that is not ours, and of everybody who is compared with it.
const GENTLE: u32 = 16;
const DISTURBED: f64 = 0.1;

/// How the streams come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Storm {
    Paced,
    Unpaced,
    /// Unpaced, from the moment at which the agent's process starts, which they wait for.
    Restart,
}

pub(super) fn perform(
    stage: &Stage<'_>,
    point: &Point,
    progress: &Progress,
) -> Result<(Vec<results::Scenario>, Vec<results::Server>)> {
    let mut servers: Vec<(Box<dyn Server + '_>, Setup)> = Vec::new();
    let mut model: Option<Settled> = None;
    for &kind in &point.kinds {
        let mut server = stage.start(kind, point)?;
        if let Some(model) = &model {
            server.prepare(&model.shape, model.ack_bytes, 0);
        }
        server.connecting()?;
        let setup = fan_out::setup(stage, kind, &*server, point);
        let first = fan_out::first_secret(&setup).with_context(|| server.log())?;
        model.get_or_insert(first);
        servers.push((server, setup));
    }
    let model = model.context("a storm of no server")?;
    let gentle = point.kinds.iter().any(|kind| matches!(kind, Kind::Spire | Kind::Peer(_)));
    let mut scenarios = Vec::new();
    for storm in [Storm::Paced, Storm::Unpaced, Storm::Restart] {
        let unanswered = match storm {
            Storm::Paced if gentle => point.unanswered.min(GENTLE),
            Storm::Paced => point.unanswered,
            Storm::Unpaced | Storm::Restart => point.streams,
        };
        let mut series: Vec<_> = servers.iter().map(|(server, _)| empty(storm, &**server)).collect();
        for round in 0..point.warmup + point.counted {
            for ((server, setup), series) in servers.iter_mut().zip(&mut series) {
                if series.missing.is_none() {
                    progress.at(&format!("{}, round {}, {}", storm.name(), round + 1, server.name()));
                    let measured = storm.measure(&mut **server, setup, unanswered);
                    let measured = measured
                        .with_context(|| format!("{} {}: {}", server.name(), storm.name(), server.log()))?;
                    let counted = round >= point.warmup;
                    series.rounds.push(results::Round { counted, ..measured });
                }
            }
        }
        for series in &mut series {
            series.connect = spread_connect(&series.rounds, unanswered);
        }
        let parameters = BTreeMap::from([
            ("storm".into(), storm.name().into()),
            ("unanswered".into(), unanswered.to_string()),
        ]);
        scenarios.push(results::Scenario {
            title: format!("{}: {}", point.id.title(), storm.title()),
            ..point.scenario(model.shape.message(0).len(), model.ack_bytes, parameters, series)
        });
    }
    Ok((scenarios, servers.iter().map(|(server, _)| server.describe()).collect()))
}

fn empty(storm: Storm, server: &dyn Server) -> results::Series {
    let missing = match storm {
        Storm::Paced => None,
        Storm::Unpaced if server.finds_out() => Some("compared where all streams are paced"),
        Storm::Restart if !server.can_restart() => Some("is not started anew"),
        Storm::Unpaced | Storm::Restart => None,
    };
    results::Series {
        server: server.name().into(),
        missing: missing.map(str::to_owned),
        ..results::Series::default()
    }
}

impl Storm {
    fn name(self) -> &'static str {
        match self {
            Self::Paced => "paced",
            Self::Unpaced => "unpaced",
            Self::Restart => "restart",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Paced => "so many may wait at a time",
            Self::Unpaced => "as fast as they can",
            Self::Restart => "as fast as they can, while the agent starts",
        }
    }

    /// One storm, until all streams have a secret and the server has tidied up behind them.
    fn measure(self, server: &mut dyn Server, setup: &Setup, unanswered: u32) -> Result<results::Round> {
        let mut load = LoadProcess::start(setup)?;
        let (mut process, mut began) = (Process::of(server.pid())?, None);
        let at_rest = process.descriptors()?;
        let (mut cpu, load_cpu) = (process.cpu()?, load.process.cpu()?);
        if self == Self::Restart {
            began = Some(server.restart()?);
            process = Process::of(server.pid())?;
            cpu = Duration::ZERO;
        }
        let (start, waited) = (Moment::now(), process.waited()?);
        let connected = load.connect(unanswered, self == Self::Restart)?;
        let load_cpu = load.process.cpu()? - load_cpu;
        let (took, waited) = (Moment::now().since(start), process.waited()?.saturating_sub(waited));
        sleep(AFTER_CONNECTING);
        let cpu = process.cpu()? - cpu;
        drop(load);
        let deadline = Moment::now() + REST_LIMIT;
        // Connections that are still there would be counted with the next ones.
        while process.descriptors()? > at_rest + SPARE_DESCRIPTORS {
            ensure!(Moment::now() < deadline, "it still holds connections after {REST_LIMIT:?}");
            sleep(LOOK_EVERY);
        }
        quiet(&process, deadline)?;

        let zero = began.unwrap_or(connected.began);
        let each = |duration: Duration| micros(duration) / f64::from(setup.streams);
        let times: Vec<_> = connected.delivered.iter().map(|at| at.since(zero)).collect();
        let ack = connected.last_ack.context("a load without streams")?;
        Ok(results::Round {
            counted: false,
            disturbed: waited.as_secs_f64() > DISTURBED * took.as_secs_f64(),
            started_late_us: 0.0,
            updates: u64::from(setup.streams),
            server_cpu_us_per_update: each(cpu),
            server_user_us_per_update: None,
            server_switches_per_update: None,
            load_cpu_us_per_update: each(load_cpu),
            first_delivery_us: times.iter().min().copied().map_or(0.0, micros),
            last_delivery_us: times.iter().max().copied().map_or(0.0, micros),
            last_ack_us: micros(ack.since(zero)),
            delivery: encoded(times.iter().copied())?,
        })
    }
}
