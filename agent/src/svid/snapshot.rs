//! What the serving side reads. Immutable, so a reader takes no lock.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::{
    registration::RegistrationEntry,
    spiffe::{Bundle, X509Svid},
};

/// An SVID of one entry, as it was issued.
#[derive(Debug)]
pub struct IssuedSvid {
    pub entry: Arc<RegistrationEntry>,
    pub svid: X509Svid,
    /// Rises with everything that is issued or changed on this node since it started; never used twice.
    pub generation: u64,
    pub encodings: Encodings,
}

/// The bundle of this trust domain, as it was published.
#[derive(Debug)]
pub struct IssuedBundle {
    pub bundle: Bundle,
    pub generation: u64,
    pub encodings: Encodings,
}

/// What one set of selectors has earned at one moment.
#[derive(Debug, Clone)]
pub struct Identities {
    /// Sorted by entry id. Envoy's `default` is the first.
    pub svids: Vec<Arc<IssuedSvid>>,
    /// Entries that match but have no SVID yet.
    pub pending: usize,
    pub bundle: Arc<IssuedBundle>,
}

/// Wire bytes of one generation, made by the first stage that needs them and shared by all later readers.
#[derive(Debug, Default)]
pub struct Encodings([OnceLock<Bytes>; Encodings::SLOTS]);

impl Encodings {
    /// How many encodings one SVID or bundle may have: one for each shape in which a stage serves it.
    pub const SLOTS: usize = 8;

    /// The bytes in `slot`, made by `encode` the first time.
    ///
    /// # Panics
    /// When `slot` is not below [`Self::SLOTS`].
    pub fn get(&self, slot: usize, encode: impl FnOnce() -> Bytes) -> Bytes {
        self.0[slot].get_or_init(encode).clone()
    }
}
