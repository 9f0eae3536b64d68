//! The admin socket: what the operator's commands ask.

mod examine;
mod explain;

use std::{
    fmt,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use tonic::{Request, Response, Status, transport::server::UdsConnectInfo};
use vouch_proto::admin::{
    Authority, Entry, ExamineRequest, ExamineResponse, ExplainRequest, ExplainResponse, GetCheckRequest,
    GetCheckResponse, Hook, ListEntriesRequest, ListEntriesResponse, Policy, RotateSvidsRequest,
    RotateSvidsResponse, StatusRequest, StatusResponse, admin_server::Admin, explain_request::About,
};

#[cfg(feature = "authz")]
use crate::authz::{Authz, PolicyStatus};
use crate::{
    attestation::Selector,
    health::{Node, warning_fact},
    kernel::HookState,
    registration::{EntryId, RegistrationEntry, lint},
    svid::{RotateError, Target},
};

/// Answers root and the agent's own user; the socket's directory keeps others away as well.
#[derive(Debug, Clone)]
pub struct AdminApi {
    pub node: Arc<Node>,
}

#[tonic::async_trait]
impl Admin for AdminApi {
    async fn status(&self, request: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        check_caller(&request)?;
        Ok(Response::new(status(&self.node, SystemTime::now())))
    }

    async fn list_entries(
        &self,
        request: Request<ListEntriesRequest>,
    ) -> Result<Response<ListEntriesResponse>, Status> {
        check_caller(&request)?;
        let (index, svids) = (self.node.entries.current(), self.node.svids.snapshot());
        let derived = svids.svids.values().map(|issued| &issued.entry);
        let derived = derived.filter(|entry| entry.derived_from.is_some());
        let written = index.iter().chain(derived).map(|entry| listed(entry));
        let mut entries: Vec<Entry> = written.chain(index.templates().map(|entry| listed(entry))).collect();
        for entry in &mut entries {
            let held = svids.svids.get(&EntryId::new(entry.id.as_str()));
            entry.svid_not_after = held.map_or(0, |issued| seconds(issued.svid.not_after));
        }
        entries.sort_by(|a, b| a.id.cmp(&b.id));
        let found = lint(&index, SystemTime::now(), self.node.surroundings());
        let lint = self.node.entries.warnings().iter().chain(&found).map(warning_fact).collect();
        Ok(Response::new(ListEntriesResponse { entries, lint }))
    }

    async fn explain(&self, request: Request<ExplainRequest>) -> Result<Response<ExplainResponse>, Status> {
        check_caller(&request)?;
        let (node, request) = (Arc::clone(&self.node), request.into_inner());
        let described = match request.about {
            Some(About::Pid(pid)) => node.front.callers.attestor.describe(pid).await,
            _ => None,
        };
        let work = move || explain::explain(&node, &request, described, SystemTime::now());
        off_the_async_threads(work).await?.map(Response::new)
    }

    async fn examine(&self, request: Request<ExamineRequest>) -> Result<Response<ExamineResponse>, Status> {
        check_caller(&request)?;
        let node = Arc::clone(&self.node);
        let checks = off_the_async_threads(move || examine::examine(&node, SystemTime::now())).await?;
        Ok(Response::new(ExamineResponse { checks }))
    }

    async fn get_check(
        &self,
        request: Request<GetCheckRequest>,
    ) -> Result<Response<GetCheckResponse>, Status> {
        check_caller(&request)?;
        check_of(&self.node, &request.into_inner()).map(Response::new)
    }

    async fn rotate_svids(
        &self,
        request: Request<RotateSvidsRequest>,
    ) -> Result<Response<RotateSvidsResponse>, Status> {
        check_caller(&request)?;
        let target = match request.into_inner().spiffe_id.as_str() {
            "" => Target::All,
            id => Target::Id(id.parse().map_err(|error| Status::invalid_argument(format!("{id}: {error}")))?),
        };
        let rotated = self.node.svids.rotate(target).await.map_err(|error| not_rotated(&error))?;
        Ok(Response::new(RotateSvidsResponse { rotated: rotated as u64 }))
    }
}

fn not_remembered(request: &GetCheckRequest) -> Status {
    Status::not_found(format!("decision {} is not remembered", request.decision))
}

#[cfg(not(feature = "authz"))]
fn check_of(_: &Node, request: &GetCheckRequest) -> Result<GetCheckResponse, Status> {
    Err(not_remembered(request))
}

#[cfg(feature = "authz")]
fn check_of(node: &Node, request: &GetCheckRequest) -> Result<GetCheckResponse, Status> {
    let unknown = || not_remembered(request);
    let authz = node.authz.as_ref().ok_or_else(unknown)?;
    let id = request.decision.parse().map_err(|_| unknown())?;
    let record = authz.record(id).ok_or_else(unknown)?;
    let input = record.input.as_ref().filter(|_| request.unmasked_input);
    let input_json = input.map(|input| input.to_json_str()).transpose();
    Ok(GetCheckResponse {
        event_json: record.event(authz.mask()).to_string(),
        policy: record.policy.as_ref().map(|decider| decider.name.clone()).unwrap_or_default(),
        input_json: input_json.map_err(|error| Status::internal(error.to_string()))?.unwrap_or_default(),
    })
}

async fn off_the_async_threads<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Status> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| Status::unavailable("the agent is stopping"))
}

fn not_rotated(error: &RotateError) -> Status {
    match error {
        RotateError::Unknown(_) => Status::not_found(error.to_string()),
        RotateError::Failed { .. } => Status::failed_precondition(error.to_string()),
        RotateError::Stopping => Status::unavailable(error.to_string()),
    }
}

fn check_caller<T>(request: &Request<T>) -> Result<(), Status> {
    let caller = request.extensions().get::<UdsConnectInfo>().and_then(|info| info.peer_cred);
    match caller {
        Some(caller) if caller.uid() == 0 || caller.uid() == nix::unistd::geteuid().as_raw() => Ok(()),
        _ => Err(Status::permission_denied("only root and the agent's own user may use the admin socket")),
    }
}

fn status(node: &Node, now: SystemTime) -> StatusResponse {
    let svids = node.svids.stats();
    let counters = node.capture.as_ref().and_then(|capture| capture.counters().ok());
    StatusResponse {
        version: env!("CARGO_PKG_VERSION").into(),
        trust_domain: node.trust_domain.to_string(),
        pid: std::process::id(),
        started_at: seconds(node.started_at),
        grade: node.grade().to_string(),
        minimum_grade: node.front.minimum.to_string(),
        hooks: node.capture.iter().flat_map(|capture| capture.hooks()).map(hook).collect(),
        authority: Some(Authority {
            kind: node.issuer.into(),
            not_after: seconds(node.authority.expires()),
            bundle_authorities: u32::try_from(node.authority.bundle().x509_authorities.len())
                .unwrap_or(u32::MAX),
        }),
        entries: node.entries.current().len() as u64,
        svids: svids.held as u64,
        earliest_expiry: svids.first_expiry.map_or(0, seconds),
        connections: count(node.front.metrics.connections.get()),
        sds_streams: count(node.front.sds.metrics.streams.get()),
        workload_api_streams: count(node.workload_api.streams.get()),
        nacks: node.front.sds.metrics.nacks.get(),
        sockets: node.sockets.iter().map(|path| format!("unix://{}", path.display())).collect(),
        facts: node.facts(now),
        processes: node.processes.as_ref().map_or(0, |processes| processes.counters().size as u64),
        lost_events: counters.map_or(0, |counters| counters.events_lost),
        policies: policies(node),
    }
}

#[cfg(not(feature = "authz"))]
fn policies(_: &Node) -> Vec<Policy> {
    vec![]
}

#[cfg(feature = "authz")]
fn policies(node: &Node) -> Vec<Policy> {
    let shown = |policy: PolicyStatus| {
        let (revision, at) = policy.loaded.unzip();
        Policy {
            name: policy.name,
            revision: revision.unwrap_or_default(),
            loaded_at: at.map_or(0, seconds),
            dry_run: policy.dry_run,
            warnings: u32::try_from(policy.warnings.len()).unwrap_or(u32::MAX),
            first_warning: policy.warnings.into_iter().next().unwrap_or_default(),
        }
    };
    node.authz.iter().flat_map(Authz::policies).map(shown).collect()
}

fn hook(hook: &crate::kernel::Hook) -> Hook {
    let (state, reason) = match &hook.state {
        HookState::Attached => ("attached", String::new()),
        HookState::Off(reason) => ("off", reason.clone()),
    };
    Hook { name: hook.name.to_string(), state: state.into(), reason }
}

fn listed<N: fmt::Display>(entry: &RegistrationEntry<N>) -> Entry {
    let texts = |selectors: &[Selector]| selectors.iter().map(ToString::to_string).collect();
    Entry {
        id: entry.id.to_string(),
        spiffe_id: entry.spiffe_id.to_string(),
        selectors: texts(&entry.selectors),
        exclude: texts(&entry.exclude),
        attested_by: entry.attested_by.iter().map(ToString::to_string).collect(),
        x509_svid_ttl: entry.x509_svid_ttl.map_or(0, |ttl| ttl.as_secs()),
        dns_names: entry.dns_names.clone(),
        hint: entry.hint.clone(),
        expires_at: entry.expires_at.map_or(0, seconds),
        svid_not_after: 0,
        derived_from: entry.derived_from.as_ref().map(ToString::to_string).unwrap_or_default(),
    }
}

fn count(gauge: i64) -> u64 {
    u64::try_from(gauge).unwrap_or(0)
}

fn seconds(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs().try_into().unwrap_or(i64::MAX))
}
