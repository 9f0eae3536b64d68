//! Header blocks, as far as gRPC needs them.

use std::collections::VecDeque;

/// Names and values in the order of the block.
pub(super) type Fields = Vec<(String, String)>;

const TABLE_SIZE: usize = 4096;
/// What an entry costs beside its text, RFC 7541 §4.1.
const ENTRY_OVERHEAD: usize = 32;

/// RFC 7541, appendix A.
#[rustfmt::skip]
const STATIC: [(&str, &str); 61] = [
    (":authority", ""), (":method", "GET"), (":method", "POST"), (":path", "/"), (":path", "/index.html"),
    (":scheme", "http"), (":scheme", "https"), (":status", "200"), (":status", "204"), (":status", "206"),
    (":status", "304"), (":status", "400"), (":status", "404"), (":status", "500"), ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"), ("accept-language", ""), ("accept-ranges", ""), ("accept", ""),
    ("access-control-allow-origin", ""), ("age", ""), ("allow", ""), ("authorization", ""), ("cache-control", ""),
    ("content-disposition", ""), ("content-encoding", ""), ("content-language", ""), ("content-length", ""),
    ("content-location", ""), ("content-range", ""), ("content-type", ""), ("cookie", ""), ("date", ""),
    ("etag", ""), ("expect", ""), ("expires", ""), ("from", ""), ("host", ""), ("if-match", ""),
    ("if-modified-since", ""), ("if-none-match", ""), ("if-range", ""), ("if-unmodified-since", ""),
    ("last-modified", ""), ("link", ""), ("location", ""), ("max-forwards", ""), ("proxy-authenticate", ""),
    ("proxy-authorization", ""), ("range", ""), ("referer", ""), ("refresh", ""), ("retry-after", ""),
    ("server", ""), ("set-cookie", ""), ("strict-transport-security", ""), ("transfer-encoding", ""),
    ("user-agent", ""), ("vary", ""), ("via", ""), ("www-authenticate", ""),
];

/// Lengths of the Huffman codes of the characters from space to `~`, RFC 7541, appendix B. The codes are canonical,
/// so their lengths say all. Of what else there is only NUL has so short a code; the rest, like `\`, is not sent here.
#[rustfmt::skip]
const LENGTHS: [u8; 95] = [
     6, 10, 10, 12, 13,  6,  8, 11, 10, 10,  8, 11,  8,  6,  6,  6,
     5,  5,  5,  6,  6,  6,  6,  6,  6,  6,  7,  8, 15,  6, 12, 10,
    13,  6,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,
     7,  7,  7,  7,  7,  7,  7,  7,  8,  7,  8, 13, 19, 13, 14,  6,
    15,  5,  6,  5,  6,  5,  6,  6,  6,  5,  7,  7,  6,  6,  6,  5,
     6,  7,  6,  5,  5,  6,  7,  7,  7,  7,  7, 15, 11, 14, 13,
];
const LENGTH_OF_NUL: u8 = 13;
const LONGEST: u8 = 15;

/// Entries that both sides remember, the newest first.
#[derive(Debug, Default)]
struct Table(VecDeque<(String, String)>);

impl Table {
    fn insert(&mut self, name: String, value: String) {
        self.0.push_front((name, value));
        let size = |table: &VecDeque<(String, String)>| -> usize {
            table.iter().map(|(name, value)| name.len() + value.len() + ENTRY_OVERHEAD).sum()
        };
        while size(&self.0) > TABLE_SIZE {
            self.0.pop_back();
        }
    }

    fn get(&self, index: usize) -> (String, String) {
        if let Some((name, value)) = STATIC.get(index - 1) {
            return ((*name).to_owned(), (*value).to_owned());
        }
        self.0.get(index - 1 - STATIC.len()).cloned().unwrap_or_else(|| panic!("no header {index}"))
    }
}

/// Writes what it has written before as a reference to it.
#[derive(Debug, Default)]
pub(super) struct Encoder(Table);

impl Encoder {
    pub(super) fn encode(&mut self, fields: &[(&str, &str)]) -> Vec<u8> {
        let mut block = Vec::new();
        for &(name, value) in fields {
            if let Some(index) = STATIC.iter().position(|entry| *entry == (name, value)) {
                put_number(&mut block, 0x80, 7, index + 1);
            } else if let Some(index) = self.0.0.iter().position(|(n, v)| n == name && v == value) {
                put_number(&mut block, 0x80, 7, index + 1 + STATIC.len());
            } else {
                block.push(0x40);
                for text in [name, value] {
                    put_number(&mut block, 0, 7, text.len());
                    block.extend(text.as_bytes());
                }
                self.0.insert(name.to_owned(), value.to_owned());
            }
        }
        block
    }
}

#[derive(Debug, Default)]
pub(super) struct Decoder(Table);

impl Decoder {
    /// # Panics
    /// When `block` is none, or has a character that no answer of gRPC has.
    pub(super) fn decode(&mut self, block: &[u8]) -> Fields {
        let mut fields = Fields::new();
        let mut rest = block;
        while let Some(&first) = rest.first() {
            let (bits, keeps) = match first {
                0x80.. => {
                    fields.push(self.0.get(number(&mut rest, 7)));
                    continue;
                }
                0x40.. => (6, true),
                0x20.. => {
                    let size = number(&mut rest, 5);
                    assert!(size <= TABLE_SIZE, "a table of {size} bytes, which nobody granted");
                    continue;
                }
                _ => (4, false),
            };
            let name = match number(&mut rest, bits) {
                0 => text(&mut rest),
                index => self.0.get(index).0,
            };
            let value = text(&mut rest);
            if keeps {
                self.0.insert(name.clone(), value.clone());
            }
            fields.push((name, value));
        }
        fields
    }
}

/// RFC 7541 §5.1.
fn put_number(out: &mut Vec<u8>, pattern: u8, bits: u8, number: usize) {
    let most = (1 << bits) - 1;
    let Some(mut rest) = number.checked_sub(most) else {
        out.push(pattern | u8::try_from(number).expect("below `most`"));
        return;
    };
    out.push(pattern | u8::try_from(most).expect("a prefix"));
    while rest >= 0x80 {
        out.push(0x80 | (rest & 0x7f) as u8);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn number(bytes: &mut &[u8], bits: u8) -> usize {
    let most = (1 << bits) - 1;
    let mut number = usize::from(byte(bytes)) & most;
    if number < most {
        return number;
    }
    let mut shift = 0;
    loop {
        let next = byte(bytes);
        assert!(shift < 28, "a number without an end");
        number += usize::from(next & 0x7f) << shift;
        shift += 7;
        if next & 0x80 == 0 {
            return number;
        }
    }
}

fn text(bytes: &mut &[u8]) -> String {
    let huffman = bytes.first().is_some_and(|first| first & 0x80 != 0);
    let length = number(bytes, 7);
    let (text, rest) = bytes.split_at_checked(length).expect("a text within its block");
    *bytes = rest;
    let text = if huffman { unpacked(text) } else { text.to_vec() };
    String::from_utf8(text).expect("headers are ASCII")
}

fn byte(bytes: &mut &[u8]) -> u8 {
    let (first, rest) = bytes.split_first().expect("a block that ends where it should");
    *bytes = rest;
    *first
}

/// RFC 7541 §5.2.
fn unpacked(packed: &[u8]) -> Vec<u8> {
    let codes = codes();
    let mut text = Vec::new();
    let (mut code, mut length) = (0, 0);
    for bit in packed.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)) {
        (code, length) = (code << 1 | u32::from(bit), length + 1);
        if let Some(&(_, _, character)) = codes.iter().find(|found| (found.0, found.1) == (length, code)) {
            text.push(character);
            (code, length) = (0, 0);
        }
        assert!(length <= LONGEST, "a character that no header of ours has");
    }
    assert!(length < 8 && code == (1 << length) - 1, "a text is filled up with ones");
    text
}

/// Length, code and character of each. Codes of one length follow one another in the order of characters, RFC 7541 §5.2.
fn codes() -> Vec<(u8, u32, u8)> {
    let mut codes = Vec::new();
    let mut next = 0;
    for length in 1..=LONGEST {
        next <<= 1;
        let characters = std::iter::once((0, LENGTH_OF_NUL)).chain((b' '..).zip(LENGTHS));
        for (character, _) in characters.filter(|(_, its)| *its == length) {
            codes.push((length, next, character));
            next += 1;
        }
    }
    codes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7541, appendix C.6: three responses that build on one another.
    #[test]
    fn the_examples_of_the_standard_are_read() {
        let mut decoder = Decoder::default();
        let first = hex("488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad\
             171863c78f0b97c8e9ae82ae43d3");
        let expected = [
            (":status", "302"),
            ("cache-control", "private"),
            ("date", "Mon, 21 Oct 2013 20:13:21 GMT"),
            ("location", "https://www.example.com"),
        ];
        assert_eq!(decoder.decode(&first), owned(&expected));
        let second = decoder.decode(&hex("4883640effc1c0bf"));
        assert_eq!(second[0].1, "307");
        assert_eq!(second[1..], owned(&expected)[1..]);
    }

    /// The longest codes that are sent here are the last ones of their lengths.
    #[test]
    fn seldom_characters_have_their_codes() {
        let codes = codes();
        for (length, code, character) in [
            (13, 0x1ffb, b'['),
            (13, 0x1ffc, b']'),
            (13, 0x1ffd, b'~'),
            (14, 0x3ffd, b'}'),
            (15, 0x7ffe, b'{'),
        ] {
            assert!(codes.contains(&(length, code, character)), "{}", char::from(character));
        }
    }

    #[test]
    fn what_is_written_is_read_and_shorter_the_second_time() {
        let long = "x".repeat(300);
        let fields = [(":method", "POST"), (":path", "/a.B/c"), ("te", "trailers"), ("long", &long)];
        let (mut encoder, mut decoder) = (Encoder::default(), Decoder::default());
        let (first, second) = (encoder.encode(&fields), encoder.encode(&fields));
        assert_eq!(decoder.decode(&first), owned(&fields));
        assert_eq!(decoder.decode(&second), owned(&fields));
        assert_eq!(second.len(), fields.len());
    }

    fn owned(fields: &[(&str, &str)]) -> Fields {
        fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<_> = text.bytes().map(|c| char::from(c).to_digit(16).unwrap() as u8).collect();
        digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
    }
}
