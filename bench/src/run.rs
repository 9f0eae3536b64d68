//! Scenarios one after the other, and in each of them servers in turns.

mod arguments;
mod attestation;
mod envoys;
mod fan_out;
mod plan;
mod poisson;
mod side;
mod storm;

use std::{fs, time::SystemTime};

use anyhow::{Context as _, Result};
use nix::unistd::geteuid;
use vouch_bench::{
    report,
    results::{FORMAT, Probe, Results, Scenario, Server},
};

pub(crate) use arguments::Run;
use plan::{Point, ScenarioId};

use crate::{
    agent::agent_program,
    child::{self, Directory},
    cpus::{self, Places},
    machine, probe,
    progress::{Progress, say},
    spire::{self, Pace},
};

/// What all scenarios need.
#[derive(Debug)]
struct Stage<'a> {
    run: &'a Run,
    agent: std::path::PathBuf,
    places: Places,
    /// Of sockets.
    directory: Directory,
    spire: Option<spire::Server>,
}

/// Runs everything that was asked for, shows it, and writes it down.
///
/// # Errors
/// When anything was not as it has to be: a stream that missed a version, got one twice, or got another secret than
/// the others is an error and not a number.
pub(crate) fn run(run: &Run) -> Result<()> {
    child::clean_up_on_interrupt()?;
    let points = run.points()?;
    let results = measure(run, points)?;
    print!("{}", report::summary(&results));
    say("every stream got what it had to get");
    if let Some(file) = &run.json {
        let text = serde_json::to_string(&results)?;
        fs::write(file, text).with_context(|| format!("writing {}", file.display()))?;
        say(&format!("the results are in {}", file.display()));
    }
    Ok(())
}

fn measure(run: &Run, points: Vec<Point>) -> Result<Results> {
    let descriptors = machine::raise_descriptors()?;
    let points: Vec<_> = points.into_iter().map(|point| point.within(descriptors)).collect();
    for point in points.iter().filter(|point| point.is_of_streams()) {
        machine::check_descriptors(point.connections(), descriptors)?;
    }
    let places = Places::choose()?;
    let machine = machine::look(&places, descriptors)?;
    let directory = Directory::new("vouch-bench-")?;
    cpus::pin(places.load)?;
    let spire = match &run.spire {
        Some(binaries) => Some(spire::Server::start(binaries, directory.path(), Pace::EachSecond)?),
        None => None,
    };
    let stage = Stage { run, agent: agent_program(run.agent.as_deref())?, places, directory, spire };
    let mut results = Results {
        format: FORMAT,
        started: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
        command: std::env::args().collect(),
        commit: machine::commit(),
        machine,
        probes: vec![stage.probe("before")?],
        servers: Vec::new(),
        scenarios: Vec::new(),
    };
    let mut progress = Progress::new(points.iter().map(Point::duration).sum());
    for point in &points {
        let name = point.name();
        progress.begin(&name, point.duration());
        let (scenarios, servers) =
            stage.perform(point, &progress).with_context(|| format!("scenario {name}"))?;
        results.scenarios.extend(scenarios);
        for server in servers {
            match results.servers.iter_mut().find(|known| known.name == server.name) {
                Some(known) => {
                    let known = &mut known.settings;
                    let new = server.settings.into_iter().filter(|setting| !known.contains(setting));
                    let new: Vec<_> = new.collect();
                    known.extend(new);
                }
                None => results.servers.push(server),
            }
        }
        results.probes.push(stage.probe(&format!("after {name}"))?);
    }
    progress.end();
    Ok(results)
}

impl Stage<'_> {
    fn probe(&self, when: &str) -> Result<Probe> {
        let shares = probe::spin(&self.places.all)?;
        Ok(Probe { when: when.into(), share_by_cpu: shares.iter().map(|share| share.share).collect() })
    }

    fn perform(&self, point: &Point, progress: &Progress) -> Result<(Vec<Scenario>, Vec<Server>)> {
        match point.id {
            ScenarioId::S5 => poisson::perform(self, point, progress),
            ScenarioId::S9 => envoys::perform(self, point, progress),
            ScenarioId::S10 => attestation::perform(self, point, progress),
            ScenarioId::S6 => storm::perform(self, point, progress),
            _ => fan_out::perform(self, point, progress),
        }
    }

    /// Of this program's user, which plays the whole node.
    fn selector() -> String {
        format!("unix:uid:{}", geteuid())
    }
}
