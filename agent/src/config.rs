//! Settings: written as text in one TOML file, held as facts.
//!
//! The raw sections (`raw.rs`) refuse unknown keys, and the docs of their fields are the manual. The checked
//! `Config` has a value for everything, each proved to be within its bounds: whoever holds one checks nothing
//! again.

mod authz;
mod check;
mod endpoint;
mod layout;
mod paths;
mod raw;
mod sections;
mod show;
mod text;
mod values;
mod words;

use std::{
    io,
    path::{Path, PathBuf},
};

pub use authz::{Authz, HeaderAppend, Policy, PolicyErrors, XfccMeaning};
pub use endpoint::endpoint_socket;
pub use layout::Layout;
pub use sections::{
    Admin, Attest, AttestDocker, AttestSlurm, AttestSystemd, AttestUnix, Config, Entries, Hooks, Issuer,
    IssuerKind, Kernel, KeyType, Limits, Log, LogFormat, LogLevel, MinimumGrade, PathMeaning, Pins, Rotation,
    Sds, Telemetry, WorkloadApi,
};

use crate::{plain_file, problem::Problem, spiffe::TrustDomain};
use check::Checker;
use text::FileText;

/// Largest configuration file.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// What a node without a configuration file may choose; the rest is as by default.
#[derive(Debug, Clone, Default)]
pub struct Choices {
    pub state_dir: Option<PathBuf>,
    pub socket: Option<PathBuf>,
    pub admin_socket: Option<PathBuf>,
    /// Further paths at which the public socket appears.
    pub also: Vec<PathBuf>,
    /// An address, or `off`.
    pub metrics: Option<String>,
}

impl Config {
    /// Most connections of the public socket, and of authorization where it is served.
    pub fn connections(&self) -> (usize, usize) {
        (self.limits.connections, if self.authz.is_on() { self.authz.connections } else { 0 })
    }

    /// Reads and checks a configuration file. Relative paths in it are relative to its directory.
    ///
    /// # Errors
    /// The first fault, with its place.
    pub fn load(path: &Path) -> Result<Self, Problem> {
        let cannot = |error: io::Error| {
            Problem::new("E0101", format!("configuration file {} cannot be read", path.display()))
                .why(error.to_string())
                .fix("name a file with --config, or start without one: vouch up")
        };
        let text = read_text(path).map_err(cannot)?;
        let absolute = std::path::absolute(path).map_err(cannot)?;
        let base = absolute.parent().unwrap_or(Path::new("/"));
        Self::parse(&text, &path.display().to_string(), base)
    }

    /// Checks the content of a configuration file. `file` is what messages call it; relative paths are put
    /// beneath `base`, which is absolute.
    ///
    /// # Errors
    /// The first fault, with its place.
    pub fn parse(text: &str, file: &str, base: &Path) -> Result<Self, Problem> {
        let file = FileText { name: file, text };
        let raw = file.parse()?;
        Checker { file: Some(file), base }.config(&raw)
    }

    /// The configuration of a node that was given no file: everything as by default, at the places of `layout`,
    /// with entries in `entries.toml` of its state directory. Relative paths are relative to the working
    /// directory.
    ///
    /// # Errors
    /// When a choice breaks a rule; there is no file to point into.
    pub fn zero(trust_domain: &TrustDomain, layout: &Layout, choices: &Choices) -> Result<Self, Problem> {
        let base = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
        Checker { file: None, base: &base }.config(&layout::raw(trust_domain, layout, choices)?)
    }
}

fn read_text(path: &Path) -> io::Result<String> {
    let bytes = plain_file::read(path, MAX_FILE_BYTES)?;
    let bytes = bytes.ok_or_else(|| io::Error::other(format!("it has more than {MAX_FILE_BYTES} bytes")))?;
    String::from_utf8(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests;
