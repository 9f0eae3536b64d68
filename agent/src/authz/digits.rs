//! Numbers in text that the engine would hold as another number.

/// Significant digits of a fraction that are certain to make a difference.
const DIGITS: usize = 17;

/// The first number outside of strings, if there is one, that is an integer beyond 64 bits, or a fraction of more than
/// [`DIGITS`] significant digits. Two of these may be equal once they are read: in a list of whom to refuse, that matters.
pub(super) fn too_long(text: &str) -> Option<&str> {
    let (mut rest, mut before) = (text, ' ');
    while let Some(c) = rest.chars().next() {
        let length = match c {
            '"' => string(rest),
            '-' | '0'..='9' if !is_word(before) => {
                let length = number(rest);
                if is_too_long(&rest[..length]) && !rest[length..].starts_with(is_word) {
                    return Some(&rest[..length]);
                }
                length
            }
            _ => c.len_utf8(),
        };
        before = rest[..length].chars().next_back().unwrap_or(' ');
        rest = &rest[length..];
    }
    None
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || "_-.".contains(c)
}

/// Up to the quote that ends it, or the end.
fn string(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

fn number(text: &str) -> usize {
    let part = |c: char| c.is_ascii_digit() || "+-.eE".contains(c);
    text.find(|c| !part(c)).unwrap_or(text.len())
}

fn is_too_long(number: &str) -> bool {
    if number.contains(['.', 'e', 'E']) {
        let mantissa = number.split(['e', 'E']).next().unwrap_or_default();
        let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
        return digits.trim_matches('0').len() > DIGITS;
    }
    number.parse::<u64>().is_err() && number.parse::<i64>().is_err() && number.len() > DIGITS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_lose_digits_are_found_and_others_are_not() {
        for (text, found) in [
            ("[123456789012345678901234567890]", Some("123456789012345678901234567890")),
            ("{\"a\": -123456789012345678901}", Some("-123456789012345678901")),
            ("[1, 1.0000000000000000001]", Some("1.0000000000000000001")),
            ("[18446744073709551615, -9223372036854775808]", None),
            ("[1700000000.123456, 1e21, 0.1, 100000000000000000000000.0]", None),
            ("[\"123456789012345678901234567890\", \"a\\\"123456789012345678901\"]", None),
            ("id: a123456789012345678901234567890", None),
            ("", None),
            ("\"", None),
        ] {
            assert_eq!(too_long(text), found, "{text}");
        }
    }
}
