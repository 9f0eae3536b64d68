//! One call, as its client knows it.

use std::collections::VecDeque;

use super::hpack::Fields;

/// What came of one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// A gRPC status, with what it says.
    Status(i32, String),
    /// RST_STREAM before any status.
    Reset(u32),
    /// The client has reset it.
    Left,
    /// The connection ended first.
    Closed,
}

#[derive(Debug, Default)]
pub struct Stream {
    /// Whole messages, without their prefix.
    pub messages: Vec<Vec<u8>>,
    pub end: Option<End>,
    pub(super) head: Option<Fields>,
    /// What is to be sent, whether there is no more to come after it, and whether that has been said.
    pub(super) waiting: VecDeque<u8>,
    pub(super) ends: bool,
    pub(super) has_ended: bool,
    /// Whether an empty frame is to come first.
    pub(super) empty_due: bool,
    /// What the server lets us send.
    pub(super) room: i64,
    /// What we let the server send, and what of it is not given back because the stream is stalled.
    pub(super) granted: i64,
    pub(super) owed: u32,
    pub(super) stalled: bool,
    /// How many windows had been announced when it was opened.
    pub(super) born: usize,
    body: Vec<u8>,
}

impl Stream {
    pub(super) fn new(room: i64, granted: i64, born: usize, empty_due: bool) -> Self {
        Self { room, granted, born, empty_due, ..Self::default() }
    }

    /// How many bytes of a message that is not whole have come.
    pub fn partial(&self) -> usize {
        self.body.len()
    }

    /// # Panics
    /// When something comes after the end.
    pub(super) fn on_data(&mut self, bytes: &[u8]) {
        assert!(self.head.is_some(), "DATA before HEADERS");
        assert!(self.end.is_none() || self.end == Some(End::Left), "DATA after the end");
        self.body.extend(bytes);
        while let Some((prefix, rest)) = self.body.split_first_chunk::<5>() {
            assert_eq!(prefix[0], 0, "nobody offered to read compressed messages");
            let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
            let Some(message) = rest.get(..length) else { return };
            self.messages.push(message.to_vec());
            self.body.drain(..5 + length);
        }
    }

    /// Headers, or trailers when those were there before.
    pub(super) fn on_fields(&mut self, fields: Fields, ends: bool) {
        let find = |name: &str| fields.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
        if self.head.is_none() {
            assert_eq!(find(":status"), Some("200"), "{fields:?}");
            assert_eq!(find("content-type"), Some("application/grpc"), "{fields:?}");
        } else {
            assert!(ends, "trailers end a stream");
        }
        if ends {
            self.ended(&fields);
        }
        self.head.get_or_insert(fields);
    }

    fn ended(&mut self, fields: &Fields) {
        let find = |name: &str| fields.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
        let code = find("grpc-status").unwrap_or_else(|| panic!("no status in {fields:?}"));
        let message = percent_decoded(find("grpc-message").unwrap_or_default());
        let whole = self.body.is_empty();
        assert!(whole || self.end == Some(End::Left), "a message is cut off by its own status");
        self.end.get_or_insert(End::Status(code.parse().expect("a number"), message));
    }

    pub(super) fn on_reset(&mut self, code: u32) {
        // After a status it only says that our half is not needed.
        self.end.get_or_insert(End::Reset(code));
        self.waiting.clear();
        self.has_ended = true;
    }
}

/// gRPC over HTTP/2, "Responses": what is no printable ASCII comes as `%` and two digits.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let digits = after.get(..2).filter(|_| first == b'%');
        let byte = digits.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        bytes.push(byte.unwrap_or(first));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
