//! Plots as SVG inside the page: no script, colours from the page's style sheet, readable on a phone.

use crate::report::{axis::Axis, html::Html};

/// Of the drawing, in its own units; a phone shows them a quarter smaller, a desk a quarter larger.
const WIDTH: f64 = 440.0;
const HEIGHT: f64 = 290.0;
const LEFT: f64 = 66.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 32.0;
const BOTTOM: f64 = 50.0;
/// Of one character of a mark, where the style sheet writes it largest.
const CHARACTER: f64 = 9.8;
/// Classes of colours of those that are neither ours nor an anchor, used again after the last.
const PEER_COLOURS: [&str; 6] = ["peer0", "peer1", "peer2", "peer3", "peer4", "peer5"];

/// The class of the style sheet that draws the server which is the `place`th of all.
pub(crate) fn colour(server: &str, place: usize) -> &'static str {
    match server {
        "vouch" => "ours",
        "anchor" => "anchor",
        "anchor-threads" => "threads",
        _ => PEER_COLOURS[place % PEER_COLOURS.len()],
    }
}

/// One plot.
#[derive(Debug)]
pub(crate) struct Plot {
    /// Tells it from all others of the page: `cpu S1, ...`.
    pub(crate) key: String,
    pub(crate) title: String,
    /// For those who cannot see it.
    pub(crate) description: String,
    pub(crate) x: Axis,
    pub(crate) x_label: &'static str,
    pub(crate) y: Axis,
    pub(crate) y_label: &'static str,
    pub(crate) curves: Vec<Curve>,
}

/// One server's.
#[derive(Debug)]
pub(crate) struct Curve {
    pub(crate) server: String,
    pub(crate) colour: &'static str,
    /// From left to right.
    pub(crate) points: Vec<Point>,
    /// Whether each point is a measurement of its own, and gets a dot.
    pub(crate) dotted: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Point {
    pub(crate) x: f64,
    pub(crate) y: f64,
    /// The least and the most.
    pub(crate) range: Option<(f64, f64)>,
}

impl Plot {
    /// A figure with its legend. `number` is another one for each plot of the page.
    pub(crate) fn draw(&self, number: usize) -> Html {
        let mut html = Html::default();
        html.tag("<figure class=\"plot\"><svg").attribute("viewBox", format!("0 0 {WIDTH} {HEIGHT}"));
        html.attribute("data-plot", &self.key);
        html.tag(" role=\"img\"").attribute("aria-labelledby", format!("title{number} about{number}"));
        html.tag("><title").attribute("id", format!("title{number}")).tag(">").text(&self.title);
        html.tag("</title><desc").attribute("id", format!("about{number}")).tag(">").text(&self.description);
        html.tag("</desc>");
        self.draw_axes(&mut html);
        self.curves.iter().for_each(|curve| self.draw_curve(curve, &mut html));
        html.tag("</svg><figcaption>").element("b", &self.title).tag("<ul class=\"legend\">");
        for curve in &self.curves {
            html.tag("<li").attribute("class", curve.colour).tag(">").text(&curve.server).tag("</li>");
        }
        html.tag("</ul></figcaption></figure>");
        html
    }

    fn draw_axes(&self, html: &mut Html) {
        for (at, text) in &self.y.marks {
            let y = self.down(*at);
            line(html, (LEFT, y), (WIDTH - RIGHT, y), "grid");
            label(html, (LEFT - 7.0, y + 4.5), "end", text);
        }
        // From the right, so that of two marks in one place the larger stays.
        let mut free_until = WIDTH;
        for (at, text) in self.x.marks.iter().rev() {
            let x = self.across(*at);
            line(html, (x, TOP), (x, HEIGHT - BOTTOM), "grid");
            let half = text.chars().count() as f64 * CHARACTER / 2.0;
            let middle = x.min(WIDTH - half);
            if middle + half <= free_until {
                free_until = middle - half - CHARACTER / 2.0;
                label(html, (middle, HEIGHT - BOTTOM + 19.0), "middle", text);
            }
        }
        line(html, (LEFT, HEIGHT - BOTTOM), (WIDTH - RIGHT, HEIGHT - BOTTOM), "axis");
        label(html, (2.0, 15.0), "start", self.y_label);
        label(html, (WIDTH - RIGHT, HEIGHT - 7.0), "end", self.x_label);
    }

    fn draw_curve(&self, curve: &Curve, html: &mut Html) {
        html.tag("<g").attribute("class", format!("curve {}", curve.colour));
        html.attribute("data-server", &curve.server).tag(">");
        let points: Vec<String> = curve
            .points
            .iter()
            .map(|point| format!("{:.1},{:.1}", self.across(point.x), self.down(point.y)))
            .collect();
        html.tag("<polyline").attribute("points", points.join(" ")).tag("/>");
        for point in curve.points.iter().filter(|_| curve.dotted) {
            let x = self.across(point.x);
            if let Some((least, most)) = point.range {
                line(html, (x, self.down(least)), (x, self.down(most)), "range");
            }
            html.tag("<circle").attribute("cx", format!("{x:.1}"));
            html.attribute("cy", format!("{:.1}", self.down(point.y))).tag(" r=\"4\"/>");
        }
        html.tag("</g>");
    }

    fn across(&self, x: f64) -> f64 {
        LEFT + self.x.place(x) * (WIDTH - LEFT - RIGHT)
    }

    fn down(&self, y: f64) -> f64 {
        HEIGHT - BOTTOM - self.y.place(y) * (HEIGHT - TOP - BOTTOM)
    }
}

fn line(html: &mut Html, from: (f64, f64), to: (f64, f64), class: &'static str) {
    html.tag("<line").attribute("class", class);
    html.attribute("x1", format!("{:.1}", from.0)).attribute("y1", format!("{:.1}", from.1));
    html.attribute("x2", format!("{:.1}", to.0)).attribute("y2", format!("{:.1}", to.1)).tag("/>");
}

fn label(html: &mut Html, at: (f64, f64), anchor: &'static str, text: &str) {
    html.tag("<text").attribute("x", format!("{:.1}", at.0)).attribute("y", format!("{:.1}", at.1));
    html.attribute("text-anchor", anchor).tag(">").text(text).tag("</text>");
}
