//! What needs root: hooks, sockets, the state directory. Afterwards the process gives up what it can.

use std::{net::TcpListener, os::unix::net::UnixListener, time::SystemTime};

use super::{hardening, pins};
use crate::{
    attestation::Grade,
    authority::{Authority, AuthorityConfig, AuthoritySource, IntermediateFiles, KeyType},
    config::{Config, Hooks, IssuerKind},
    front::{self, BoundSocket},
    kernel::{Capture, Error, EventSource, Namespaces, Options},
    problem::Problem,
};

/// An agent that holds everything it needs and serves nothing yet.
#[derive(Debug)]
pub struct Prepared {
    pub(super) config: Config,
    pub(super) authority: Authority,
    pub(super) capture: Option<(Capture, EventSource)>,
    /// Why there is no capture.
    pub(super) capture_problem: Option<Problem>,
    /// Why its hooks end with the agent.
    pub(super) unpinned: Option<Problem>,
    /// The host's namespaces, if the agent can see them.
    pub(super) host: Option<Namespaces>,
    pub(super) public: Vec<(UnixListener, BoundSocket)>,
    pub(super) admin: (UnixListener, BoundSocket),
    pub(super) metrics: Option<TcpListener>,
    #[cfg(feature = "authz")]
    pub(super) authz: Option<super::authz::PreparedAuthz>,
}

/// No core file, and no look into this process's memory for others of its uid. Comes before any key is read.
///
/// # Errors
/// E0754 when the kernel refuses.
pub fn hide_memory() -> Result<(), Problem> {
    hardening::hide_memory()
        .map_err(|error| Problem::new("E0754", "the process cannot hide its memory").why(error.to_string()))
}

/// Hides the process's memory, opens what needs root, and drops the capabilities that are not needed any more.
///
/// Call it while the process has one thread: capabilities belong to threads. The hooks are attached before a
/// socket is there to connect to, so every connection has a record.
///
/// # Errors
/// The first thing that cannot be had. Nothing is left behind.
pub fn prepare(config: Config) -> Result<Prepared, Problem> {
    hide_memory()?;
    match hardening::raise_descriptors() {
        Ok(limit) => tracing::debug!(limit, "descriptors"),
        Err(error) => tracing::warn!(%error, "the limit of descriptors stays as it is (W0722)"),
    }
    super::services::warn_of_few_descriptors(&config);
    let Attached { capture, capture_problem, unpinned } = attach(&config)?;
    check_grade(&config, capture.as_ref().map(|(capture, _)| capture))?;
    let authority = Authority::open(authority(&config), SystemTime::now())?;
    let mut public = vec![];
    for path in std::iter::once(&config.workload_api.socket).chain(&config.workload_api.also) {
        public.push(front::bind(path, 0o777, false)?);
    }
    let admin = front::bind(&config.admin.socket, 0o600, true)?;
    let metrics = config.telemetry.metrics.map(|address| {
        let listener =
            TcpListener::bind(address).and_then(|listener| listener.set_nonblocking(true).map(|()| listener));
        listener.map_err(|error| {
            Problem::new("E0308", format!("metrics cannot be served at {address}"))
                .why(error.to_string())
                .fix("choose another address: [telemetry] metrics, or --metrics; or switch them off: \"off\"")
        })
    });
    let metrics = metrics.transpose()?;
    #[cfg(feature = "authz")]
    let authz = super::authz::prepare(&config)?;
    // Only records of connects speak of namespaces.
    let host = capture.as_ref().and_then(|_| {
        let host = Namespaces::of_host().inspect_err(|error| {
            tracing::warn!(%error, "namespaces of the host are not known, so no selector names them (W0721)");
        });
        host.ok()
    });
    let kept = hardening::drop_capabilities(config.attest.docker.enabled && config.attest.docker.rootless)
        .map_err(|error| Problem::new("E0755", "capabilities cannot be dropped").why(error.to_string()))?;
    tracing::debug!(?kept, "capabilities");
    Ok(Prepared {
        config,
        authority,
        capture,
        capture_problem,
        unpinned,
        host,
        public,
        admin,
        metrics,
        #[cfg(feature = "authz")]
        authz,
    })
}

#[derive(Default)]
struct Attached {
    capture: Option<(Capture, EventSource)>,
    capture_problem: Option<Problem>,
    unpinned: Option<Problem>,
}

fn attach(config: &Config) -> Result<Attached, Problem> {
    if config.kernel.hooks == Hooks::Off {
        return Ok(Attached::default());
    }
    let (pins, mut unpinned) = match pins::directory(config) {
        Ok(directory) => (directory, None),
        Err(excuse) => (None, Some(excuse)),
    };
    // All others need not pay for it.
    let tcp = config.authz.has_listeners();
    let mut options = Options { ring_bytes: config.kernel.ring, pins, tcp, ..Options::default() };
    let mut attached = Capture::attach(&options);
    if let Some(excuse) = attached.as_ref().err().and_then(|error| pins::excuse(config, error)) {
        (options.pins, unpinned) = (None, Some(excuse));
        attached = Capture::attach(&options);
    }
    if let Some(excuse) = &unpinned {
        tracing::warn!(why = excuse.why, "{} ({})", excuse.title, excuse.code);
    }
    match attached {
        Ok((capture, _)) if config.kernel.hooks == Hooks::Require && !capture.captures_connects() => {
            Err(Problem::new("E0756", "connects cannot be captured, and [kernel] hooks = \"require\"")
                .why("the hooks of Unix sockets need Linux 6.7 and CAP_NET_ADMIN")
                .fix("start with hooks = \"auto\" to run with weaker evidence"))
        }
        Ok(capture) => Ok(Attached { capture: Some(capture), capture_problem: None, unpinned }),
        // What lies in the way of pins is for somebody to look at, whatever the agent could do without.
        Err(error @ Error::Pins(_)) => Err(error.problem()),
        Err(error) if config.kernel.hooks == Hooks::Require => Err(error.problem()),
        Err(error) => {
            let problem = error.problem();
            tracing::warn!("{problem}");
            Ok(Attached { capture: None, capture_problem: Some(problem), unpinned: None })
        }
    }
}

/// An agent that would refuse everybody says so before it starts.
fn check_grade(config: &Config, capture: Option<&Capture>) -> Result<(), Problem> {
    let grade = match capture {
        Some(capture) if capture.captures_connects() => Grade::Kernel,
        _ => Grade::best_without_hooks(),
    };
    let minimum = super::services::minimum(config);
    if grade < minimum {
        return Err(Problem::new(
            "E0757",
            format!("evidence of grade {grade} is all that this node can give"),
        )
        .why(format!("[attest] minimum = \"{minimum}\" would refuse every caller"))
        .fix("start as root with [kernel] hooks = \"auto\" on Linux 6.7 or later, or lower the minimum"));
    }
    Ok(())
}

fn authority(config: &Config) -> AuthorityConfig {
    let source = match &config.issuer.kind {
        IssuerKind::Embedded { ca_ttl } => {
            AuthoritySource::Embedded { state_dir: config.state_dir.clone(), ca_ttl: *ca_ttl }
        }
        IssuerKind::Intermediate { certificate, key, roots } => {
            AuthoritySource::Intermediate(IntermediateFiles {
                certificate: certificate.clone(),
                key: key.clone(),
                roots: roots.clone(),
            })
        }
    };
    AuthorityConfig {
        trust_domain: config.trust_domain.clone(),
        svid_ttl: config.issuer.svid_ttl,
        key_type: match config.issuer.key_type {
            crate::config::KeyType::EcP256 => KeyType::EcP256,
            crate::config::KeyType::EcP384 => KeyType::EcP384,
            crate::config::KeyType::Rsa2048 => KeyType::Rsa2048,
        },
        source,
    }
}
