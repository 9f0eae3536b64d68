//! Results that nobody measured. Made up for tests of reports and comparisons: they say so in every field that can,
//! and never belong among published results.

use std::{collections::BTreeMap, sync::OnceLock};

use base64::{Engine, engine::general_purpose::STANDARD};
use hdrhistogram::{
    Histogram,
    serialization::{Serializer, V2DeflateSerializer},
};

use crate::results::{Connect, FORMAT, Machine, Memory, Probe, Results, Round, Scenario, Series, Server};

const ROUNDS: usize = 12;
const WARM_UP: usize = 2;
/// What the made-up servers take: name, CPU in µs per update, spread of it, bytes per stream, CPU per connect.
const SERVERS: [(&str, f64, f64, f64, f64); 5] = [
    ("vouch", 7.9, 0.06, 18_000.0, 36.0),
    ("anchor", 5.1, 0.04, 90.0, 9.0),
    ("anchor-threads", 10.9, 0.08, 120.0, 12.0),
    ("tonic", 25.0, 0.1, 44_000.0, 78.0),
    ("spire", 96.0, 0.3, 116_000.0, 680.0),
];
/// Of ACKs with a `Node`.
const LARGE_ACK_BYTES: usize = 61_203;
const LARGE_ACK_COST: f64 = 2.6;

/// A full run as it might look, the same on every call: some rounds disturbed, one scenario too much, SPIRE missing
/// once.
pub fn plausible() -> Results {
    static MADE: OnceLock<Results> = OnceLock::new();
    MADE.get_or_init(make_plausible).clone()
}

/// One scenario with these servers, each with rounds of that CPU per update.
pub fn of_rounds(servers: &[(&str, &[f64])]) -> Results {
    let series = servers.iter().map(|(server, rounds)| Series {
        rounds: rounds.iter().map(|cpu| round(true, *cpu, 1_000, &mut Dice(7))).collect(),
        ..nothing(server)
    });
    let series = series.collect();
    results(vec![Scenario { series, ..scenario(("S1", "Made up"), (1_000, 1, 144), &mut Dice(7)) }])
}

/// A scenario in which `server` has nothing.
pub fn nothing(server: &str) -> Series {
    Series {
        server: server.to_owned(),
        missing: None,
        connect: None,
        memory: None,
        rounds: Vec::new(),
        numbers: BTreeMap::new(),
    }
}

/// As `Round::delivery` holds it.
pub fn histogram(times_us: impl IntoIterator<Item = u64>) -> String {
    let mut histogram =
        Histogram::<u64>::new_with_bounds(1, 600_000_000, 3).expect("the bounds are in order");
    times_us.into_iter().for_each(|time| histogram.saturating_record(time));
    let mut bytes = Vec::new();
    V2DeflateSerializer::new().serialize(&histogram, &mut bytes).expect("a vector takes bytes");
    STANDARD.encode(bytes)
}

fn make_plausible() -> Results {
    let mut dice = Dice(0x5eed);
    let mut scenarios = Vec::new();
    for streams in [100, 1_000, 5_000, 10_000] {
        scenarios.push(scenario(
            ("S1", "One secret, one stream per connection"),
            (streams, 1, 144),
            &mut dice,
        ));
    }
    for streams in [1_000, 5_000, 10_000] {
        scenarios.push(scenario(
            ("S2", "One secret, four streams per connection"),
            (streams, 4, 144),
            &mut dice,
        ));
    }
    scenarios.push(scenario(("S4", "Every stream has an SVID of its own"), (5_000, 1, 144), &mut dice));
    scenarios.push(scenario(("S6", "Everybody connects at once"), (5_000, 1, 144), &mut dice));
    for share in ["0", "0.01"] {
        let mut stalled = scenario(("S7", "Some readers stall"), (1_000, 1, 144), &mut dice);
        stalled.parameters.insert("stalled_share".to_owned(), share.to_owned());
        scenarios.push(stalled);
    }
    for streams in [1_000, 5_000] {
        scenarios.push(scenario(("S8", "ACKs of a default Envoy"), (streams, 1, LARGE_ACK_BYTES), &mut dice));
    }
    let disturbed = scenarios.iter_mut().find(|scenario| scenario.id == "S4").expect("it was pushed above");
    for round in disturbed.series.iter_mut().flat_map(|series| &mut series.rounds).step_by(3) {
        round.disturbed = true;
    }
    let largest =
        scenarios.iter_mut().find(|scenario| scenario.streams == 10_000).expect("it was pushed above");
    let spire = largest.series.last_mut().expect("every server has a series");
    *spire = Series {
        missing: Some("made up: it needs two descriptors a connection".to_owned()),
        ..nothing("spire")
    };
    results(scenarios)
}

fn results(scenarios: Vec<Scenario>) -> Results {
    let server = |name: &&str| Server {
        name: (*name).to_owned(),
        version: "made up".to_owned(),
        settings: match *name {
            "vouch" => {
                vec!["connections_per_caller = 12000, because one uid plays the whole node".to_owned()]
            }
            _ => Vec::new(),
        },
    };
    Results {
        format: FORMAT,
        started: "2026-01-01T00:00:00Z".to_owned(),
        command: ["vouch-bench", "run", "--made-up", "for tests"].map(str::to_owned).to_vec(),
        commit: "made up".to_owned(),
        machine: Machine {
            cpu: "a processor that is made up".to_owned(),
            cpus: 2,
            kernel: "6.18 (made up)".to_owned(),
            memory_mib: 24_576,
            descriptors: 20_000,
            server_cpus: vec![0],
            load_cpus: vec![1],
        },
        probes: ["before", "after S1/10000", "after S4/5000", "after"]
            .iter()
            .enumerate()
            .map(|(place, when)| Probe {
                when: (*when).to_owned(),
                share_by_cpu: vec![0.998, if place == 2 { 0.81 } else { 0.991 }],
            })
            .collect(),
        servers: SERVERS.iter().map(|(name, ..)| name).map(server).collect(),
        scenarios,
    }
}

fn scenario(name: (&str, &str), size: (u32, u32, usize), dice: &mut Dice) -> Scenario {
    let (streams, streams_per_connection, ack_bytes) = size;
    let series = SERVERS.iter().map(|(server, cpu, spread, bytes, connect)| {
        let is_bare = server.starts_with("anchor");
        let large = ack_bytes > 4_096;
        let ack = if large { LARGE_ACK_COST } else { 1.0 } * if large && !is_bare { 1.4 } else { 1.0 };
        let shared = if streams_per_connection > 1 && !is_bare { 0.55 } else { 1.0 };
        let cold = 1.0 + 0.1 * f64::from(streams).log10();
        let mut each = |number: usize| {
            let cpu = cpu * ack * shared * cold * (1.0 + spread * (dice.roll() - 0.3));
            round(number >= WARM_UP, cpu, streams, dice)
        };
        let rounds = (0..WARM_UP + ROUNDS).map(&mut each).collect();
        let grown = |share: f64| 14_000 + (bytes * f64::from(streams) * share / 1_024.0) as u64;
        Series {
            connect: Some(Connect {
                took_us: connect * f64::from(streams) * 1.3,
                server_cpu_us_per_stream: *connect,
                unanswered: 64,
            }),
            memory: Some(Memory {
                before_kib: 14_000,
                connected_kib: grown(0.8),
                rotated_kib: grown(1.0),
                peak_kib: grown(1.2),
                slab_connected_kib: Some(i64::from(streams) * 5),
            }),
            rounds,
            numbers: BTreeMap::from([("made_up_us".to_owned(), 12.5)]),
            ..nothing(server)
        }
    });
    let series = series.collect();
    Scenario {
        id: name.0.to_owned(),
        title: format!("{} (made up)", name.1),
        streams,
        streams_per_connection,
        message_bytes: 1_234,
        ack_bytes,
        parameters: BTreeMap::new(),
        series,
    }
}

fn round(counted: bool, cpu: f64, streams: u32, dice: &mut Dice) -> Round {
    let first = 150.0 + 200.0 * dice.roll();
    // Steady, with a tail.
    let time = |stream: u32, dice: &mut Dice| {
        let tail = if dice.roll() > 0.995 { 1.0 + dice.roll() } else { 1.0 };
        ((first + cpu * 1.2 * f64::from(stream)) * tail) as u64
    };
    let times: Vec<u64> = (0..streams).map(|stream| time(stream, dice)).collect();
    let last = times.iter().copied().max().unwrap_or_default() as f64;
    Round {
        counted,
        disturbed: dice.roll() > 0.95,
        started_late_us: 80.0 * dice.roll(),
        updates: streams.into(),
        server_cpu_us_per_update: cpu,
        server_user_us_per_update: Some(cpu * 0.4),
        server_switches_per_update: Some(0.02),
        load_cpu_us_per_update: 5.0 + dice.roll(),
        first_delivery_us: times.iter().copied().min().unwrap_or_default() as f64,
        last_delivery_us: last,
        last_ack_us: last * 1.05,
        delivery: histogram(times),
    }
}

/// Numbers that look random and are the same on every run.
#[derive(Debug)]
pub struct Dice(pub u64);

impl Dice {
    /// From 0 up to 1.
    pub fn roll(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }
}
