//! The same timings for the results of a run: users and groups only, Vouch alone or beside a SPIRE agent.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context as _, Result};
use vouch_bench::{
    numbers::{Percentiles, Spread},
    results::Series,
};

use super::{
    api::Api,
    pair::Pair,
    plan,
    programs::Program,
    timing::{self, Executable, Phase, Row},
};
use crate::{
    cpus::Places,
    spire::{AgentSettings, Discovery, Pace, Server},
};

/// What takes part, and where.
#[derive(Debug)]
pub(crate) struct Rates<'a> {
    pub(crate) agent: &'a Path,
    pub(crate) hooks: &'a str,
    pub(crate) places: &'a Places,
    pub(crate) spire: Option<&'a Server>,
    /// An empty one, for copies of this program.
    pub(crate) directory: &'a Path,
    pub(crate) rounds: usize,
    /// What the workloads are known by.
    pub(crate) selector: String,
}

impl Rates<'_> {
    /// A series for each, without rounds: what was found is in its numbers.
    pub(crate) fn measure(&self) -> Result<Vec<Series>> {
        let program = Program::copy(self.directory.join("workload"), 0)?;
        let entries = [("load", self.selector.clone())];
        let theirs = AgentSettings {
            discovery: Discovery::Ids,
            log_level: "WARN",
            entries: &entries,
            docker: None,
            pace: Pace::EachSecond,
        };
        let pair = Pair::start(self.places, (self.agent, self.hooks), self.spire, "rates", theirs)?;
        let sides = pair.sides(["vouch", "spire"], &[&program])?;
        let rows = timing::run(&[plan(Executable::NotHashed, &program)], &sides, self.rounds)?;
        ["vouch", "spire"]
            .iter()
            .take(sides.len())
            .enumerate()
            .map(|(place, name)| series(name, place, &rows))
            .collect()
    }
}

fn series(name: &str, place: usize, rows: &[Row]) -> Result<Series> {
    let mut numbers = BTreeMap::new();
    for row in rows {
        let (api, phase) = (row.api.to_string().to_lowercase().replace(' ', "_"), phase(row.phase));
        let samples = &row.samples[place];
        let cpu =
            Spread::of(samples.iter().map(timing::Sample::cpu_each)).context("nothing was timed")?.median;
        let took = Percentiles::of(samples.iter().flat_map(|sample| &sample.took))?;
        numbers.insert(format!("{api}_{phase}_p50_us"), took.p50 * 1e3);
        numbers.insert(format!("{api}_{phase}_p99_us"), took.p99 * 1e3);
        numbers.insert(format!("{api}_{phase}_cpu_us"), cpu);
        if row.api == Api::Sds && row.phase == Phase::Cold {
            numbers.insert("processes_per_second_of_one_core".into(), 1e6 / cpu);
        }
    }
    Ok(Series { server: name.into(), numbers, ..Series::default() })
}

fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Cold => "fresh_process",
        Phase::Connection => "further_connection",
        Phase::Stream => "further_stream",
    }
}
