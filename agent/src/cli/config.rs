//! `vouch config check` and `vouch config show`.

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Subcommand};
use serde_json::json;

use super::{Common, output};
use crate::{config, problem::Problem, registration};

#[derive(Debug, Subcommand)]
pub(super) enum Config {
    /// Whether the agent would start with this file and its entries; exits 78 when not
    Check(File),
    /// The configuration as the agent understands it, defaults included
    Show(File),
}

#[derive(Debug, Args)]
pub(super) struct File {
    #[arg(long, value_name = "FILE", default_value = "/etc/vouch/vouch.toml")]
    config: PathBuf,
}

pub(super) fn run(command: &Config, common: &Common) -> Result<ExitCode, Problem> {
    match command {
        Config::Check(File { config: path }) => {
            let config = config::Config::load(path)?;
            let loaded = registration::load(&config.entries.files, &config.trust_domain)?;
            for warning in &loaded.warnings {
                output::say(&warning.to_string());
            }
            let entries = loaded.entries.len();
            output::print(common.output, &json!({ "ok": true, "entries": entries }), |out| {
                out.push_str(&format!("{}: ok, {entries} entries\n", path.display()));
            })?;
        }
        Config::Show(File { config: path }) => {
            let shown = config::Config::load(path)?.show();
            output::print(common.output, &json!({ "config": shown }), |out| out.push_str(&shown))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
