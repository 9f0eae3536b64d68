//! Where an agent would keep its things: as a configuration says, or as `vouch up` has them.

use std::path::{Path, PathBuf};

use crate::{
    cli::Common,
    config::{Choices, Config, Layout},
    problem::Problem,
    spiffe::TrustDomain,
};

/// The file of an agent that runs as a service.
const DEFAULT_FILE: &str = "/etc/vouch/vouch.toml";

#[derive(Debug)]
pub(super) struct Plan {
    pub(super) config: Config,
    /// The public socket, at each of its paths.
    pub(super) public: Vec<PathBuf>,
    pub(super) admin: PathBuf,
    /// The trust domain is real, so entries can be read against it.
    pub(super) is_configured: bool,
}

impl Plan {
    /// # Errors
    /// Of the configuration that was named, or the one that is there.
    pub(super) fn of(file: Option<&Path>, common: &Common) -> Result<Self, Problem> {
        let default = Path::new(DEFAULT_FILE);
        let file = file.or_else(|| default.exists().then_some(default));
        let socket = common.public_socket()?;
        let config = match file {
            Some(file) => Config::load(file)?,
            None => by_default(common, socket.clone())?,
        };
        let workload_api = &config.workload_api;
        let mut public: Vec<PathBuf> = workload_api.also.clone();
        public.insert(0, socket.unwrap_or_else(|| workload_api.socket.clone()));
        let admin = common.admin_socket.clone().unwrap_or_else(|| config.admin.socket.clone());
        Ok(Self { public, admin, is_configured: file.is_some(), config })
    }
}

fn by_default(common: &Common, socket: Option<PathBuf>) -> Result<Config, Problem> {
    let trust_domain: TrustDomain = "example.org".parse().expect("it follows the grammar");
    let choices = Choices { socket, admin_socket: common.admin_socket.clone(), ..Choices::default() };
    Config::zero(&trust_domain, &Layout::of_this_process(), &choices)
}
