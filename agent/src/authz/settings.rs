//! What an operator decides about authorization.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use super::{files::PolicyFiles, result::HeaderAppend};
use crate::spiffe::SpiffeId;

/// Sizes are in bytes.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Largest question.
    pub request: usize,
    /// How deep a JSON body may be nested.
    pub body_depth: usize,
    /// Connections, all together.
    pub connections: usize,
    pub on_error: OnError,
    pub header_append: HeaderAppend,
    pub decision_log: Option<PathBuf>,
    /// Lower case; beside the usual headers of credentials.
    pub masked_headers: Vec<String>,
    /// JSON pointers into an event of the decision log, below `/input` or `/result`.
    pub masked_fields: Vec<String>,
    /// Decisions that are remembered with what was asked.
    pub remembered: usize,
    pub policies: Vec<PolicySettings>,
}

/// One policy, and when it is the one that decides: all conditions have to hold, and an empty one always does.
#[derive(Debug, Clone)]
pub struct PolicySettings {
    pub name: String,
    pub files: PolicyFiles,
    /// The calling Envoy is attested as one of these.
    pub callers: Vec<SpiffeId>,
    /// Asked at one of these addresses; where there is none, at the socket.
    pub listeners: Vec<SocketAddr>,
    /// All of this is in the question's context extensions.
    pub context_extensions: BTreeMap<String, String>,
    /// The Envoy that asks wrote x-forwarded-client-cert itself.
    pub xfcc_is_sanitized: bool,
    /// Whether policies see `input.spiffe`.
    pub spiffe: bool,
    pub skip_request_body_parse: bool,
    /// What it denies is allowed, and taken down as denied.
    pub dry_run: bool,
}

#[cfg(test)]
impl PolicySettings {
    /// Without a condition.
    pub(super) fn of(name: &str, files: PolicyFiles) -> Self {
        Self {
            name: name.to_owned(),
            files,
            callers: vec![],
            listeners: vec![],
            context_extensions: BTreeMap::new(),
            xfcc_is_sanitized: false,
            spiffe: true,
            skip_request_body_parse: false,
            dry_run: false,
        }
    }
}

/// What an Envoy is told when a policy gives no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    /// No.
    Deny,
    /// An error of the call, which failure_mode_allow turns into a yes.
    Grpc,
}
