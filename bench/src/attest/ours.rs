//! Vouch's side of the comparison: its attestation, with its hooks, on a socket of this program. An agent does the
//! same with each connection that it accepts, and says nobody the selectors.

use std::{
    fs::{self, Permissions},
    os::unix::{fs::PermissionsExt as _, net::UnixListener},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use tokio::{runtime::Runtime, time::timeout};
use vouch::{
    attestation::{
        Attestor, AttestorConfig, DockerConfig, Error, Grade, PathRule, Peer, Selector, Witness,
        WitnessConfig, witnesses,
    },
    kernel::{Capture, Namespaces, Options},
};

use super::difference::Set;

/// An engine answers sooner.
const PATIENCE: Duration = Duration::from_secs(5);

/// An attestor as a running agent has it.
pub(super) struct Ours {
    listener: UnixListener,
    socket: PathBuf,
    capture: Option<Arc<Capture>>,
    attestor: Attestor,
    runtime: Runtime,
    /// Why the evidence is weaker than an agent with hooks has it.
    pub(super) without_hooks: Option<String>,
}

impl Ours {
    /// `docker` is the socket of an engine that is asked.
    pub(super) fn listen(directory: &Path, docker: Option<&Path>) -> Result<Self> {
        let (capture, without_hooks) = match Capture::attach(&Options::default()) {
            Ok((capture, _)) if capture.captures_connects() => (Some(Arc::new(capture)), None),
            Ok(_) => (None, Some("this kernel does not capture connects".to_owned())),
            Err(error) => (None, Some(error.problem().to_string())),
        };
        let host = capture.as_ref().and_then(|_| Namespaces::of_host().ok());
        let config = AttestorConfig {
            path: PathRule::Verified,
            hash_size_limit: u64::MAX,
            timeout: PATIENCE,
            in_flight: 1,
            in_flight_per_caller: 1,
            queued: 1,
            reserve: 0.0,
            rate: vouch::rate::Rate::new(1_000_000, 1_000_000),
            remembered: 1,
        };
        let attestor = Attestor::new(config, capture.clone(), host, docker.map_or_else(Vec::new, engine));
        attestor.want(vouch::attestation::Wanted { hash: true, parent: true });
        let socket = directory.join("ours.sock");
        let listener = UnixListener::bind(&socket)?;
        fs::set_permissions(&socket, Permissions::from_mode(0o777))?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        Ok(Self { listener, socket, capture, attestor, runtime, without_hooks })
    }

    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Who has connected.
    pub(super) fn accept(&self) -> Result<Arc<Peer>> {
        let (accepted, _) = self.listener.accept()?;
        Ok(Arc::new(Peer::of(&accepted, self.capture.as_deref(), Grade::Peercred)?))
    }

    pub(super) fn attest(&self, peer: &Arc<Peer>) -> Result<Set> {
        let selectors = self.runtime.block_on(async {
            let run = self.attestor.attest(peer).await?;
            let mut unheard = run.unheard();
            let answered = timeout(PATIENCE, unheard.wait_for(Vec::is_empty)).await.is_ok();
            Ok::<_, Error>((Arc::clone(&run.standing().borrow().selectors), answered))
        });
        let (selectors, answered) = selectors.context("attesting")?;
        ensure!(answered, "a witness did not answer within {PATIENCE:?}");
        let pair = |selector: &Selector| (selector.kind().to_owned(), selector.value().to_owned());
        Ok(selectors.iter().map(pair).collect())
    }
}

/// The engine's witness alone; with the environment, as SPIRE has it.
fn engine(socket: &Path) -> Vec<Arc<dyn Witness>> {
    let docker = DockerConfig {
        enabled: true,
        socket: socket.to_owned(),
        podman_socket: socket.with_file_name("no-podman.sock"),
        rootless_sockets: None,
        env: true,
    };
    let all = witnesses(&WitnessConfig { docker, systemd: false, slurm: false });
    all.into_iter().filter(|witness| witness.kind() == "docker").collect()
}
