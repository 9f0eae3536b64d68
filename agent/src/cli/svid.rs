//! `vouch svid rotate`: a fresh SVID now.

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::json;
use vouch_proto::admin::RotateSvidsRequest;

use super::{
    Common,
    client::{block_on, call_problem},
    output,
};
use crate::{problem::Problem, spiffe::SpiffeId};

#[derive(Debug, Subcommand)]
pub(super) enum Svid {
    /// Issue fresh SVIDs now, and push them to whoever holds them
    Rotate {
        /// Every SVID that the agent holds
        #[arg(long, conflicts_with = "spiffe_id", required_unless_present = "spiffe_id")]
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
        Ok(answer.map_err(|status| call_problem(&status))?.into_inner().rotated)
    })?;
    output::print(common.output, &json!({ "rotated": rotated }), |out| {
        out.push_str(&format!("{rotated} rotated\n"));
    });
    Ok(ExitCode::SUCCESS)
}
