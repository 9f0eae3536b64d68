//! What it costs to find out who a process is: the timings of `attest`, in the results.

use std::collections::BTreeMap;

use anyhow::Result;
use vouch_bench::results;

use super::{Stage, plan::Point};
use crate::{attest::rates::Rates, child::Directory, progress::Progress};

pub(super) fn perform(
    stage: &Stage<'_>,
    point: &Point,
    progress: &Progress,
) -> Result<(Vec<results::Scenario>, Vec<results::Server>)> {
    progress.at("processes come and go");
    let directory = Directory::new("vouch-attest-")?;
    let rates = Rates {
        agent: &stage.agent,
        hooks: &stage.run.hooks,
        places: &stage.places,
        spire: stage.spire.as_ref(),
        directory: directory.path(),
        rounds: point.counted as usize,
        selector: Stage::selector(),
    };
    let parameters = BTreeMap::from([("rounds".into(), point.counted.to_string())]);
    let scenario = point.scenario(0, 0, parameters, rates.measure()?);
    Ok((vec![scenario], Vec::new()))
}
