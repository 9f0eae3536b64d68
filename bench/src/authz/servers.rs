//! Who answers: agents with policies, and the floor.

use std::{
    ffi::OsStr,
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use super::{
    endpoint::Endpoint,
    mesh::{self, Service, Syntax},
    question::SERVICE,
};
use crate::{
    child::{Directory, Tended},
    process::Process,
};

/// For each service, and for metrics.
type Addresses = [SocketAddr; Service::ALL.len() + 1];

const START_LIMIT: Duration = Duration::from_secs(20);

/// How processes are started.
#[derive(Debug, Clone)]
pub(crate) struct How {
    pub(crate) agent: PathBuf,
    pub(crate) hooks: String,
    /// Before everything that niceness tells apart; see sched(7).
    pub(crate) is_real_time: bool,
}

impl How {
    pub(crate) fn command(&self, program: &Path) -> Command {
        if !self.is_real_time {
            return Command::new(program);
        }
        let mut command = Command::new("chrt");
        command.args(["--fifo", "10"].map(OsStr::new)).arg(program);
        command
    }
}

/// What an agent is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// No policies.
    Idle,
    /// The mesh's policies at the socket, told apart by what an Envoy says.
    Mesh,
    /// The same, and each decision in the log.
    MeshLogged,
    /// The same at four addresses, told apart by them.
    MeshTcp,
    /// One policy, which is replaced.
    Versioned,
    /// The floor, at a socket.
    Plain,
    /// The floor, at an address.
    PlainTcp,
    /// Without the framework, at a socket.
    Bare,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Idle => "Vouch without policies",
            Self::Mesh => "Vouch",
            Self::MeshLogged => "Vouch, decision log",
            Self::MeshTcp => "Vouch, TCP",
            Self::Versioned => "Vouch, one policy",
            Self::Plain => "plain tonic",
            Self::PlainTcp => "plain tonic, TCP",
            Self::Bare => "plain h2",
        }
    }

    fn is_plain(self) -> bool {
        matches!(self, Self::Plain | Self::PlainTcp | Self::Bare)
    }
}

/// A running one. It and its directory go away with this.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) kind: Kind,
    pub(crate) process: Process,
    tended: Tended,
    directory: Directory,
    at: Endpoint,
}

impl Server {
    /// Starts it on the CPUs of the calling thread.
    ///
    /// # Errors
    /// When it does not answer in time.
    pub(crate) fn start(kind: Kind, how: &How) -> Result<Self> {
        let directory = Directory::new("vouch-authz-")?;
        let addresses = free_addresses()?;
        let at = match kind {
            Kind::MeshTcp | Kind::PlainTcp => Endpoint::Tcp(addresses[0]),
            _ => Endpoint::Unix(directory.path().join("authz/authz.sock")),
        };
        fs::create_dir(directory.path().join("authz"))?;
        let mut command = if kind.is_plain() {
            let mut command = how.command(&std::env::current_exe()?);
            command.args(["authz-plain", "--at", &at.to_string()]).stdin(Stdio::piped());
            if kind == Kind::Bare {
                command.arg("--bare");
            }
            command
        } else {
            configure(kind, how, directory.path(), &at, &addresses)?;
            let mut command = how.command(&how.agent);
            command.args(["run", "--config"]).arg(directory.path().join("vouch.toml")).stdin(Stdio::null());
            command
        };
        let log = File::create(directory.path().join("log"))?;
        let tended = Tended::start(command.stdout(log.try_clone()?).stderr(log))?;
        let process = Process::of(tended.pid())?;
        let mut server = Self { kind, process, tended, directory, at };
        server.wait().with_context(|| server.log())?;
        Ok(server)
    }

    pub(crate) fn at(&self) -> &Endpoint {
        &self.at
    }

    /// Replaces the policy, all at once, as an operator's tools do.
    pub(crate) fn replace(&self, version: u32) -> Result<()> {
        put_version(self.directory.path(), version)
    }

    /// What it said, for when something goes wrong.
    pub(crate) fn log(&self) -> String {
        let text = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
        format!("{} logged:\n{text}", self.kind.name())
    }

    fn wait(&mut self) -> Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        let admin = Endpoint::Unix(self.directory.path().join("admin/admin.sock"));
        let at = if self.kind == Kind::Idle { &admin } else { &self.at };
        while at.connect().is_err() {
            if let Some(status) = self.tended.ended()? {
                bail!("{} ended instead of serving: {status}", self.kind.name());
            }
            ensure!(Instant::now() < deadline, "{} does not serve after {START_LIMIT:?}", self.kind.name());
            sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

/// The first of `addresses` may be where it is asked.
fn configure(kind: Kind, how: &How, directory: &Path, at: &Endpoint, addresses: &Addresses) -> Result<()> {
    let (shown, hooks) = (directory.display(), &how.hooks);
    let user = nix::unistd::geteuid();
    let entry = format!(
        "[[entries]]\nspiffe_id = \"spiffe://example.org/envoy\"\nselectors = [\"unix:uid:{user}\"]\n"
    );
    fs::write(directory.join("entries.toml"), entry)?;
    let mut text = format!(
        "trust_domain = \"example.org\"\nstate_dir = \"{shown}/state\"\n\
         workload_api.socket = \"{shown}/public/api.sock\"\nadmin.socket = \"{shown}/admin/admin.sock\"\n\
         entries.files = [\"{shown}/entries.toml\"]\nkernel.hooks = \"{hooks}\"\nkernel.pins = \"off\"\n\
         telemetry.metrics = \"{}\"\ntelemetry.log.level = \"warn\"\n",
        addresses[Service::ALL.len()]
    );
    text.push_str(&authz(kind, directory, at, addresses)?);
    Ok(fs::write(directory.join("vouch.toml"), text)?)
}

fn authz(kind: Kind, directory: &Path, at: &Endpoint, addresses: &Addresses) -> Result<String> {
    let socket = match at {
        Endpoint::Unix(path) => path.display().to_string(),
        Endpoint::Tcp(_) => "off".into(),
    };
    let log = match kind {
        Kind::MeshLogged => directory.join("decisions.jsonl").display().to_string(),
        _ => "off".into(),
    };
    let head = format!(
        "[authz]\nsocket = \"{socket}\"\ndecision_log = \"{log}\"\nmasked_headers = [\"x-opa-secret\"]\n"
    );
    Ok(match kind {
        Kind::Idle | Kind::Plain | Kind::PlainTcp | Kind::Bare => String::new(),
        Kind::Versioned => {
            put_version(directory, 0)?;
            head + &policy("versioned", &versioned(directory), "")
        }
        Kind::Mesh | Kind::MeshLogged | Kind::MeshTcp => {
            // Whoever is asked over TCP comes first.
            let mut services = Service::ALL;
            services.sort_by_key(|service| *service != Service::EcBackend);
            let policies = services.into_iter().zip(addresses);
            let policies: Result<String> =
                policies.map(|(service, address)| mesh_policy(service, directory, at, *address)).collect();
            head + &policies?
        }
    })
}

fn mesh_policy(service: Service, directory: &Path, at: &Endpoint, address: SocketAddr) -> Result<String> {
    let module = service.policy(Syntax::V0);
    let file = directory.join(&module.name);
    fs::write(&file, module.text)?;
    let condition = match at {
        Endpoint::Unix(_) => format!("context_extensions = {{ {SERVICE} = \"{}\" }}\n", service.name()),
        Endpoint::Tcp(_) => format!("listeners = [\"{address}\"]\n"),
    };
    Ok(policy(service.name(), &file, &condition))
}

fn policy(name: &str, file: &Path, condition: &str) -> String {
    format!(
        "[[authz.policies]]\nname = \"{name}\"\nfiles = [\"{}\"]\nxfcc = \"sanitize_set\"\n{condition}",
        file.display()
    )
}

fn versioned(directory: &Path) -> PathBuf {
    directory.join("versioned.rego")
}

fn put_version(directory: &Path, version: u32) -> Result<()> {
    let draft = directory.join("draft");
    fs::write(&draft, mesh::versioned(version))?;
    Ok(fs::rename(draft, versioned(directory))?)
}

/// Loopback addresses where nobody listens, no two alike.
fn free_addresses() -> Result<Addresses> {
    let listeners = [(); Service::ALL.len() + 1].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
    let mut addresses = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)); Service::ALL.len() + 1];
    for (address, listener) in addresses.iter_mut().zip(listeners) {
        *address = listener?.local_addr()?;
    }
    Ok(addresses)
}
