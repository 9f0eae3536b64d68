//! Random identities rotate at random moments: an open loop, whose schedule is drawn before it begins.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, Result, ensure};
use vouch_bench::results;

use super::{
    Stage, fan_out,
    plan::Point,
    side::{IDLE, LEAD, Side},
};
use crate::{
    admin::Admin,
    agent::TRUST_DOMAIN,
    clock::{Moment, micros},
    histogram::encoded,
    load::Watch,
    progress::Progress,
    servers::Kind,
};

/// Connections for the calls, so that none waits for the answer to the one before.
const CALLERS: usize = 8;
/// The time is cut into as many rounds, of which the first does not count.
const ROUNDS: u32 = 10;
/// After the last rotation.
const SETTLE: Duration = Duration::from_millis(500);
/// Every run has the same moments.
const SEED: u64 = 0x5eed_0f5e_c2e7_5001;

/// One rotation.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Event {
    /// Since the begin.
    after: Duration,
    name: usize,
}

/// How long one stream waited for one rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Waited {
    event: usize,
    time: Duration,
}

pub(super) fn perform(
    stage: &Stage<'_>,
    point: &Point,
    progress: &Progress,
) -> Result<(Vec<results::Scenario>, Vec<results::Server>)> {
    let vouch = stage.start_vouch(point, Kind::Vouch)?;
    let mut callers: Vec<_> =
        (0..CALLERS).map(|_| Admin::connect(&vouch.admin_socket())).collect::<Result<_>>()?;
    let mut setup = fan_out::setup(stage, Kind::Vouch, &vouch, point);
    // Of two rotations at nearly the same moment a stream may see only the second.
    setup.watch = Watch::Newest;
    let mut side = Side::new(Box::new(vouch), &setup)?;
    progress.at("connecting");
    side.connect(point.unanswered)?;
    let model = side.settled.clone().context("no secret came")?;
    Side::watch_idle(std::slice::from_mut(&mut side), IDLE)?;

    let events = schedule(point);
    side.load.keep_log()?;
    let (start, slice) = (Moment::now() + LEAD, point.lasts / ROUNDS);
    let mut spent = vec![side.spent()?];
    let mut latest = Duration::ZERO;
    for (number, event) in events.iter().enumerate() {
        while event.after >= slice * spent.len() as u32 {
            spent.push(side.spent()?);
            progress.at(&format!("part {} of {ROUNDS}", spent.len()));
        }
        let due = start + event.after;
        due.wait();
        latest = latest.max(Moment::now().since(due));
        let caller = &mut callers[number % CALLERS];
        if number >= CALLERS {
            caller.rotated()?;
        }
        caller.rotate(&format!("spiffe://{TRUST_DOMAIN}/load/{}", event.name))?;
    }
    (start + point.lasts + SETTLE).wait();
    let unheard = events.len().min(CALLERS);
    for caller in events.len() - unheard..events.len() {
        callers[caller % CALLERS].rotated()?;
    }
    while spent.len() <= ROUNDS as usize {
        spent.push(side.spent()?);
    }
    let log = side.load.end_log()?;
    ensure!(log.behind == 0, "{} streams do not have the last version", log.behind);

    let (waited, coalesced) = waits(&events, start, &log.names, &log.deliveries)?;
    for (round, spent) in spent.windows(2).enumerate() {
        let of_round = |waited: &&Waited| {
            let after = events[waited.event].after;
            (slice * round as u32..slice * (round as u32 + 1)).contains(&after)
        };
        let times: Vec<_> = waited.iter().filter(of_round).map(|waited| waited.time).collect();
        if times.is_empty() {
            continue;
        }
        let (server, load) = (spent[1].0.saturating_sub(spent[0].0), spent[1].1.saturating_sub(spent[0].1));
        let each = |duration: Duration| micros(duration) / times.len() as f64;
        let last = times.iter().max().copied().unwrap_or_default();
        side.push(results::Round {
            counted: round > 0,
            disturbed: false,
            started_late_us: micros(latest),
            updates: times.len() as u64,
            server_cpu_us_per_update: each(server),
            server_user_us_per_update: None,
            server_switches_per_update: None,
            load_cpu_us_per_update: each(load),
            first_delivery_us: times.iter().min().copied().map_or(0.0, micros),
            last_delivery_us: micros(last),
            last_ack_us: micros(last),
            delivery: encoded(times.iter().copied())?,
        });
    }
    let servers = vec![side.server.describe()];
    let mut series = side.finish()?;
    series.numbers.insert("coalesced_updates".into(), coalesced as f64);
    series.numbers.insert("rotations".into(), events.len() as f64);
    let parameters = BTreeMap::from([
        ("seconds".into(), point.lasts.as_secs().to_string()),
        ("rate_per_second".into(), point.rate.to_string()),
        ("identities".into(), point.names.distinct.to_string()),
        ("unanswered".into(), point.unanswered.to_string()),
    ]);
    let message_bytes = model.shape.message(0).len();
    let scenario = point.scenario(message_bytes, model.ack_bytes, parameters, vec![series]);
    Ok((vec![scenario], servers))
}

/// Moments of a Poisson process, each with one of the names.
fn schedule(point: &Point) -> Vec<Event> {
    let (mut events, mut after, mut state) = (Vec::new(), 0.0, SEED);
    // Marsaglia's xorshift64*, uniform in 0..1.
    let mut random = || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1u64 << 53) as f64
    };
    loop {
        after -= (1.0 - random()).ln() / point.rate;
        if after >= point.lasts.as_secs_f64() {
            return events;
        }
        let name = (random() * f64::from(point.names.distinct)) as usize;
        events.push(Event { after: Duration::from_secs_f64(after), name });
    }
}

/// How long each stream waited for each rotation of its name, from the moment in the schedule; and how many came
/// together with the one after. `names` are those of the streams.
fn waits(
    events: &[Event],
    start: Moment,
    names: &[usize],
    deliveries: &[(usize, Moment)],
) -> Result<(Vec<Waited>, usize)> {
    let mut got: Vec<Vec<Moment>> = vec![Vec::new(); names.len()];
    for &(stream, at) in deliveries {
        got.get_mut(stream).context("a delivery on no stream of ours")?.push(at);
    }
    let mut due: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (number, event) in events.iter().enumerate() {
        due.entry(event.name).or_default().push(number);
    }
    let (mut waited, mut coalesced) = (Vec::new(), 0);
    for (name, got) in names.iter().zip(&got) {
        let due = due.get(name).map_or(&[][..], |due| due);
        let missing = due.len().checked_sub(got.len()).context("more deliveries than rotations")?;
        coalesced += missing;
        let mut place = 0;
        for (order, &event) in due.iter().enumerate() {
            let moment = start + events[event].after;
            // With none missing each rotation has its own delivery; else the first that can hold it.
            place = place.max(order.saturating_sub(missing));
            while got.get(place).is_some_and(|at| *at < moment) {
                place += 1;
            }
            let at = got.get(place).context("a rotation that a stream never heard of")?;
            waited.push(Waited { event, time: at.since(moment) });
            place += usize::from(missing == 0);
        }
    }
    Ok((waited, coalesced))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::plan::ScenarioId;

    #[test]
    fn the_schedule_is_the_same_every_time_and_has_the_rate() {
        let point = Point::new(ScenarioId::S5, 1_000, &[]);
        let events = schedule(&point);
        assert_eq!(events, schedule(&point));
        assert!((2_800..3_200).contains(&events.len()), "{}", events.len());
        assert!(events.is_sorted_by_key(|event| event.after));
        assert!((0..100).all(|name| events.iter().any(|event| event.name == name)));
    }

    fn event(ms: u64, name: usize) -> Event {
        Event { after: Duration::from_millis(ms), name }
    }

    fn times(events: &[Event], names: &[usize], deliveries: &[(usize, u64)]) -> Result<(Vec<u64>, usize)> {
        let start = Moment::now();
        let at = |(stream, ms): &(usize, u64)| (*stream, start + Duration::from_millis(*ms));
        let deliveries: Vec<_> = deliveries.iter().map(at).collect();
        let (waited, coalesced) = waits(events, start, names, &deliveries)?;
        Ok((waited.iter().map(|waited| waited.time.as_millis() as u64).collect(), coalesced))
    }

    #[test]
    fn each_stream_waits_for_each_rotation_of_its_name() {
        let events = [event(10, 0), event(20, 1), event(30, 0)];
        let found = times(&events, &[0, 1, 0], &[(0, 11), (2, 12), (1, 25), (0, 31), (2, 50)]).unwrap();
        assert_eq!(found, (vec![1, 1, 5, 2, 20], 0));
    }

    #[test]
    fn of_two_rotations_a_stream_may_see_the_second_alone_but_never_neither() {
        let events = [event(10, 0), event(100, 0), event(101, 0)];
        assert_eq!(times(&events, &[0], &[(0, 13), (0, 105)]).unwrap(), (vec![3, 5, 4], 1));
        assert!(times(&events, &[0], &[(0, 13)]).is_err());
        assert!(times(&events[..1], &[0], &[(0, 13), (0, 14)]).is_err(), "more than there was");
    }
}
