//! Percent escapes of URLs and forms, and text out of bytes that may be none.

use std::borrow::Cow;

use super::{BadRequest, Part};

/// What `+` stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plus {
    Itself,
    Space,
}

/// `text` with each `%` escape, once, replaced by its byte.
///
/// # Errors
/// When two hexadecimal digits do not follow a `%`.
pub(super) fn unescape(text: &[u8], plus: Plus, part: Part) -> Result<Cow<'_, str>, BadRequest> {
    let is_special = |byte: &u8| *byte == b'%' || plus == Plus::Space && *byte == b'+';
    let Some(first) = text.iter().position(is_special) else { return Ok(lossy(text)) };
    let mut bytes = Vec::with_capacity(text.len());
    bytes.extend_from_slice(&text[..first]);
    let mut rest = &text[first..];
    while let Some((byte, behind)) = rest.split_first() {
        rest = behind;
        bytes.push(match byte {
            b'%' => {
                let byte = escaped(rest).ok_or_else(|| {
                    let shown = &rest[..rest.len().min(2)];
                    BadRequest::Escape(format!("%{}", String::from_utf8_lossy(shown)), part)
                })?;
                rest = &rest[2..];
                byte
            }
            b'+' if plus == Plus::Space => b' ',
            byte => *byte,
        });
    }
    Ok(Cow::Owned(lossy(&bytes).into_owned()))
}

fn escaped(behind: &[u8]) -> Option<u8> {
    let [high, low, ..] = behind else { return None };
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

/// Each byte that is no UTF-8 becomes a U+FFFD of its own.
pub(super) fn lossy(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = str::from_utf8(bytes) {
        return Cow::Borrowed(text);
    }
    let mut text = String::with_capacity(bytes.len() + 8);
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    Cow::Owned(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_escape_is_replaced_once() {
        let unescape = |text: &str, plus| unescape(text.as_bytes(), plus, Part::Path).unwrap().into_owned();
        assert_eq!(unescape("/a%2Fb%2fc%2525+d", Plus::Itself), "/a/b/c%25+d");
        assert_eq!(unescape("a+b%20c%2B", Plus::Space), "a b c+");
    }

    #[test]
    fn an_escape_has_two_hexadecimal_digits() {
        for (text, shown) in
            [("a%zz", "%zz"), ("%", "%"), ("%4", "%4"), ("%%41", "%%4"), ("%4é", "%4\u{fffd}")]
        {
            let error = unescape(text.as_bytes(), Plus::Itself, Part::Path).unwrap_err();
            assert_eq!(error, BadRequest::Escape(shown.into(), Part::Path), "{text}");
        }
    }

    #[test]
    fn each_byte_that_is_no_text_is_replaced() {
        for (bytes, text) in [
            (&b"a\xffb"[..], "a\u{fffd}b"),
            (b"\xe2\x82", "\u{fffd}\u{fffd}"),
            (b"\xed\xa0\x80", "\u{fffd}\u{fffd}\u{fffd}"),
            ("é€".as_bytes(), "é€"),
        ] {
            assert_eq!(lossy(bytes), text);
        }
    }
}
