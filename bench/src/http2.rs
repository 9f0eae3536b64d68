//! As much of HTTP/2 as a gRPC client needs: frames, and a request's headers. Headers of responses are not decoded.
//!
//! Source: RFC 9113 §4.1, §6; RFC 7541 §6.2.2.

use anyhow::{Result, bail};

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;

/// On DATA and HEADERS.
pub(crate) const END_STREAM: u8 = 1;
/// On SETTINGS and PING.
pub(crate) const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;

pub(crate) const HEADER_LEN: usize = 9;
/// Largest payload, both ways: nobody here offers more.
pub(crate) const MAX_PAYLOAD: usize = 16_384;
/// Every window of RFC 9113 until somebody says otherwise.
pub(crate) const DEFAULT_WINDOW: u32 = 65_535;
/// What we grant for a stream and for a connection, as Envoy does.
pub(crate) const OUR_WINDOW: u32 = 16 << 20;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const ENABLE_PUSH: u16 = 2;
const INITIAL_WINDOW_SIZE: u16 = 4;

/// One frame; its payload still lies in the buffer that it was read into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The frame at the start of `bytes`; `None` when it is not whole yet.
    pub(crate) fn first(bytes: &'a [u8]) -> Result<Option<Self>> {
        let Some((&[a, b, c, kind, flags, s, t, u, v], rest)) = bytes.split_first_chunk::<HEADER_LEN>()
        else {
            return Ok(None);
        };
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        if length > MAX_PAYLOAD {
            bail!("a frame of {length} bytes, which nobody asked for");
        }
        if matches!(kind, DATA | HEADERS) && flags & PADDED != 0 {
            bail!("a padded frame, which this client does not read");
        }
        let stream = u32::from_be_bytes([s, t, u, v]) & 0x7fff_ffff;
        Ok(rest.get(..length).map(|payload| Self { kind, flags, stream, payload }))
    }

    /// Bytes on the wire.
    pub(crate) fn len(&self) -> usize {
        HEADER_LEN + self.payload.len()
    }

    pub(crate) fn is_ack(&self) -> bool {
        matches!(self.kind, SETTINGS | PING) && self.flags & ACK != 0
    }

    pub(crate) fn ends_stream(&self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM != 0
    }

    /// The window that a SETTINGS frame grants for every stream, if it says so.
    pub(crate) fn initial_window(&self) -> Option<u32> {
        let (settings, _) = self.payload.as_chunks::<6>();
        let mut windows =
            settings.iter().filter(|[a, b, ..]| u16::from_be_bytes([*a, *b]) == INITIAL_WINDOW_SIZE);
        windows.next_back().map(|&[_, _, c, d, e, f]| u32::from_be_bytes([c, d, e, f]))
    }

    /// By how much a WINDOW_UPDATE frame opens a window; or the error code of a RST_STREAM.
    pub(crate) fn number(&self) -> u32 {
        self.payload.first_chunk().map_or(0, |&bytes| u32::from_be_bytes(bytes))
    }
}

/// The nine bytes before a payload of `length`, which is at most [`MAX_PAYLOAD`].
pub(crate) fn frame_header(kind: u8, flags: u8, stream: u32, length: usize) -> [u8; HEADER_LEN] {
    let [_, a, b, c] = (length as u32).to_be_bytes();
    let [s, t, u, v] = stream.to_be_bytes();
    [a, b, c, kind, flags, s, t, u, v]
}

pub(crate) fn put_frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.extend_from_slice(&frame_header(kind, flags, stream, payload.len()));
    out.extend_from_slice(payload);
}

/// What a client says first: no push, our window for the connection, and `window` for each stream.
pub(crate) fn put_preface(out: &mut Vec<u8>, window: u32) {
    out.extend_from_slice(PREFACE);
    let mut settings = Vec::with_capacity(12);
    for (name, value) in [(ENABLE_PUSH, 0), (INITIAL_WINDOW_SIZE, window)] {
        settings.extend_from_slice(&name.to_be_bytes());
        settings.extend_from_slice(&value.to_be_bytes());
    }
    put_frame(out, SETTINGS, 0, 0, &settings);
    put_window_update(out, 0, OUR_WINDOW - DEFAULT_WINDOW);
}

pub(crate) fn put_window_update(out: &mut Vec<u8>, stream: u32, by: u32) {
    put_frame(out, WINDOW_UPDATE, 0, stream, &by.to_be_bytes());
}

/// The headers of a gRPC call of `path`, and further ones in `metadata`; each name and value is shorter than 127 bytes.
/// Literals without indexing, so that no table has to be kept.
pub(crate) fn put_call(out: &mut Vec<u8>, stream: u32, path: &str, metadata: &[(&str, &str)]) {
    // The static table's `:method POST` and `:scheme http`; then names from it with values of ours.
    let mut block = vec![0x83, 0x86];
    let mut literal = |name: &[u8], value: &[u8]| {
        block.extend_from_slice(name);
        block.push(value.len() as u8);
        block.extend_from_slice(value);
    };
    literal(&[0x04], path.as_bytes());
    literal(&[0x01], b"localhost");
    literal(&[0x0f, 0x10], b"application/grpc");
    literal(b"\x00\x02te", b"trailers");
    for (name, value) in metadata {
        let name = [&[0x00, name.len() as u8], name.as_bytes()].concat();
        literal(&name, value.as_bytes());
    }
    put_frame(out, HEADERS, END_HEADERS, stream, &block);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_read_as_it_was_written_and_not_before_it_is_whole() {
        let mut bytes = Vec::new();
        put_frame(&mut bytes, DATA, END_STREAM, 7, b"abc");
        put_frame(&mut bytes, PING, ACK, 0, &[1; 8]);
        for cut in 0..12 {
            assert_eq!(Frame::first(&bytes[..cut]).unwrap(), None, "{cut}");
        }
        let first = Frame::first(&bytes).unwrap().unwrap();
        assert_eq!(first, Frame { kind: DATA, flags: END_STREAM, stream: 7, payload: b"abc" });
        assert!(first.ends_stream() && !first.is_ack());
        let second = Frame::first(&bytes[first.len()..]).unwrap().unwrap();
        assert!(second.is_ack() && !second.ends_stream());
    }

    #[test]
    fn what_was_not_offered_is_refused() {
        assert!(Frame::first(&frame_header(DATA, 0, 1, MAX_PAYLOAD + 1)).is_err());
        assert!(Frame::first(&frame_header(DATA, PADDED, 1, 1)).is_err());
    }

    #[test]
    fn the_preface_grants_our_windows() {
        let mut bytes = Vec::new();
        put_preface(&mut bytes, OUR_WINDOW);
        let settings = Frame::first(&bytes[PREFACE.len()..]).unwrap().unwrap();
        assert_eq!(settings.initial_window(), Some(OUR_WINDOW));
        let update = Frame::first(&bytes[PREFACE.len() + settings.len()..]).unwrap().unwrap();
        assert_eq!((update.stream, update.number() + DEFAULT_WINDOW), (0, OUR_WINDOW));
    }

    #[test]
    fn settings_without_a_window_grant_none() {
        let frame = Frame { kind: SETTINGS, flags: 0, stream: 0, payload: &[0, 3, 0, 0, 0, 100] };
        assert_eq!(frame.initial_window(), None);
    }
}
