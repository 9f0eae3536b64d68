//! A SPIRE agent with a server of its own.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use vouch_bench::results;

use super::Server;
use crate::{
    child::Tended,
    load::Watch,
    spire::{self, AgentSettings, Discovery, Pace},
};

/// Of the entry that the load earns.
const PATH: &str = "load";

#[derive(Debug)]
pub(crate) struct SpireAgent<'a> {
    spire: &'a spire::Server,
    agent: spire::Agent,
    selector: String,
    socket: PathBuf,
    rotating: Option<Tended>,
}

impl<'a> SpireAgent<'a> {
    /// Starts an agent in a directory `name`, on the CPUs of the calling thread; `selector` earns the one SVID.
    pub(crate) fn start(spire: &'a spire::Server, name: &str, selector: &str) -> Result<Self> {
        let entries = [(PATH, selector.to_owned())];
        let settings = AgentSettings {
            discovery: Discovery::Ids,
            log_level: "WARN",
            entries: &entries,
            docker: None,
            pace: Pace::EachSecond,
        };
        let agent = spire.agent(name, settings)?;
        let socket = agent.socket();
        Ok(Self { spire, agent, selector: selector.to_owned(), socket, rotating: None })
    }
}

impl Server for SpireAgent<'_> {
    fn name(&self) -> &str {
        "spire"
    }

    fn socket(&self) -> &Path {
        &self.socket
    }

    fn pid(&self) -> u32 {
        self.agent.pid()
    }

    fn describe(&self) -> results::Server {
        let settings = [
            "asks its server for changes every second, which looks for them as often, instead of every five",
            "rotates when the entry gets a higher revision; times count from the first push that was seen",
            "keys in memory, attestor unix without path and hash, log at WARN, its server on the load's CPU",
        ];
        results::Server {
            name: "spire".into(),
            version: self.spire.version().unwrap_or_default(),
            settings: settings.map(str::to_owned).to_vec(),
        }
    }

    fn watch(&self) -> Watch {
        Watch::Newest
    }

    fn finds_out(&self) -> bool {
        true
    }

    fn rotate(&mut self) -> Result<()> {
        let mut command = self.spire.rotation(&self.agent, PATH, &self.selector)?;
        self.rotating = Some(Tended::start(&mut command)?);
        Ok(())
    }

    fn rotated(&mut self) -> Result<()> {
        let status = self.rotating.take().context("no rotation was begun")?.wait()?;
        ensure!(status.success(), "spire-server entry update: {status}; {}", self.spire.log());
        Ok(())
    }

    fn log(&self) -> String {
        self.agent.log()
    }
}
