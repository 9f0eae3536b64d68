//! The most important of a run for the terminal.

use std::collections::BTreeSet;

use crate::{
    numbers::Spread,
    report::{
        goals::{self, Verdict},
        headline::cpu,
        html::is_trick,
        scene::{ANCHOR, OURS, Run, Scene, is_peer},
        words,
    },
    results::{Results, Round},
};

/// No line is longer.
const WIDTH: usize = 100;
/// Of the name of a server; longer ones are cut.
const NAME: usize = 16;
/// Of the name of a number.
const NUMBER: usize = 40;

/// A table per scenario and the goals, at most 100 characters wide, with a line break at its end.
pub fn summary(results: &Results) -> String {
    let scenes = Scene::all(results);
    let mut lines = vec![format!(
        "{} CPUs of {}, Linux {}",
        results.machine.cpus, results.machine.cpu, results.machine.kernel
    )];
    scenes.iter().for_each(|scene| self::scene(scene, &mut lines));
    goals(&scenes, &mut lines);
    lines.iter().map(|line| format!("{}\n", self::line(line))).collect()
}

/// As a terminal may have it: no wider than it is, and nothing that moves the cursor.
pub(crate) fn line(text: &str) -> String {
    plain(text, WIDTH).trim_end().to_owned()
}

fn scene(scene: &Scene, lines: &mut Vec<String>) {
    lines.push(String::new());
    lines.push(format!("{scene}: {}", scene.scenario.title));
    if scene.runs.iter().all(|run| run.series.rounds.is_empty() && !run.series.numbers.is_empty()) {
        return numbers(scene, lines);
    }
    let (disturbed, counted) = scene.disturbed();
    lines.push(format!("  median of the rounds (least–most); {disturbed} of {counted} rounds disturbed"));
    lines.push(row([
        "server",
        "CPU/update, µs",
        "÷ anchor",
        "÷ vouch",
        "last served",
        "÷ anchor",
        "KB/stream",
    ]
    .map(str::to_owned)));
    for run in &scene.runs {
        match &run.series.missing {
            Some(why) => lines.push(format!("  {} – {why}", pad(&run.series.server, NAME))),
            None => lines.push(row(cells(scene, run))),
        }
    }
    if !scene.has_times() {
        lines.push(format!("  times {}", scene.why_no_times()));
    }
}

/// Of a scenario that has no rounds of updates: its numbers side by side.
fn numbers(scene: &Scene, lines: &mut Vec<String>) {
    let line = |name: &str, cells: Vec<String>| {
        let cells: String = cells.iter().map(|cell| format!("  {}", pad(cell, NAME))).collect();
        format!("  {}{cells}", pad(name, NUMBER))
    };
    lines.push(line("", scene.runs.iter().map(|run| run.series.server.clone()).collect()));
    let names: BTreeSet<&String> = scene.runs.iter().flat_map(|run| run.series.numbers.keys()).collect();
    for name in names {
        let number = |run: &Run| run.series.numbers.get(name).copied().map_or_else(dash, words::figure);
        lines.push(line(name, scene.runs.iter().map(number).collect()));
    }
}

fn cells(scene: &Scene, run: &Run) -> [String; 7] {
    let server = run.series.server.as_str();
    let last = |round: &Round| round.last_delivery_us;
    let ratio = |under: &str, number: fn(&Round) -> f64| {
        let of_another = server != under;
        of_another.then(|| scene.ratio(server, under, number)).flatten()
    };
    let median = |spread: Option<Spread>, text: fn(f64) -> String| {
        spread.map_or_else(dash, |spread| text(spread.median))
    };
    let cost = run.spread(cpu);
    let times = |text: String| if scene.has_times() { text } else { dash() };
    let memory = run.series.memory.as_ref();
    let weight = memory.and_then(|memory| scene.kilobytes_per_stream(memory, memory.rotated_kib));
    let against_ours = if is_peer(server) { ratio(OURS, cpu) } else { None };
    [
        server.to_owned(),
        cost.map_or_else(dash, |cost| format!("{} ({})", words::figure(cost.median), words::range(cost))),
        median(ratio(ANCHOR, cpu), words::times),
        median(against_ours, words::times),
        times(median(run.spread(last), words::time)),
        times(median(ratio(ANCHOR, last), words::times)),
        weight.map_or_else(dash, words::figure),
    ]
}

fn goals(scenes: &[Scene], lines: &mut Vec<String>) {
    let judged = goals::judge(scenes);
    let known: Vec<_> = judged.iter().filter(|line| line.verdict != Verdict::Unknown).collect();
    let met = known.iter().filter(|line| line.verdict != Verdict::Missed).count();
    lines.push(String::new());
    lines.push(format!(
        "goals: {met} of {} met, {} not in this run or not to be published",
        known.len(),
        judged.len() - known.len()
    ));
    for line in known {
        let verdict = pad(line.verdict.word(), 13);
        lines.push(format!("  {verdict} {} ({}) {}: {}", line.measured, line.must, line.at, line.what));
    }
}

/// The server to the left, the numbers to the right.
fn row(cells: [String; 7]) -> String {
    let [server, rest @ ..] = cells;
    let widths = [24, 10, 10, 12, 10, 11];
    let columns = rest.iter().zip(widths).map(|(cell, width)| {
        let cell = plain(cell, width);
        let room = width.saturating_sub(cell.chars().count());
        format!("{}{cell}", " ".repeat(room))
    });
    format!("  {}{}", pad(&server, NAME), columns.collect::<String>())
}

fn pad(text: &str, width: usize) -> String {
    let text = plain(text, width);
    let room = width.saturating_sub(text.chars().count());
    format!("{text}{}", " ".repeat(room))
}

/// One line of at most `width` characters, none of which moves the cursor.
fn plain(text: &str, width: usize) -> String {
    let safe = |c: char| if c == '\n' || is_trick(c) { '\u{fffd}' } else { c };
    let mut plain: String = text.chars().take(width).map(safe).collect();
    if text.chars().nth(width).is_some() {
        plain.pop();
        plain.push('…');
    }
    plain
}

fn dash() -> String {
    "–".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn no_line_is_too_wide_for_a_terminal() {
        let mut results = testing::plausible();
        results.scenarios[0].title = "long ".repeat(60);
        results.scenarios[0].series[3].server = "a peer with a very long name indeed".to_owned();
        results.scenarios[1].series[3].missing =
            Some("for a reason that takes some time to tell, ".repeat(5));
        let text = summary(&results);
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
    }

    #[test]
    fn a_scenario_without_updates_shows_its_numbers() {
        let mut results = testing::plausible();
        results.scenarios.truncate(1);
        for (place, series) in results.scenarios[0].series.iter_mut().enumerate() {
            series.rounds.clear();
            series.numbers = [("first_secret_p50_us".to_owned(), 71.0 + place as f64)].into();
        }
        let text = summary(&results);
        let row = text.lines().find(|line| line.contains("first_secret_p50_us")).unwrap();
        assert!(row.contains("71.0") && row.contains("72.0"), "{text}");
        assert!(!text.contains("disturbed"), "{text}");
    }

    #[test]
    fn a_stranger_cannot_write_over_the_terminal() {
        let mut results = testing::plausible();
        results.scenarios[0].series[3].server = "\u{1b}[2Jspire\nvouch".to_owned();
        let text = summary(&results);
        assert!(!text.contains('\u{1b}') && !text.contains("\nvouch"), "{text}");
    }

    #[test]
    fn a_table_holds_ratios_against_the_anchor_and_against_ours() {
        let results =
            testing::of_rounds(&[("vouch", &[8.0, 9.0]), ("anchor", &[4.0, 4.5]), ("spire", &[80.0, 90.0])]);
        let text = summary(&results);
        let line = |server: &str| {
            text.lines().find(|line| line.trim_start().starts_with(server)).unwrap().to_owned()
        };
        assert!(line("vouch").contains("8.50 (8.00–9.00)     2.00×"), "{text}");
        assert!(line("spire").contains("20.0×     10.0×"), "{text}");
    }

    #[test]
    fn times_of_a_disturbed_scenario_are_left_out_and_its_cpu_stays() {
        let mut results = testing::of_rounds(&[("vouch", &[8.0; 9]), ("anchor", &[4.0; 9])]);
        let text = summary(&results);
        assert!(text.contains(" ms "), "{text}");
        let rounds = results.scenarios[0].series.iter_mut().flat_map(|series| &mut series.rounds);
        rounds.take(4).for_each(|round| round.disturbed = true);
        let text = summary(&results);
        assert!(text.contains("times not published: 4 of 18 rounds disturbed"), "{text}");
        assert!(text.contains("2.00×") && !text.contains(" ms "), "{text}");
    }
}
