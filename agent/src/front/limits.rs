//! Bounds on what a stranger may open, send or leave unread, and the words for what ran into one.

use std::time::Duration;

use h2::Reason;
use http::HeaderMap;

use super::{Outcome, admission::Refused};

/// Pseudo-headers of a request: method, scheme, authority, path. They are fields, too.
const PSEUDO_HEADERS: usize = 4;

/// Bounds on what strangers may hold of the public socket, under the names of `[limits]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    pub connections: usize,
    pub connections_per_caller: usize,
    /// Connections of a caller that are accepted in a second, one second's worth at once.
    pub connects_per_second: usize,
    /// Connections that wait to be accepted while somebody connects without pause; else as many as the kernel allows.
    pub flooded_queue: usize,
    pub streams: usize,
    pub streams_per_connection: u32,
    pub streams_per_caller: usize,
    /// Part of `connections` and `streams` that is kept for callers below their share.
    pub reserve: f64,
    /// Frames of a caller that are read in a second, two seconds' worth at once; see `front::pace` for their weights.
    pub frames_per_second: usize,
    /// Bytes of one header list, as HTTP/2 counts them.
    pub header_list: u32,
    pub header_fields: usize,
    /// Streams that a client has reset before we took them.
    pub pending_resets: usize,
    /// Streams that we have reset for what the client sent on them.
    pub local_resets: usize,
    /// From `accept` to the end of the HTTP/2 preface.
    pub preface_timeout: Duration,
    /// From the preface to the first call, and from the head of a call to the end of its first message.
    pub first_request_timeout: Duration,
    /// A connection without an open call is closed after so long.
    pub idle_timeout: Duration,
    /// A response of which the client takes nothing for so long ends its call.
    pub stalled_timeout: Duration,
    /// A client is asked so often whether it is there,
    pub keepalive_interval: Duration,
    /// and has so long to say so.
    pub keepalive_timeout: Duration,
}

impl Limits {
    /// Whether a call may have such a head.
    pub(super) fn admit_head(&self, headers: &HeaderMap) -> Result<(), Refused> {
        match headers.len() + PSEUDO_HEADERS > self.header_fields {
            true => Err(Refused { reason: "header_fields" }),
            false => Ok(()),
        }
    }
}

/// How a connection ended that `h2` has ended: for a flood (streams reset, heads or DATA without an end), or because the
/// client broke the protocol.
pub(super) fn ended_by_h2(error: &h2::Error) -> Outcome {
    match error.reason() {
        Some(Reason::ENHANCE_YOUR_CALM) => Outcome::shed("flood"),
        _ => Outcome::refused("protocol_error"),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Enough of everything.
    pub(in super::super) fn limits() -> Limits {
        let second = Duration::from_secs(1);
        Limits {
            connections: 100,
            connections_per_caller: 100,
            connects_per_second: 1_000,
            flooded_queue: 64,
            streams: 100,
            streams_per_connection: 9,
            streams_per_caller: 100,
            reserve: 0.25,
            frames_per_second: 1_000,
            header_list: 8 << 10,
            header_fields: 64,
            pending_resets: 20,
            local_resets: 64,
            preface_timeout: second,
            first_request_timeout: second,
            idle_timeout: second,
            stalled_timeout: second,
            keepalive_interval: second,
            keepalive_timeout: second,
        }
    }

    #[test]
    fn a_head_of_more_fields_than_the_limit_is_refused() {
        let mut headers = HeaderMap::new();
        for _ in 0..60 {
            headers.append("x", http::HeaderValue::from_static("y"));
        }
        assert_eq!(limits().admit_head(&headers), Ok(()), "with four of its own they are 64");
        headers.append("x", http::HeaderValue::from_static("y"));
        assert_eq!(limits().admit_head(&headers), Err(Refused { reason: "header_fields" }));
    }

    #[test]
    fn a_flood_is_told_from_a_broken_protocol() {
        assert_eq!(ended_by_h2(&Reason::ENHANCE_YOUR_CALM.into()), Outcome::shed("flood"));
        assert_eq!(ended_by_h2(&Reason::FRAME_SIZE_ERROR.into()), Outcome::refused("protocol_error"));
    }
}
