//! The seam between SDS and whatever carries its bytes: today the `h2` crate, in `front`.
//!
//! Polled by the one task that owns a connection. Readiness is that task's affair: once it has moved the connection's
//! bytes it polls every call again, so an implementation need not wake anybody for what the same task does.

use std::task::{Context, Poll};

use bytes::Bytes;
use tonic::Status;

/// The client's half of one call.
pub trait RequestBytes {
    /// The next bytes, in any cut; `None` when the client has no more to say.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Gone>>>;
}

/// Our half of one call.
pub trait ResponseBytes {
    /// Takes bytes from the front of `message` once the client has room for at least one.
    fn poll_write(&mut self, message: &mut Bytes, cx: &mut Context<'_>) -> Poll<Result<(), Gone>>;
    /// Ends the call with `status`.
    fn finish(&mut self, status: &Status);
    /// Ends the call without a word: the client does not read.
    fn reset(&mut self);
}

/// The client, or its connection, is no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("client is gone")]
pub struct Gone;
