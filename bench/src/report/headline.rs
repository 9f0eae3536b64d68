//! What one wants to know first: ratios, round by round, as median and range.

use std::cmp::Reverse;

use crate::{
    numbers::Spread,
    report::{
        html::{Cell, Html},
        scene::{ANCHOR, OURS, Scene, peers, servers},
        words,
    },
    results::{Results, Round},
};

/// Peers that get a tile of their own.
const MOST_PEERS: usize = 3;

/// The few numbers that stand at the top: of the first scenario that has ours, each at the largest N that has it.
pub(crate) fn tiles(results: &Results, scenes: &[Scene]) -> Html {
    let mut html = Html::default();
    let Some(first) = scenes.iter().find(|scene| scene.ratio(OURS, ANCHOR, cpu).is_some()) else {
        return html;
    };
    let mut sizes: Vec<&Scene> = scenes.iter().filter(|scene| scene.shape == first.shape).collect();
    sizes.sort_by_key(|scene| Reverse(scene.scenario.streams));
    html.tag("<ul class=\"tiles\">");
    let mut tile = |number: &dyn Fn(&Scene) -> Option<String>, meaning: &str| {
        let Some((scene, number)) = sizes.iter().find_map(|scene| Some((scene, number(scene)?))) else {
            return;
        };
        let size = format!("{} streams", words::whole(scene.scenario.streams.into()));
        html.tag("<li>").element("b", number).element("span", meaning).element("small", size).tag("</li>");
    };
    let ratio = |over, under| move |scene: &Scene| Some(words::times(scene.ratio(over, under, cpu)?.median));
    tile(&ratio(OURS, ANCHOR), "the CPU of raw sockets, per stream and update");
    for peer in peers(results).into_iter().take(MOST_PEERS) {
        tile(&ratio(peer, OURS), &format!("Vouch's CPU is what {peer} takes for the same"));
    }
    let last = |scene: &Scene| {
        let spread = scene.run(OURS)?.spread(|round| round.last_delivery_us)?;
        scene.has_times().then(|| words::time(spread.median))
    };
    tile(&last, "until Vouch's last stream has the new secret");
    html.tag("</ul><p class=\"aside\">").text(format!("Medians of {}.", first.shape)).tag("</p>");
    html
}

/// Both tables of ratios.
pub(crate) fn tables(results: &Results, scenes: &[Scene]) -> Html {
    let mut html = Html::default();
    html.tag("<p>Servers take turns within each round, so a ratio is taken in each round: the table shows the median and, ");
    html.tag("below it, the least and the most. Against the anchor, less is better. Against Vouch, more is better for Vouch.</p>");
    let table = |caption: &str, number: fn(&Round) -> f64, is_time: bool, html: &mut Html| {
        let columns = columns(results);
        let mut head = vec![Cell::words("scenario"), Cell::number("N")];
        head.extend(columns.iter().map(|(over, under)| Cell::number(over).note(format!("÷ {under}"))));
        let rows = scenes.iter().map(|scene| {
            let mut row = vec![
                Cell::words(&scene.scenario.id).note(shape_note(scene)),
                Cell::number(words::whole(scene.scenario.streams.into())),
            ];
            row.extend(columns.iter().map(|(over, under)| match scene.ratio(over, under, number) {
                Some(_) if is_time && !scene.has_times() => Cell::number("–").note("not published"),
                Some(ratio) => ratio_cell(ratio),
                None => Cell::number("–"),
            }));
            row
        });
        html.table(caption, &head, &rows.collect::<Vec<_>>());
    };
    let silent: Vec<&Scene> = scenes.iter().filter(|scene| !scene.has_times()).collect();
    table("CPU of the server per stream and update", cpu, false, &mut html);
    table("Time until the last stream is served", |round| round.last_delivery_us, true, &mut html);
    for scene in silent {
        html.tag("<p class=\"aside\">")
            .text(format!("Times of {scene} are {}.", scene.why_no_times()))
            .tag("</p>");
    }
    html
}

pub(crate) fn cpu(round: &Round) -> f64 {
    round.server_cpu_us_per_update
}

/// Each server by the anchor, then each peer by ours.
fn columns(results: &Results) -> Vec<(&str, &str)> {
    let others = servers(results).into_iter().filter(|name| *name != ANCHOR);
    let mut columns: Vec<_> = others.map(|name| (name, ANCHOR)).collect();
    columns.extend(peers(results).into_iter().map(|name| (name, OURS)));
    columns
}

fn shape_note(scene: &Scene) -> String {
    let text = scene.shape.to_string();
    text.split_once(", ").map_or(String::new(), |(_, rest)| rest.to_owned())
}

fn ratio_cell(ratio: Spread) -> Cell {
    Cell::number(words::times(ratio.median)).note(words::range(ratio))
}
