//! Plots of time: percentiles of the delivery, and the progress of one rotation.

use crate::report::{
    Figures,
    axis::Axis,
    html::{Cell, Html},
    plot::{Curve, Plot, Point},
    scene::Scene,
    words,
};

/// Percentiles of a curve, as far as there are streams enough to tell them from the last one.
const QUANTILES: [f64; 20] = [
    0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9998,
    0.9999, 0.99995, 0.99999,
];
/// Points of a progress, the first stream and each hundredth.
const PARTS: u32 = 100;
const LOG_FROM_PART: usize = 5;
const MOST_APART: f64 = 12.0;

/// Percentile curves of every scenario; the tail is as wide as the rest.
pub(crate) fn percentiles(scenes: &[Scene], figures: &mut Figures) -> Html {
    each_scene(scenes, figures, |scene, figures| {
        let mut curves = Vec::new();
        let mut rows = Vec::new();
        let mut samples = 0.0_f64;
        for run in &scene.runs {
            let Some(delivery) = run.delivery() else { continue };
            let total = delivery.total() as f64;
            samples = samples.max(total);
            let at = |quantile| delivery.quantile(quantile).unwrap_or_default() / 1e3;
            let inner = QUANTILES.into_iter().filter(|quantile| 1.0 / (1.0 - quantile) < total);
            let mut points: Vec<Point> = inner.map(|p| point(1.0 / (1.0 - p), at(p))).collect();
            points.push(point(total, at(1.0)));
            curves.push(figures.curve(run, points, false));
            let mut row = vec![Cell::words(&run.series.server)];
            row.extend([0.5, 0.9, 0.99, 0.999, 1.0].map(|p| Cell::number(words::figure(at(p)))));
            row.push(Cell::number(words::whole(delivery.total())));
            rows.push(row);
        }
        let plot = Plot {
            key: format!("percentiles {}", scene.key()),
            title: format!("Delivery, {scene}"),
            description: describe("Milliseconds until a share of the streams had the new secret.", &rows),
            x: Axis::of_tails(samples),
            x_label: "share of the streams, tail stretched",
            y: Axis::fitting(curves.iter().flat_map(|curve| curve.points.iter().map(|point| point.y))),
            y_label: "ms until delivered",
            curves,
        };
        let head = ["server", "p50, ms", "p90", "p99", "p99.9", "max", "streams"];
        (plot, head.map(Cell::words).to_vec(), rows)
    })
}

/// Share of the streams served against time, in the median rotation of each server.
pub(crate) fn progress(scenes: &[Scene], figures: &mut Figures) -> Html {
    each_scene(scenes, figures, |scene, figures| {
        let mut curves = Vec::new();
        let mut rows = Vec::new();
        for run in &scene.runs {
            let Some((number, delivery)) = run.median_rotation() else { continue };
            let at = |share: f64| delivery.quantile(share).unwrap_or_default() / 1e3;
            let shares = (0..=PARTS).map(|part| f64::from(part) / f64::from(PARTS));
            curves.push(figures.curve(run, shares.map(|share| point(at(share), share)).collect(), false));
            let mut row = vec![Cell::words(&run.series.server)];
            row.extend([0.0, 0.1, 0.5, 0.9, 1.0].map(|share| Cell::number(words::figure(at(share)))));
            row.push(Cell::number(number + 1));
            rows.push(row);
        }
        let plot = Plot {
            key: format!("progress {}", scene.key()),
            title: format!("One rotation, {scene}"),
            description: describe(
                "Share of the streams served against milliseconds since the rotation.",
                &rows,
            ),
            x: time_axis(&curves),
            x_label: "ms since the rotation",
            y: Axis::of_shares(),
            y_label: "streams served",
            curves,
        };
        let head = ["server", "first, ms", "10 %", "50 %", "90 %", "last", "round"];
        (plot, head.map(Cell::words).to_vec(), rows)
    })
}

type Drawn = (Plot, Vec<Cell>, Vec<Vec<Cell>>);

/// A plot and its table for each scenario that has times; those of the largest N first, the others folded away.
fn each_scene(scenes: &[Scene], figures: &mut Figures, draw: impl Fn(&Scene, &mut Figures) -> Drawn) -> Html {
    let (mut open, mut folded, mut html) = (Html::default(), Html::default(), Html::default());
    for scene in scenes {
        if !scene.has_times() {
            html.tag("<p class=\"absent\">").text(format!("{scene}: {}.", scene.why_no_times())).tag("</p>");
            continue;
        }
        let (plot, head, rows) = draw(scene, figures);
        if plot.curves.is_empty() {
            html.tag("<p class=\"absent\">").text(format!("{scene}: no delivery was recorded.")).tag("</p>");
            continue;
        }
        let larger =
            |other: &Scene| other.shape == scene.shape && other.scenario.streams > scene.scenario.streams;
        let place = if scenes.iter().any(larger) { &mut folded } else { &mut open };
        place.append(&figures.draw(&plot, &head, &rows));
    }
    html.append(&figures.gallery(&open, &folded, "Fewer streams"));
    html
}

/// From zero on, unless the quickest server would vanish beside the slowest.
fn time_axis(curves: &[Curve]) -> Axis {
    let at = |part: usize| curves.iter().filter_map(move |curve| Some(curve.points.get(part)?.x));
    let lasts = || at(PARTS as usize);
    let (quickest, slowest) = (lasts().fold(f64::INFINITY, f64::min), lasts().fold(0.0, f64::max));
    match slowest > MOST_APART * quickest {
        // The first few are so early that they would take half of a logarithmic axis.
        true => Axis::fitting(at(LOG_FROM_PART).chain(lasts())),
        false => Axis::from_zero(slowest),
    }
}

fn point(x: f64, y: f64) -> Point {
    Point { x, y, range: None }
}

fn describe(what: &str, rows: &[Vec<Cell>]) -> String {
    format!("{what} {} curves; their numbers stand in the table below.", rows.len())
}
