//! A report of a run is a page that one can read: in a real browser every plot shows its data, nothing complains or
//! is loaded, it fits a phone, and it is dark where people like it dark. No name in it becomes markup.
//!
//! The results are made up.

#![expect(clippy::unwrap_used, reason = "what cannot be arranged fails the scenario")]

use std::{collections::BTreeMap, fs, path::PathBuf};

use serde_json::Value;
use tempfile::TempDir;
use vouch_bench::{
    report,
    results::{Results, Scenario, Series},
    testing,
};
use vouch_tests::{Browser, Need, browser::View, require};

const DESK: View = View { width: 1200, height: 900, scheme: "light" };
const PHONE: View = View { width: 360, height: 740, scheme: "light" };
/// Percentiles of a curve; those that more than the last stream is beyond are drawn, and then the last stream.
const PERCENTILES: [f64; 20] = [
    10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 95.0, 98.0, 99.0, 99.5, 99.8, 99.9, 99.95, 99.98,
    99.99, 99.995, 99.999,
];
/// The first stream and each hundredth.
const PROGRESS: usize = 101;

/// A page in a folder of its own.
struct Page {
    _folder: TempDir,
    file: PathBuf,
}

fn written(html: &str) -> Page {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.html");
    fs::write(&file, html).unwrap();
    Page { _folder: folder, file }
}

fn page(results: &Results) -> Page {
    written(&report::page(results, "made-up.json"))
}

/// What is wrong with the page that is open, whatever it shows.
fn faults(browser: &mut Browser, page: &Page) -> Vec<String> {
    let outside = browser.evaluate(
        "(() => {
            document.querySelectorAll('details').forEach(details => details.open = true);
            const room = document.documentElement.clientWidth;
            const faults = [];
            if (document.documentElement.scrollWidth > room) faults.push('the page scrolls sideways');
            for (const element of document.querySelectorAll('body *')) {
                const { left, right } = element.getBoundingClientRect();
                const own = element.closest('.scroll');
                if ((own === null || own === element) && (right > room + 0.5 || left < -0.5))
                    faults.push(`${element.tagName} lies from ${left} to ${right}`);
            }
            for (const svg of document.querySelectorAll('svg')) {
                const box = svg.getBoundingClientRect();
                for (const text of svg.querySelectorAll('text')) {
                    const { left, right } = text.getBoundingClientRect();
                    if (left < box.left - 1 || right > box.right + 1) faults.push(`cut off: ${text.textContent}`);
                }
            }
            return faults;
        })()",
    );
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
    };
    let mut faults = texts(&outside);
    faults.extend(browser.complaints());
    let own = format!("file://{}", page.file.display());
    faults.extend(
        browser.requests().into_iter().filter(|address| *address != own && !address.starts_with("data:")),
    );
    faults
}

/// By kind of plot, scenario and server: the points that are drawn.
type Points = BTreeMap<(String, String, String), usize>;

fn drawn(browser: &mut Browser) -> Points {
    let curves = browser.evaluate(
        "[...document.querySelectorAll('svg[data-plot] .curve')].map(curve => {
            const kind = curve.closest('svg').dataset.plot.split(/[ ,]/);
            const line = curve.querySelector('polyline').points.numberOfItems;
            const dots = curve.querySelectorAll('circle').length;
            return [kind[0], kind[1], curve.dataset.server, line, dots];
        })",
    );
    let mut points = Points::new();
    for curve in curves.as_array().unwrap() {
        let word = |place: usize| curve[place].as_str().unwrap().to_owned();
        let (line, dots) = (curve[3].as_u64().unwrap(), curve[4].as_u64().unwrap());
        let kind = word(0);
        let is_dotted = !["percentiles", "progress"].contains(&kind.as_str());
        assert_eq!(dots, if is_dotted { line } else { 0 }, "{curve}");
        *points.entry((kind, word(1), word(2))).or_default() += usize::try_from(line).unwrap();
    }
    points
}

fn in_the_data(results: &Results) -> Points {
    let mut points = Points::new();
    for scenario in &results.scenarios {
        for series in &scenario.series {
            let mut add = |kind: &str, count: usize| {
                if count > 0 {
                    let key = (kind.to_owned(), scenario.id.clone(), series.server.clone());
                    *points.entry(key).or_default() += count;
                }
            };
            let counted = series.rounds.iter().filter(|round| round.counted).count();
            if has_times(scenario) && counted > 0 {
                add("percentiles", percentiles(scenario, counted));
                add("progress", PROGRESS);
            }
            add("cpu", usize::from(counted > 0));
            add("memory", usize::from(series.memory.is_some()));
            add("connect", usize::from(series.connect.is_some()));
        }
    }
    points
}

fn has_times(scenario: &Scenario) -> bool {
    let rounds =
        || scenario.series.iter().flat_map(|series: &Series| &series.rounds).filter(|round| round.counted);
    rounds().filter(|round| round.disturbed).count() * 5 <= rounds().count()
}

fn percentiles(scenario: &Scenario, rounds: usize) -> usize {
    let streams = f64::from(scenario.streams) * rounds as f64;
    PERCENTILES.iter().filter(|percentile| streams * (100.0 - **percentile) / 100.0 > 1.0).count() + 1
}

#[test]
fn every_plot_of_a_report_has_its_data() {
    require!(Need::Browser);
    let results = testing::plausible();
    let page = page(&results);
    let mut browser = Browser::start();
    browser.open(&page.file, DESK);
    let expected = in_the_data(&results);
    assert!(expected.len() > 100, "the made-up results hold {} curves", expected.len());
    assert_eq!(drawn(&mut browser), expected);
    assert_eq!(faults(&mut browser, &page), Vec::<String>::new());
}

#[test]
fn who_waits_longest_is_drawn_highest() {
    require!(Need::Browser);
    let results = testing::plausible();
    let page = page(&results);
    let mut browser = Browser::start();
    browser.open(&page.file, DESK);
    let last = browser.evaluate(
        "[...document.querySelectorAll('svg[data-plot^=\"percentiles S8\"][data-plot$=\", 5000\"] .curve')]
            .map(curve => [curve.querySelector('polyline').points, curve.dataset.server])
            .map(([points, server]) => [points.getItem(points.numberOfItems - 1).y, server])
            .sort((one, other) => one[0] - other[0]).map(([, server]) => server)",
    );
    let scenario =
        results.scenarios.iter().find(|scenario| scenario.id == "S8" && scenario.streams == 5_000).unwrap();
    let longest = |series: &Series| {
        let counted = series.rounds.iter().filter(|round| round.counted);
        counted.map(|round| round.last_delivery_us).fold(0.0, f64::max)
    };
    let mut servers: Vec<_> = scenario.series.iter().collect();
    servers.sort_by(|one, other| longest(other).total_cmp(&longest(one)));
    let servers: Vec<_> = servers.iter().map(|series| series.server.as_str()).collect();
    assert_eq!(last, serde_json::json!(servers));
}

#[test]
fn a_report_fits_a_phone() {
    require!(Need::Browser);
    let page = page(&testing::plausible());
    let mut browser = Browser::start();
    browser.open(&page.file, PHONE);
    assert_eq!(browser.evaluate("innerWidth"), 360);
    assert_eq!(faults(&mut browser, &page), Vec::<String>::new());
    let smallest = browser.evaluate(
        "Math.min(...[...document.querySelectorAll('svg text')].map(text => text.getBoundingClientRect().height))",
    );
    assert!(smallest.as_f64().unwrap() >= 10.0, "text of {smallest} px cannot be read");
}

#[test]
fn a_report_is_dark_where_people_like_it_dark() {
    require!(Need::Browser);
    let page = page(&testing::plausible());
    let mut browser = Browser::start();
    let mut backgrounds = Vec::new();
    for scheme in ["light", "dark"] {
        browser.open(&page.file, View { scheme, ..DESK });
        let luminance = "(color => { const part = value => (value /= 255) <= 0.04045 ? value / 12.92 : \
            ((value + 0.055) / 1.055) ** 2.4; const [r, g, b] = color.match(/[0-9.]+/g).map(Number); \
            return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b) })";
        let background =
            browser.evaluate(&format!("{luminance}(getComputedStyle(document.body).backgroundColor)"));
        let background = background.as_f64().unwrap();
        let inks = browser.evaluate(&format!(
            "[['body', 4.5], ['small', 4.5], ['a', 4.5], ['.met', 4.5], ['svg text', 4.5], ['.ours', 3], ['.anchor', 3],
              ['.peer0', 3], ['.peer1', 3]].map(([name, least]) => {{
                const style = getComputedStyle(document.querySelector(name));
                return [name, {luminance}(name === 'svg text' ? style.fill : style.color), least];
            }})"
        ));
        for ink in inks.as_array().unwrap() {
            let light = ink[1].as_f64().unwrap();
            let contrast = (light.max(background) + 0.05) / (light.min(background) + 0.05);
            assert!(contrast >= ink[2].as_f64().unwrap(), "{scheme}: {ink} has contrast {contrast}");
        }
        assert_eq!(faults(&mut browser, &page), Vec::<String>::new());
        backgrounds.push(background);
    }
    assert!(backgrounds[0] > 0.8 && backgrounds[1] < 0.05, "{backgrounds:?}");
}

#[test]
fn names_of_strangers_stay_names() {
    require!(Need::Browser);
    let mut results = testing::plausible();
    let script = "</title></style></svg><script>console.error('it ran')</script><img src=x onerror=alert(1)>";
    let long = "a".repeat(300);
    results.commit = script.to_owned();
    results.command = vec![script.to_owned(), long.clone()];
    results.machine.cpu = format!("{script} {long}");
    for (place, name) in [(3, script), (4, &long)] {
        results.servers[place].name = name.to_owned();
        results.servers[place].settings = vec![format!("{name}=\"{name}\"")];
        for scenario in &mut results.scenarios {
            scenario.title = format!("{script} {long}");
            scenario.series[place].server = name.to_owned();
        }
    }
    results.scenarios[0].series[3].missing = Some(format!("{script} {long}"));
    results.scenarios[0].parameters.insert(script.to_owned(), long);
    let page = page(&results);
    let mut browser = Browser::start();
    for view in [DESK, PHONE] {
        browser.open(&page.file, view);
        assert_eq!(faults(&mut browser, &page), Vec::<String>::new());
        assert_eq!(browser.evaluate("document.querySelectorAll('script, img').length"), 0);
        let shown =
            browser.evaluate("[...document.querySelectorAll('.legend li')].map(name => name.textContent)");
        assert!(shown.as_array().unwrap().iter().any(|name| name == script), "{shown}");
    }
}

#[test]
fn faults_of_a_page_are_seen() {
    require!(Need::Browser);
    let mut browser = Browser::start();
    for (body, fault) in [
        ("<script>console.error('a complaint')</script>", "a complaint"),
        ("<script>nothing.there()</script>", "nothing is not defined"),
        ("<img src='elsewhere.png'>", "elsewhere.png"),
        ("<div style='width: 2000px'>wide</div>", "the page scrolls sideways"),
        ("<svg viewBox='0 0 100 20' width=100><text x=90 y=15>long</text></svg>", "cut off: long"),
    ] {
        let page = written(&format!("<!doctype html><meta charset=utf-8><title>x</title><body>{body}"));
        browser.open(&page.file, PHONE);
        let faults = faults(&mut browser, &page);
        assert!(faults.iter().any(|found| found.contains(fault)), "{fault} is not among {faults:?}");
    }
}
