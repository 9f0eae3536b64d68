//! One Vouch and one SPIRE agent on the same CPU, with the same entries.

use std::{net::SocketAddr, path::Path};

use anyhow::{Context as _, Result};

use super::{CONNECTIONS, free_address, programs::Program, timing::Side};
use crate::{
    admin::Admin,
    agent::{Agent, Settings},
    cpus::Places,
    spire::{self, AgentSettings, Server},
};

/// Both end with this.
#[derive(Debug)]
pub(super) struct Pair {
    vouch: Agent,
    pub(super) admin: Admin,
    metrics: SocketAddr,
    spire: Option<spire::Agent>,
}

impl Pair {
    /// `program` with `hooks`, and beside it an agent called `name` of `server`, if there is one, with `theirs`.
    pub(super) fn start(
        places: &Places,
        (program, hooks): (&Path, &str),
        server: Option<&Server>,
        name: &str,
        theirs: AgentSettings<'_>,
    ) -> Result<Self> {
        places.at_the_server(|| {
            let metrics = free_address()?;
            let settings = Settings {
                streams: CONNECTIONS,
                hooks,
                entries: theirs.entries,
                metrics: Some(metrics),
                issuer: None,
            };
            let (vouch, admin) = Agent::start(program, Agent::directory()?, &settings)?;
            let spire = server.map(|server| server.agent(name, theirs)).transpose()?;
            Ok(Self { vouch, admin, metrics, spire })
        })
    }

    /// Ours first, under `names`. `known` are the programs of the entries.
    pub(super) fn sides(&self, names: [&'static str; 2], known: &[&Program]) -> Result<Vec<Side>> {
        let (vouch, [ours, theirs]) = (&self.vouch, names);
        let watched = Side::watch(ours, vouch.pid(), vouch.public_socket(), Some(self.metrics), known);
        let mut sides = vec![watched.with_context(|| vouch.log())?];
        if let Some(spire) = &self.spire {
            let watched = Side::watch(theirs, spire.pid(), spire.socket(), None, known);
            sides.push(watched.with_context(|| spire.log())?);
        }
        Ok(sides)
    }
}
