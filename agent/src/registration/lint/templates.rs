//! Remarks on entries that name by a template.

use super::vocabulary;
use crate::{
    attestation::Selector,
    registration::{EntryIndex, TemplateEntry, Warning},
};

/// What a template goes by beside its selectors, each without its value.
pub(super) fn named_by(template: &TemplateEntry) -> impl Iterator<Item = Selector> {
    template.spiffe_id.placeholders().map(|of| Selector::new(of.kind(), of.name()))
}

pub(super) fn lint(index: &EntryIndex) -> Vec<Warning> {
    let of_each = index.templates().flat_map(|template| lint_one(template));
    of_each.chain(index.templates().filter_map(|template| collides(index, template))).collect()
}

fn lint_one(template: &TemplateEntry) -> Vec<Warning> {
    let mut warnings = Vec::new();
    let mut warn = |code, title: String, why: &str, fix: &str| {
        warnings.push(Warning::new(code, title).about(&template.id).why(why).fix(fix));
    };
    for of in template.spiffe_id.placeholders() {
        let (kind, field) = (of.kind(), of.field());
        if !vocabulary::is_made(kind, field) {
            warn(
                "W0615",
                format!("{of} stands for a selector that this version does not make"),
                "no process has it, so the template gives nothing to anybody",
                "name what unix, kernel, docker, systemd or slurm say, or wait for a version that makes it",
            );
        }
        if vocabulary::is_chosen(kind, field) {
            warn(
                "W0623",
                format!(
                    "{of} in the template of entry {} is what whoever starts the workload says",
                    template.id
                ),
                "who may start a container may have any identity that the template gives",
                "let only those start containers who may choose; else require what they cannot choose, or name that",
            );
        }
        if vocabulary::are_several(kind, field) {
            warn(
                "W0625",
                format!("{of} in the template of entry {} often stands for several at once", template.id),
                "a process with two of them gets no identity by the template",
                "name a fact of which a process has one, such as unix:gid or unix:user",
            );
        }
    }
    if !template.dns_names.is_empty() {
        warn(
            "W0626",
            format!("each identity that entry {} gives bears the same DNS names", template.id),
            "who checks a name cannot tell one of them from another",
            "give DNS names to entries that give one SPIFFE ID",
        );
    }
    warnings
}

/// The first other entry that may give the same SPIFFE ID.
fn collides(index: &EntryIndex, template: &TemplateEntry) -> Option<Warning> {
    let mut others = index.templates().filter(|other| other.id < template.id);
    let other = others.find(|other| other.spiffe_id.may_meet(&template.spiffe_id));
    let other = other.map(|other| (&other.id, other.spiffe_id.as_str())).or_else(|| {
        let written = index.iter().find(|entry| template.spiffe_id.selectors_of(&entry.spiffe_id).is_some());
        written.map(|entry| (&entry.id, entry.spiffe_id.as_str()))
    });
    let (id, gives) = other?;
    let title = format!("entry {} may give the same SPIFFE ID as entry {id}: {gives}", template.id);
    Some(
        Warning::new("W0624", title)
            .about(&template.id)
            .why("then processes that are told apart by nothing that both entries ask for have one name")
            .fix("give the template a segment of its own, such as /label/{docker:label:app}"),
    )
}
