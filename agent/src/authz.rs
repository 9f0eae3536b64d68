//! External authorization for Envoy (`envoy.service.auth.v3`): requests are judged by Rego policies, with the input and
//! the results that policies written for OPA-Envoy know.
//!
//! A question goes through `serve` (who asks), `policies` (which policy decides), `input` and `spiffe` (what it is told),
//! `rego` (what it says) and `result` (what Envoy is told); `check` leads it.

mod asker;
mod check;
mod digits;
mod files;
mod id;
/// What a policy is asked about.
pub mod input;
mod log;
mod mask;
mod metrics;
mod object;
/// Parts of documents.
pub mod parts;
mod policies;
mod policy;
mod question;
mod record;
/// Rego policies: compiled with a gate, evaluated within limits.
pub mod rego;
/// What a policy says, and what Envoy is told.
pub mod result;
mod serve;
mod settings;
mod spiffe;
/// What hops say of their clients: the header `x-forwarded-client-cert`.
pub mod xfcc;

use std::{io, sync::Arc};

use regorus::Value;
use tokio_util::sync::CancellationToken;

pub use files::PolicyFiles;
pub use id::{CheckId, NoCheckId};
pub use mask::Mask;
pub use metrics::{Answered, Metrics};
pub use policies::PolicyStatus;
pub use record::{Decider, Record};
pub use serve::Listeners;
pub use settings::{OnError, PolicySettings, Settings};

use crate::{attestation::Grade, caller::Callers, kernel::Capture, problem::Problem};
use check::Judge;
use log::DecisionLog;
use policies::Policies;
use rego::{BadEntrypoint, Entrypoint};
use serve::Door;

/// Of every thread that evaluates: policies may be nested deeply, and evaluation follows them.
const STACK: usize = 16 << 20;

/// Everything that answers Envoys' questions. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Authz {
    judge: Arc<Judge>,
    mask: Arc<Mask>,
}

impl Authz {
    /// Reads all policies. One that is bad is reported, and denies until it is mended.
    ///
    /// # Errors
    /// E0906 when the decision log cannot be opened.
    pub fn open(settings: Settings) -> Result<Self, Problem> {
        let (settings, metrics) = (Arc::new(settings), Metrics::default());
        let mask = Mask::new(&settings.masked_headers, &settings.masked_fields);
        let log = settings.decision_log.as_ref();
        let log = log.map(|path| DecisionLog::open(path, mask.clone(), metrics.clone())).transpose()?;
        let policies = Policies::open(&settings, metrics.clone());
        let judge = Arc::new(Judge::new(policies, settings, log, metrics));
        Ok(Self { judge, mask: Arc::new(mask) })
    }

    /// Answers until `stop`, on a thread of its own; the future ends with it.
    ///
    /// # Errors
    /// When the thread, its event loop or a listener on it cannot be had.
    pub async fn serve(
        &self,
        listeners: Listeners,
        callers: Callers,
        capture: Option<Arc<Capture>>,
        minimum: Grade,
        stop: CancellationToken,
    ) -> io::Result<impl Future<Output = ()> + Send + 'static + use<>> {
        Door::new(Arc::clone(&self.judge), callers, capture, minimum).serve(listeners, stop).await
    }

    /// Keeps the policies as their files say. Never returns.
    pub fn follow_files(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        Arc::clone(&self.judge.policies).follow()
    }

    pub fn metrics(&self) -> &Metrics {
        &self.judge.metrics
    }

    pub fn policies(&self) -> Vec<PolicyStatus> {
        self.judge.policies.status()
    }

    /// One of the last answers.
    pub fn record(&self, id: CheckId) -> Option<Record> {
        self.judge.records.get(id)
    }

    /// What of it may be shown.
    pub fn mask(&self) -> &Mask {
        &self.mask
    }
}

/// The rule that `path` of a policy names.
///
/// # Errors
/// E0910 when it names none.
pub fn entrypoint(policy: &str, path: &str) -> Result<Entrypoint, Problem> {
    path.parse().map_err(|error: BadEntrypoint| {
        Problem::new("E0910", format!("policy {policy}: `path` names no rule: {error}"))
            .fix("write package and rule, such as path = \"envoy/authz/allow\"")
    })
}

/// An object with these fields.
fn object(fields: impl IntoIterator<Item = (&'static str, Value)>) -> Value {
    let mut object = Value::new_object();
    if let Ok(map) = object.as_object_mut() {
        map.extend(fields.into_iter().map(|(key, value)| (Value::from(key), value)));
    }
    object
}
