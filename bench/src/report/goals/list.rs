//! The goals, and where results hold their numbers.

use crate::{
    numbers::Spread,
    report::{
        headline::cpu,
        scene::{ANCHOR, OURS, Run, Scene},
    },
    results::Round,
};

const MANY_STREAMS: u32 = 5_000;
const SPIRE: &str = "spire";
const FRESH: &str = "fresh_identity_cpu_us";
const HEALTHY: &str = "healthy_p99_over_quiet";
/// Name in `Scenario::parameters`.
const STALLED: &str = "stalled_share";

/// One line of the table of goals.
pub(super) struct Goal {
    pub(super) what: &'static str,
    /// Whether it speaks of this scenario.
    pub(super) concerns: fn(&Scene) -> bool,
    /// In this scenario, one of all.
    pub(super) measured: fn(&Scene, &[Scene]) -> Measured,
    pub(super) bound: Bound,
}

/// What must be, and what would be better.
#[derive(Clone, Copy)]
pub(super) enum Bound {
    AtMost(f64, f64, &'static str),
    AtLeast(f64, f64, &'static str),
}

pub(super) enum Measured {
    Is(Spread),
    /// Not in these results, or not to be published: why.
    Not(String),
}

const TIMES: &str = "×";
/// All of them, in the order of the table.
pub(super) const GOALS: [Goal; 12] = [
    Goal {
        what: "CPU per stream and update, 1 stream per connection, against the anchor",
        concerns: |scene| is_plain(scene, "S1", 1) && is_large(scene),
        measured: |scene, _| ratio(scene, OURS, ANCHOR, cpu),
        bound: Bound::AtMost(2.2, 1.7, TIMES),
    },
    Goal {
        what: "the same, SPIRE against Vouch",
        concerns: |scene| is_plain(scene, "S1", 1) && is_large(scene),
        measured: |scene, _| ratio(scene, SPIRE, OURS, cpu),
        bound: Bound::AtLeast(8.0, 12.0, TIMES),
    },
    Goal {
        what: "CPU per stream and update, 4 streams per connection, against the anchor",
        concerns: |scene| is_plain(scene, "S2", 4) && is_large(scene),
        measured: |scene, _| ratio(scene, OURS, ANCHOR, cpu),
        bound: Bound::AtMost(1.0, 0.8, TIMES),
    },
    Goal {
        what: "CPU per stream and update, ACKs with a Node, against the anchor",
        concerns: has_large_acks,
        measured: |scene, _| ratio(scene, OURS, ANCHOR, cpu),
        bound: Bound::AtMost(3.3, 2.0, TIMES),
    },
    Goal {
        what: "the same, SPIRE against Vouch",
        concerns: has_large_acks,
        measured: |scene, _| ratio(scene, SPIRE, OURS, cpu),
        bound: Bound::AtLeast(8.0, 13.0, TIMES),
    },
    Goal {
        what: "time until the last stream is served, against the anchor",
        concerns: |scene| is_plain(scene, "S1", 1) && is_large(scene),
        measured: |scene, _| match ratio(scene, OURS, ANCHOR, |round| round.last_delivery_us) {
            Measured::Is(_) if !scene.has_times() => Measured::Not(scene.why_no_times()),
            measured => measured,
        },
        bound: Bound::AtMost(2.2, 1.5, TIMES),
    },
    Goal {
        what: "memory of a connection with one stream",
        concerns: |scene| is_plain(scene, "S1", 1),
        measured: memory,
        bound: Bound::AtMost(25.0, 20.0, " KB"),
    },
    Goal {
        what: "the same, after ACKs with a Node",
        concerns: has_large_acks,
        measured: memory,
        bound: Bound::AtMost(90.0, 40.0, " KB"),
    },
    Goal {
        what: "connect storm: CPU per stream until the first secret",
        concerns: |scene| scene.scenario.id == "S6" && scene.has_small_acks() && !starts_anew(scene),
        measured: |scene, _| {
            let connect = scene.run(OURS).and_then(|run| run.series.connect.as_ref());
            single(connect.map(|connect| connect.server_cpu_us_per_stream))
        },
        bound: Bound::AtMost(80.0, 40.0, " µs"),
    },
    Goal {
        what: "a fresh identity: key, signature, encoding and delivery, CPU",
        concerns: |scene| scene.scenario.id == "S4",
        measured: |scene, _| match scene.run(OURS) {
            Some(run) if run.series.numbers.contains_key(FRESH) => {
                single(run.series.numbers.get(FRESH).copied())
            }
            Some(run) => run.spread(cpu).map_or_else(not_here, Measured::Is),
            None => not_here(),
        },
        bound: Bound::AtMost(60.0, 45.0, " µs"),
    },
    Goal {
        what: "p99 of healthy streams with stalled readers, against none stalled",
        concerns: |scene| scene.scenario.id == "S7" && is_stalled(scene),
        measured: |scene, all| {
            if scene.has_times() { healthy(scene, all) } else { Measured::Not(scene.why_no_times()) }
        },
        bound: Bound::AtMost(1.2, 1.05, TIMES),
    },
    Goal {
        what: "matching one workload against 100,000 entries",
        concerns: |_| false,
        measured: |_, _| not_here(),
        bound: Bound::AtMost(10.0, 4.0, " µs"),
    },
];

fn is_plain(scene: &Scene, id: &str, streams_per_connection: u32) -> bool {
    let scenario = scene.scenario;
    scenario.id == id && scenario.streams_per_connection == streams_per_connection && scene.has_small_acks()
}

/// Its CPU holds that of the agent's own start.
fn starts_anew(scene: &Scene) -> bool {
    scene.scenario.parameters.get("storm").is_some_and(|storm| storm == "restart")
}

fn is_large(scene: &Scene) -> bool {
    scene.scenario.streams >= MANY_STREAMS
}

fn has_large_acks(scene: &Scene) -> bool {
    scene.scenario.id == "S8" && scene.scenario.streams_per_connection == 1 && !scene.has_small_acks()
}

fn is_stalled(scene: &Scene) -> bool {
    let share = scene.scenario.parameters.get(STALLED).and_then(|share| share.parse::<f64>().ok());
    share.is_none_or(|share| share > 0.0)
}

fn ratio(scene: &Scene, over: &str, under: &str, number: fn(&Round) -> f64) -> Measured {
    scene.ratio(over, under, number).map_or_else(not_here, Measured::Is)
}

/// The larger of what a connection takes at rest, and after the rotations.
fn memory(scene: &Scene, _: &[Scene]) -> Measured {
    let memory = scene.run(OURS).and_then(|run| run.series.memory.as_ref());
    single(memory.and_then(|memory| {
        let most = memory.connected_kib.max(memory.rotated_kib);
        scene.kilobytes_per_stream(memory, most)
    }))
}

/// As the harness compared it, or else p99 here by p99 where nobody stalls.
fn healthy(scene: &Scene, all: &[Scene]) -> Measured {
    let Some(run) = scene.run(OURS) else { return not_here() };
    if let Some(ratio) = run.series.numbers.get(HEALTHY) {
        return single(Some(*ratio));
    }
    let p99 = |run: &Run| run.delivery().and_then(|delivery| delivery.quantile(0.99));
    let is_quiet = |quiet: &&Scene| {
        let scenario = quiet.scenario;
        let alike = scenario.streams == scene.scenario.streams && scenario.id == "S7" && !is_stalled(quiet);
        alike && quiet.has_times()
    };
    let quiet = all.iter().find(is_quiet).and_then(|quiet| quiet.run(OURS)).and_then(p99);
    single(p99(run).zip(quiet).map(|(stalled, quiet)| stalled / quiet))
}

fn single(number: Option<f64>) -> Measured {
    Spread::of(number.filter(|number| number.is_finite())).map_or_else(not_here, Measured::Is)
}

fn not_here() -> Measured {
    Measured::Not("not in this run".to_owned())
}
