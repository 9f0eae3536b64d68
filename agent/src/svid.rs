//! Fresh SVIDs for the entries in use, behind one atomic pointer.
//!
//! `SvidOwner` decides and publishes; `SvidCache` and its `Subscriber`s read and say what they use.

mod cache;
mod issuer;
mod matched;
mod owner;
mod refusals;
mod rotation;
mod snapshot;
mod subscriber;
mod wants;

pub use cache::{Failure, RotateError, SvidCache, SvidStats, Target};
pub use issuer::{Issuer, WithKeysAhead};
pub use owner::{Check, SvidOwner};
pub use rotation::Schedule;
pub use snapshot::{
    Change, Encoded, Encodings, Holder, Identities, IssuedBundle, IssuedSvid, Seen, Snapshot, Svids,
    WeakIdentities,
};
pub use subscriber::Subscriber;
pub use wants::TEMPLATE_IDENTITIES;

#[cfg(test)]
pub(crate) mod tests;
