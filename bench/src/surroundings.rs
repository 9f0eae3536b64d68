//! The lines that say how far the numbers of a run can be trusted.

use std::fmt::Write as _;

use anyhow::Result;
use serde_json::{Value, json};

use crate::{
    cpus::Places,
    machine::Machine,
    probe::{self, Share},
};

/// Machine and spin probe, before a run.
#[derive(Debug)]
pub(crate) struct Surroundings {
    machine: Machine,
    places: Places,
    before: Vec<Share>,
}

impl Surroundings {
    pub(crate) fn look() -> Result<Self> {
        let places = Places::choose()?;
        crate::progress::say("spin probe");
        Ok(Self { machine: Machine::look()?, before: probe::spin(&places.all)?, places })
    }

    pub(crate) fn cpus(&self) -> &[usize] {
        &self.places.all
    }

    pub(crate) fn places(&self) -> &Places {
        &self.places
    }

    /// Probes again, and gives the lines and the same for programs.
    pub(crate) fn done(&self) -> Result<(String, Value)> {
        crate::progress::say("spin probe");
        let after = probe::spin(&self.places.all)?;
        let mut text = String::new();
        writeln!(
            text,
            "{} CPUs of {}, Linux {}; spin probe: {} before, {} after",
            self.places.all.len(),
            self.machine.cpu_model,
            self.machine.kernel,
            shares(&self.before),
            shares(&after)
        )?;
        if cfg!(debug_assertions) {
            writeln!(text, "this is a debug build: its numbers are too large")?;
        }
        let raw = json!({
            "kernel": self.machine.kernel,
            "cpu_model": self.machine.cpu_model,
            "cpus": self.places.all,
            "bench_is_debug_build": cfg!(debug_assertions),
            "spin_probe": { "before": raw(&self.before), "after": raw(&after) },
        });
        Ok((text, raw))
    }
}

fn shares(shares: &[Share]) -> String {
    let each: Vec<_> = shares.iter().map(|share| format!("{:.0} %", share.share * 100.0)).collect();
    each.join(" and ")
}

fn raw(shares: &[Share]) -> Vec<Value> {
    let share =
        |share: &Share| json!({ "cpu": share.cpu, "share": share.share, "gaps_over_500_us": share.gaps });
    shares.iter().map(share).collect()
}
