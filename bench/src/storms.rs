//! A storm of processes: how many there are, what is lost of it, whether the table is exact afterwards, and what it
//! costs to keep.

use std::{
    fs,
    sync::Arc,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use serde_json::json;
use vouch::{
    kernel::{Capture, Counters, KernelEvent, Options, Task},
    process::{ProcessTable, Processes, TableCounters},
};
use vouch_abi::Identity;
use vouch_bench::{storm::Storm, table::Difference};

use crate::{heap, process::Process, progress::say, surroundings::Surroundings};

/// How long the machine is watched without hooks.
const WITHOUT: Duration = Duration::from_secs(3);
/// Of those that are made, every so manieth stays.
const KEEP_EVERY: u64 = 200;
/// The table is exact so long after the end.
const AFTERWARDS: Duration = Duration::from_millis(700);
const TRACKED: u32 = 10_000;
/// As many are remembered of those that left.
const LEFT: u32 = 20_000;

/// What was seen of it.
struct Seen {
    execs_per_second: f64,
    counters: Counters,
    table: TableCounters,
    difference: Difference,
    kept: usize,
    kept_missing: usize,
    reader_cpu_share: f64,
}

pub(crate) fn run(args: &crate::Storm) -> Result<()> {
    let surroundings = Surroundings::look()?;
    say("without hooks");
    let without = rate(args.threads, WITHOUT)?;
    say("with hooks");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let seen = runtime.block_on(watch(args))?;
    let bytes = table_bytes();
    let (lines, machine) = surroundings.done()?;

    let Seen { counters, table, difference, .. } = &seen;
    println!(
        "{} threads make processes for {} s, each of them forks, executes and exits; ring of {} KiB",
        args.threads, args.seconds, args.ring_kib
    );
    print!("{lines}");
    println!("\nexec/s without hooks                     {without:.0}");
    println!("exec/s with hooks and a reader           {:.0}", seen.execs_per_second);
    println!("events                                   {}", counters.events);
    println!("events lost                              {}", counters.events_lost);
    println!("snapshots, the first included            {}", table.snapshots);
    println!(
        "table {} ms later: missing, ghosts      {}, {}",
        AFTERWARDS.as_millis(),
        difference.missing.len(),
        difference.ghosts.len()
    );
    println!("children that stayed, of them missing    {}, {}", seen.kept, seen.kept_missing);
    println!("CPU of the reader, of one core           {:.1} %", seen.reader_cpu_share * 100.0);
    if let Some(bytes) = bytes {
        println!(
            "table of {TRACKED} processes               {:.2} MiB in use, {} bytes each",
            bytes as f64 / f64::from(1 << 20),
            bytes / TRACKED as usize
        );
    }
    if let Some(file) = &args.json {
        let raw = json!({
            "scenario": "storm of processes",
            "machine": machine,
            "settings": { "threads": args.threads, "seconds": args.seconds, "ring_kib": args.ring_kib },
            "execs_per_second_without_hooks": without,
            "execs_per_second": seen.execs_per_second,
            "events": counters.events,
            "events_lost": counters.events_lost,
            "snapshots": table.snapshots,
            "missing": difference.missing.len(),
            "ghosts": difference.ghosts.len(),
            "children_kept": seen.kept,
            "children_missing": seen.kept_missing,
            "reader_cpu_share": seen.reader_cpu_share,
            "table_processes": TRACKED,
            "table_bytes": bytes,
        });
        fs::write(file, raw.to_string()).with_context(|| format!("writing {}", file.display()))?;
    }
    Ok(())
}

fn rate(threads: u32, length: Duration) -> Result<f64> {
    let storm = Storm::start(threads as usize, KEEP_EVERY)?;
    let start = Instant::now();
    sleep(length);
    let execs = storm.execs() as f64 / start.elapsed().as_secs_f64();
    drop(storm.stop()?);
    Ok(execs)
}

async fn watch(args: &crate::Storm) -> Result<Seen> {
    let options = Options { ring_bytes: args.ring_kib << 10, ..Options::default() };
    let (capture, events) = Capture::attach(&options)?;
    let capture = Arc::new(capture);
    let (processes, follow) = Processes::follow((Arc::clone(&capture), events)).await?;
    let before = capture.counters()?;
    let run = tokio::spawn(follow.run());
    let (process, storm) = (Process::own()?, Storm::start(args.threads as usize, KEEP_EVERY)?);
    // The threads of the storm are not counted: their CPU is the children's making.
    let start = Instant::now();
    let reader = reader_cpu(&process)?;
    tokio::time::sleep(Duration::from_secs(args.seconds)).await;
    let reader_cpu_share = (reader_cpu(&process)? - reader).as_secs_f64() / start.elapsed().as_secs_f64();
    let execs_per_second = storm.execs() as f64 / start.elapsed().as_secs_f64();
    let kept = storm.stop()?;
    tokio::time::sleep(AFTERWARDS).await;
    let difference = Difference::look(&capture, &processes).await?;
    let (counted, table) = (capture.counters()?, processes.counters());
    let kept_missing = kept.pids().filter(|pid| processes.get_by_pid(*pid).is_none()).count();
    run.abort();
    Ok(Seen {
        execs_per_second,
        counters: Counters {
            events: counted.events - before.events,
            events_lost: counted.events_lost - before.events_lost,
            ..counted
        },
        table,
        difference,
        kept: kept.pids().count(),
        kept_missing,
        reader_cpu_share,
    })
}

/// CPU time of the runtime's threads: they have its name.
fn reader_cpu(process: &Process) -> Result<Duration> {
    process.cpu_of_threads("tokio")
}

/// What a table takes that holds so many processes, after as many have left as it remembers.
fn table_bytes() -> Option<usize> {
    let task = |number: u32| {
        let start = u64::from(number);
        let identity = Identity {
            recorded_ns: start,
            start_time_ns: start,
            pid_inode: start,
            tgid: number,
            tid: number,
            ..Identity::default()
        };
        Task::from(&identity)
    };
    let before = heap::bytes_in_use()?;
    let mut table = ProcessTable::default();
    for number in 1..=LEFT {
        table.apply(&KernelEvent::Fork(task(number)));
        table.apply(&KernelEvent::Exit(task(number)));
    }
    for number in LEFT + 1..=LEFT + TRACKED {
        table.apply(&KernelEvent::Fork(task(number)));
    }
    let after = heap::bytes_in_use()?;
    assert_eq!(table.counters().size, TRACKED as usize, "it holds all of them");
    Some(after.saturating_sub(before))
}
