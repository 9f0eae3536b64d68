//! Frames, and the shapes in which a client may put the same bytes.

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub const HEADER_LEN: usize = 9;
/// Largest payload that is granted to a server: the smallest that may be.
pub const MAX_PAYLOAD: usize = 16_384;

/// Kinds of frames, RFC 9113 §6.
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;
/// Of no standard: a receiver passes over it.
const UNKNOWN: u8 = 0x5a;

pub const ACK: u8 = 1;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const PADDED: u8 = 8;
const PRIORITIZED: u8 = 0x20;

pub const CANCEL: u32 = 8;

/// How a client cuts what it sends. The default is what most clients do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shape {
    /// Most bytes of a message in one DATA frame; 0 is as many as may be.
    pub data: usize,
    /// Bytes of padding in each DATA and HEADERS frame, and the byte that says so.
    pub padding: Option<u8>,
    /// A header block goes out in so many CONTINUATION frames beside its HEADERS; 4 at most.
    pub continuations: usize,
    /// HEADERS carry a priority, and PRIORITY frames stand between others.
    pub priority: bool,
    /// A frame of an unknown kind before each other one.
    pub unknown: bool,
    /// An empty DATA frame before the first message of a stream.
    pub empty_data: bool,
}

/// One frame as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// Takes the first frame out of `bytes`; `None` when it is not whole yet.
    ///
    /// # Panics
    /// When it is longer than what was granted.
    pub fn take(bytes: &mut Vec<u8>) -> Option<Self> {
        let &[a, b, c, kind, flags, s, t, u, v] = bytes.first_chunk::<HEADER_LEN>()?;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        assert!(length <= MAX_PAYLOAD, "a frame of {length} bytes, which nobody asked for");
        if bytes.len() < HEADER_LEN + length {
            return None;
        }
        let payload = bytes[HEADER_LEN..HEADER_LEN + length].to_vec();
        bytes.drain(..HEADER_LEN + length);
        Some(Self { kind, flags, stream: u32::from_be_bytes([s, t, u, v]) & 0x7fff_ffff, payload })
    }

    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The payload without padding.
    pub fn content(&self) -> &[u8] {
        if !self.has(PADDED) {
            return &self.payload;
        }
        let padding = usize::from(self.payload[0]);
        &self.payload[1..self.payload.len() - padding]
    }

    /// The first number of the payload: an error, or the growth of a window.
    pub fn number(&self) -> u32 {
        self.payload.first_chunk().map_or(0, |&bytes| u32::from_be_bytes(bytes))
    }

    /// What a SETTINGS frame says.
    pub fn settings(&self) -> impl Iterator<Item = (u16, u32)> {
        let (settings, _) = self.payload.as_chunks::<6>();
        settings
            .iter()
            .map(|&[a, b, c, d, e, f]| (u16::from_be_bytes([a, b]), u32::from_be_bytes([c, d, e, f])))
    }
}

pub fn put(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.extend(&u32::try_from(payload.len()).expect("a frame's length").to_be_bytes()[1..]);
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
}

impl Shape {
    /// How many bytes of a window a DATA frame with `length` bytes takes.
    pub fn cost(&self, length: usize) -> usize {
        length + self.padding.map_or(0, |padding| 1 + usize::from(padding))
    }

    pub fn put_data(&self, out: &mut Vec<u8>, stream: u32, bytes: &[u8], ends: bool) {
        self.put_between(out, stream);
        let flags = if ends { END_STREAM } else { 0 };
        self.put_padded(out, DATA, flags, stream, &[], bytes);
    }

    pub fn put_headers(&self, out: &mut Vec<u8>, stream: u32, block: &[u8]) {
        let part = block.len().div_ceil(self.continuations + 1).max(1);
        let mut parts = block.chunks(part).peekable();
        let first = parts.next().unwrap_or_default();
        let ends = |more: bool| if more { 0 } else { END_HEADERS };
        // RFC 9113 §6.2: a dependency and a weight.
        let (priority, flags): (&[u8], _) =
            if self.priority { (&[0, 0, 0, 0, 15], PRIORITIZED) } else { (&[], 0) };
        if self.unknown {
            put(out, UNKNOWN, 0xff, 0, b"nothing");
        }
        self.put_padded(out, HEADERS, flags | ends(parts.peek().is_some()), stream, priority, first);
        while let Some(part) = parts.next() {
            put(out, CONTINUATION, ends(parts.peek().is_some()), stream, part);
        }
    }

    /// What may stand before any frame.
    pub fn put_between(&self, out: &mut Vec<u8>, stream: u32) {
        if self.unknown {
            put(out, UNKNOWN, 0xff, stream, b"nothing");
        }
        if self.priority {
            put(out, PRIORITY, 0, stream, &[0, 0, 0, 0, 200]);
        }
    }

    fn put_padded(&self, out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, first: &[u8], rest: &[u8]) {
        match self.padding {
            None => put(out, kind, flags, stream, &[first, rest].concat()),
            Some(padding) => {
                let zeros = vec![0; usize::from(padding)];
                put(out, kind, flags | PADDED, stream, &[&[padding], first, rest, &zeros].concat());
            }
        }
    }
}
