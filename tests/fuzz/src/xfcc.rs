//! `authz::xfcc`, which takes the header `x-forwarded-client-cert` apart.
//!
//! What it finds is what a second parser finds, one that marks every character first and then splits; what it read can be
//! written and read again; an error has its place in the text; and it holds little more than the text.

use vouch::authz::xfcc::{self, Element, Error, MAX_ELEMENTS};

use crate::allocated::most_held;

mod reference;
mod seeds;

/// Of the list of elements, which doubles as it grows.
const MOST_HELD: usize = 3 * MAX_ELEMENTS * size_of::<Element>();
/// For each byte of the text: names are at least four bytes apart, and each is a text in a list that grows by four.
const MOST_HELD_A_BYTE: usize = 40;

/// Asks everything of one input: a header. One that is no UTF-8 comes to no parser.
///
/// # Panics
/// When the parser breaks a rule.
pub fn check(input: &[u8]) {
    let Ok(header) = str::from_utf8(input) else { return };
    let outcome = xfcc::parse(header);
    reference::judge(header, &outcome);
    match &outcome {
        Ok(elements) => can_be_written(elements),
        Err(error) => assert!(header.is_char_boundary(error.at), "there is no place {}", error.at),
    }
    let held = most_held(|| drop(xfcc::parse(header)));
    let allowed = MOST_HELD + MOST_HELD_A_BYTE * header.len();
    assert!(held <= allowed, "{held} bytes were held at once, {allowed} are allowed");
}

fn can_be_written(elements: &[Element]) {
    let written = elements.iter().map(Element::to_string).collect::<Vec<_>>().join(",");
    // Quotes and `URI=` make it longer, so it may be past the longest that is read.
    if written.len() <= xfcc::MAX_BYTES {
        let has_room = elements.iter().all(|element| pairs(element) < xfcc::MAX_PAIRS);
        assert!(!has_room || xfcc::parse(&written).as_deref() == Ok(elements), "written: {written}");
    }
    assert_eq!(xfcc::value(elements).as_array().map(|array| array.len()).ok(), Some(elements.len()));
}

fn pairs(element: &Element) -> usize {
    let names = element.by.len() + element.uri.len() + element.dns.len();
    let singles = [&element.hash, &element.cert, &element.chain, &element.subject];
    names + singles.into_iter().flatten().count()
}

/// The inputs to start from.
///
/// # Panics
/// As [`crate::write_seeds`].
pub fn write_seeds() {
    crate::write_seeds(seeds::all());
}

type Outcome = Result<Vec<Element>, Error>;

#[cfg(test)]
mod tests;
