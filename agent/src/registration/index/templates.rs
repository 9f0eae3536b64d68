//! The entries that name by a template, and the entries that they make.

use std::{sync::Arc, time::SystemTime};

use super::{EntryId, RegistrationEntry, TemplateEntry, earns};
use crate::{attestation::SelectorSet, registration::Refusal, spiffe::SpiffeId};

/// Sorted by id. They are few, [`super::super::MAX_TEMPLATES`] at most, so each is looked at: to file one under a
/// selector it would have to require one, and `{k8s:ns}` alone is condition enough.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Templates(pub(super) Vec<Arc<TemplateEntry>>);

impl Templates {
    pub(super) fn new(templates: impl IntoIterator<Item = TemplateEntry>) -> Self {
        let mut templates: Vec<_> = templates.into_iter().map(Arc::new).collect();
        templates.sort_by(|a, b| a.id.cmp(&b.id));
        templates.dedup_by(|later, first| later.id == first.id);
        Self(templates)
    }

    /// What each makes for `process`, one entry at most, in the order of their ids; why one makes none goes to `refused`.
    pub(super) fn derive(
        &self,
        process: &SelectorSet,
        now: SystemTime,
        refused: &mut dyn FnMut(&Arc<TemplateEntry>, Refusal),
    ) -> Vec<Arc<RegistrationEntry>> {
        let mut derived = Vec::new();
        for template in self.0.iter().filter(|template| earns(process, template, now)) {
            match template.spiffe_id.name(process) {
                // What is made is an entry like others, and the same rule decides about it.
                Ok(name) => derived.extend(
                    name.and_then(|id| template.giving(&id))
                        .filter(|entry| earns(process, entry, now))
                        .map(Arc::new),
                ),
                Err(refusal) => refused(template, refusal),
            }
        }
        derived
    }

    /// The entry of that id which one of them makes for whoever has what it requires.
    pub(super) fn called(&self, id: &EntryId) -> Option<Arc<RegistrationEntry>> {
        self.0.iter().find_map(|template| template.called(id)).map(Arc::new)
    }

    /// The entries that give `id`.
    pub(super) fn giving(&self, id: &SpiffeId) -> impl Iterator<Item = Arc<RegistrationEntry>> {
        self.0.iter().filter_map(|template| template.giving(id)).map(Arc::new)
    }
}
