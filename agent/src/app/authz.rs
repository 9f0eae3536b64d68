//! Authorization as the configuration wants it.

use std::{net::TcpListener, sync::Arc};

use tokio_util::sync::CancellationToken;

use super::{cannot_listen, parts::Parts, services};
use crate::{
    attestation::Grade,
    authz::{
        Authz, Listeners, OnError, PolicyFiles, PolicySettings, Settings, entrypoint, result::HeaderAppend,
    },
    caller::Callers,
    config::{self, Config, PolicyErrors, XfccMeaning},
    front::{self, BoundSocket},
    kernel::Capture,
    problem::Problem,
};

/// Policies that are read, and sockets where nobody is answered yet.
#[derive(Debug)]
pub(super) struct PreparedAuthz {
    authz: Authz,
    listeners: Listeners,
    /// Its path is removed with it.
    bound: Option<BoundSocket>,
}

/// Reads the policies and opens the sockets; `None` when there is no policy.
///
/// # Errors
/// A rule that cannot be named, a decision log or a socket that cannot be had. A policy that is bad is none: it denies.
pub(super) fn prepare(config: &Config) -> Result<Option<PreparedAuthz>, Problem> {
    if !config.authz.is_on() {
        return Ok(None);
    }
    let (_, connections) = services::connections(config);
    let authz = Authz::open(settings(&config.authz, connections)?)?;
    let (mut listeners, mut bound) = (Listeners::default(), None);
    if let Some(path) = &config.authz.socket {
        let (listener, socket) = front::bind(path, 0o777, false)?;
        (listeners.unix, bound) = (Some(listener), Some(socket));
    }
    for address in config.authz.listeners() {
        let listener = TcpListener::bind(address)
            .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
            .map_err(|error| {
                Problem::new("E0909", format!("authorization cannot be served at {address}"))
                    .why(error.to_string())
                    .fix("choose another address: [[authz.policies]] listeners")
            })?;
        listeners.tcp.push((address, listener));
    }
    Ok(Some(PreparedAuthz { authz, listeners, bound }))
}

impl PreparedAuthz {
    /// Begins to answer.
    pub(super) async fn serve(
        self,
        parts: &mut Parts,
        callers: Callers,
        capture: Option<Arc<Capture>>,
        minimum: Grade,
        stop: CancellationToken,
    ) -> Result<(Authz, Option<BoundSocket>), Problem> {
        let Self { authz, listeners, bound } = self;
        parts.spawn("the watch on the policies", authz.follow_files());
        let thread = authz.serve(listeners, callers, capture, minimum, stop).await;
        parts.spawn("the thread of authorization", thread.map_err(|error| cannot_listen(&error))?);
        Ok((authz, bound))
    }
}

fn settings(authz: &config::Authz, connections: usize) -> Result<Settings, Problem> {
    Ok(Settings {
        request: authz.request,
        body_depth: authz.body_depth,
        connections,
        on_error: match authz.errors {
            PolicyErrors::Deny => OnError::Deny,
            PolicyErrors::Grpc => OnError::Grpc,
        },
        header_append: match authz.header_append {
            config::HeaderAppend::Unset => HeaderAppend::Unset,
            config::HeaderAppend::Overwrite => HeaderAppend::Overwrite,
        },
        decision_log: authz.decision_log.clone(),
        masked_headers: authz.masked_headers.clone(),
        masked_fields: authz.masked_fields.clone(),
        remembered: authz.remembered,
        policies: authz.policies.iter().map(|one| policy(authz, one)).collect::<Result<_, _>>()?,
    })
}

fn policy(authz: &config::Authz, policy: &config::Policy) -> Result<PolicySettings, Problem> {
    Ok(PolicySettings {
        name: policy.name.clone(),
        files: PolicyFiles {
            files: policy.files.clone(),
            entrypoint: entrypoint(&policy.name, &policy.path)?,
            policy_size: authz.policy_size,
            data_size: authz.data_size,
            timeout: authz.timeout,
        },
        callers: policy.callers.clone(),
        listeners: policy.listeners.clone(),
        context_extensions: policy.context_extensions.clone(),
        xfcc_is_sanitized: policy.xfcc == XfccMeaning::SanitizeSet,
        spiffe: policy.spiffe,
        skip_request_body_parse: policy.skip_request_body_parse,
        dry_run: policy.dry_run,
    })
}
