//! Where a node without a configuration file keeps its things.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use toml::Spanned;

use super::{
    Choices,
    raw::{RawAdmin, RawConfig, RawEntries, RawKernel, RawTelemetry, RawWorkloadApi},
    words::OFF,
};
use crate::{problem::Problem, spiffe::TrustDomain};

/// The two directories that everything goes under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    pub state_dir: PathBuf,
    /// Sockets go into `public` and `admin` beneath it.
    pub run_dir: PathBuf,
}

impl Layout {
    /// Of a service, by the Filesystem Hierarchy Standard.
    pub fn of_root() -> Self {
        Self { state_dir: "/var/lib/vouch".into(), run_dir: "/run/vouch".into() }
    }

    /// Of anyone else, by the XDG Base Directory Specification; `env` looks a variable up. Where that names no
    /// runtime directory, one in /tmp named after `uid` stands in, and whoever makes it checks its owner.
    pub fn of_user(uid: u32, env: impl Fn(&str) -> Option<OsString>) -> Self {
        // The specification: a path that is not absolute is ignored.
        let directory = |name: &str| env(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let own = Path::new("/tmp").join(format!("vouch-{uid}"));
        let state = directory("XDG_STATE_HOME").or_else(|| Some(directory("HOME")?.join(".local/state")));
        Self {
            state_dir: state.map_or_else(|| own.join("state"), |state| state.join("vouch")),
            run_dir: directory("XDG_RUNTIME_DIR").map_or(own, |runtime| runtime.join("vouch")),
        }
    }

    /// Of the user that runs this process.
    pub fn of_this_process() -> Self {
        let uid = nix::unistd::geteuid();
        if uid.is_root() {
            Self::of_root()
        } else {
            Self::of_user(uid.as_raw(), |name| std::env::var_os(name))
        }
    }

    pub fn public_socket(&self) -> PathBuf {
        self.run_dir.join("public/api.sock")
    }

    pub fn admin_socket(&self) -> PathBuf {
        self.run_dir.join("admin/admin.sock")
    }
}

/// The choices in the form in which a file would have made them.
pub(super) fn raw(
    trust_domain: &TrustDomain,
    layout: &Layout,
    choices: &Choices,
) -> Result<RawConfig, Problem> {
    let state_dir = choices.state_dir.as_ref().unwrap_or(&layout.state_dir);
    let text = |path: &Path| match path.to_str() {
        Some(path) => Ok(Spanned::new(0..0, path.to_owned())),
        None => Err(Problem::new("E0115", format!("path {} is not UTF-8 text", path.display()))
            .fix("choose another one; see vouch up --help")),
    };
    let chosen = |choice: &Option<PathBuf>, default: PathBuf| text(choice.as_ref().unwrap_or(&default));
    let also = choices.also.iter().map(|path| text(path)).collect::<Result<_, _>>()?;
    Ok(RawConfig {
        trust_domain: Some(Spanned::new(0..0, trust_domain.to_string())),
        state_dir: Some(text(state_dir)?),
        workload_api: RawWorkloadApi {
            socket: Some(chosen(&choices.socket, layout.public_socket())?),
            also: Some(Spanned::new(0..0, also)),
        },
        admin: RawAdmin { socket: Some(chosen(&choices.admin_socket, layout.admin_socket())?) },
        entries: RawEntries { files: Some(Spanned::new(0..0, vec![text(&state_dir.join("entries.toml"))?])) },
        // A node that was tried out leaves nothing behind.
        kernel: RawKernel { pins: Some(Spanned::new(0..0, OFF.to_owned())), ..RawKernel::default() },
        telemetry: RawTelemetry {
            metrics: choices.metrics.clone().map(|metrics| Spanned::new(0..0, metrics)),
            ..RawTelemetry::default()
        },
        ..RawConfig::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> (String, String) {
        let env = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into());
        let Layout { state_dir, run_dir } = Layout::of_user(1000, env);
        (state_dir.display().to_string(), run_dir.display().to_string())
    }

    #[test]
    fn a_user_keeps_things_where_the_desktop_says() {
        let set = [("XDG_STATE_HOME", "/s"), ("XDG_RUNTIME_DIR", "/run/user/1000"), ("HOME", "/h/a")];
        assert_eq!(of(&set), ("/s/vouch".into(), "/run/user/1000/vouch".into()));
        assert_eq!(of(&[("HOME", "/h/a")]), ("/h/a/.local/state/vouch".into(), "/tmp/vouch-1000".into()));
        let bare = ("/tmp/vouch-1000/state".to_owned(), "/tmp/vouch-1000".to_owned());
        assert_eq!(of(&[]), bare);
        assert_eq!(of(&[("HOME", "a"), ("XDG_RUNTIME_DIR", "")]), bare);
    }
}
