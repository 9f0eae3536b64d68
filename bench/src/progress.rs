//! What is going on, on standard error: the numbers go elsewhere.

use std::{
    io::{self, IsTerminal as _, Write as _},
    time::{Duration, Instant},
};

/// Characters of a full bar.
const BAR: usize = 24;

/// A line of progress.
pub(crate) fn say(text: &str) {
    eprintln!("vouch-bench: {text}");
}

/// A run of known parts. On a terminal one line that changes; else a line for each part.
#[derive(Debug)]
pub(crate) struct Progress {
    total: Duration,
    /// What the parts before this one were expected to take.
    before: Duration,
    part: Duration,
    started: Instant,
    name: String,
    is_terminal: bool,
}

impl Progress {
    /// Of parts that take `total` together.
    pub(crate) fn new(total: Duration) -> Self {
        let is_terminal = io::stderr().is_terminal();
        say(&format!("this takes about {}", minutes(total)));
        let (before, part) = (Duration::ZERO, Duration::ZERO);
        Self { total, before, part, started: Instant::now(), name: String::new(), is_terminal }
    }

    /// The next part, which is expected to take `part`.
    pub(crate) fn begin(&mut self, name: &str, part: Duration) {
        self.before += std::mem::replace(&mut self.part, part);
        self.name = name.to_owned();
        self.started = Instant::now();
        if !self.is_terminal {
            say(&format!("{name}; about {} left", minutes(self.total.saturating_sub(self.before))));
        }
    }

    /// Where that part is.
    pub(crate) fn at(&self, what: &str) {
        if !self.is_terminal {
            return;
        }
        let done = (self.before + self.started.elapsed().min(self.part)).as_secs_f64();
        let share = (done / self.total.as_secs_f64().max(1e-3)).min(1.0);
        let full = (share * BAR as f64) as usize;
        let left = self.total.saturating_sub(Duration::from_secs_f64(done));
        let bar = "#".repeat(full) + &"-".repeat(BAR - full);
        eprint!("\r\x1b[2K[{bar}] {}: {what}; about {} left", self.name, minutes(left));
        // What cannot be shown is not missed.
        let _ = io::stderr().flush();
    }

    pub(crate) fn end(&self) {
        if self.is_terminal {
            eprint!("\r\x1b[2K");
        }
    }
}

fn minutes(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ ..90 => format!("{seconds} s"),
        seconds => format!("{} min", (seconds + 30) / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_times_are_told_in_minutes() {
        let told = |seconds| minutes(Duration::from_secs(seconds));
        assert_eq!([told(0), told(89), told(90), told(700)], ["0 s", "89 s", "2 min", "12 min"]);
    }
}
