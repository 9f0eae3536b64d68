//! `vouch svid rotate`: a fresh SVID now.

use std::process::ExitCode;

use clap::{ArgGroup, Subcommand};
use serde_json::json;
use tonic::{Code, Status};
use vouch_proto::admin::RotateSvidsRequest;

use super::{
    Common,
    client::{admin_problem, block_on},
    output,
};
use crate::{problem::Problem, spiffe::SpiffeId};

#[derive(Debug, Subcommand)]
pub(super) enum Svid {
    /// Issue fresh SVIDs now, and push them to whoever holds them
    #[command(group = ArgGroup::new("which").required(true).args(["all", "spiffe_id"]))]
    Rotate {
        /// Every SVID that the agent holds
        #[arg(long)]
        all: bool,
        /// Only SVIDs of this SPIFFE ID
        spiffe_id: Option<SpiffeId>,
    },
}

pub(super) fn run(svid: &Svid, common: &Common) -> Result<ExitCode, Problem> {
    let Svid::Rotate { spiffe_id, .. } = svid;
    let spiffe_id = spiffe_id.as_ref().map(ToString::to_string).unwrap_or_default();
    let rotated = block_on(Some(common.timeout), async {
        let answer = common.admin().await?.rotate_svids(RotateSvidsRequest { spiffe_id }).await;
        Ok(answer.map_err(|status| refused(&status))?.into_inner().rotated)
    })?;
    output::print(common.output, &json!({ "rotated": rotated }), |out| {
        out.push_str(&format!("{rotated} rotated\n"));
    })?;
    Ok(ExitCode::SUCCESS)
}

fn refused(status: &Status) -> Problem {
    let problem = admin_problem(status);
    if status.code() == Code::NotFound {
        problem.fix("see which there are: vouch entry list")
    } else {
        problem
    }
}
