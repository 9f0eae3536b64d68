use proptest::prelude::*;

use super::*;
use crate::{
    results::{Connect, Machine, Memory, Probe, Round, Scenario, Series, Server},
    testing,
};

/// Words as a stranger writes them. Each contains a mark that must never be seen bare.
fn words() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("vouch".to_owned()),
        Just("anchor".to_owned()),
        Just("spire".to_owned()),
        Just("<script>alert(1)</script>".to_owned()),
        Just("\"><img src=x onerror='alert(1)'>&amp;\u{202e}\u{0}".to_owned()),
        Just("</style></title></svg><script>".to_owned()),
        Just(String::new()),
        any::<String>(),
    ]
}

fn number() -> impl Strategy<Value = f64> {
    let extremes = [0.0, -0.0, 1e-300, 1e300, f64::MIN, f64::MAX, f64::MIN_POSITIVE, -1.0];
    prop_oneof![0.0..1e6_f64, prop::sample::select(extremes.to_vec())]
}

fn round() -> impl Strategy<Value = Round> {
    let delivery =
        prop_oneof![Just(testing::histogram([1, 10, 600_000_000])), Just(testing::histogram([])), words(),];
    (prop::array::uniform8(number()), any::<(bool, bool, u64)>(), delivery).prop_map(
        |(numbers, flags, delivery)| {
            let [late, cpu, user, switches, load, first, last, ack] = numbers;
            Round {
                counted: flags.0,
                disturbed: flags.1,
                started_late_us: late,
                updates: flags.2,
                server_cpu_us_per_update: cpu,
                server_user_us_per_update: flags.0.then_some(user),
                server_switches_per_update: flags.1.then_some(switches),
                load_cpu_us_per_update: load,
                first_delivery_us: first,
                last_delivery_us: last,
                last_ack_us: ack,
                delivery,
            }
        },
    )
}

fn series() -> impl Strategy<Value = Series> {
    let connect =
        (number(), number(), any::<u32>()).prop_map(|(took_us, server_cpu_us_per_stream, unanswered)| {
            Connect { took_us, server_cpu_us_per_stream, unanswered }
        });
    let memory = any::<([u64; 4], Option<i64>)>().prop_map(|(kib, slab_connected_kib)| {
        let [before_kib, connected_kib, rotated_kib, peak_kib] = kib;
        Memory { before_kib, connected_kib, rotated_kib, peak_kib, slab_connected_kib }
    });
    let parts = (
        words(),
        prop::option::of(words()),
        prop::option::of(connect),
        prop::option::of(memory),
        prop::collection::vec(round(), 0..4),
        prop::collection::btree_map(words(), number(), 0..2),
    );
    parts.prop_map(|(server, missing, connect, memory, rounds, numbers)| Series {
        server,
        missing,
        connect,
        memory,
        rounds,
        numbers,
    })
}

fn scenario() -> impl Strategy<Value = Scenario> {
    let id = prop_oneof![(1..=10_u32).prop_map(|number| format!("S{number}")), words()];
    let size = (any::<u32>(), any::<u32>(), any::<usize>(), prop_oneof![Just(144), any::<usize>()]);
    let parameters = prop::collection::btree_map(words(), words(), 0..2);
    let parts = (id, words(), size, parameters, prop::collection::vec(series(), 0..4));
    parts.prop_map(|(id, title, size, parameters, series)| {
        let (streams, streams_per_connection, message_bytes, ack_bytes) = size;
        Scenario { id, title, streams, streams_per_connection, message_bytes, ack_bytes, parameters, series }
    })
}

fn results() -> impl Strategy<Value = Results> {
    let server = (words(), words(), prop::collection::vec(words(), 0..2));
    let server = server.prop_map(|(name, version, settings)| Server { name, version, settings });
    let probe = (words(), prop::collection::vec(number(), 0..3));
    let probe = probe.prop_map(|(when, share_by_cpu)| Probe { when, share_by_cpu });
    let machine = (words(), words(), any::<(usize, u64, u64)>(), prop::collection::vec(any::<usize>(), 0..3));
    let machine = machine.prop_map(|(cpu, kernel, (cpus, memory_mib, descriptors), places)| Machine {
        cpu,
        cpus,
        kernel,
        memory_mib,
        descriptors,
        server_cpus: places.clone(),
        load_cpus: places,
    });
    let parts = (
        (words(), words()),
        prop::collection::vec(words(), 0..3),
        machine,
        prop::collection::vec(probe, 0..2),
        prop::collection::vec(server, 0..3),
        prop::collection::vec(scenario(), 0..4),
    );
    parts.prop_map(|((started, commit), command, machine, probes, servers, scenarios)| Results {
        format: crate::results::FORMAT,
        started,
        command,
        commit,
        machine,
        probes,
        servers,
        scenarios,
    })
}

/// Names of all elements, and of their attributes, as a browser would find them in `html`.
fn markup(html: &str) -> Vec<String> {
    let mut found = Vec::new();
    for tag in html.split('<').skip(1) {
        let (tag, _) = tag.split_once('>').unwrap_or_else(|| panic!("a tag does not end: {tag}"));
        let mut outside = String::new();
        // Values are between the odd quotes.
        tag.split('"').step_by(2).for_each(|piece| outside.push_str(piece));
        found.extend(outside.split([' ', '=', '/']).filter(|word| !word.is_empty()).map(str::to_owned));
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn whatever_the_results_hold_the_page_has_only_our_markup(results in results(), name in words()) {
        let page = page(&results, &name);
        for word in markup(&page) {
            let ours = word.starts_with("data-") || word.starts_with("aria-") || OURS.contains(&word.as_str());
            prop_assert!(ours, "{word:?} became markup");
        }
        prop_assert!(!page.contains("NaN") && !page.contains("\"inf"), "a number is none");
        prop_assert!(!page.contains(['\u{202e}', '\u{0}']), "a trick is in the page");
    }

    #[test]
    fn whatever_the_results_hold_the_summary_fits_the_terminal(results in results()) {
        for line in summary(&results).split('\n') {
            prop_assert!(line.chars().count() <= 100 && !line.chars().any(char::is_control), "{line:?}");
        }
    }

    #[test]
    fn whatever_the_results_hold_they_can_be_compared(old in results(), new in results()) {
        for (old, new) in [(&old, &new), (&old, &old)] {
            if let Ok(comparison) = crate::compare::compare(old, new, "vouch") {
                prop_assert!(comparison.to_string().split('\n').all(|line| line.chars().count() <= 100));
            }
        }
    }
}

/// Every element and attribute that the page is made of.
const OURS: [&str; 67] = [
    "!doctype",
    "html",
    "lang",
    "en",
    "head",
    "meta",
    "charset",
    "name",
    "content",
    "link",
    "rel",
    "href",
    "title",
    "style",
    "body",
    "header",
    "main",
    "section",
    "id",
    "p",
    "class",
    "h1",
    "h2",
    "h3",
    "a",
    "ul",
    "li",
    "b",
    "span",
    "small",
    "div",
    "tabindex",
    "role",
    "table",
    "caption",
    "thead",
    "tbody",
    "tr",
    "th",
    "scope",
    "td",
    "figure",
    "figcaption",
    "svg",
    "viewBox",
    "desc",
    "g",
    "polyline",
    "points",
    "circle",
    "cx",
    "cy",
    "r",
    "line",
    "x1",
    "y1",
    "x2",
    "y2",
    "text",
    "x",
    "y",
    "text-anchor",
    "details",
    "summary",
    "dl",
    "dt",
    "dd",
];

#[test]
fn a_page_loads_nothing_and_runs_nothing() {
    let page = page(&testing::plausible(), "made-up.json");
    for word in ["<script", "src=", "@import", "url(", "http:", "https:", "onload"] {
        assert!(!page.contains(word), "{word} is in the page");
    }
    assert!(page.contains(r#"<a href="./made-up.json">made-up.json</a>"#));
}

#[test]
fn a_file_name_is_an_address_of_the_same_folder() {
    assert_eq!(file_address("javascript:alert(1)"), "./javascript%3Aalert%281%29");
    assert_eq!(file_address("2026-11 run.json"), "./2026-11%20run.json");
}

#[test]
fn times_of_a_disturbed_scenario_are_not_published_and_ratios_of_cpu_are() {
    let mut results = testing::of_rounds(&[("vouch", &[8.0; 9]), ("anchor", &[4.0; 9])]);
    let quiet = page(&results, "r.json");
    assert!(quiet.contains("data-plot=\"percentiles ") && quiet.contains("data-plot=\"progress "), "{quiet}");
    for round in results.scenarios[0].series.iter_mut().flat_map(|series| &mut series.rounds).take(4) {
        round.disturbed = true;
    }
    let disturbed = page(&results, "r.json");
    assert!(disturbed.contains("not published: 4 of 18 rounds disturbed"), "{disturbed}");
    assert!(!disturbed.contains("data-plot=\"percentiles ") && !disturbed.contains("data-plot=\"progress "));
    assert!(disturbed.contains("data-plot=\"cpu ") && disturbed.contains("2.00×"), "{disturbed}");
}

#[test]
fn what_is_missing_is_named_with_its_reason() {
    let page = page(&testing::plausible(), "r.json");
    assert!(page.contains("made up: it needs two descriptors a connection"));
}
