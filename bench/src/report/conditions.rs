//! Under which conditions the numbers came about, and what they leave out.

use crate::{
    report::{
        html::{Cell, Html},
        scene::{Scene, counted, servers},
        words,
    },
    results::{Machine, Results},
};

/// A loop that got less of a core than this had a neighbour.
const QUIET_SHARE: f64 = 0.9;
/// Rounds of one server that are named one by one.
const MOST_NAMED: usize = 12;

/// When, what, where.
pub(crate) fn in_a_sentence(results: &Results) -> String {
    let Machine { cpu, cpus, kernel, .. } = &results.machine;
    let commit = match results.commit.as_str() {
        "" => String::new(),
        commit => format!(", commit {commit}"),
    };
    let (servers, cores) = (servers(results).join(", "), if *cpus == 1 { "CPU" } else { "CPUs" });
    format!(
        "{servers}, in turns on {cpus} {cores} of {cpu} with Linux {kernel}; {}{commit}.",
        results.started
    )
}

pub(crate) fn all(results: &Results, scenes: &[Scene]) -> Html {
    let mut html = Html::default();
    machine(results, &mut html);
    versions(results, &mut html);
    scenarios(scenes, &mut html);
    probes(results, &mut html);
    rounds(scenes, &mut html);
    missing(results, scenes, &mut html);
    further(scenes, &mut html);
    html.tag(NOT_SHOWN);
    html
}

const NOT_SHOWN: &str = "<h3>What the harness does not show</h3><ul>\
    <li>Thousands of processes. The load is one program: waking a process for each stream costs more than moving the bytes, \
    and one reader on one thread flatters every server and the anchor alike.</li>\
    <li>What Envoy does with a secret. It works longer on one, for each of its TLS contexts, than a server takes to deliver \
    it. Only the scenario with real Envoys holds that.</li>\
    <li>Many cores. Server and load have the CPUs that the table above names, and no more; with one each, p99.9 is as much the \
    machine's as the server's.</li>\
    <li>Absolute times elsewhere. Times and CPU belong to this machine and this hour; ratios within one run carry further.</li>\
    </ul>";

fn machine(results: &Results, html: &mut Html) {
    let Machine { cpu, cpus, kernel, memory_mib, descriptors, server_cpus, load_cpus } = &results.machine;
    let list = |cpus: &[usize]| cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
    let facts = [
        ("begun", results.started.clone()),
        ("command", shell_line(&results.command)),
        ("commit", results.commit.clone()),
        ("CPU", format!("{cpus} of {cpu}")),
        ("servers on", list(server_cpus)),
        ("load on", list(load_cpus)),
        ("kernel", kernel.clone()),
        ("memory", format!("{} MiB", words::whole(*memory_mib))),
        ("descriptors", format!("{} at most for the load", words::whole(*descriptors))),
    ];
    html.tag("<h3>Machine and command</h3><dl>");
    for (name, fact) in facts {
        html.element("dt", name).element("dd", if fact.is_empty() { "not known" } else { &fact });
    }
    html.tag("</dl>");
}

fn versions(results: &Results, html: &mut Html) {
    let rows = results.servers.iter().map(|server| {
        let settings = match server.settings.is_empty() {
            true => "defaults".to_owned(),
            false => server.settings.join("; "),
        };
        vec![
            Cell::words(&server.name),
            Cell::words(&server.version),
            Cell::words(settings).with("words long"),
        ]
    });
    html.tag("<h3>Servers</h3>");
    html.table(
        "Versions and settings",
        &["server", "version", "settings"].map(Cell::words),
        &rows.collect::<Vec<_>>(),
    );
}

fn scenarios(scenes: &[Scene], html: &mut Html) {
    let rows = scenes.iter().map(|scene| {
        let scenario = scene.scenario;
        let parameters = scenario.parameters.iter().map(|(name, value)| format!("{name} {value}"));
        let (disturbed, counted) = scene.disturbed();
        vec![
            Cell::words(&scenario.id).note(&scenario.title),
            Cell::number(words::whole(scenario.streams.into())),
            Cell::number(scenario.streams_per_connection),
            Cell::number(words::bytes(scenario.message_bytes)),
            Cell::number(words::bytes(scenario.ack_bytes)),
            Cell::words(parameters.collect::<Vec<_>>().join("; ")).with("words long"),
            Cell::number(format!("{disturbed} of {counted}")).note(if scene.has_times() {
                ""
            } else {
                "no times"
            }),
        ]
    });
    let head = ["scenario", "N", "per connection", "message", "ACK", "settings", "disturbed rounds"]
        .map(Cell::words);
    html.tag("<h3>Scenarios</h3>").table("Scenarios", &head, &rows.collect::<Vec<_>>());
}

fn probes(results: &Results, html: &mut Html) {
    let rows = results.probes.iter().map(|probe| {
        let quiet = probe.share_by_cpu.iter().all(|share| *share >= QUIET_SHARE);
        let shares = probe.share_by_cpu.iter().map(|share| words::percent(*share));
        let shares = Cell::number(shares.collect::<Vec<_>>().join(" · "));
        let verdict = if quiet { Cell::words("quiet") } else { Cell::words("disturbed").with("missed") };
        vec![Cell::words(&probe.when), shares, verdict]
    });
    html.tag("<h3>Spin probes</h3><p>The share of each CPU that a loop got which only reads the clock.</p>");
    html.table("Spin probes", &["when", "share by CPU", ""].map(Cell::words), &rows.collect::<Vec<_>>());
}

/// Each server of each scenario that has rounds: how many count, and which are marked.
fn rounds(scenes: &[Scene], html: &mut Html) {
    let mut rows = Vec::new();
    for scene in scenes {
        for run in &scene.runs {
            let series = run.series;
            if series.rounds.is_empty() {
                continue;
            }
            let marked =
                series.rounds.iter().enumerate().filter(|(_, round)| round.counted && round.disturbed);
            let marked: Vec<String> = marked.map(|(number, _)| (number + 1).to_string()).collect();
            let mut named = marked.iter().take(MOST_NAMED).cloned().collect::<Vec<_>>().join(", ");
            if marked.len() > MOST_NAMED {
                named.push_str(&format!(" and {} more", marked.len() - MOST_NAMED));
            }
            let late = series.rounds.iter().map(|round| round.started_late_us).fold(0.0, f64::max);
            let warm_up = series.rounds.len() - counted(series).count();
            let unreadable = match run.unreadable() {
                0 => String::new(),
                unreadable => format!("{unreadable} without a readable histogram"),
            };
            rows.push(vec![
                Cell::words(scene).note(&series.server),
                Cell::number(counted(series).count()).note(unreadable),
                Cell::number(warm_up),
                Cell::number(words::time(late)),
                Cell::number(if named.is_empty() { "none".to_owned() } else { named }),
            ]);
        }
    }
    let head =
        ["scenario, server", "counted", "warm-up", "latest start", "marked as disturbed"].map(Cell::words);
    let mut table = Html::default();
    table.table("Rounds", &head, &rows);
    html.tag("<h3>Rounds</h3><p>Numbers of rounds count from 1, the warm-up included. A round is marked when somebody else had ");
    html.tag("one of the CPUs for more than a tenth of the time. Marked rounds count; above a fifth of them, a scenario's times ");
    html.tag("are not published.</p>").folded("All rounds", &table);
}

/// What there is no number for, and why.
fn missing(results: &Results, scenes: &[Scene], html: &mut Html) {
    let mut rows = Vec::new();
    for scene in scenes {
        for server in servers(results) {
            let why = match scene.run(server) {
                None => Some("took no part"),
                Some(run) => run.series.missing.as_deref(),
            };
            rows.extend(why.map(|why| {
                vec![Cell::words(scene), Cell::words(server), Cell::words(why).with("words long")]
            }));
        }
    }
    html.tag("<h3>What is missing, and why</h3>");
    if rows.is_empty() {
        html.tag("<p>Nothing: every server took part in every scenario.</p>");
        return;
    }
    html.table("What is missing", &["scenario", "server", "why"].map(Cell::words), &rows);
}

/// Numbers that belong to one scenario alone.
fn further(scenes: &[Scene], html: &mut Html) {
    let mut rows = Vec::new();
    for scene in scenes {
        for run in &scene.runs {
            rows.extend(run.series.numbers.iter().map(|(name, number)| {
                vec![
                    Cell::words(scene),
                    Cell::words(&run.series.server),
                    Cell::words(name),
                    Cell::number(words::figure(*number)),
                ]
            }));
        }
    }
    if !rows.is_empty() {
        let mut table = Html::default();
        table.table("Further numbers", &["scenario", "server", "number", ""].map(Cell::words), &rows);
        html.tag("<h3>Further numbers</h3>").folded("Numbers that belong to one scenario alone", &table);
    }
}

/// As it could be typed again.
fn shell_line(words: &[String]) -> String {
    let plain = |word: &str| {
        !word.is_empty() && word.chars().all(|c| c.is_alphanumeric() || "-_./=:,+@%".contains(c))
    };
    let quoted = words.iter().map(|word| match plain(word) {
        true => word.clone(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    });
    quoted.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_can_be_typed_again() {
        let words = ["vouch-bench", "run", "--peer", "it's sock=/run/a b"].map(str::to_owned);
        assert_eq!(shell_line(&words), r"vouch-bench run --peer 'it'\''s sock=/run/a b'");
    }
}
