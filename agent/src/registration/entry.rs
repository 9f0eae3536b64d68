//! One registration entry: selectors → SPIFFE ID.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::IdTemplate;
use crate::{attestation::Selector, spiffe::SpiffeId};

/// What an entry is called; everything that needs an order goes by it, as plain text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId(Arc<str>);

impl EntryId {
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Sorted by id, and shared by all whom they concern.
pub type Entries = Arc<[Arc<RegistrationEntry>]>;

/// Those of `entries` that are not among `others`, where one that gives another SPIFFE ID is another. Both are sorted by id.
pub(crate) fn without<'a>(
    entries: &'a [Arc<RegistrationEntry>],
    others: &'a [Arc<RegistrationEntry>],
) -> impl Iterator<Item = &'a Arc<RegistrationEntry>> {
    entries.iter().filter(|entry| {
        let found = others.binary_search_by(|other| other.id.cmp(&entry.id));
        found.map_or(true, |at| entry.spiffe_id != others[at].spiffe_id)
    })
}

/// Selectors → SPIFFE ID, written by an operator. A process earns it when it has all `selectors`, is known
/// to have none of `exclude`, and each attestor of `attested_by` has spoken for it.
///
/// `Name` is a SPIFFE ID, or the [`IdTemplate`] of a [`TemplateEntry`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistrationEntry<Name = SpiffeId> {
    pub id: EntryId,
    pub spiffe_id: Name,
    /// Sorted, without duplicates; never empty, but where a template asks for selectors as well.
    pub selectors: Vec<Selector>,
    /// Sorted, without duplicates. An empty value excludes the whole type.
    pub exclude: Vec<Selector>,
    /// Types of selectors, sorted, without duplicates: the attestor of each answered for the process, and knew it.
    pub attested_by: Vec<Box<str>>,
    /// Lifetime of its X.509-SVIDs; `None` takes the issuer's.
    pub x509_svid_ttl: Option<Duration>,
    pub dns_names: Vec<String>,
    /// Empty when there is none.
    pub hint: String,
    /// From then on it matches nothing.
    pub expires_at: Option<SystemTime>,
    /// The entry by whose template this one got its SPIFFE ID.
    pub derived_from: Option<EntryId>,
}

/// An entry that gives each process the SPIFFE ID which its selectors make of the template.
pub type TemplateEntry = RegistrationEntry<IdTemplate>;

impl<Name> RegistrationEntry<Name> {
    /// One that says no more than who earns what. `selectors` are sorted, without duplicates.
    pub fn new(id: EntryId, spiffe_id: Name, selectors: Vec<Selector>) -> Self {
        Self {
            id,
            spiffe_id,
            selectors,
            exclude: Vec::new(),
            attested_by: Vec::new(),
            x509_svid_ttl: None,
            dns_names: Vec::new(),
            hint: String::new(),
            expires_at: None,
            derived_from: None,
        }
    }
}

impl TemplateEntry {
    /// The entry that gives `id` by this template, with the selectors that make that ID; `None` when it never gives it.
    ///
    /// It depends on nothing but the two, so it is the same after a restart: its id is that of the template entry and the
    /// path of the SPIFFE ID.
    pub(super) fn giving(&self, id: &SpiffeId) -> Option<RegistrationEntry> {
        let mut selectors = self.spiffe_id.selectors_of(id)?;
        selectors.extend(self.selectors.iter().cloned());
        selectors.sort();
        selectors.dedup();
        let Self { exclude, attested_by, x509_svid_ttl, dns_names, hint, expires_at, .. } = self.clone();
        Some(RegistrationEntry {
            id: EntryId::new(format!("{}{}", self.id, id.path())),
            spiffe_id: id.clone(),
            selectors,
            exclude,
            attested_by,
            x509_svid_ttl,
            dns_names,
            hint,
            expires_at,
            derived_from: Some(self.id.clone()),
        })
    }

    /// The entry of that id by this template.
    pub(super) fn called(&self, id: &EntryId) -> Option<RegistrationEntry> {
        let path = id.as_str().strip_prefix(self.id.as_str()).filter(|path| path.starts_with('/'))?;
        let id = format!("spiffe://{}{path}", self.spiffe_id.trust_domain());
        self.giving(&id.parse().ok()?)
    }
}
