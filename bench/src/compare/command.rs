//! `vouch-bench compare`: two files of results, and an exit code for a script.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};

use crate::{
    compare::{METHOD, SERVER, compare},
    report::read,
};

const CODES: &str = "Ends with 0 when nothing is worse outside the noise, with 1 when something is, and with 2 when the \
    runs cannot be compared.";

/// Which runs, and whose numbers.
#[derive(Debug, clap::Args)]
#[command(after_help = format!("{METHOD}\n\n{CODES}"))]
pub struct Compare {
    /// The run before
    #[arg(value_name = "OLD.json")]
    old: PathBuf,
    /// The run after
    #[arg(value_name = "NEW.json")]
    new: PathBuf,
    /// Whose numbers are compared
    #[arg(long, default_value = SERVER)]
    server: String,
}

impl Compare {
    /// Prints the comparison; what keeps the runs from being compared goes to stderr.
    pub fn run(&self) -> ExitCode {
        match self.print() {
            Ok(0) => ExitCode::SUCCESS,
            Ok(_) => ExitCode::from(1),
            Err(error) => {
                eprintln!("cannot compare: {error:#}");
                ExitCode::from(2)
            }
        }
    }

    /// How many numbers are worse.
    fn print(&self) -> Result<usize> {
        let comparison = compare(&read(&self.old)?, &read(&self.new)?, &self.server)?;
        print!("{comparison}");
        comparison.is_decided().then_some(comparison.worse()).context("so few rounds can show no difference")
    }
}
