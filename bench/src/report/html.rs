//! Markup in which nothing that is not ours goes unescaped: tags are literals of this program, all else is text.

use std::fmt::{Display, Write};

/// A piece of a page.
#[derive(Debug, Default)]
pub(crate) struct Html(String);

impl Html {
    /// Markup of our own.
    pub(crate) fn tag(&mut self, markup: &'static str) -> &mut Self {
        self.0.push_str(markup);
        self
    }

    /// Words, whoever wrote them.
    pub(crate) fn text(&mut self, text: impl Display) -> &mut Self {
        write!(Escape(&mut self.0), "{text}").expect("a string takes text");
        self
    }

    /// ` name="value"`, inside a tag that is still open.
    pub(crate) fn attribute(&mut self, name: &'static str, value: impl Display) -> &mut Self {
        self.tag(" ").tag(name).tag("=\"").text(value).tag("\"")
    }

    /// An element around words.
    pub(crate) fn element(&mut self, name: &'static str, text: impl Display) -> &mut Self {
        self.tag("<").tag(name).tag(">").text(text).tag("</").tag(name).tag(">")
    }

    /// `piece`, folded away until somebody asks for it.
    pub(crate) fn folded(&mut self, summary: &'static str, piece: &Self) -> &mut Self {
        self.tag("<details><summary>").tag(summary).tag("</summary>").append(piece).tag("</details>")
    }

    pub(crate) fn append(&mut self, piece: &Self) -> &mut Self {
        self.0.push_str(&piece.0);
        self
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn into_string(self) -> String {
        self.0
    }

    /// A table that scrolls inside its own box. The first cell of each row is its heading;
    /// a column's heading stands as the cells below do.
    pub(crate) fn table(&mut self, caption: &str, head: &[Cell], rows: &[Vec<Cell>]) -> &mut Self {
        self.tag("<div class=\"scroll\" tabindex=\"0\" role=\"region\"").attribute("aria-label", caption);
        self.tag("><table><caption>").text(caption).tag("</caption><thead><tr>");
        for (place, cell) in head.iter().enumerate() {
            let below = rows.first().and_then(|row| row.get(place)).map_or("", |cell| cell.class);
            let class = if below == NUMBER { NUMBER } else { cell.class };
            self.tag("<th scope=\"col\"").attribute("class", class).tag(">").text(&cell.text);
            note(self, cell);
            self.tag("</th>");
        }
        self.tag("</tr></thead><tbody>");
        for row in rows {
            self.tag("<tr>");
            for (place, cell) in row.iter().enumerate() {
                let (open, close) = match place {
                    0 => ("<th scope=\"row\"", "</th>"),
                    _ => ("<td", "</td>"),
                };
                self.tag(open).attribute("class", cell.class).tag(">").text(&cell.text);
                note(self, cell);
                self.tag(close);
            }
            self.tag("</tr>");
        }
        self.tag("</tbody></table></div>")
    }
}

fn note(html: &mut Html, cell: &Cell) {
    if !cell.note.is_empty() {
        html.element("small", &cell.note);
    }
}

/// The class of cells whose ends are below each other.
const NUMBER: &str = "number";

/// One cell of a table.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cell {
    text: String,
    /// Below it, and smaller.
    note: String,
    class: &'static str,
}

impl Cell {
    pub(crate) fn words(text: impl Display) -> Self {
        Self { text: text.to_string(), class: "words", ..Self::default() }
    }

    pub(crate) fn number(text: impl Display) -> Self {
        Self { text: text.to_string(), class: NUMBER, ..Self::default() }
    }

    pub(crate) fn absent(text: impl Display) -> Self {
        Self { text: text.to_string(), class: "absent", ..Self::default() }
    }

    pub(crate) fn with(self, class: &'static str) -> Self {
        Self { class, ..self }
    }

    pub(crate) fn note(self, note: impl Display) -> Self {
        Self { note: note.to_string(), ..self }
    }
}

/// Whether `character` moves, hides or ends text instead of being some.
pub(crate) fn is_trick(character: char) -> bool {
    let turns =
        matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    turns || (character.is_control() && character != '\n')
}

struct Escape<'a>(&'a mut String);

impl Write for Escape<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        for character in text.chars() {
            match character {
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '&' => self.0.push_str("&amp;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                trick if is_trick(trick) => self.0.push('\u{fffd}'),
                plain => self.0.push(plain),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_cannot_become_markup() {
        let mut html = Html::default();
        html.tag("<p").attribute("title", "\" onload='x").tag(">").text("<script>a&b\u{202e}\u{7}</script>");
        assert_eq!(
            html.into_string(),
            "<p title=\"&quot; onload=&#39;x\">&lt;script&gt;a&amp;b\u{fffd}\u{fffd}&lt;/script&gt;"
        );
    }

    #[test]
    fn a_table_escapes_its_cells_and_their_notes() {
        let mut html = Html::default();
        html.table(
            "<a>",
            &[Cell::words("<b>")],
            &[vec![Cell::words("<c>"), Cell::number("<d>").note("<e>")]],
        );
        let html = html.into_string();
        for name in ["a", "b", "c", "d", "e"] {
            assert!(
                html.contains(&format!("&lt;{name}&gt;")) && !html.contains(&format!("<{name}>")),
                "{html}"
            );
        }
    }
}
