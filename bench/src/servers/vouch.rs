//! Vouch's agent, and what makes it rotate.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use vouch_bench::results;

use super::Server;
use crate::{
    admin::Admin,
    agent::{Agent, RAISED_LIMITS},
    clock::Moment,
    roots::Roots,
};

/// What changes when it is told to.
#[derive(Debug)]
pub(crate) enum Rotates {
    /// All SVIDs, of which there are so many.
    Svids(u64),
    /// The trust bundle, by its file of roots.
    Bundle(Roots),
}

#[derive(Debug)]
pub(crate) struct Vouch {
    agent: Agent,
    admin: Admin,
    socket: PathBuf,
    version: String,
    settings: Vec<String>,
    rotates: Rotates,
}

impl Vouch {
    /// Of an agent that was started with `hooks`.
    pub(crate) fn new((agent, mut admin): (Agent, Admin), hooks: &str, rotates: Rotates) -> Result<Self> {
        let status = admin.status()?;
        let raised = RAISED_LIMITS.map(|(limit, _)| limit);
        let mut settings = vec![
            format!("limits raised, as one caller is the whole node: {}; reserve 0", raised.join(", ")),
            "metrics off, log at warn".into(),
            format!("evidence {}, kernel.hooks {hooks}", status.grade),
        ];
        if matches!(rotates, Rotates::Bundle(_)) {
            settings.push("for the scenario with bundles its issuer is an intermediate from files".into());
        }
        let socket = agent.public_socket();
        Ok(Self { agent, admin, socket, version: status.version, settings, rotates })
    }

    pub(crate) fn admin_socket(&self) -> PathBuf {
        self.agent.admin_socket()
    }
}

impl Server for Vouch {
    fn name(&self) -> &str {
        "vouch"
    }

    fn socket(&self) -> &Path {
        &self.socket
    }

    fn pid(&self) -> u32 {
        self.agent.pid()
    }

    fn describe(&self) -> results::Server {
        results::Server {
            name: "vouch".into(),
            version: self.version.clone(),
            settings: self.settings.clone(),
        }
    }

    fn rotate(&mut self) -> Result<()> {
        match &mut self.rotates {
            Rotates::Svids(_) => self.admin.rotate(""),
            Rotates::Bundle(roots) => roots.change(),
        }
    }

    fn rotated(&mut self) -> Result<()> {
        if let Rotates::Svids(expected) = self.rotates {
            let rotated = self.admin.rotated()?;
            ensure!(rotated == expected, "{rotated} SVIDs were rotated, and {expected} are in use");
        }
        Ok(())
    }

    fn can_restart(&self) -> bool {
        true
    }

    fn restart(&mut self) -> Result<Moment> {
        self.agent.restart()
    }

    fn log(&self) -> String {
        self.agent.log()
    }
}
