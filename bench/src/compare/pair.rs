//! Which scenario of one run is which of the other.

use crate::{
    report::scene::{ANCHOR, Scene, Telling, counted, ratios},
    results::{Results, Round, Series},
};

/// One scenario at one size in both runs, and the server in it.
#[derive(Debug)]
pub(crate) struct Pair<'a> {
    pub(crate) scenario: String,
    pub(crate) old: Half<'a>,
    pub(crate) new: Half<'a>,
}

/// What one run has of it.
#[derive(Debug)]
pub(crate) struct Half<'a> {
    scene: Scene<'a>,
    server: String,
}

impl<'a> Pair<'a> {
    /// All pairs, in the order of the new run, and what has no partner. Scenarios without numbers of `server` are
    /// left out.
    pub(crate) fn of(old: &'a Results, new: &'a Results, server: &str) -> (Vec<Self>, Vec<String>) {
        let mut telling = Telling::default();
        [old, new].into_iter().for_each(|results| telling.add(results));
        let scenes = |results: &'a Results| {
            let all = Scene::told_apart(results, &telling).into_iter();
            all.filter(|scene| scene.run(server).is_some_and(|run| run.series.missing.is_none()))
                .collect::<Vec<_>>()
        };
        let (mut left, mut pairs, mut unpaired) = (scenes(old), Vec::new(), Vec::new());
        for scene in scenes(new) {
            let place = left.iter().position(|other| {
                other.shape == scene.shape && other.scenario.streams == scene.scenario.streams
            });
            let Some(place) = place else {
                unpaired.push(format!("{scene} (new)"));
                continue;
            };
            let half = |scene| Half { scene, server: server.to_owned() };
            pairs.push(Self { scenario: scene.to_string(), old: half(left.remove(place)), new: half(scene) });
        }
        unpaired.extend(left.iter().map(|scene| format!("{scene} (old)")));
        (pairs, unpaired)
    }
}

impl Half<'_> {
    /// Of each counted round.
    pub(crate) fn rounds(&self, number: fn(&Round) -> f64) -> Vec<f64> {
        self.series(&self.server).map_or_else(Vec::new, |series| finite(counted(series).map(number)))
    }

    /// The anchor's, likewise.
    pub(crate) fn anchor_rounds(&self, number: fn(&Round) -> f64) -> Vec<f64> {
        self.series(ANCHOR).map_or_else(Vec::new, |series| finite(counted(series).map(number)))
    }

    /// By the anchor's, round by round.
    pub(crate) fn ratios(&self, number: fn(&Round) -> f64) -> Vec<f64> {
        let (ours, anchor) = (self.series(&self.server), self.series(ANCHOR));
        ours.zip(anchor).map_or_else(Vec::new, |(ours, anchor)| ratios(ours, anchor, number))
    }

    pub(crate) fn has_times(&self) -> bool {
        self.scene.has_times()
    }

    /// Thousands of bytes per stream, after the rotations.
    pub(crate) fn memory(&self) -> Option<f64> {
        let memory = self.series(&self.server)?.memory.as_ref()?;
        self.scene.kilobytes_per_stream(memory, memory.rotated_kib)
    }

    /// Microseconds of CPU per stream until the first secret.
    pub(crate) fn connect(&self) -> Option<f64> {
        Some(self.series(&self.server)?.connect.as_ref()?.server_cpu_us_per_stream)
    }

    /// The same by the anchor's.
    pub(crate) fn connect_ratio(&self) -> Option<f64> {
        Some(self.connect()? / self.series(ANCHOR)?.connect.as_ref()?.server_cpu_us_per_stream)
    }

    fn series(&self, server: &str) -> Option<&Series> {
        self.scene.run(server).map(|run| run.series)
    }
}

fn finite(numbers: impl Iterator<Item = f64>) -> Vec<f64> {
    numbers.filter(|number| number.is_finite()).collect()
}
