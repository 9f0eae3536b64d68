//! Who signs: the embedded CA, or an intermediate from files.

use std::time::{Duration, SystemTime};

use crate::spiffe::SpiffeId;

/// What is to be signed. Not about who asked: entitlement is decided before.
#[derive(Debug, Clone)]
pub struct SvidRequest {
    pub id: SpiffeId,
    pub dns_names: Vec<String>,
    /// `None` takes the authority's default.
    pub ttl: Option<Duration>,
    pub now: SystemTime,
}
