//! What one stream has asked for and been told.

use super::{
    names::{BundleName, Meaning, Names},
    node::NodeFacts,
    render::{Message, Resource, SECRET_TYPE, SvidName, compose},
    request::Request,
};
use crate::svid::{Identities, Seen};

/// Bytes of names in a denial. A SPIFFE ID of any length fits.
const MAX_QUOTED: usize = 4096;

/// What one stream has asked for and been told. Speaks xDS; touches no socket.
#[derive(Debug, Default)]
pub struct Subscription {
    /// Sorted, without duplicates; `None` until the first request.
    names: Option<Vec<String>>,
    node: NodeFacts,
    sent: Option<Sent>,
    /// The identities at the last look. `None` when the next look is to be a whole one.
    looked_at: Option<Seen>,
    /// The generations of what was found for the names at the last look. Empty when that was not all.
    found: Vec<u64>,
    /// Whether [`Self::focus`] may be another than when this was asked last.
    refocused: bool,
    /// The newest generation that was used as a nonce here.
    newest_generation: u64,
    /// Counts the nonces that are this stream's own.
    own_nonces: u64,
}

#[derive(Debug)]
struct Sent {
    nonce: Box<str>,
    version: std::sync::Arc<str>,
}

/// Why a request gets no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Sorted.
    #[error("workload is not authorized for the requested identities [{}]", quoted(.0))]
    NotAuthorized(Vec<String>),
    #[error("unable to use \"SPIFFE validator\" on Envoy below 1.17")]
    NoValidator,
    #[error("type_url must be {SECRET_TYPE}, not {0:?}")]
    WrongType(String),
    /// An entry matches, but its SVID is not signed yet: ask again after the next update.
    #[error("identity is being issued")]
    Pending,
}

/// The answer to `request` as things are now, without a nonce. For FetchSecrets.
pub(super) fn snapshot(request: Request, identities: &Identities, names: &Names) -> Result<Message, Denied> {
    check_type(&request.type_url)?;
    let validator =
        request.node.unwrap_or_default().takes_spiffe_validator(names.config.disable_spiffe_validator);
    let resources = resolve(&normal(request.names), identities, names, validator)?;
    let encoded: Vec<_> = resources.iter().map(|resource| resource.encoded(names)).collect();
    Ok(compose(&encoded, ""))
}

fn check_type(type_url: &str) -> Result<(), Denied> {
    if type_url.is_empty() || type_url == SECRET_TYPE {
        Ok(())
    } else {
        Err(Denied::WrongType(type_url.to_owned()))
    }
}

impl Subscription {
    /// An ACK, a NACK, or a new list of resource names.
    ///
    /// Answers the first request and every changed list at once; an ACK, a NACK and a request about an older
    /// response (its nonce tells) are only taken note of.
    pub fn on_request(
        &mut self,
        request: Request,
        identities: &Identities,
        names: &Names,
    ) -> Result<Option<Message>, Denied> {
        if self.sent.as_ref().is_some_and(|sent| *sent.nonce != *request.nonce) {
            return Ok(None);
        }
        check_type(&request.type_url)?;
        if let Some(node) = request.node.filter(|node| *node != self.node) {
            self.node = node;
            self.looked_at = None;
            self.found.clear();
        }
        let asked = normal(request.names);
        if self.names.as_ref().is_some_and(|names| *names == asked) {
            return if self.sent.is_some() {
                Ok(None)
            } else {
                self.answer(identities, names, Nonce::Shared)
            };
        }
        // A nonce of its own, so that a late ACK of the old list is not taken for one of the new.
        let nonce = if self.names.is_some() { Nonce::Own } else { Nonce::Shared };
        self.names = Some(asked);
        self.refocused = true;
        self.answer(identities, names, nonce)
    }

    /// Fresh SVIDs or bundles; answers only when what was asked for has changed.
    pub fn on_update(&mut self, identities: &Identities, names: &Names) -> Result<Option<Message>, Denied> {
        if self.names.is_none() || self.looked_at == Some(identities.seen()) {
            return Ok(None);
        }
        self.answer(identities, names, Nonce::Shared)
    }

    /// What was asked for last.
    pub(super) fn names(&self) -> &[String] {
        self.names.as_deref().unwrap_or_default()
    }

    /// The names of the SVIDs that alone can make an update of SVIDs matter here; `None` when any may.
    pub fn focus(&self, names: &Names) -> Option<&[String]> {
        // Until something is asked for there is nothing to be told.
        let Some(asked) = &self.names else { return Some(&[]) };
        let is_all = asked.is_empty() || self.found.is_empty();
        // The default name stands for the first of all.
        (!is_all && !asked.contains(&names.config.default_svid)).then_some(asked)
    }

    pub fn take_refocused(&mut self) -> bool {
        std::mem::take(&mut self.refocused)
    }

    /// Whether something was asked for and nothing answered yet: it is being issued.
    pub fn awaits_its_first_answer(&self) -> bool {
        self.names.is_some() && self.sent.is_none()
    }

    fn answer(
        &mut self,
        identities: &Identities,
        names: &Names,
        nonce: Nonce,
    ) -> Result<Option<Message>, Denied> {
        self.looked_at = Some(identities.seen());
        let before = std::mem::take(&mut self.found);
        let asked = self.names.as_deref().unwrap_or_default();
        let resources = resolve(
            asked,
            identities,
            names,
            self.node.takes_spiffe_validator(names.config.disable_spiffe_validator),
        )
        .inspect_err(|_| self.refocused = true)?;
        self.found = resources.iter().map(Resource::generation).collect();
        self.refocused |= before.is_empty() != self.found.is_empty();
        if matches!(nonce, Nonce::Shared) && self.found == before && self.sent.is_some() {
            return Ok(None);
        }
        let message = match (&resources[..], nonce) {
            ([only], Nonce::Shared) if only.generation() > self.newest_generation => {
                let message = only.shared_message(names);
                if self.was_sent(&message) {
                    return Ok(None);
                }
                self.newest_generation = only.generation();
                message
            }
            _ => {
                let encoded: Vec<_> = resources.iter().map(|resource| resource.encoded(names)).collect();
                // Digits alone are generations, so these two kinds never meet.
                let message = compose(&encoded, &format!("s{}", self.own_nonces));
                if matches!(nonce, Nonce::Shared) && self.was_sent(&message) {
                    return Ok(None);
                }
                self.own_nonces += 1;
                message
            }
        };
        self.sent = Some(Sent { nonce: message.nonce.clone(), version: message.version.clone() });
        Ok(Some(message))
    }

    fn was_sent(&self, message: &Message) -> bool {
        self.sent.as_ref().is_some_and(|sent| sent.version == message.version)
    }
}

/// Whether a response may carry the nonce that it has on every other stream.
#[derive(Debug, Clone, Copy)]
enum Nonce {
    Shared,
    Own,
}

/// The resources for `asked`, which is sorted; everything the caller may have when it asked for nothing.
fn resolve<'a>(
    asked: &[String],
    identities: &'a Identities,
    names: &Names,
    validator: bool,
) -> Result<Vec<Resource<'a>>, Denied> {
    let bundle = |name| Resource::Bundle { issued: &identities.bundle, name, validator };
    if asked.is_empty() {
        let svids = identities.svids.iter();
        let svids = svids.map(|issued| Resource::Svid { issued, name: SvidName::SpiffeId });
        return Ok(std::iter::once(bundle(BundleName::TrustDomain)).chain(svids).collect());
    }
    let mut resources = Vec::with_capacity(asked.len());
    let mut unknown = vec![];
    for name in asked {
        match names.meaning(name) {
            Meaning::Bundle(BundleName::All) if !validator => return Err(Denied::NoValidator),
            Meaning::Bundle(name) => resources.push(bundle(name)),
            Meaning::Svid => match svid(name, identities, names) {
                Some(resource) => resources.push(resource),
                None => unknown.push(name.clone()),
            },
        }
    }
    if unknown.is_empty() || names.config.partial {
        return Ok(resources);
    }
    if identities.pending > 0 {
        return Err(Denied::Pending);
    }
    Err(Denied::NotAuthorized(unknown))
}

/// The first SVID by entry id that bears this SPIFFE ID, or the first of all for the default name.
fn svid<'a>(name: &str, identities: &'a Identities, names: &Names) -> Option<Resource<'a>> {
    if let Some(issued) = identities.svids.of(name) {
        return Some(Resource::Svid { issued, name: SvidName::SpiffeId });
    }
    let first = identities.svids.first().filter(|_| name == names.config.default_svid)?;
    Some(Resource::Svid { issued: first, name: SvidName::Default })
}

/// Sorted, without duplicates: the order in which names come means nothing in xDS.
fn normal(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names.dedup();
    names
}

/// Escaped, and so many that the client can read them: it chose them.
fn quoted(names: &[String]) -> String {
    let mut text = String::new();
    for (at, name) in names.iter().enumerate() {
        let name = format!("{name:?}");
        if text.len() + name.len() > MAX_QUOTED {
            return text + &format!("and {} more", names.len() - at);
        }
        text += &name;
        if at + 1 < names.len() {
            text.push(' ');
        }
    }
    text
}

#[cfg(test)]
mod tests;
