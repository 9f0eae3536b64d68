//! Fresh SVIDs for the entries in use, behind one atomic pointer.

mod snapshot;

pub use snapshot::{Encodings, Identities, IssuedBundle, IssuedSvid};
