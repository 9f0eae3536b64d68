//! What is to be reached, and whether it is.

use serde::Serialize;
use vouch_bench::numbers::Spread;

use super::{Outcome, asked::Round, decision::Group, servers::Kind, stages::Whole};

/// One goal beside what was found; smaller is better.
#[derive(Debug, Serialize)]
pub(crate) struct Goal {
    pub(crate) what: &'static str,
    pub(crate) must: f64,
    pub(crate) try_for: f64,
    pub(crate) unit: &'static str,
    /// `None` where it could not be measured.
    pub(crate) found: Option<f64>,
}

impl Goal {
    pub(crate) fn verdict(&self) -> &'static str {
        match self.found {
            None => "not measured",
            Some(found) if found <= self.try_for => "reached what was tried for",
            Some(found) if found <= self.must => "reached",
            Some(_) => "missed",
        }
    }
}

/// Held against medians of all rounds; where a goal is about several rows, against the worst of them.
pub(crate) fn of(outcome: &Outcome) -> Vec<Goal> {
    let decisions = |group| {
        let rows = outcome.decisions.iter().filter(|row| row.group == group);
        rows.filter_map(|row| Some(row.ratio()?.median)).reduce(f64::max)
    };
    let vouch = outcome.whole.iter().find(|row| row.server == Kind::Mesh.name());
    let of = |rounds: fn(&Whole) -> &[Round], value: fn(&Round) -> f64| {
        vouch.and_then(|row| Spread::of(rounds(row).iter().map(value))).map(|spread| spread.median)
    };
    let goal = |what, (must, try_for), unit, found| Goal { what, must, try_for, unit, found };
    vec![
        goal("decision CPU by OPA's, the mesh's policies", (0.8, 0.2), "×", decisions(Group::Mesh)),
        goal("decision CPU by OPA's, 100 rules", (4.5, 1.0), "×", decisions(Group::Rules)),
        goal(
            "whole Check, server CPU",
            (90.0, 65.0),
            "µs",
            of(|row| &row.at_rate, |round| round.cpu_us_per_call),
        ),
        goal("p50, one outstanding", (170.0, 140.0), "µs", of(|row| &row.one_by_one, |round| round.p50_us)),
        goal("p99 at the rate", (4_000.0, 2_000.0), "µs", of(|row| &row.at_rate, |round| round.p99_us)),
        goal(
            "memory added by four policies",
            (8.0, 3.0),
            "MiB",
            outcome.memory.added_mib().map(|spread| spread.median),
        ),
        goal("calls failed or wrong in reloads", (0.0, 0.0), "", Some(outcome.reloads.bad() as f64)),
        goal(
            "p99 in reloads by steady",
            (f64::INFINITY, 1.5),
            "×",
            outcome.reloads.ratio().map(|spread| spread.median),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_reached_at_its_bound_and_missed_above() {
        let verdict = |found| Goal { what: "", must: 90.0, try_for: 65.0, unit: "µs", found }.verdict();
        assert_eq!(verdict(Some(65.0)), "reached what was tried for");
        assert_eq!((verdict(Some(90.0)), verdict(Some(90.1))), ("reached", "missed"));
        assert_eq!(verdict(None), "not measured");
        assert_eq!(verdict(Some(f64::NAN)), "missed");
    }
}
