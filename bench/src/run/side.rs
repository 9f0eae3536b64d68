//! One server with its load: connecting, and one rotation from its moment in the schedule until the server is quiet.

use std::{fs, hint::spin_loop, thread::sleep, time::Duration};

use anyhow::{Context as _, Result};
use vouch_bench::results::{Connect, Memory, Round, Series};

use crate::{
    clock::{Moment, micros},
    histogram::encoded,
    load::{
        child::{Settled, Setup},
        remote::{Delivered, LoadProcess},
    },
    numbers::Spread,
    process::Process,
    servers::Server,
    stand_in::Shape,
};

/// Before its moment we stop sleeping, so that the rotation starts on time.
const AWAKE: Duration = Duration::from_millis(2);
/// A server is quiet when it works less than so much of a span.
const QUIET_SPAN: Duration = Duration::from_millis(10);
const QUIET_WORK: Duration = Duration::from_micros(200);
/// Before the next rotation on the schedule the wait for quiet ends in any case: it must not make that one late.
const SPARE: Duration = Duration::from_millis(20);
/// What a server still does for its connections after the last first secret belongs to them.
const AFTER_CONNECTING: Duration = Duration::from_millis(500);
/// A round in which server or load waited for its CPU more than so much of the time is marked.
const DISTURBED: f64 = 0.1;
/// With fewer ticks in user mode than this, their share says nothing.
const TELLING_TICKS: u32 = 5;

/// How long servers are watched doing nothing.
pub(super) const IDLE: Duration = Duration::from_secs(2);
/// From the last preparation to the first rotation.
pub(super) const LEAD: Duration = Duration::from_millis(500);

/// A server with all its streams.
#[derive(Debug)]
pub(crate) struct Side<'a> {
    /// Before the server, so that it ends first.
    pub(crate) load: LoadProcess,
    pub(crate) server: Box<dyn Server + 'a>,
    pub(crate) process: Process,
    streams: u32,
    unanswered: u32,
    /// Share of a core that the server takes when nothing is asked of it.
    idle_share: f64,
    /// What its streams have by now; raw sockets have nothing before the first round.
    pub(crate) settled: Option<Settled>,
    series: Series,
    /// From each rotation's moment until its first push.
    found_out: Vec<f64>,
}

/// What server and load had used at a moment.
#[derive(Debug, Clone, Copy)]
struct Used {
    at: Moment,
    cpu: Duration,
    waited: Duration,
    load_waited: Duration,
}

impl<'a> Side<'a> {
    /// Starts the load on the CPUs of the calling thread.
    pub(crate) fn new(server: Box<dyn Server + 'a>, setup: &Setup) -> Result<Self> {
        let process = Process::of(server.pid())?;
        let before_kib = process.resident_kib()?;
        let memory = Memory {
            before_kib,
            connected_kib: before_kib,
            rotated_kib: before_kib,
            peak_kib: before_kib,
            slab_connected_kib: None,
        };
        let series = Series {
            server: server.name().to_owned(),
            missing: None,
            connect: None,
            memory: Some(memory),
            rounds: Vec::new(),
            numbers: Default::default(),
        };
        Ok(Self {
            load: LoadProcess::start(setup)?,
            server,
            process,
            streams: setup.streams,
            unanswered: 0,
            idle_share: 0.0,
            settled: None,
            series,
            found_out: Vec::new(),
        })
    }

    /// Connects all streams, with no more than `unanswered` waiting for their first secret.
    pub(crate) fn connect(&mut self, unanswered: u32) -> Result<()> {
        self.unanswered = unanswered;
        self.server.connecting()?;
        let slab = slab_kib();
        let before = self.used()?;
        let connected = self.load.connect(unanswered, false)?;
        self.server.connected()?;
        sleep(AFTER_CONNECTING);
        let used = self.used()?.cpu - before.cpu;
        if let Some(last) = connected.delivered.iter().max() {
            self.series.connect = Some(Connect {
                took_us: micros(last.since(connected.began)),
                server_cpu_us_per_stream: micros(used) / f64::from(self.streams),
                unanswered,
            });
            self.settled = Some(self.load.settle_first()?);
        }
        let connected_kib = self.process.resident_kib()?;
        let grown = slab.zip(slab_kib()).map(|(before, after)| after - before);
        if let Some(memory) = &mut self.series.memory {
            memory.connected_kib = connected_kib;
            memory.slab_connected_kib = grown;
        }
        Ok(())
    }

    /// Watches all `sides` at once for `idle`, while nothing is asked of any.
    pub(crate) fn watch_idle(sides: &mut [Self], idle: Duration) -> Result<()> {
        let before: Vec<_> = sides.iter().map(Self::used).collect::<Result<_>>()?;
        sleep(idle);
        for (side, before) in sides.iter_mut().zip(before) {
            let now = side.used()?;
            side.idle_share = (now.cpu - before.cpu).as_secs_f64() / now.at.since(before.at).as_secs_f64();
        }
        Ok(())
    }

    pub(crate) fn prepare(&mut self, shape: &Shape, ack_bytes: usize, round: usize) {
        self.server.prepare(shape, ack_bytes, round);
    }

    /// One rotation at `due`, whatever the time is, and a wait for quiet that ends before `next`.
    ///
    /// # Errors
    /// When a stream did not get exactly the new version and the same secret as all others.
    pub(crate) fn rotate(&mut self, due: Moment, next: Moment, counted: bool) -> Result<&Round> {
        self.load.arm(due)?;
        (due - AWAKE).wait();
        let (switches, (user, tick)) = (self.process.switches()?, self.process.user_cpu()?);
        let before = self.used()?;
        while Moment::now() < due {
            spin_loop();
        }
        let load_cpu = self.load.process.cpu()?;
        let late = Moment::now().since(due);
        self.server.rotate()?;
        let (delivered, idle_before) = self.delivered(before)?;
        let load_cpu = self.load.process.cpu()? - load_cpu;
        let after = self.used()?;
        quiet(&self.process, next - SPARE)?;
        let quiet = self.used()?;
        self.server.rotated()?;
        let switches = self.process.switches()?.saturating_sub(switches);
        let user = self.process.user_cpu()?.0.saturating_sub(user);
        self.settled = Some(self.load.settle()?);

        let begun = if self.server.finds_out() { idle_before } else { before };
        let first = *delivered.each.iter().min().context("a load without streams")?;
        let last = *delivered.each.iter().max().context("a load without streams")?;
        let zero = if self.server.finds_out() { first } else { due };
        if self.server.finds_out() {
            self.found_out.push(micros(first.since(due)));
        }
        let idle = quiet.at.since(begun.at).mul_f64(self.idle_share);
        let cpu = (quiet.cpu - begun.cpu).saturating_sub(idle);
        let waited = after.waited.saturating_sub(begun.waited).max(after.load_waited - begun.load_waited);
        let each = |duration: Duration| micros(duration) / f64::from(self.streams);
        let times = delivered.each.iter().map(|moment| moment.since(zero));
        self.series.rounds.push(Round {
            counted,
            disturbed: waited.as_secs_f64() > DISTURBED * after.at.since(begun.at).as_secs_f64(),
            started_late_us: micros(late),
            updates: u64::from(self.streams),
            server_cpu_us_per_update: each(cpu),
            server_user_us_per_update: (user >= tick * TELLING_TICKS).then(|| each(user)),
            server_switches_per_update: Some(switches as f64 / f64::from(self.streams)),
            load_cpu_us_per_update: each(load_cpu),
            first_delivery_us: micros(first.since(zero)),
            last_delivery_us: micros(last.since(zero)),
            last_ack_us: micros(delivered.last_ack.since(zero)),
            delivery: encoded(times)?,
        });
        self.series.rounds.last().context("it was just measured")
    }

    /// CPU time of server and load so far.
    pub(crate) fn spent(&self) -> Result<(Duration, Duration)> {
        Ok((self.process.cpu()?, self.load.process.cpu()?))
    }

    /// A round that was measured elsewhere.
    pub(crate) fn push(&mut self, round: Round) {
        self.series.rounds.push(round);
    }

    /// What was measured, at the end.
    pub(crate) fn finish(mut self) -> Result<Series> {
        let (rotated_kib, peak_kib) = (self.process.resident_kib()?, self.process.peak_kib()?);
        if let Some(memory) = &mut self.series.memory {
            (memory.rotated_kib, memory.peak_kib) = (rotated_kib, peak_kib);
        }
        let numbers = &mut self.series.numbers;
        numbers.insert("idle_share".into(), self.idle_share);
        if !self.found_out.is_empty() {
            self.found_out.sort_by(f64::total_cmp);
            numbers.insert("change_to_first_push_us_median".into(), self.found_out[self.found_out.len() / 2]);
            numbers.insert("change_to_first_push_us_max".into(), self.found_out[self.found_out.len() - 1]);
        }
        Ok(self.series)
    }

    /// Waits for the load's report; and gives what the server had used when it was last idle before the first push.
    fn delivered(&mut self, before: Used) -> Result<(Delivered, Used)> {
        let mut samples = vec![before];
        while !self.load.has_report(QUIET_SPAN)? {
            if self.server.finds_out() {
                samples.push(self.used()?);
                self.server.look()?;
            }
        }
        let delivered = self.load.delivered()?;
        let first = delivered.each.iter().min().copied().unwrap_or(before.at);
        let idle = samples
            .windows(2)
            .rev()
            .find(|pair| pair[1].at <= first && pair[1].cpu - pair[0].cpu < QUIET_WORK);
        Ok((delivered, idle.map_or(before, |pair| pair[1])))
    }

    fn used(&self) -> Result<Used> {
        Ok(Used {
            at: Moment::now(),
            cpu: self.process.cpu()?,
            waited: self.process.waited()?,
            load_waited: self.load.process.waited()?,
        })
    }
}

/// Waits until a server is quiet, or for the `deadline`.
pub(super) fn quiet(server: &Process, deadline: Moment) -> Result<()> {
    let mut before = server.cpu()?;
    while Moment::now() < deadline {
        sleep(QUIET_SPAN);
        let now = server.cpu()?;
        if now - before < QUIET_WORK {
            break;
        }
        before = now;
    }
    Ok(())
}

/// The median of counted storms.
pub(super) fn spread_connect(rounds: &[Round], unanswered: u32) -> Option<Connect> {
    let median = |number: fn(&Round) -> f64| {
        Spread::of(rounds.iter().filter(|round| round.counted).map(number)).map(|spread| spread.median)
    };
    Some(Connect {
        took_us: median(|round| round.last_delivery_us)?,
        server_cpu_us_per_stream: median(|round| round.server_cpu_us_per_update)?,
        unanswered,
    })
}

/// Of the whole kernel.
fn slab_kib() -> Option<i64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Slab:"))?;
    line.split_whitespace().next()?.parse().ok()
}
