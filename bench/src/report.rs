//! What a run found, for people: a page that needs nothing but itself, and a table for the terminal.

mod against_n;
mod axis;
mod command;
mod conditions;
mod curves;
mod delivery;
mod file;
mod goals;
mod headline;
mod html;
mod plot;
pub(crate) mod scene;
mod summary;
pub(crate) mod words;

pub use command::Report;
pub use delivery::Delivery;
pub use file::read;
pub(crate) use summary::line as plain_line;
pub use summary::summary;

use crate::{
    report::{
        html::{Cell, Html},
        plot::{Curve, Plot, Point},
        scene::{Run, Scene},
    },
    results::Results,
};

/// One HTML file with everything in it: no script, nothing to load. `json` is the name of the file that it shows and
/// lies beside; it is named, and not embedded.
///
/// Every name in `results` may be a stranger's: none of them becomes markup.
pub fn page(results: &Results, json: &str) -> String {
    let scenes = Scene::all(results);
    let mut figures = Figures::of(results);
    let mut html = Html::default();
    html.tag(HEAD)
        .tag("<title>")
        .text(format!("Vouch: benchmark of {}", results.started))
        .tag("</title><style>");
    html.tag(include_str!("report/style.css"))
        .tag("</style></head><body><header><p class=\"over\">Vouch, benchmark</p>");
    html.tag("<h1>How fast a new secret reaches every stream</h1><p>");
    html.text(conditions::in_a_sentence(results)).tag(" The numbers: ");
    html.tag("<a")
        .attribute("href", file_address(json))
        .tag(">")
        .text(json)
        .tag("</a>, beside this file.</p></header><main>");
    html.append(&headline::tiles(results, &scenes));
    section(&mut html, "ratios", "Ratios", &headline::tables(results, &scenes));
    section(&mut html, "goals", "Goals", &goals::table(&scenes));
    section(&mut html, "percentiles", "How long streams wait", &curves::percentiles(&scenes, &mut figures));
    section(&mut html, "progress", "One rotation on its way", &curves::progress(&scenes, &mut figures));
    section(&mut html, "cpu", "What an update costs", &against_n::cpu_per_update(&scenes, &mut figures));
    section(&mut html, "memory", "What a stream weighs", &against_n::memory(&scenes, &mut figures));
    section(&mut html, "connect", "Everybody connects", &against_n::connect(&scenes, &mut figures));
    section(&mut html, "conditions", "Under which conditions", &conditions::all(results, &scenes));
    html.tag("</main></body></html>\n");
    html.into_string()
}

const HEAD: &str = "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
    <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
    <meta name=\"color-scheme\" content=\"light dark\"><link rel=\"icon\" href=\"data:,\">";

fn section(html: &mut Html, id: &'static str, title: &'static str, content: &Html) {
    html.tag("<section").attribute("id", id).tag(">").element("h2", title).append(content).tag("</section>");
}

/// Of a file in the page's own folder, whatever its name.
fn file_address(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let mut address = String::from("./");
    for byte in name.bytes() {
        if plain(byte) {
            address.push(char::from(byte));
        } else {
            address.push_str(&format!("%{byte:02X}"));
        }
    }
    address
}

/// Numbers the plots of a page, and gives each server the same colour in all of them.
#[derive(Debug)]
struct Figures<'a> {
    servers: Vec<&'a str>,
    drawn: usize,
}

impl<'a> Figures<'a> {
    fn of(results: &'a Results) -> Self {
        Self { servers: scene::servers(results), drawn: 0 }
    }

    fn servers(&self) -> &[&'a str] {
        &self.servers
    }

    fn curve(&self, run: &Run, points: Vec<Point>, dotted: bool) -> Curve {
        self.curve_of(&run.series.server, points, dotted)
    }

    fn curve_of(&self, server: &str, points: Vec<Point>, dotted: bool) -> Curve {
        // Peers count from the first peer, so that colours do not depend on the anchors.
        let peers = self.servers.iter().filter(|name| scene::is_peer(name));
        let place = peers.take_while(|name| **name != server).count();
        Curve { server: server.to_owned(), colour: plot::colour(server, place), points, dotted }
    }

    /// Plots side by side, where there is room; some of them folded away, unless these are all.
    fn gallery(&self, open: &Html, folded: &Html, summary: &'static str) -> Html {
        let row = |plots: &Html| {
            let mut row = Html::default();
            row.tag("<div class=\"plots\">").append(plots).tag("</div>");
            row
        };
        let mut html = Html::default();
        match (open.is_empty(), folded.is_empty()) {
            (true, true) => html.tag("<p class=\"absent\">These results hold no such numbers.</p>"),
            (true, false) => html.append(&row(folded)),
            (false, true) => html.append(&row(open)),
            (false, false) => html.append(&row(open)).folded(summary, &row(folded)),
        };
        html
    }

    /// The plot, and its numbers behind it.
    fn draw(&mut self, plot: &Plot, head: &[Cell], rows: &[Vec<Cell>]) -> Html {
        self.drawn += 1;
        let mut html = Html::default();
        html.tag("<div class=\"card\">").append(&plot.draw(self.drawn));
        html.tag("<details class=\"numbers\"><summary>Numbers</summary>").table(&plot.title, head, rows);
        html.tag("</details></div>");
        html
    }
}

#[cfg(test)]
mod tests;
