//! The same grammar read in two passes: each character is marked as quoted or not, then the text is split by those that
//! are not.

use vouch::authz::xfcc::{Element, MAX_BYTES, MAX_ELEMENTS, MAX_PAIRS};

use super::Outcome;

/// Compares `outcome` with what `header` holds.
///
/// # Panics
/// Where they differ.
pub(super) fn judge(header: &str, outcome: &Outcome) {
    assert_eq!(outcome.as_ref().ok(), parse(header).as_ref(), "{outcome:?} for {header}");
}

#[derive(Clone, Copy, PartialEq)]
struct Mark {
    character: char,
    is_quoted: bool,
}

fn parse(header: &str) -> Option<Vec<Element>> {
    if header.len() > MAX_BYTES {
        return None;
    }
    if header.is_empty() {
        return Some(vec![]);
    }
    let marks = mark(header)?;
    let elements: Vec<_> = split(&marks, ',').collect();
    if elements.len() > MAX_ELEMENTS {
        return None;
    }
    elements.into_iter().map(element).collect()
}

/// Where the pass over the characters stands.
enum State {
    Key,
    ValueStart,
    Value,
    Quoted { backslashes: usize },
    Closed,
}

/// `None` where a quote stands where it may not, or its meaning cannot be told.
fn mark(header: &str) -> Option<Vec<Mark>> {
    let mut marks: Vec<Mark> = vec![];
    let mut state = State::Key;
    for character in header.chars() {
        let mut is_quoted = false;
        state = match (state, character) {
            (State::Quoted { backslashes: 0 }, '"') => {
                state = State::Closed;
                continue;
            }
            (State::Quoted { backslashes }, '"') if backslashes % 2 == 1 => {
                marks.pop();
                is_quoted = true;
                State::Quoted { backslashes: 0 }
            }
            (State::Quoted { backslashes }, '\\') => {
                is_quoted = true;
                State::Quoted { backslashes: backslashes + 1 }
            }
            (State::Quoted { .. }, '"') => return None,
            (State::Quoted { .. }, _) => {
                is_quoted = true;
                State::Quoted { backslashes: 0 }
            }
            (State::ValueStart, '"') => {
                state = State::Quoted { backslashes: 0 };
                continue;
            }
            (_, '"') => return None,
            (_, ',' | ';') => State::Key,
            (State::Closed, _) => return None,
            (State::Key, '=') => State::ValueStart,
            (State::Key, _) => State::Key,
            (State::ValueStart | State::Value, _) => State::Value,
        };
        marks.push(Mark { character, is_quoted });
    }
    (!matches!(state, State::Quoted { .. })).then_some(marks)
}

fn split(marks: &[Mark], by: char) -> impl Iterator<Item = &[Mark]> {
    marks.split(move |mark| *mark == Mark { character: by, is_quoted: false })
}

fn element(marks: &[Mark]) -> Option<Element> {
    let spaces = marks.iter().take_while(|mark| [' ', '\t'].contains(&mark.character)).count();
    let pairs: Vec<_> = split(&marks[spaces..], ';').collect();
    if pairs.len() > MAX_PAIRS {
        return None;
    }
    let mut element = Element::default();
    for pair in pairs {
        let equals = pair.iter().position(|mark| mark.character == '=')?;
        let text = |marks: &[Mark]| marks.iter().map(|mark| mark.character).collect::<String>();
        let (key, value) = (text(&pair[..equals]), text(&pair[equals + 1..]));
        match &*key.to_ascii_lowercase() {
            "by" | "uri" | "dns" if value.is_empty() => {}
            "by" => element.by.push(value),
            "uri" => element.uri.push(value),
            "dns" => element.dns.push(value),
            "hash" if element.hash.is_none() => element.hash = Some(value),
            "cert" if element.cert.is_none() => element.cert = Some(value),
            "chain" if element.chain.is_none() => element.chain = Some(value),
            "subject" if element.subject.is_none() => element.subject = Some(value),
            _ => return None,
        }
    }
    Some(element)
}
