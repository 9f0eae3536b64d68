//! `vouch-bench report`: from a file of results to a page beside it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};

use crate::report::{page, read, summary};

/// What to show, and where.
#[derive(Debug, clap::Args)]
pub struct Report {
    /// What a run left behind
    #[arg(value_name = "RESULTS.json")]
    results: PathBuf,
    /// The page; beside the results and with their name when not given
    #[arg(short, long, value_name = "FILE.html")]
    output: Option<PathBuf>,
}

impl Report {
    /// Writes the page, and prints the summary.
    ///
    /// # Errors
    /// When the results cannot be read, or the page cannot be written.
    pub fn run(&self) -> Result<()> {
        let results = read(&self.results)?;
        let output = self.output.clone().unwrap_or_else(|| self.results.with_extension("html"));
        ensure!(
            output != self.results,
            "the page would replace the results: name another file with --output"
        );
        let json = self.results.file_name().unwrap_or(self.results.as_os_str()).to_string_lossy();
        write(&output, &page(&results, &json))?;
        print!("{}", summary(&results));
        eprintln!("the page is {}", output.display());
        Ok(())
    }
}

fn write(file: &Path, page: &str) -> Result<()> {
    fs::write(file, page).with_context(|| format!("writing {}", file.display()))
}
