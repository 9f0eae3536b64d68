//! What the serving side reads. Immutable, so a reader takes no lock.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;

use crate::{
    registration::{EntryId, EntryIndex, RegistrationEntry},
    spiffe::{Bundle, X509Svid},
};

/// Everything that may be served at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub generation: u64,
    pub index: Arc<EntryIndex>,
    /// By entry; each belongs to the entry of that id in `index`.
    pub svids: HashMap<EntryId, Arc<IssuedSvid>>,
    pub bundle: Arc<IssuedBundle>,
    pub change: Change,
}

/// What is new in a snapshot, beside the one before.
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// Generation of the one before.
    pub since: u64,
    /// Entries whose SVID came, went or was replaced. `None` when entries or bundle are others: everybody may be
    /// concerned.
    pub svids: Option<Arc<[EntryId]>>,
}

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
    pub holder: Holder,
}

/// Whether a connection still speaks for its process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    Current,
    /// The process has changed, and would earn something else if it connected anew.
    Outdated,
    /// The process has ended.
    Gone,
}

/// Wire bytes of one generation, made by the first stage that needs them and shared by all later readers.
#[derive(Debug, Default)]
pub struct Encodings([OnceLock<Encoded>; Encodings::SLOTS]);

/// One encoding. Cloning shares the bytes; if they hold a key, their owner wipes them.
#[derive(Debug, Clone)]
pub struct Encoded {
    pub bytes: Bytes,
    /// Equal for equal content, also across restarts. Tells nothing about a key.
    pub version: Arc<str>,
}

impl Encodings {
    /// How many encodings one SVID or bundle may have: one for each shape in which a stage serves it.
    pub const SLOTS: usize = 16;

    /// What is in `slot`, made by `encode` the first time.
    ///
    /// # Panics
    /// When `slot` is not below [`Self::SLOTS`].
    pub fn get(&self, slot: usize, encode: impl FnOnce() -> Encoded) -> Encoded {
        self.0[slot].get_or_init(encode).clone()
    }
}
