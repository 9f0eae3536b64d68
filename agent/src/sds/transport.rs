//! The seam between SDS and whatever carries its bytes: today the `h2` crate, in `front`.
//!
//! Both halves are cancel-safe: a future that is dropped before it is ready has moved no byte.

use std::future::Future;

use bytes::Bytes;
use tonic::Status;

/// The client's half of one call.
pub trait RequestBytes: Send {
    /// The next bytes, in any cut; `None` when the client has no more to say.
    fn read(&mut self) -> impl Future<Output = Option<Result<Bytes, Gone>>> + Send;
}

/// Our half of one call.
pub trait ResponseBytes: Send {
    /// Takes bytes from the front of `message` as soon as the client has room for at least one.
    fn write(&mut self, message: &mut Bytes) -> impl Future<Output = Result<(), Gone>> + Send;
    /// Ends the call with `status`.
    fn finish(&mut self, status: &Status);
    /// Ends the call without a word: the client does not read.
    fn reset(&mut self);
}

/// The client, or its connection, is no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("client is gone")]
pub struct Gone;
