//! Any server that is there already: its socket, its process, and a shell command that makes it rotate.

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    str::FromStr,
};

use anyhow::{Context as _, Result, bail, ensure};
use vouch_bench::results;

use super::Server;
use crate::{child::Tended, load::Watch};

/// As it stands on the command line: NAME=SOCKET,PID,COMMAND.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) name: String,
    socket: PathBuf,
    pid: u32,
    command: String,
}

/// NAME=RESOURCE: what is asked of a peer, unless it is `default`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PeerNames {
    pub(crate) peer: String,
    pub(crate) resource: String,
}

/// One that takes part.
#[derive(Debug)]
pub(crate) struct Running {
    peer: Peer,
    rotating: Option<Tended>,
}

impl FromStr for Peer {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts = text.split_once('=').and_then(|(name, rest)| {
            let mut parts = rest.splitn(3, ',');
            Some((name, parts.next()?, parts.next()?, parts.next()?))
        });
        let (name, socket, pid, command) =
            parts.context("a peer is NAME=SOCKET,PID,COMMAND: the command makes it rotate")?;
        let pid = pid.trim().parse().with_context(|| format!("{pid:?} is no pid"))?;
        if ["vouch", "anchor", "tonic", "spire", ""].contains(&name) {
            bail!("a peer needs a name of its own, not {name:?}");
        }
        Ok(Self { name: name.into(), socket: socket.into(), pid, command: command.into() })
    }
}

impl FromStr for PeerNames {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (peer, resource) = text.split_once('=').context("write NAME=RESOURCE")?;
        Ok(Self { peer: peer.into(), resource: resource.into() })
    }
}

impl Peer {
    fn succeeded(&self, status: ExitStatus) -> Result<()> {
        ensure!(status.success(), "{:?} failed: {status}", self.command);
        Ok(())
    }

    pub(crate) fn running(&self) -> Running {
        Running { peer: self.clone(), rotating: None }
    }
}

impl Server for Running {
    fn name(&self) -> &str {
        &self.peer.name
    }

    fn socket(&self) -> &Path {
        &self.peer.socket
    }

    fn pid(&self) -> u32 {
        self.peer.pid
    }

    fn describe(&self) -> results::Server {
        let settings = vec![
            "runs where and as it was started; times count from the first push that was seen".into(),
            format!("rotates by: {}", self.peer.command),
        ];
        results::Server { name: self.peer.name.clone(), version: String::new(), settings }
    }

    fn watch(&self) -> Watch {
        Watch::Newest
    }

    fn finds_out(&self) -> bool {
        true
    }

    fn rotate(&mut self) -> Result<()> {
        let mut command = Command::new("sh");
        command.arg("-c").arg(&self.peer.command).stdin(Stdio::null()).stdout(Stdio::null());
        self.rotating = Some(Tended::start(&mut command)?);
        Ok(())
    }

    fn look(&mut self) -> Result<()> {
        match self.rotating.as_mut().map(Tended::ended) {
            Some(ended) => ended?.map_or(Ok(()), |status| self.peer.succeeded(status)),
            None => Ok(()),
        }
    }

    fn rotated(&mut self) -> Result<()> {
        let mut rotating = self.rotating.take().context("no rotation was begun")?;
        self.peer.succeeded(rotating.wait()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_read_with_commas_in_its_command() {
        let peer: Peer = "other=/run/a.sock,17,rotate --of a,b".parse().unwrap();
        assert_eq!((&*peer.name, peer.pid, &*peer.command), ("other", 17, "rotate --of a,b"));
        assert_eq!(peer.socket, Path::new("/run/a.sock"));
        for wrong in ["other", "other=/run/a.sock,17", "other=/run/a.sock,x,y", "vouch=/run/a.sock,17,y"] {
            assert!(wrong.parse::<Peer>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_command_that_fails_fails_the_round() {
        let mut running = "other=/s,1,exit 3".parse::<Peer>().unwrap().running();
        running.rotate().unwrap();
        assert!(running.rotated().is_err());
        let mut running = "other=/s,1,true".parse::<Peer>().unwrap().running();
        running.rotate().unwrap();
        running.rotated().unwrap();
    }
}
