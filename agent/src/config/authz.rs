//! External authorization: which policies there are, for whom, and within which bounds.

use std::{
    collections::{BTreeMap, HashSet},
    net::SocketAddr,
    path::PathBuf,
    time::Duration,
};

use serde::Deserialize;
use toml::{Spanned, Value};

use super::{
    check::{Checker, flag, flag_or, or},
    raw::Setting,
    show::{Page, duration, path, paths, quoted, word},
    values::format_size,
    words::{HEADER_APPENDS, OFF, POLICY_ERRORS, XFCC_MEANINGS},
};
use crate::{problem::Problem, spiffe::SpiffeId};

const SOCKET: &str = "/run/vouch/authz/authz.sock";
const PATH: &str = "envoy/authz/allow";
/// Most policies of one agent.
const MAX_POLICIES: usize = 256;
/// Most values in a list of a policy.
const MAX_LIST: usize = 64;
const MAX_NAME: usize = 64;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a section")]
pub(super) struct RawAuthz {
    /// Path of the socket where Envoys ask for authorization; it is there as soon as there is a policy. "off" for none,
    /// when each policy has listeners of its own. Default: "/run/vouch/authz/authz.sock".
    pub(super) socket: Setting<String>,
    /// Largest question: "1KiB" to "64MiB". Default: "4MiB".
    pub(super) request: Setting<String>,
    /// How deep a JSON body of a request may be nested before the request is refused: 1 to 1024. Default: 128.
    pub(super) body_depth: Setting<i64>,
    /// How long one evaluation may take; then the answer is no: "1ms" to "10s". Default: "100ms".
    pub(super) timeout: Setting<String>,
    /// Connections, all together. Default: 1024.
    pub(super) connections: Setting<i64>,
    /// Largest policy, all its files together: "1KiB" to "64MiB". Default: "1MiB".
    pub(super) policy_size: Setting<String>,
    /// Largest data of a policy, all its JSON and YAML files together: "1KiB" to "64MiB". Default: "4MiB".
    pub(super) data_size: Setting<String>,
    /// What an Envoy is told when a policy gives no answer (an error, nothing, something that is no decision): "deny", or
    /// "grpc", an error of the call, which Envoy's failure_mode_allow turns into a yes. Default: "deny".
    pub(super) errors: Setting<String>,
    /// How headers of a policy meet those of a request: "unset", as Envoy takes it, or "overwrite". Default: "unset".
    pub(super) header_append: Setting<String>,
    /// File to which each decision is appended as a line of JSON, or "off". Default: "off".
    pub(super) decision_log: Setting<String>,
    /// Headers whose values no log and no explanation shows, beside authorization, cookie, proxy-authorization and
    /// set-cookie. Default: [].
    pub(super) masked_headers: Setting<Vec<Spanned<String>>>,
    /// Further parts of a decision that no log and no explanation shows, as JSON pointers that begin with /input or /result,
    /// such as "/input/attributes/metadataContext". Default: [].
    pub(super) masked_fields: Setting<Vec<Spanned<String>>>,
    /// Decisions that `vouch explain` and `vouch policy eval` remember with what was asked. Default: 256.
    pub(super) remembered: Setting<i64>,
    /// The first whose conditions all hold decides; where none does, the answer is no.
    pub(super) policies: Vec<RawPolicy>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a policy")]
pub(super) struct RawPolicy {
    /// What it is called in logs and metrics: letters, digits, `-`, `_` and `.`. Required.
    pub(super) name: Setting<String>,
    /// Files in Rego, or of data in JSON or YAML, and folders of them; read again when they change. Required.
    pub(super) files: Setting<Vec<Spanned<String>>>,
    /// The rule that decides, package and name. Default: "envoy/authz/allow".
    pub(super) path: Setting<String>,
    /// Condition: the calling Envoy is attested as one of these SPIFFE IDs. Default: [], whoever calls.
    pub(super) callers: Setting<Vec<Spanned<String>>>,
    /// Condition: asked at one of these loopback addresses, which are listened on for it. Default: [], at the socket.
    pub(super) listeners: Setting<Vec<Spanned<String>>>,
    /// Condition: the Envoy says all of this in its context_extensions. Default: {}.
    pub(super) context_extensions: BTreeMap<String, String>,
    /// What x-forwarded-client-cert is worth: "claimed", or "sanitize_set", when every listener that asks sets it itself
    /// (forward_client_cert_details: SANITIZE_SET). Default: "claimed".
    pub(super) xfcc: Setting<String>,
    /// Whether input.spiffe is there. Default: true.
    pub(super) spiffe: Setting<bool>,
    /// Leave bodies unread, as OPA-Envoy's skip-request-body-parse. Default: false.
    pub(super) skip_request_body_parse: Setting<bool>,
    /// Take down what it decides, and allow everything. Default: false.
    pub(super) dry_run: Setting<bool>,
}

/// External authorization. Sizes are in bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Authz {
    /// `None`: no socket, and policies are asked at their listeners alone.
    pub socket: Option<PathBuf>,
    pub request: usize,
    pub body_depth: usize,
    pub timeout: Duration,
    pub connections: usize,
    pub policy_size: usize,
    pub data_size: usize,
    pub errors: PolicyErrors,
    pub header_append: HeaderAppend,
    pub decision_log: Option<PathBuf>,
    /// Lower case.
    pub masked_headers: Vec<String>,
    /// JSON pointers, below `/input` or `/result`.
    pub masked_fields: Vec<String>,
    pub remembered: usize,
    pub policies: Vec<Policy>,
}

/// What is judged by which rule. All conditions have to hold; an empty one always does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    pub name: String,
    pub files: Vec<PathBuf>,
    pub path: String,
    pub callers: Vec<SpiffeId>,
    /// Loopback addresses.
    pub listeners: Vec<SocketAddr>,
    pub context_extensions: BTreeMap<String, String>,
    pub xfcc: XfccMeaning,
    pub spiffe: bool,
    pub skip_request_body_parse: bool,
    pub dry_run: bool,
}

/// What becomes of a question that a policy does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyErrors {
    Deny,
    Grpc,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderAppend {
    Unset,
    Overwrite,
}

/// What x-forwarded-client-cert is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XfccMeaning {
    /// Whoever sent the request may have written it.
    Claimed,
    /// The Envoy that asks wrote it.
    SanitizeSet,
}

impl Authz {
    /// Every address that is listened on, each once.
    pub fn listeners(&self) -> Vec<SocketAddr> {
        let mut addresses: Vec<_> =
            self.policies.iter().flat_map(|policy| &policy.listeners).copied().collect();
        addresses.sort();
        addresses.dedup();
        addresses
    }

    /// Whether somebody may ask over TCP.
    pub fn has_listeners(&self) -> bool {
        self.policies.iter().any(|policy| !policy.listeners.is_empty())
    }

    /// Whether anything is served.
    pub fn is_on(&self) -> bool {
        !self.policies.is_empty()
    }
}

impl Checker<'_> {
    pub(super) fn authz(&self, raw: &RawAuthz) -> Result<Authz, Problem> {
        let size = |key: &str, setting: &Setting<String>, default: u64| {
            // The bound is far below what a usize holds.
            self.size(key, setting, default, 1 << 10..=64 << 20).map(|size| size as usize)
        };
        let path_or_off = |key: &str, text: &Spanned<String>| match text.get_ref().as_str() {
            OFF => Ok(None),
            _ => self.path(key, text).map(Some),
        };
        let socket = or(&raw.socket, SOCKET);
        if socket.get_ref() != OFF {
            self.socket("socket", &socket)?;
        }
        let (least, most) = (Duration::from_millis(1), Duration::from_secs(10));
        Ok(Authz {
            socket: path_or_off("socket", &socket)?,
            request: size("request", &raw.request, 4 << 20)?,
            body_depth: self.count_to(1024, "body_depth", &raw.body_depth, 128)?,
            timeout: self.duration("timeout", &raw.timeout, Duration::from_millis(100), least..=most)?,
            connections: self.count("connections", &raw.connections, 1024)?,
            policy_size: size("policy_size", &raw.policy_size, 1 << 20)?,
            data_size: size("data_size", &raw.data_size, 4 << 20)?,
            errors: self.word("errors", &raw.errors, POLICY_ERRORS, PolicyErrors::Deny)?,
            header_append: self.word(
                "header_append",
                &raw.header_append,
                HEADER_APPENDS,
                HeaderAppend::Unset,
            )?,
            decision_log: path_or_off("decision_log", &or(&raw.decision_log, OFF))?,
            masked_headers: self.masked_headers(&raw.masked_headers)?,
            masked_fields: self.masked_fields(&raw.masked_fields)?,
            remembered: self.count("remembered", &raw.remembered, 256)?,
            policies: self.policies(&raw.policies, socket.get_ref() == OFF)?,
        })
    }

    fn masked_headers(&self, setting: &Setting<Vec<Spanned<String>>>) -> Result<Vec<String>, Problem> {
        let list = self.list("masked_headers", setting)?;
        Ok(list.iter().map(|name| name.get_ref().to_ascii_lowercase()).collect())
    }

    fn masked_fields(&self, setting: &Setting<Vec<Spanned<String>>>) -> Result<Vec<String>, Problem> {
        let pointer = |text: &Spanned<String>| {
            match is_pointer_into_a_decision(text.get_ref()) {
            true => Ok(text.get_ref().clone()),
            false => Err(self
                .problem("E0107", "`masked_fields` takes JSON pointers that begin with /input or /result", text)
                .fix("write such as \"/input/attributes/metadataContext\"; in a name ~1 is a slash and ~0 a tilde")),
        }
        };
        self.list("masked_fields", setting)?.iter().map(pointer).collect()
    }

    fn policies(&self, raw: &[RawPolicy], without_socket: bool) -> Result<Vec<Policy>, Problem> {
        if raw.len() > MAX_POLICIES {
            return Err(Problem::new("E0108", format!("more than {MAX_POLICIES} policies")));
        }
        let mut names = HashSet::new();
        let mut policies = Vec::new();
        for raw in raw {
            let policy = self.policy(raw)?;
            let Some(name) = &raw.name else { unreachable!("a policy has a name") };
            if !cfg!(feature = "authz") {
                return Err(self
                    .problem("E0111", "external authorization is not supported by this build", name)
                    .fix("build with: cargo build --release -p vouch --features authz"));
            }
            if !names.insert(policy.name.clone()) {
                let title = format!("two policies are named {:?}", policy.name);
                return Err(self.contradiction(title, name).fix("give each a name of its own"));
            }
            if without_socket && policy.listeners.is_empty() {
                return Err(self
                    .contradiction(
                        "nobody can ask this policy: socket = \"off\", and it has no listener",
                        name,
                    )
                    .fix("give it one, such as listeners = [\"127.0.0.1:9191\"]"));
            }
            policies.push(policy);
        }
        Ok(policies)
    }

    fn policy(&self, raw: &RawPolicy) -> Result<Policy, Problem> {
        let name = self.policy_name(raw)?;
        let files = self.list("files", &raw.files)?;
        if files.is_empty() {
            return Err(self
                .problem("E0103", "`files` of the policy is missing", name)
                .fix(format!("name its Rego: files = [\"{}.rego\"]", name.get_ref())));
        }
        let listeners: Result<Vec<_>, _> =
            self.list("listeners", &raw.listeners)?.iter().map(|text| self.listener(text)).collect();
        let callers = self.list("callers", &raw.callers)?.iter().map(|text| {
            text.get_ref().parse().map_err(|error| {
                self.problem("E0107", format!("`callers` takes SPIFFE IDs: {error}"), text)
                    .fix("write an ID such as \"spiffe://example.org/ec-backend\"")
            })
        });
        if raw.context_extensions.len() > MAX_LIST {
            return Err(self.out_of_bounds("context_extensions", &format!("up to {MAX_LIST} pairs"), name));
        }
        Ok(Policy {
            name: name.get_ref().clone(),
            files: files.iter().map(|text| self.path("files", text)).collect::<Result<_, _>>()?,
            path: or(&raw.path, PATH).into_inner(),
            callers: callers.collect::<Result<_, _>>()?,
            listeners: listeners?,
            context_extensions: raw.context_extensions.clone(),
            xfcc: self.word("xfcc", &raw.xfcc, XFCC_MEANINGS, XfccMeaning::Claimed)?,
            spiffe: flag_or(&raw.spiffe, true),
            skip_request_body_parse: flag(&raw.skip_request_body_parse),
            dry_run: flag(&raw.dry_run),
        })
    }

    fn policy_name<'r>(&self, raw: &'r RawPolicy) -> Result<&'r Spanned<String>, Problem> {
        let Some(name) = &raw.name else {
            return Err(Problem::new("E0103", "`name` of a policy is missing")
                .why("logs and metrics speak of it by that name")
                .fix("write one into each [[authz.policies]]"));
        };
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let text = name.get_ref();
        if text.is_empty() || text.len() > MAX_NAME || !text.chars().all(is_plain) {
            return Err(self
                .problem("E0107", "`name` is not the name of a policy", name)
                .fix(format!("write up to {MAX_NAME} letters, digits, `-`, `_` and `.`")));
        }
        Ok(name)
    }

    fn listener(&self, text: &Spanned<String>) -> Result<SocketAddr, Problem> {
        let address: Option<SocketAddr> = text.get_ref().parse().ok();
        match address.filter(|address| address.port() != 0) {
            None => Err(self
                .problem("E0107", "`listeners` takes addresses with a port", text)
                .fix("write such as \"127.0.0.1:9191\"")),
            Some(address) if address.ip().is_loopback() => Ok(address),
            Some(_) => Err(self
                .problem("E0112", "`listeners` may only be loopback addresses", text)
                .why("what is asked there is neither encrypted nor asks who reads it")
                .fix("write such as \"127.0.0.1:9191\"")),
        }
    }

    fn list<'r>(
        &self,
        key: &str,
        setting: &'r Setting<Vec<Spanned<String>>>,
    ) -> Result<&'r [Spanned<String>], Problem> {
        match setting {
            None => Ok(&[]),
            Some(list) if list.get_ref().len() <= MAX_LIST => Ok(list.get_ref()),
            Some(list) => Err(self.out_of_bounds(key, &format!("up to {MAX_LIST} values"), list)),
        }
    }
}

/// Source: RFC 6901 §3. A name that is empty is taken for a slip.
fn is_pointer_into_a_decision(text: &str) -> bool {
    let Some(below) = text.strip_prefix('/') else { return false };
    let mut names = below.split('/');
    let is_name =
        |name: &str| !name.is_empty() && name.split('~').skip(1).all(|escape| escape.starts_with(['0', '1']));
    matches!(names.next(), Some("input" | "result")) && names.all(is_name)
}

impl Page {
    pub(super) fn authz(&mut self, authz: &Authz) {
        let or_off = |path_: &Option<PathBuf>| path_.as_ref().map_or_else(|| quoted(OFF), |set| path(set));
        self.section("authz");
        self.key("socket", or_off(&authz.socket));
        self.key("request", quoted(&format_size(authz.request as u64)));
        self.key("body_depth", authz.body_depth);
        self.key("timeout", duration(authz.timeout));
        self.key("connections", authz.connections);
        self.key("policy_size", quoted(&format_size(authz.policy_size as u64)));
        self.key("data_size", quoted(&format_size(authz.data_size as u64)));
        self.key("errors", word(POLICY_ERRORS, authz.errors));
        self.key("header_append", word(HEADER_APPENDS, authz.header_append));
        self.key("decision_log", or_off(&authz.decision_log));
        self.key("masked_headers", texts(&authz.masked_headers));
        self.key("masked_fields", texts(&authz.masked_fields));
        self.key("remembered", authz.remembered);
        authz.policies.iter().for_each(|policy| self.policy(policy));
    }

    fn policy(&mut self, policy: &Policy) {
        self.list_item("authz.policies");
        self.key("name", quoted(&policy.name));
        self.key("files", paths(&policy.files));
        self.key("path", quoted(&policy.path));
        self.key("callers", texts(&policy.callers));
        self.key("listeners", texts(&policy.listeners));
        let extensions: toml::Table =
            policy.context_extensions.iter().map(|(key, value)| (key.clone(), quoted(value))).collect();
        self.key("context_extensions", Value::Table(extensions));
        self.key("xfcc", word(XFCC_MEANINGS, policy.xfcc));
        self.key("spiffe", policy.spiffe);
        self.key("skip_request_body_parse", policy.skip_request_body_parse);
        self.key("dry_run", policy.dry_run);
    }
}

fn texts(list: &[impl ToString]) -> Value {
    Value::Array(list.iter().map(|item| quoted(&item.to_string())).collect())
}

#[cfg(test)]
mod tests;
