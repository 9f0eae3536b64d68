//! What the serving side reads. Immutable, so a reader takes no lock.

use std::{
    collections::HashMap,
    ops::Deref,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;

use crate::{
    registration::{EntryId, EntryIndex, RegistrationEntry},
    spiffe::{Bundle, SpiffeId, X509Svid},
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

/// SVIDs that one set of selectors earns, shared by all who have it. Sorted by entry id.
#[derive(Debug)]
pub struct Svids {
    list: Box<[Arc<IssuedSvid>]>,
    number: u64,
    /// Places in the list.
    by_id: OnceLock<HashMap<SpiffeId, usize>>,
}

/// What one set of selectors has earned at one moment.
#[derive(Debug, Clone)]
pub struct Identities {
    /// Envoy's `default` is the first.
    pub svids: Arc<Svids>,
    /// Entries that match but have no SVID yet.
    pub pending: usize,
    pub bundle: Arc<IssuedBundle>,
    pub holder: Holder,
}

/// [`Identities`] that let go of SVIDs which others have seen replaced.
#[derive(Debug, Clone)]
pub struct WeakIdentities {
    svids: Weak<Svids>,
    pub pending: usize,
    bundle: Arc<IssuedBundle>,
    pub holder: Holder,
}

/// Tells [`Identities`] that say the same from others, and keeps none of them. Those that differ may yet say the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    svids: u64,
    bundle: u64,
    pending: usize,
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

impl Identities {
    pub fn seen(&self) -> Seen {
        Seen { svids: self.svids.number, bundle: self.bundle.generation, pending: self.pending }
    }
}

impl From<&Identities> for WeakIdentities {
    fn from(identities: &Identities) -> Self {
        let Identities { svids, pending, bundle, holder } = identities;
        Self { svids: Arc::downgrade(svids), pending: *pending, bundle: Arc::clone(bundle), holder: *holder }
    }
}

impl WeakIdentities {
    pub fn upgrade(&self) -> Option<Identities> {
        let svids = self.svids.upgrade()?;
        Some(Identities {
            svids,
            pending: self.pending,
            bundle: Arc::clone(&self.bundle),
            holder: self.holder,
        })
    }
}

impl Svids {
    /// Up to so many are searched one by one.
    const FEW: usize = 8;

    /// The first that bears this SPIFFE ID.
    pub fn of(&self, id: &str) -> Option<&Arc<IssuedSvid>> {
        if self.list.len() <= Self::FEW {
            return self.list.iter().find(|issued| issued.svid.id.as_str() == id);
        }
        let by_id = self.by_id.get_or_init(|| {
            // Of those that bear the same the first comes last, and stays.
            let places = self.list.iter().enumerate().rev();
            places.map(|(place, issued)| (issued.svid.id.clone(), place)).collect()
        });
        by_id.get(id).map(|place| &self.list[*place])
    }
}

impl Deref for Svids {
    type Target = [Arc<IssuedSvid>];

    fn deref(&self) -> &Self::Target {
        &self.list
    }
}

impl FromIterator<Arc<IssuedSvid>> for Svids {
    fn from_iter<I: IntoIterator<Item = Arc<IssuedSvid>>>(svids: I) -> Self {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        Self { list: svids.into_iter().collect(), number, by_id: OnceLock::new() }
    }
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
