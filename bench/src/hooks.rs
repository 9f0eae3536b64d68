//! What `connect()` costs with and without hooks, in turns, and what each hook costs in itself.
//!
//! The hooks that belong to a cgroup are attached to one of our own, so that nobody else pays; sockets made in a second
//! one beside it are without. Those of processes see the whole machine.

mod cgroups;

use std::{
    collections::{HashMap, HashSet},
    fs,
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::{
        fd::AsFd,
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixListener, UnixStream},
    },
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use aya::{
    programs::loaded_programs,
    sys::{Stats, enable_stats},
};
use serde_json::json;
use vouch::kernel::{Capture, HookState, Options};

use self::cgroups::Pair;
use crate::{
    cpus,
    numbers::{Percentiles, Spread},
    progress::say,
    surroundings::Surroundings,
};

/// Rounds that count nowhere.
const WARMUP: u32 = 2;
/// Processes that are made to see what hooks on processes cost.
const PROCESSES: usize = 500;

/// One kind of call, without and with hooks.
#[derive(Debug)]
struct Call {
    name: &'static str,
    /// One list a round.
    without: Vec<Vec<Duration>>,
    with: Vec<Vec<Duration>>,
}

/// What the kernel counted of one program.
#[derive(Debug)]
struct Cost {
    name: String,
    runs: u64,
    time: Duration,
}

pub(crate) fn run(args: &crate::Hooks) -> Result<()> {
    let surroundings = Surroundings::look()?;
    let cgroups = Pair::make()?;
    let options = Options { cgroup_root: Some(cgroups.hooked().to_owned()), tcp: true, ..Options::default() };
    let others = costs()?;
    let (capture, mut events) = Capture::attach(&options)?;
    let ours: HashSet<u32> = costs()?.into_keys().filter(|id| !others.contains_key(id)).collect();
    cpus::pin(surroundings.cpus()[0])?;
    let mut calls = [Kind::Unix, Kind::Getsockname, Kind::Tcp].map(Call::new);
    for round in 0..WARMUP + args.rounds {
        for hooked in [false, true] {
            cgroups.enter(hooked)?;
            for (kind, call) in [Kind::Unix, Kind::Getsockname, Kind::Tcp].into_iter().zip(&mut calls) {
                let samples = kind.samples(args.connects)?;
                if round >= WARMUP {
                    if hooked { &mut call.with } else { &mut call.without }.push(samples);
                }
            }
            // A full ring costs a hook less than one with room.
            while !events.take_ready()?.is_empty() {}
        }
    }
    say("each hook for itself");
    let each = measure_hooks(&ours, &mut events)?;
    cgroups.leave()?;
    let (lines, machine) = surroundings.done()?;
    report(args, &lines, &calls, &each, &capture)?;
    if let Some(file) = &args.json {
        let raw = json!({
            "scenario": "connect with and without hooks",
            "machine": machine,
            "settings": { "rounds": args.rounds, "connects": args.connects },
            "calls": calls.iter().map(Call::raw).collect::<Vec<_>>(),
            "hooks": each.iter().map(|cost| json!({
                "name": cost.name, "runs": cost.runs, "time_ns": cost.time.as_nanos() as u64,
            })).collect::<Vec<_>>(),
        });
        fs::write(file, raw.to_string()).with_context(|| format!("writing {}", file.display()))?;
    }
    Ok(())
}

fn report(args: &crate::Hooks, lines: &str, calls: &[Call], each: &[Cost], capture: &Capture) -> Result<()> {
    println!(
        "{} rounds in turns, {} calls of each kind in each half, on one CPU",
        args.rounds, args.connects
    );
    print!("{lines}");
    for hook in capture.hooks() {
        if let HookState::Off(reason) = &hook.state {
            println!("hook {} is off: {reason}", hook.name);
        }
    }
    println!("\n{:<28}{:<22}{:<22}median added, us", "p50 / p99 of a call, us", "without hooks", "with");
    for call in calls {
        let added = call.added().context("no round was counted")?;
        println!(
            "{:<28}{:<22}{:<22}{:.2} ({:.2} to {:.2})",
            call.name,
            percentiles(&call.without)?,
            percentiles(&call.with)?,
            added.median,
            added.min,
            added.max
        );
    }
    println!("\n{:<28}{:<14}ns a run (counting included)", "hook", "runs");
    for cost in each {
        println!(
            "{:<28}{:<14}{:.0}",
            cost.name,
            cost.runs,
            cost.time.as_nanos() as f64 / cost.runs.max(1) as f64
        );
    }
    Ok(())
}

fn percentiles(rounds: &[Vec<Duration>]) -> Result<String> {
    let all = Percentiles::of(rounds.iter().flatten())?;
    Ok(format!("{:.2} / {:.2}", all.p50 * 1e3, all.p99 * 1e3))
}

impl Call {
    fn new(kind: Kind) -> Self {
        Self { name: kind.name(), without: Vec::new(), with: Vec::new() }
    }

    /// Microseconds between the medians of each round.
    fn added(&self) -> Option<Spread> {
        let median =
            |samples: &Vec<Duration>| Spread::of(samples.iter().map(micros)).map(|spread| spread.median);
        let rounds = self.without.iter().zip(&self.with);
        Spread::of(rounds.filter_map(|(without, with)| Some(median(with)? - median(without)?)))
    }

    fn raw(&self) -> serde_json::Value {
        let rounds = |rounds: &[Vec<Duration>]| -> Vec<Vec<f64>> {
            rounds.iter().map(|samples| samples.iter().map(micros).collect()).collect()
        };
        json!({ "name": self.name, "without_us": rounds(&self.without), "with_us": rounds(&self.with) })
    }
}

fn micros(duration: &Duration) -> f64 {
    duration.as_nanos() as f64 / 1e3
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Unix,
    Getsockname,
    Tcp,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Unix => "connect(), Unix stream",
            Self::Getsockname => "getsockname(), accepted",
            Self::Tcp => "connect(), TCP loopback",
        }
    }

    /// So many calls one after the other, each on sockets of its own.
    fn samples(self, count: u32) -> Result<Vec<Duration>> {
        match self {
            Self::Tcp => {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
                let address = listener.local_addr()?;
                sample(
                    count,
                    || Ok(((), TcpStream::connect(address)?)),
                    |((), client)| {
                        let accepted = listener.accept()?;
                        // No port is left waiting: there are not that many.
                        nix::sys::socket::setsockopt(
                            &client,
                            nix::sys::socket::sockopt::Linger,
                            &libc::linger { l_onoff: 1, l_linger: 0 },
                        )?;
                        drop((client, accepted));
                        Ok(())
                    },
                )
            }
            Self::Unix => {
                let (listener, address) = unix_listener()?;
                sample(
                    count,
                    || Ok(UnixStream::connect_addr(&address)?),
                    |client| {
                        drop((client, listener.accept()?));
                        Ok(())
                    },
                )
            }
            Self::Getsockname => {
                let (listener, address) = unix_listener()?;
                let mut samples = Vec::with_capacity(count as usize);
                for _ in 0..count {
                    let client = UnixStream::connect_addr(&address)?;
                    let (accepted, _) = listener.accept()?;
                    let start = Instant::now();
                    let named = accepted.local_addr()?;
                    samples.push(start.elapsed());
                    drop((client, named, accepted.as_fd().try_clone_to_owned()));
                }
                Ok(samples)
            }
        }
    }
}

fn sample<T>(
    count: u32,
    call: impl Fn() -> Result<T>,
    finish: impl Fn(T) -> Result<()>,
) -> Result<Vec<Duration>> {
    let mut samples = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let start = Instant::now();
        let made = call()?;
        samples.push(start.elapsed());
        finish(made)?;
    }
    Ok(samples)
}

/// An abstract name, so that no file system is in it.
fn unix_listener() -> Result<(UnixListener, SocketAddr)> {
    let address = SocketAddr::from_abstract_name(format!("vouch-bench-{}", std::process::id()))?;
    Ok((UnixListener::bind_addr(&address)?, address))
}

/// Has the kernel count, and everything that hooks see happen often.
fn measure_hooks(ours: &HashSet<u32>, events: &mut vouch::kernel::EventSource) -> Result<Vec<Cost>> {
    // The kernel stops counting when this is closed.
    let counting = enable_stats(Stats::RunTime).context("programs cannot be timed")?;
    let before = costs()?;
    for kind in [Kind::Getsockname, Kind::Tcp] {
        kind.samples(2_000)?;
    }
    for _ in 0..PROCESSES {
        Command::new("/bin/true").status()?;
        while !events.take_ready()?.is_empty() {}
    }
    let after = costs()?;
    drop(counting);
    let mut each: Vec<Cost> = after
        .into_iter()
        .filter(|(id, _)| ours.contains(id))
        .filter_map(|(id, now)| {
            let before = before.get(&id)?;
            Some(Cost { name: now.name, runs: now.runs - before.runs, time: now.time - before.time })
        })
        .collect();
    each.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(each)
}

/// Of every program that the kernel has.
fn costs() -> Result<HashMap<u32, Cost>> {
    let mut costs = HashMap::new();
    // One that goes away meanwhile is none of ours.
    for program in loaded_programs().flatten() {
        let name = program.name_as_str().unwrap_or_default().to_owned();
        let cost = Cost { name, runs: program.run_count(), time: program.run_time() };
        costs.insert(program.id(), cost);
    }
    Ok(costs)
}
