//! The agent's admin socket, over the HTTP/2 of this program: the call that starts a rotation costs the load thread
//! one write, and its answer is read when the round is over.

use std::path::Path;

use anyhow::{Context as _, Result};
use prost::Message;
use vouch_proto::admin::{RotateSvidsRequest, RotateSvidsResponse, StatusRequest, StatusResponse};

use crate::{blocking::Blocking, sds};

const ROTATE: &str = "/vouch.admin.v1.Admin/RotateSvids";
const STATUS: &str = "/vouch.admin.v1.Admin/Status";

/// One connection; a call at a time.
#[derive(Debug)]
pub(crate) struct Admin(Blocking);

impl Admin {
    pub(crate) fn connect(path: &Path) -> Result<Self> {
        Blocking::connect(path).map(Self)
    }

    pub(crate) fn status(&mut self) -> Result<StatusResponse> {
        self.ask(STATUS, &StatusRequest {})?;
        self.0.only_message().context("asking the agent how it is")
    }

    /// Starts a rotation of the SVIDs of one SPIFFE ID, or of everything when it is empty; [`Self::rotated`] hears what
    /// came of it.
    pub(crate) fn rotate(&mut self, spiffe_id: &str) -> Result<()> {
        self.ask(ROTATE, &RotateSvidsRequest { spiffe_id: spiffe_id.to_owned() })
    }

    /// How many SVIDs the rotation replaced.
    pub(crate) fn rotated(&mut self) -> Result<u64> {
        let answer: RotateSvidsResponse = self.0.only_message().context("rotating")?;
        Ok(answer.rotated)
    }

    fn ask(&mut self, path: &str, request: &impl Message) -> Result<()> {
        self.0.ask(path, &[], &sds::grpc(request), true)
    }
}
