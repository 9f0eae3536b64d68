//! A gRPC client that writes its own HTTP/2 frames and reads the server's, so that a test decides how a request is
//! cut, when a window opens and what else stands between two frames.
//!
//! Plain code: bytes in, bytes out. It holds the server to what it was granted and panics when that takes more.
//!
//! Source: RFC 9113, RFC 7541.

mod client;
pub mod frame;
mod hpack;
mod stream;

pub use client::Client;
pub use frame::Shape;
pub use stream::{End, Stream};

/// Calls of SDS.
pub const STREAM_SECRETS: &str = "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets";
pub const FETCH_SECRETS: &str = "/envoy.service.secret.v3.SecretDiscoveryService/FetchSecrets";

/// A gRPC message with its prefix.
///
/// # Panics
/// When it is longer than 4 GiB.
pub fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("a message of less than 4 GiB");
    [&[0], &length.to_be_bytes()[..], message].concat()
}
