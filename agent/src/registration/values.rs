//! One value of an entry file at a time: what it must look like, and the words when it does not.

use std::{
    borrow::Cow,
    fmt,
    ops::Range,
    time::{Duration, SystemTime},
};

use super::{
    EntryId, IdTemplate, TemplateFault, dns,
    document::{Key, Node, Value},
};
use crate::{
    attestation::Selector,
    problem::{Place, Problem, nearest},
    spiffe::{IdError, SpiffeId, TrustDomain},
};

/// Shortest lifetime of an X.509-SVID: below it there is no time to rotate.
pub const MIN_SVID_TTL: Duration = Duration::from_secs(2);
/// Longest lifetime of an X.509-SVID: one year. What was handed out cannot be taken back before its end.
pub const MAX_SVID_TTL: Duration = Duration::from_secs(366 * 24 * 3600);

/// Longest selector in bytes, type and value together: the longest path with room to spare.
const MAX_SELECTOR_LEN: usize = 8192;
/// Longest entry id in bytes.
const MAX_ENTRY_ID_LEN: usize = 255;
/// Longest hint in bytes; each message to each client carries it.
const MAX_HINT_LEN: usize = 1024;
/// Most items in a list of one entry, such as its selectors or DNS names.
pub(super) const MAX_ITEMS: usize = 256;

/// What an entry gives: one SPIFFE ID, or one to each process by a template.
pub(super) enum Name {
    Id(SpiffeId),
    Template(IdTemplate),
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Template(template) => template.fmt(f),
        }
    }
}

/// One file while it is read: every refusal points into it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source<'t> {
    pub(super) file: &'t str,
    pub(super) text: &'t str,
}

impl<'t> Source<'t> {
    pub(super) fn place(&self, span: &Range<usize>) -> Place {
        Place::of(self.file, self.text, span.clone())
    }

    pub(super) fn problem(
        &self,
        code: &'static str,
        title: impl Into<String>,
        span: &Range<usize>,
    ) -> Problem {
        Problem::new(code, title).at(self.place(span))
    }

    /// Names the field, and the one that was probably meant.
    pub(super) fn unknown_field(&self, key: &Key<'_>, known: &[&'static str]) -> Problem {
        let hint = nearest(&key.name, known.iter().copied())
            .map_or_else(|| "not known here".to_owned(), |near| format!("did you mean `{near}`?"));
        Problem::new("E0605", format!("unknown field `{}`", key.name))
            .at(self.place(&key.span).hint(hint))
            .why("a field that is not understood may be one that narrows who gets the identity")
            .fix(format!("known here: {}", known.join(", ")))
    }

    pub(super) fn wrong_type(&self, node: &Node<'_>, wanted: &str) -> Problem {
        self.problem("E0606", format!("expected {wanted}, found {}", node.value.noun()), &node.span)
    }

    pub(super) fn text<'n>(&self, node: &'n Node<'t>) -> Result<&'n str, Problem> {
        match &node.value {
            Value::Text(text) => Ok(text),
            _ => Err(self.wrong_type(node, "a string")),
        }
    }

    pub(super) fn boolean(&self, node: &Node<'t>) -> Result<bool, Problem> {
        match node.value {
            Value::Bool(value) => Ok(value),
            _ => Err(self.wrong_type(node, "true or false")),
        }
    }

    /// An integer, or a string of one: 64-bit numbers are written so in the JSON form of protobuf messages.
    pub(super) fn integer(&self, node: &Node<'t>) -> Result<i64, Problem> {
        match &node.value {
            Value::Integer(number) => Ok(*number),
            Value::Text(text) => text.parse().map_err(|_| self.wrong_type(node, "an integer")),
            _ => Err(self.wrong_type(node, "an integer")),
        }
    }

    pub(super) fn list<'n>(&self, node: &'n Node<'t>) -> Result<&'n [Node<'t>], Problem> {
        let Value::List(list) = &node.value else {
            return Err(self.wrong_type(node, "a list"));
        };
        if list.len() > MAX_ITEMS {
            let title = format!("list has {} items; at most {MAX_ITEMS} are allowed", list.len());
            return Err(self.problem("E0614", title, &node.span));
        }
        Ok(list)
    }

    pub(super) fn table<'n>(&self, node: &'n Node<'t>) -> Result<&'n [(Key<'t>, Node<'t>)], Problem> {
        match &node.value {
            Value::Table(pairs) => Ok(pairs),
            _ => Err(self.wrong_type(node, "a table")),
        }
    }

    /// `"spiffe://td/path"`, or the table `{trust_domain, path}`.
    pub(super) fn spiffe_id(&self, node: &Node<'t>) -> Result<SpiffeId, Problem> {
        let text = self.id_text(node)?;
        text.parse().map_err(|error: IdError| {
            let culprit = self.culprit(node, &text, &error);
            self.problem("E0608", format!("not a SPIFFE ID: {error}"), &culprit)
                .why("names are never cleaned up: that could make two different names equal")
        })
    }

    fn id_text<'n>(&self, node: &'n Node<'t>) -> Result<Cow<'n, str>, Problem> {
        match &node.value {
            Value::Text(text) => Ok(Cow::Borrowed(&**text)),
            Value::Table(pairs) => self.id_of_parts(pairs).map(Cow::Owned),
            _ => Err(self.wrong_type(node, "a SPIFFE ID")),
        }
    }

    fn id_of_parts(&self, pairs: &[(Key<'t>, Node<'t>)]) -> Result<String, Problem> {
        let (mut trust_domain, mut path) = ("", "");
        for (key, value) in pairs {
            match &*key.name {
                "trust_domain" => trust_domain = self.text(value)?,
                "path" => path = self.text(value)?,
                _ => return Err(self.unknown_field(key, &["trust_domain", "path"])),
            }
        }
        Ok(format!("spiffe://{trust_domain}{path}"))
    }

    /// The one character that is at fault where the file holds the ID literally, else the whole value.
    fn culprit(&self, node: &Node<'t>, id: &str, error: &IdError) -> Range<usize> {
        let path_at = id.get(9..).and_then(|rest| rest.find('/')).map_or(0, |at| at + 9);
        let (from, c) = match error {
            IdError::TrustDomainCharacter(c) => (9, *c),
            IdError::PathCharacter(c) => (path_at, *c),
            _ => return node.span.clone(),
        };
        match id.get(from..).and_then(|rest| rest.find(c)) {
            Some(at) => self.part(node, id, from + at..from + at + c.len_utf8()),
            None => node.span.clone(),
        }
    }

    /// `part` of the text of `node` where the file holds that literally, else the whole value.
    fn part(&self, node: &Node<'t>, text: &str, part: Range<usize>) -> Range<usize> {
        let literal = self.text.get(node.span.start + 1..node.span.end.saturating_sub(1)) == Some(text);
        let start = node.span.start + 1;
        if literal { start + part.start..start + part.end } else { node.span.clone() }
    }

    /// What names a workload: a SPIFFE ID in our trust domain with a path, or a template of such.
    pub(super) fn workload_name(&self, node: &Node<'t>, ours: &TrustDomain) -> Result<Name, Problem> {
        let text = self.id_text(node)?;
        if !IdTemplate::is_meant(&text) {
            return self.workload_id(node, ours).map(Name::Id);
        }
        let template: IdTemplate = text.parse().map_err(|fault: TemplateFault| {
            let at = self.part(node, &text, fault.at.clone());
            self.problem("E0621", fault.title, &at).fix(fault.fix)
        })?;
        if template.trust_domain() != ours.name() {
            let path = template.as_str().splitn(4, '/').last().unwrap_or_default();
            return Err(self.foreign(node, &template, ours, &format!("/{path}")));
        }
        Ok(Name::Template(template))
    }

    fn foreign(&self, node: &Node<'t>, name: &dyn fmt::Display, ours: &TrustDomain, path: &str) -> Problem {
        let title = format!("{name} is not in the trust domain of this agent, {ours}");
        self.problem("E0609", title, &node.span)
            .why("an agent signs for its own trust domain only")
            .fix(format!("write spiffe://{ours}{path}, or set trust_domain in the configuration"))
    }

    /// The ID of a workload: in our trust domain, and with a path.
    fn workload_id(&self, node: &Node<'t>, ours: &TrustDomain) -> Result<SpiffeId, Problem> {
        let id = self.spiffe_id(node)?;
        if !id.is_in(ours) {
            return Err(self.foreign(node, &id, ours, id.path()));
        }
        if id.path().is_empty() {
            return Err(self
                .problem("E0609", format!("{id} names the trust domain, not a workload"), &node.span)
                .fix(format!("add a path, such as spiffe://{ours}/web")));
        }
        Ok(id)
    }

    /// `"type:value"` or the table `{type, value}`.
    pub(super) fn selector(&self, node: &Node<'t>) -> Result<Selector, Problem> {
        let selector = self.selector_or_type(node)?;
        if selector.value().is_empty() {
            let title = format!("selector `{}` has no value", selector.kind());
            return Err(self
                .problem("E0610", title, &node.span)
                .fix("write it as type:value, such as unix:uid:1000"));
        }
        Ok(selector)
    }

    /// As [`Self::selector`]; the value may be absent, which means every selector of the type.
    pub(super) fn selector_or_type(&self, node: &Node<'t>) -> Result<Selector, Problem> {
        let (kind, value) = match &node.value {
            Value::Text(text) => text.split_once(':').unwrap_or((text, "")),
            Value::Table(pairs) => self.selector_parts(pairs)?,
            _ => return Err(self.wrong_type(node, "a selector")),
        };
        let broken = |title: String| Err(self.problem("E0610", title, &node.span));
        if kind.is_empty() || kind.contains(':') {
            return broken(format!("selector type must be one word without a colon, not {kind:?}"));
        }
        if kind.len() + value.len() > MAX_SELECTOR_LEN {
            return broken(format!("selector has more than {MAX_SELECTOR_LEN} bytes"));
        }
        Ok(Selector::new(kind, value))
    }

    /// The type alone, such as `docker`.
    pub(super) fn selector_type(&self, node: &Node<'t>) -> Result<Box<str>, Problem> {
        let kind = self.text(node)?;
        if kind.is_empty() || kind.contains(':') || kind.len() > MAX_SELECTOR_LEN {
            let title = format!("the type of selectors must be one word without a colon, not {kind:?}");
            return Err(self
                .problem("E0610", title, &node.span)
                .fix("name what stands before the first colon of its selectors, such as \"docker\""));
        }
        Ok(kind.into())
    }

    fn selector_parts<'n>(&self, pairs: &'n [(Key<'t>, Node<'t>)]) -> Result<(&'n str, &'n str), Problem> {
        let (mut kind, mut value) = ("", "");
        for (key, node) in pairs {
            match &*key.name {
                "type" => kind = self.text(node)?,
                "value" => value = self.text(node)?,
                _ => return Err(self.unknown_field(key, &["type", "value"])),
            }
        }
        Ok((kind, value))
    }

    /// Seconds; 0 is "the issuer's".
    pub(super) fn ttl(&self, node: &Node<'t>) -> Result<Option<Duration>, Problem> {
        let seconds = self.integer(node)?;
        if seconds == 0 {
            return Ok(None);
        }
        let ttl = u64::try_from(seconds).map(Duration::from_secs).ok();
        match ttl.filter(|ttl| (MIN_SVID_TTL..=MAX_SVID_TTL).contains(ttl)) {
            Some(ttl) => Ok(Some(ttl)),
            None => Err(self
                .problem("E0612", format!("a lifetime of {seconds} seconds is out of bounds"), &node.span)
                .fix(format!(
                    "0 for the issuer's default, else {} to {} seconds",
                    MIN_SVID_TTL.as_secs(),
                    MAX_SVID_TTL.as_secs()
                ))),
        }
    }

    /// Seconds since 1970; 0 is "never".
    pub(super) fn expiry(&self, node: &Node<'t>) -> Result<Option<SystemTime>, Problem> {
        let seconds = self.integer(node)?;
        if seconds == 0 {
            return Ok(None);
        }
        u64::try_from(seconds)
            .ok()
            .and_then(|seconds| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)))
            .map(Some)
            .ok_or_else(|| {
                self.problem("E0612", format!("{seconds} is no time in seconds since 1970"), &node.span)
                    .fix("0 for an entry that does not expire")
            })
    }

    pub(super) fn dns_name(&self, node: &Node<'t>) -> Result<String, Problem> {
        let name = self.text(node)?;
        dns::check(name)
            .map(|()| name.to_owned())
            .map_err(|error| self.problem("E0613", format!("not a DNS name: {error}"), &node.span))
    }

    pub(super) fn hint(&self, node: &Node<'t>) -> Result<String, Problem> {
        let hint = self.text(node)?;
        if hint.len() > MAX_HINT_LEN {
            let title = format!("hint has {} bytes; at most {MAX_HINT_LEN} are allowed", hint.len());
            return Err(self.problem("E0614", title, &node.span));
        }
        Ok(hint.to_owned())
    }

    /// `None` when it is empty.
    pub(super) fn entry_id(&self, node: &Node<'t>) -> Result<Option<EntryId>, Problem> {
        let id = self.text(node)?;
        if id.len() > MAX_ENTRY_ID_LEN || !id.chars().all(|c| c.is_ascii_graphic()) {
            let title = "an entry id has up to 255 printable ASCII characters without a space";
            return Err(self.problem("E0618", title, &node.span));
        }
        Ok((!id.is_empty()).then(|| EntryId::new(id)))
    }
}
