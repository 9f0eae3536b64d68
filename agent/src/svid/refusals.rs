//! Templates that gave nothing to a process which has all that they ask for: said, and counted.

use std::time::Instant;

use prometheus_client::metrics::{counter::Counter, family::Family};

use crate::{
    quiet::Quiet,
    registration::{EntryId, Refusal, TemplateEntry},
};

/// Values may be a stranger's choice, and so is how often they come.
static REFUSED: Quiet = Quiet::new();
static FULL: Quiet = Quiet::new();

type Label = [(&'static str, &'static str); 1];

/// How often, by why. A process counts once for each change of its selectors and of the entries.
#[derive(Debug, Default)]
pub(super) struct Refusals(pub(super) Family<Label, Counter>);

impl Refusals {
    pub(super) fn of_value(&self, template: &TemplateEntry, refusal: &Refusal) {
        self.count(refusal.reason.word());
        if let Some(suppressed) = REFUSED.line(Instant::now()) {
            let entry = &template.id;
            tracing::warn!(%entry, suppressed, "a template gave no identity: {refusal} (W0651)");
        }
    }

    /// `limit` identities of one template are in use.
    pub(super) fn of_room(&self, template: &EntryId, limit: usize) {
        self.count("template_identities");
        if let Some(suppressed) = FULL.line(Instant::now()) {
            tracing::warn!(
                entry = %template,
                limit,
                suppressed,
                "a template gave no identity: as many as it may give are in use, see [limits] template_identities (W0652)"
            );
        }
    }

    fn count(&self, why: &'static str) {
        self.0.get_or_create(&[("reason", why)]).inc();
    }
}
