//! Processes in containers of a Docker engine that is there already.

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use super::{programs::Program, subjects::Subject};

/// Ours, and removed afterwards.
const IMAGE: &str = "vouch-bench-attest";
/// A tar archive of nothing.
const EMPTY: [u8; 1024] = [0; 1024];
/// What the workload is linked with.
const LIBRARIES: [&str; 4] = ["/usr", "/lib", "/lib32", "/lib64"];

/// A running engine, spoken to by the `docker` of the search path.
#[derive(Debug)]
pub(super) struct Engine<'a> {
    socket: &'a Path,
}

impl<'a> Engine<'a> {
    /// Gives it an image with nothing in it.
    pub(super) fn with_image(socket: &'a Path) -> Result<Self> {
        let engine = Self { socket };
        let mut command = engine.client();
        command.args(["import", "-", IMAGE]).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut import = command.spawn().context("starting docker")?;
        import.stdin.take().context("docker without input")?.write_all(&EMPTY)?;
        ensure!(import.wait()?.success(), "the engine at {} takes no image", socket.display());
        Ok(engine)
    }

    /// Containers with and without labels, a user and an environment.
    pub(super) fn subjects(&self, program: &Program) -> Result<Vec<Subject>> {
        let labelled = ["--label", "team=payments", "--label", "url=https://a/b?c=d", "--label", "empty="];
        Ok(vec![
            self.subject("in a container", program, &[])?,
            self.subject("in a container with labels, an environment and a user", program, &{
                [&labelled[..], &["--env", "MODE=a:b=c", "--user", "61234:61235", "--group-add", "4"]]
                    .concat()
            })?,
        ])
    }

    fn subject(&self, what: &'static str, program: &Program, options: &[&str]) -> Result<Subject> {
        let mut command = self.client();
        command.args(["run", "--interactive", "--rm", "--network", "none"]).args(options);
        let folder = program.path.parent().context("a program in no folder")?;
        // On the same path as here, for the path to be verified and the sockets to be found.
        command.arg("--volume").arg(format!("{0}:{0}", folder.display()));
        for library in LIBRARIES.iter().filter(|library| Path::new(library).exists()) {
            command.arg("--volume").arg(format!("{library}:{library}:ro"));
        }
        Subject::in_container(what, command.arg(IMAGE).arg(&program.path))
    }

    fn client(&self) -> Command {
        let mut command = Command::new("docker");
        command.arg("--host").arg(url(self.socket));
        command
    }
}

impl Drop for Engine<'_> {
    fn drop(&mut self) {
        // What cannot be removed is an image of nothing.
        let _ = self.client().args(["image", "rm", "--force", IMAGE]).output();
    }
}

/// As Docker's client and SPIRE name a socket.
pub(super) fn url(socket: &Path) -> String {
    format!("unix://{}", socket.display())
}
