use super::*;
use crate::testing::{self, Dice};

/// Rounds of an anchor and of ours, which takes twice as much, times `factor`.
fn run(factor: f64, rounds: usize, spread: f64, seed: u64) -> Results {
    let mut dice = Dice(seed);
    let mut each =
        |cpu: f64| -> Vec<f64> { (0..rounds).map(|_| cpu * (1.0 + spread * (dice.roll() - 0.5))).collect() };
    let (ours, anchor) = (each(10.0 * factor), each(5.0));
    testing::of_rounds(&[("vouch", &ours), ("anchor", &anchor)])
}

fn compared(old: &Results, new: &Results) -> Comparison {
    compare(old, new, "vouch").unwrap()
}

fn row<'a>(comparison: &'a Comparison, name: &str) -> &'a Row {
    comparison.rows.iter().find(|row| row.name == name).unwrap_or_else(|| panic!("no {name} in {comparison}"))
}

#[test]
fn runs_of_the_same_program_are_the_same_within_the_noise() {
    for seed in 0..40 {
        let comparison = compared(&run(1.0, 12, 0.1, 2 * seed + 1), &run(1.0, 12, 0.1, 2 * seed + 2));
        assert!(comparison.rows.iter().all(|row| row.verdict == Verdict::Noise), "{comparison}");
    }
}

#[test]
fn a_fifth_more_with_a_small_spread_is_worse() {
    let (old, new) = (run(1.0, 9, 0.1, 1), run(1.2, 9, 0.1, 2));
    let comparison = compared(&old, &new);
    for name in ["CPU per update, µs", "CPU ÷ anchor", "last delivery ÷ anchor"] {
        assert_eq!(row(&comparison, name).verdict, Verdict::Worse, "{name}: {comparison}");
    }
    assert_eq!(comparison.worse(), 3);
    let comparison = compared(&new, &old);
    assert_eq!((row(&comparison, "CPU ÷ anchor").verdict, comparison.worse()), (Verdict::Better, 0));
}

#[test]
fn a_fifth_more_within_a_wide_spread_is_noise() {
    let comparison = compared(&run(1.0, 9, 1.6, 1), &run(1.2, 9, 1.6, 2));
    assert_eq!(comparison.worse(), 0, "{comparison}");
}

#[test]
fn a_certain_change_of_two_per_cent_is_what_runs_differ_by() {
    let comparison = compared(&run(1.0, 30, 0.001, 1), &run(1.02, 30, 0.001, 2));
    let row = row(&comparison, "CPU ÷ anchor");
    assert!(row.p.unwrap() < 0.001 && row.verdict == Verdict::Noise, "{comparison}");
}

#[test]
fn three_rounds_are_too_few_to_tell() {
    let comparison = compared(&run(1.0, 3, 0.01, 1), &run(3.0, 3, 0.01, 2));
    assert_eq!(row(&comparison, "CPU ÷ anchor").verdict, Verdict::TooFew);
    assert!(!comparison.is_decided(), "{comparison}");
}

#[test]
fn cpu_that_changed_as_the_anchors_did_is_the_machines() {
    let mut new = run(1.0, 12, 0.05, 2);
    for round in new.scenarios[0].series.iter_mut().flat_map(|series| &mut series.rounds) {
        round.server_cpu_us_per_update *= 1.3;
    }
    let comparison = compared(&run(1.02, 12, 0.05, 1), &new);
    assert_eq!(row(&comparison, "CPU per update, µs").verdict, Verdict::Noise, "{comparison}");
}

#[test]
fn single_numbers_have_a_tolerance() {
    let old = testing::plausible();
    let mut new = old.clone();
    let ours = &mut new.scenarios[0].series[0];
    ours.memory.as_mut().unwrap().rotated_kib += 1_000;
    ours.connect.as_mut().unwrap().server_cpu_us_per_stream *= 1.2;
    let comparison = compared(&old, &new);
    assert_eq!(row(&comparison, "memory per stream, KB").verdict, Verdict::Worse);
    assert_eq!(row(&comparison, "connect CPU, µs").verdict, Verdict::Noise);
    assert_eq!(comparison.worse(), 1, "{comparison}");
}

#[test]
fn on_another_machine_only_ratios_are_compared() {
    let old = testing::plausible();
    let mut new = old.clone();
    new.machine.cpu = "another one".to_owned();
    let comparison = compared(&old, &new);
    assert!(comparison.to_string().contains("warning: other machine"), "{comparison}");
    assert!(comparison.rows.iter().all(|row| row.name.ends_with("÷ anchor")), "{comparison}");
}

#[test]
fn times_of_a_disturbed_scenario_are_not_compared() {
    let comparison = compared(&testing::plausible(), &testing::plausible());
    let of = |id: &str, name: &str| {
        comparison.rows.iter().any(|row| row.scenario.starts_with(id) && row.name.starts_with(name))
    };
    assert!(of("S4", "CPU") && !of("S4", "last") && of("S1", "last"), "{comparison}");
}

#[test]
fn only_the_same_scenario_at_the_same_size_is_paired() {
    let old = testing::plausible();
    let mut new = old.clone();
    new.scenarios.retain(|scenario| scenario.id == "S7");
    new.scenarios[0].streams = 77;
    let comparison = compared(&old, &new);
    assert!(comparison.rows.iter().all(|row| row.scenario.starts_with("S7")), "{comparison}");
    assert!(comparison.unpaired.iter().any(|scenario| scenario.contains("N = 77 (new)")), "{comparison}");
    new.scenarios.clear();
    let refused = compare(&old, &new, "vouch").unwrap_err().to_string();
    assert!(refused.contains("no scenario in common"), "{refused}");
}

#[test]
fn no_line_is_too_wide_for_a_terminal() {
    let mut old = testing::plausible();
    old.commit = "\u{1b}[31m".repeat(40);
    let text = compared(&old, &testing::plausible()).to_string();
    assert!(text.lines().all(|line| line.chars().count() <= 100) && !text.contains('\u{1b}'), "{text}");
}
