//! What we set out to reach, and whether these results show it.

mod list;

use crate::report::{
    goals::list::{Bound, GOALS, Goal, Measured},
    html::{Cell, Html},
    scene::{OURS, Scene, counted},
    words,
};

/// Fewer counted rounds than this are shown, and said to be few.
const FEW_ROUNDS: usize = 9;

/// Every goal, at each size that these results hold; one that none concerns has one line all the same.
pub(crate) fn judge(scenes: &[Scene]) -> Vec<Judged> {
    let judged = GOALS.iter().flat_map(|goal| {
        let mut lines: Vec<_> = scenes
            .iter()
            .filter(|scene| (goal.concerns)(scene))
            .map(|scene| goal.at(scene, scenes))
            .collect();
        if lines.is_empty() {
            lines.push(goal.line(String::new(), Measured::Not("not in this run".to_owned()), usize::MAX));
        }
        lines
    });
    judged.collect()
}

pub(crate) fn table(scenes: &[Scene]) -> Html {
    let head = ["goal", "measured", "", "must", "better"].map(Cell::words);
    let rows = judge(scenes).into_iter().map(|line| {
        let measured = match line.verdict {
            Verdict::Unknown => Cell::number("–").note(line.measured),
            _ => Cell::number(line.measured).note(line.range),
        };
        vec![
            Cell::words(line.what).with("prose").note(line.at),
            measured,
            Cell::words(line.verdict.word()).with(line.verdict.class()),
            Cell::number(line.must),
            Cell::number(line.better),
        ]
    });
    let mut html = Html::default();
    html.table("Goals", &head, &rows.collect::<Vec<_>>());
    html
}

/// A goal at one size.
pub(crate) struct Judged {
    pub(crate) what: &'static str,
    pub(crate) at: String,
    pub(crate) must: String,
    pub(crate) better: String,
    pub(crate) measured: String,
    pub(crate) range: String,
    pub(crate) verdict: Verdict,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// What would be better is reached, too.
    Exceeded,
    Met,
    Missed,
    Unknown,
}

impl Verdict {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Exceeded => "met, and more",
            Self::Met => "met",
            Self::Missed => "missed",
            Self::Unknown => "not known",
        }
    }

    fn class(self) -> &'static str {
        match self {
            Self::Exceeded | Self::Met => "met",
            Self::Missed => "missed",
            Self::Unknown => "absent",
        }
    }
}

impl Goal {
    fn at(&self, scene: &Scene, all: &[Scene]) -> Judged {
        let at = format!("{}, N = {}", scene.scenario.id, words::whole(scene.scenario.streams.into()));
        let rounds = scene.run(OURS).map_or(0, |run| counted(run.series).count());
        self.line(at, (self.measured)(scene, all), rounds)
    }

    fn line(&self, at: String, measured: Measured, rounds: usize) -> Judged {
        let (must, better, unit, sign) = match self.bound {
            Bound::AtMost(must, better, unit) => (must, better, unit, "≤"),
            Bound::AtLeast(must, better, unit) => (must, better, unit, "≥"),
        };
        let with_unit = |number: f64| format!("{}{unit}", words::figure(number));
        let (text, range, verdict) = match measured {
            Measured::Not(why) => (why, String::new(), Verdict::Unknown),
            Measured::Is(spread) => {
                let mut range = if spread.min < spread.max { words::range(spread) } else { String::new() };
                if !range.is_empty() && rounds < FEW_ROUNDS {
                    range.push_str(&format!(" in only {rounds} rounds"));
                }
                (with_unit(spread.median), range, self.bound.judge(spread.median))
            }
        };
        let bound = |number: f64| format!("{sign} {number}{unit}");
        Judged {
            what: self.what,
            at,
            must: bound(must),
            better: bound(better),
            measured: text,
            range,
            verdict,
        }
    }
}

impl Bound {
    fn judge(self, number: f64) -> Verdict {
        let (must, better) = match self {
            Self::AtMost(must, better, _) => (number <= must, number <= better),
            Self::AtLeast(must, better, _) => (number >= must, number >= better),
        };
        match (must, better) {
            (true, true) => Verdict::Exceeded,
            (true, false) => Verdict::Met,
            _ => Verdict::Missed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn a_goal_is_judged_by_its_bounds() {
        let at_most = Bound::AtMost(2.2, 1.7, "×");
        assert_eq!(
            [1.7, 2.2, 2.3].map(|ratio| at_most.judge(ratio)),
            [Verdict::Exceeded, Verdict::Met, Verdict::Missed]
        );
        let at_least = Bound::AtLeast(8.0, 12.0, "×");
        assert_eq!(
            [12.0, 8.0, 7.9].map(|ratio| at_least.judge(ratio)),
            [Verdict::Exceeded, Verdict::Met, Verdict::Missed]
        );
    }

    #[test]
    fn goals_are_judged_where_the_results_hold_the_number() {
        let results = testing::plausible();
        let judged = judge(&Scene::all(&results));
        let first: Vec<_> = judged.iter().filter(|line| line.what == GOALS[0].what).collect();
        assert_eq!(
            first.iter().map(|line| line.at.as_str()).collect::<Vec<_>>(),
            ["S1, N = 5,000", "S1, N = 10,000"]
        );
        assert!(first.iter().all(|line| line.verdict == Verdict::Exceeded), "{:?}", first[0].measured);
        let matching = judged.iter().find(|line| line.what.starts_with("matching")).unwrap();
        assert_eq!((matching.verdict, matching.measured.as_str()), (Verdict::Unknown, "not in this run"));
    }

    #[test]
    fn without_results_every_goal_is_unknown() {
        let judged = judge(&[]);
        assert_eq!(judged.len(), GOALS.len());
        assert!(judged.iter().all(|line| line.verdict == Verdict::Unknown));
    }
}
