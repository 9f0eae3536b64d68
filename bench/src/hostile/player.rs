//! The two callers, each a process with a user of its own.

use std::{
    env,
    io::{self, Write as _},
    path::PathBuf,
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use vouch_bench::attack::{self, Attack, honest};

use super::{HONEST, HOSTILE};
use crate::child::Tended;

/// Between two honest calls: load of its own would be another measurement.
const REST: Duration = Duration::from_millis(2);
/// What runs with a priority that nobody else's time is taken from; see sched(7).
const PRIORITY: [&str; 3] = ["chrt", "--fifo", "10"];

/// One of the two; `hostile` starts it.
#[derive(Debug, Args)]
pub(crate) struct Player {
    #[arg(long)]
    socket: PathBuf,
    #[arg(long)]
    uid: u32,
    #[arg(long, default_value_t = 0)]
    millis: u64,
    /// Attacks, or only spins when there is no attack of that name; an honest caller without it
    #[arg(long)]
    attack: Option<String>,
    #[arg(long, default_value_t = 1)]
    connections: u32,
}

#[derive(Debug)]
pub(super) struct Attacker(#[expect(dead_code, reason = "ends when it is dropped")] Tended);

#[derive(Debug)]
pub(super) struct Honest(Tended);

impl Attacker {
    /// Without an attack it only spins.
    pub(super) fn start(socket: PathBuf, attack: Option<Attack>, connections: u32) -> Result<Self> {
        let mut command = Command::new(env::current_exe()?);
        command.arg("hostile-player").arg("--socket").arg(socket);
        command.args(["--uid", &HOSTILE.to_string(), "--connections", &connections.to_string()]);
        command.args(["--attack", attack.map_or("spin", Attack::name)]);
        Ok(Self(Tended::start(command.stdin(Stdio::null()))?))
    }
}

impl Honest {
    pub(super) fn start(socket: PathBuf, how_long: Duration) -> Result<Self> {
        let [program, arguments @ ..] = PRIORITY;
        let mut command = Command::new(program);
        command.args(arguments).arg(env::current_exe()?).arg("hostile-player").arg("--socket").arg(socket);
        command.args(["--uid", &HONEST.to_string(), "--millis", &how_long.as_millis().to_string()]);
        let started = Tended::start(command.stdin(Stdio::null()).stdout(Stdio::piped()));
        Ok(Self(started.context("an honest caller needs `chrt` for its priority")?))
    }

    /// Waits for its end: its times in microseconds, sorted, and how many calls were not served.
    pub(super) fn finish(mut self) -> Result<(Vec<f64>, u64)> {
        let output = self.0.child().stdout.take().context("its output")?;
        let text = io::read_to_string(output)?;
        let status = self.0.wait()?;
        ensure!(status.success(), "the honest caller ended with {status}");
        let (mut micros, mut failed) = (Vec::new(), 0);
        for line in text.lines() {
            match line.parse::<f64>() {
                Ok(nanos) => micros.push(nanos / 1e3),
                Err(_) => failed += 1,
            }
        }
        micros.sort_by(f64::total_cmp);
        Ok((micros, failed))
    }
}

pub(crate) fn play(player: &Player) -> Result<()> {
    let (uid, gid) = (Uid::from_raw(player.uid), Gid::from_raw(player.uid));
    setgroups(&[]).context("changing the user needs root")?;
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)?;
    match player.attack.as_deref() {
        None => serve_times(player),
        Some("spin") => loop {
            std::hint::spin_loop();
        },
        Some(name) => {
            let Some(attack) = Attack::named(name) else { bail!("there is no attack {name}") };
            // Until it is told to end by a signal.
            attack::run(attack, &player.socket, player.connections as usize, || true)?;
            Ok(())
        }
    }
}

/// Prints the nanoseconds of each call, or why it was not served.
fn serve_times(player: &Player) -> Result<()> {
    let (start, how_long) = (Instant::now(), Duration::from_millis(player.millis));
    let mut lines = Vec::new();
    // The first one is attested, and has an SVID issued.
    let _ = honest::first_secret(&player.socket, "default");
    while start.elapsed() < how_long {
        match honest::first_secret(&player.socket, "default") {
            Ok(took) => writeln!(lines, "{}", took.as_nanos())?,
            Err(error) => writeln!(lines, "not served: {error}")?,
        }
        sleep(REST);
    }
    Ok(io::stdout().write_all(&lines)?)
}
