//! A document becomes registration entries: which fields there are, and what each does.
//!
//! The fields are SPIRE's, in the two shapes in which its users hold them (the file that `entry create -data`
//! takes, and what `entry show -output json` prints), and two of ours: `exclude` and `attested_by`.

use std::{
    ops::Range,
    time::{Duration, SystemTime},
};

use super::{
    EntryId, RegistrationEntry, TemplateEntry, Warning, canonical,
    document::{Key, Node, Value},
    load::MAX_ENTRIES,
    remarks::{Remark, Remarks},
    values::{Name, Source},
};
use crate::{
    attestation::Selector,
    problem::Problem,
    spiffe::{SpiffeId, TrustDomain},
};

const FIELDS: &[&str] = &[
    "spiffe_id",
    "parent_id",
    "selectors",
    "exclude",
    "attested_by",
    "x509_svid_ttl",
    "jwt_svid_ttl",
    "federates_with",
    "dns_names",
    "admin",
    "downstream",
    "entryExpiry",
    "expires_at",
    "store_svid",
    "hint",
    "additional_attributes",
    "entry_id",
    "id",
    "revision_number",
    "created_at",
];
const ATTRIBUTES: &[&str] = &["disable_x509_svid_prefetch", "jwt_svid_include_jti"];

/// The path of the parent that makes an entry describe an agent's node instead of a workload.
const NODE_PARENT: &str = "/spire/server";

/// Every entry of one file with the bytes it stands in, in the order of the file, and what was remarked.
pub(super) struct FileEntries {
    pub(super) entries: Vec<(Written, Range<usize>)>,
    pub(super) warnings: Vec<Warning>,
}

/// An entry as it is written.
pub(super) enum Written {
    Entry(RegistrationEntry),
    Template(TemplateEntry),
}

impl Written {
    pub(super) fn id(&self) -> &EntryId {
        match self {
            Self::Entry(entry) => &entry.id,
            Self::Template(template) => &template.id,
        }
    }
}

/// Reads all entries of a file; the first fault refuses the file.
pub(super) fn read(source: Source<'_>, root: &Node<'_>, ours: &TrustDomain) -> Result<FileEntries, Problem> {
    let list = entry_list(&source, root)?;
    let mut remarks = Remarks::default();
    let mut entries = Vec::with_capacity(list.len());
    for node in list {
        let draft = Draft::read(&source, node, ours, &mut remarks)?;
        draft.check_rights(&source)?;
        if draft.is_node_entry() {
            remarks.add(Remark::NodeEntry, &node.span);
        } else {
            entries.push((draft.finish(&source, node)?, node.span.clone()));
        }
    }
    Ok(FileEntries { entries, warnings: remarks.into_warnings(&source) })
}

fn entry_list<'n, 't>(source: &Source<'t>, root: &'n Node<'t>) -> Result<&'n [Node<'t>], Problem> {
    let mut list = None;
    for (key, node) in source.table(root)? {
        match &*key.name {
            "entries" => list = Some(node),
            // `entry show` writes it; what it points at was on another page and is not in this file.
            "next_page_token" if source.text(node)?.is_empty() => {}
            "next_page_token" => {
                return Err(source
                    .problem("E0619", "the file is one page of several", &node.span)
                    .fix("put the entries of all pages into the file, and an empty next_page_token"));
            }
            _ => return Err(source.unknown_field(key, &["entries"])),
        }
    }
    let node = list.ok_or_else(|| {
        source
            .problem("E0607", "`entries` is missing", &(root.span.start..root.span.start))
            .fix("a file without entries says so: {\"entries\": []}, or entries = [] in TOML")
    })?;
    let Value::List(list) = &node.value else {
        return Err(source.wrong_type(node, "a list of entries"));
    };
    if list.len() > MAX_ENTRIES {
        let title = format!("{} entries; at most {MAX_ENTRIES} are allowed", list.len());
        return Err(source.problem("E0602", title, &node.span));
    }
    Ok(list)
}

/// An entry while its fields come in, in any order.
#[derive(Default)]
struct Draft<'n, 't> {
    name: Option<Name>,
    parent: Option<SpiffeId>,
    selectors: Vec<Selector>,
    exclude: Vec<Selector>,
    attested_by: Vec<Box<str>>,
    id: Option<EntryId>,
    id_field: Option<&'n Key<'t>>,
    x509_svid_ttl: Option<Duration>,
    dns_names: Vec<String>,
    hint: String,
    expires_at: Option<SystemTime>,
    expiry_field: Option<&'n Key<'t>>,
    /// A field that asks for a right which no entry here can give.
    refused: Option<(&'n Key<'t>, Range<usize>)>,
}

impl<'n, 't> Draft<'n, 't> {
    fn read(
        source: &Source<'t>,
        node: &'n Node<'t>,
        ours: &TrustDomain,
        remarks: &mut Remarks,
    ) -> Result<Self, Problem> {
        let mut draft = Self::default();
        for (key, value) in source.table(node)? {
            // `entry show` writes null where a message is not set.
            if value.value == Value::Null && FIELDS.contains(&&*key.name) {
                continue;
            }
            draft.field(source, key, value, ours, remarks)?;
        }
        Ok(draft)
    }

    fn field(
        &mut self,
        source: &Source<'t>,
        key: &'n Key<'t>,
        value: &Node<'t>,
        ours: &TrustDomain,
        remarks: &mut Remarks,
    ) -> Result<(), Problem> {
        match &*key.name {
            "spiffe_id" => self.name = Some(source.workload_name(value, ours)?),
            "parent_id" if value.value != Value::Text("".into()) => {
                self.parent = Some(source.spiffe_id(value)?);
            }
            "parent_id" => {}
            "selectors" => self.selectors = sorted(value, source, |node| source.selector(node))?,
            "exclude" => self.exclude = sorted(value, source, |node| source.selector_or_type(node))?,
            "attested_by" => self.attested_by = sorted(value, source, |node| source.selector_type(node))?,
            "x509_svid_ttl" => self.x509_svid_ttl = source.ttl(value)?,
            "dns_names" => self.dns_names = dns_names(source, value)?,
            "hint" => self.hint = source.hint(value)?,
            "entry_id" | "id" => {
                if let Some(id) = source.entry_id(value)? {
                    only_one(source, self.id.as_ref() == Some(&id), self.id_field.replace(key), key)?;
                    self.id = Some(id);
                }
            }
            "entryExpiry" | "expires_at" => {
                if let Some(time) = source.expiry(value)? {
                    only_one(source, self.expires_at == Some(time), self.expiry_field.replace(key), key)?;
                    self.expires_at = Some(time);
                }
            }
            "downstream" | "store_svid" => {
                if source.boolean(value)? {
                    self.refused = Some((key, key.span.start..value.span.end));
                }
            }
            _ => self.unused_field(source, key, value, remarks)?,
        }
        Ok(())
    }

    /// Fields that are checked but change nothing, with a remark where their author expects that they do.
    fn unused_field(
        &self,
        source: &Source<'t>,
        key: &Key<'t>,
        value: &Node<'t>,
        remarks: &mut Remarks,
    ) -> Result<(), Problem> {
        match &*key.name {
            "jwt_svid_ttl" => {
                if source.integer(value)? != 0 {
                    remarks.add(Remark::NotServed("jwt_svid_ttl"), &key.span);
                }
            }
            "federates_with" => {
                for domain in source.list(value)? {
                    trust_domain(source, domain)?;
                    remarks.add(Remark::NotServed("federates_with"), &key.span);
                }
            }
            "admin" => {
                if source.boolean(value)? {
                    remarks.add(Remark::NotServed("admin"), &key.span);
                }
            }
            "revision_number" | "created_at" => {
                source.integer(value)?;
            }
            "additional_attributes" => {
                for (key, value) in source.table(value)? {
                    match &*key.name {
                        // Says when an SVID is made, not what it is: here that is on first use in any case.
                        "disable_x509_svid_prefetch" => {
                            source.boolean(value)?;
                        }
                        "jwt_svid_include_jti" => {
                            if source.boolean(value)? {
                                remarks.add(Remark::NotServed("jwt_svid_include_jti"), &key.span);
                            }
                        }
                        _ => return Err(source.unknown_field(key, ATTRIBUTES)),
                    }
                }
            }
            _ => return Err(source.unknown_field(key, FIELDS)),
        }
        Ok(())
    }

    fn check_rights(&self, source: &Source<'t>) -> Result<(), Problem> {
        let Some((key, span)) = &self.refused else { return Ok(()) };
        let why = match &*key.name {
            "downstream" => "it would give a workload the right to sign for the whole trust domain",
            _ => "such an SVID goes to a store outside this node and is never served to a workload",
        };
        let of = self.name.as_ref().map_or_else(String::new, |name| format!(", in the entry of {name}"));
        Err(source
            .problem("E0615", format!("`{}` is not supported{of}", key.name), span)
            .why(why)
            .fix("take the entry out of the files of this agent"))
    }

    fn is_node_entry(&self) -> bool {
        self.parent.as_ref().is_some_and(|parent| parent.path() == NODE_PARENT)
    }

    fn finish(self, source: &Source<'t>, node: &Node<'t>) -> Result<Written, Problem> {
        // Only the first line of an entry is underlined, so the span needs no more than its start.
        let here = node.span.start..node.span.start + 1;
        match &self.name {
            Some(Name::Id(id)) if self.selectors.is_empty() => Err(source
                .problem("E0611", format!("the entry of {id} has no selectors"), &here)
                .why("every process of this node would get the identity")
                .fix("say which process it is for, such as \"selectors\": [\"unix:uid:1000\"]")),
            Some(Name::Id(id)) => Ok(Written::Entry(self.named(id, id.as_str()))),
            // A template asks for selectors itself.
            Some(Name::Template(template)) => Ok(Written::Template(self.named(template, template.as_str()))),
            None => Err(source.problem("E0607", "the entry has no `spiffe_id`", &here)),
        }
    }

    fn named<N: Clone>(&self, name: &N, text: &str) -> RegistrationEntry<N> {
        let Self { selectors, exclude, attested_by, .. } = self;
        let id = self.id.clone().unwrap_or_else(|| canonical::id_of(text, selectors, exclude, attested_by));
        RegistrationEntry {
            id,
            spiffe_id: name.clone(),
            selectors: selectors.clone(),
            exclude: exclude.clone(),
            attested_by: attested_by.clone(),
            x509_svid_ttl: self.x509_svid_ttl,
            dns_names: self.dns_names.clone(),
            hint: self.hint.clone(),
            expires_at: self.expires_at,
            derived_from: None,
        }
    }
}

fn sorted<'t, T: Ord>(
    list: &Node<'t>,
    source: &Source<'t>,
    read: impl Fn(&Node<'t>) -> Result<T, Problem>,
) -> Result<Vec<T>, Problem> {
    let mut items = source.list(list)?.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    items.sort();
    items.dedup();
    Ok(items)
}

/// In the order of the file, which certificates keep; a repeated name counts once.
fn dns_names(source: &Source<'_>, list: &Node<'_>) -> Result<Vec<String>, Problem> {
    let mut names: Vec<String> = Vec::new();
    for node in source.list(list)? {
        let name = source.dns_name(node)?;
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

/// A federated trust domain: its name or its ID.
fn trust_domain(source: &Source<'_>, node: &Node<'_>) -> Result<(), Problem> {
    let text = source.text(node)?;
    if !text.starts_with("spiffe://") && text.parse::<TrustDomain>().is_ok() {
        return Ok(());
    }
    source.spiffe_id(node).map(|_| ())
}

/// Two names of one field may stand in one entry only when they agree.
fn only_one(
    source: &Source<'_>,
    same: bool,
    earlier: Option<&Key<'_>>,
    key: &Key<'_>,
) -> Result<(), Problem> {
    match earlier {
        Some(earlier) if !same => {
            let title =
                format!("`{}` and `{}` mean the same and say different things", earlier.name, key.name);
            Err(source.problem("E0617", title, &key.span))
        }
        _ => Ok(()),
    }
}
