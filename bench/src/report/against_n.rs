//! Plots of what a server needs against the number of streams: CPU, memory, and the connect storm.

use crate::{
    numbers::Spread,
    report::{
        Figures,
        axis::Axis,
        headline::cpu,
        html::{Cell, Html},
        plot::{Curve, Plot, Point},
        scene::{Run, Scene, Shape},
        words,
    },
};

/// One of the three sections.
struct Metric {
    key: &'static str,
    title: &'static str,
    y_label: &'static str,
    /// What is drawn.
    spread: fn(&Scene, &Run) -> Option<Spread>,
    /// Of the table, after server and N.
    columns: &'static [&'static str],
    /// `None` when there is nothing to show.
    cells: fn(&Scene, &Run) -> Option<Vec<Cell>>,
}

pub(crate) fn cpu_per_update(scenes: &[Scene], figures: &mut Figures) -> Html {
    Metric {
        key: "cpu",
        title: "CPU per stream and update",
        y_label: "µs of the server's CPU",
        spread: |_, run| run.spread(cpu),
        columns: &["CPU, µs", "of it user", "switches", "load's CPU, µs"],
        cells: |_, run| {
            let optional = |number: fn(&crate::results::Round) -> Option<f64>| {
                run.spread(|round| number(round).unwrap_or(f64::NAN))
            };
            Some(vec![
                spread_cell(Some(run.spread(cpu)?)),
                spread_cell(optional(|round| round.server_user_us_per_update)),
                spread_cell(optional(|round| round.server_switches_per_update)),
                spread_cell(run.spread(|round| round.load_cpu_us_per_update)),
            ])
        },
    }
    .draw(scenes, figures)
}

pub(crate) fn memory(scenes: &[Scene], figures: &mut Figures) -> Html {
    Metric {
        key: "memory",
        title: "Memory per stream, after the rotations",
        y_label: "KB per stream",
        spread: |scene, run| {
            let memory = run.series.memory.as_ref()?;
            Spread::of(scene.kilobytes_per_stream(memory, memory.rotated_kib))
        },
        columns: &["connected, KB", "rotated", "peak", "kernel's slab", "before, all, MB"],
        cells: |scene, run| {
            let memory = run.series.memory.as_ref()?;
            let grown = |kib| {
                Cell::number(
                    scene.kilobytes_per_stream(memory, kib).map_or_else(|| "–".to_owned(), words::figure),
                )
            };
            let slab =
                memory.slab_connected_kib.map(|kib| kib as f64 * 1.024 / f64::from(scene.scenario.streams));
            Some(vec![
                grown(memory.connected_kib),
                grown(memory.rotated_kib),
                grown(memory.peak_kib),
                Cell::number(slab.map_or_else(|| "–".to_owned(), words::figure)),
                Cell::number(words::figure(memory.before_kib as f64 * 1.024 / 1e3)),
            ])
        },
    }
    .draw(scenes, figures)
}

pub(crate) fn connect(scenes: &[Scene], figures: &mut Figures) -> Html {
    Metric {
        key: "connect",
        title: "Connecting, until the first secret",
        y_label: "µs of the server's CPU per stream",
        spread: |_, run| {
            Spread::of(run.series.connect.as_ref().map(|connect| connect.server_cpu_us_per_stream))
        },
        columns: &["CPU per stream, µs", "all connected after", "unanswered at most"],
        cells: |scene, run| {
            let connect = run.series.connect.as_ref()?;
            let took = match scene.has_times() {
                true => Cell::number(words::time(connect.took_us)),
                false => Cell::absent("not published"),
            };
            let unanswered = Cell::number(words::whole(connect.unanswered.into()));
            Some(vec![Cell::number(words::figure(connect.server_cpu_us_per_stream)), took, unanswered])
        },
    }
    .draw(scenes, figures)
}

impl Metric {
    /// One plot with its table for each shape of a scenario, its sizes along the axis.
    fn draw(&self, scenes: &[Scene], figures: &mut Figures) -> Html {
        let mut shapes: Vec<&Shape> = Vec::new();
        for scene in scenes {
            if !shapes.contains(&&scene.shape) {
                shapes.push(&scene.shape);
            }
        }
        let (mut several, mut single) = (Html::default(), Html::default());
        for shape in shapes {
            let mut sizes: Vec<&Scene> = scenes.iter().filter(|scene| scene.shape == *shape).collect();
            sizes.sort_by_key(|scene| scene.scenario.streams);
            let curves = self.curves(&sizes, figures);
            if curves.is_empty() {
                continue;
            }
            let title = format!("{}: {shape}", self.title);
            let ranges = curves.iter().flat_map(|curve| &curve.points).flat_map(|point| {
                let (least, most) = point.range.unwrap_or((point.y, point.y));
                [least, point.y, most]
            });
            let plot = Plot {
                key: format!("{} {shape}", self.key),
                description: format!(
                    "{title}, against the number of streams; the numbers stand in the table below."
                ),
                title,
                x: Axis::of_counts(sizes.iter().map(|scene| scene.scenario.streams)),
                x_label: "streams",
                y: Axis::fitting(ranges),
                y_label: self.y_label,
                curves,
            };
            let head = ["server", "N"].iter().chain(self.columns).map(Cell::words).collect::<Vec<_>>();
            let place = if sizes.len() > 1 { &mut several } else { &mut single };
            place.append(&figures.draw(&plot, &head, &self.rows(&sizes, figures)));
        }
        figures.gallery(&several, &single, "Scenarios at one size")
    }

    fn curves(&self, sizes: &[&Scene], figures: &Figures) -> Vec<Curve> {
        let mut curves: Vec<Curve> = Vec::new();
        for server in figures.servers() {
            let points: Vec<Point> = sizes
                .iter()
                .filter_map(|scene| {
                    let spread = (self.spread)(scene, scene.run(server)?)?;
                    let range = (spread.min < spread.max).then_some((spread.min, spread.max));
                    Some(Point { x: f64::from(scene.scenario.streams), y: spread.median, range })
                })
                .filter(|point| point.y.is_finite())
                .collect();
            if !points.is_empty() {
                curves.push(figures.curve_of(server, points, true));
            }
        }
        curves
    }

    fn rows(&self, sizes: &[&Scene], figures: &Figures) -> Vec<Vec<Cell>> {
        let mut rows = Vec::new();
        for server in figures.servers() {
            for scene in sizes {
                let Some(cells) = scene.run(server).and_then(|run| (self.cells)(scene, run)) else {
                    continue;
                };
                let mut row =
                    vec![Cell::words(server), Cell::number(words::whole(scene.scenario.streams.into()))];
                row.extend(cells);
                rows.push(row);
            }
        }
        rows
    }
}

fn spread_cell(spread: Option<Spread>) -> Cell {
    match spread {
        Some(spread) => Cell::number(words::figure(spread.median)).note(words::range(spread)),
        None => Cell::absent("–"),
    }
}
