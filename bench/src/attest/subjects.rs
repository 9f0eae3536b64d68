//! Processes of many kinds, each attested by both.

use std::{
    fs::{self, Permissions},
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use nix::unistd::geteuid;

use super::{api::Api, difference::Comparison, ours::Ours, programs::Program, workload::Workload};
use crate::spire::Agent;

/// Users and groups that no system gives a name to.
const NAMELESS: u32 = 61_234;
const NAMELESS_GROUP: u32 = 61_235;

/// One process, not attested yet.
#[derive(Debug)]
pub(super) struct Subject {
    what: &'static str,
    workload: Workload,
    path_unverified: bool,
    /// What was started is then the engine's client, and the process has another number.
    in_container: bool,
}

/// A process that was there before any agent.
pub(super) fn long_running(program: &Program) -> Result<Subject> {
    subject("running since before both agents", &mut Command::new(&program.path), &[])
}

/// Processes of all other kinds, from copies of this program below `directory`.
pub(super) fn all(program: &Program, directory: &Path) -> Result<Vec<Subject>> {
    let run = || Command::new(&program.path);
    let mut subjects = vec![subject("this user", &mut run(), &[])?];
    if !geteuid().is_root() {
        return Ok(subjects);
    }
    subjects.push(subject("uid and gid without names", run().uid(NAMELESS).gid(NAMELESS), &[])?);
    subjects.push(subject("a user and a group with names", run().uid(1).gid(1), &[])?);
    subjects.push(subject(
        "supplementary groups, named and not",
        &mut run(),
        &become_user(NAMELESS, NAMELESS, &[4, 20, NAMELESS_GROUP]),
    )?);
    subjects.push(subject(
        "dropped from root without an exec, real and effective",
        &mut run(),
        &become_user(1, NAMELESS_GROUP, &[]),
    )?);
    let namespace = ["--own-user-namespace".to_owned()];
    subjects.push(subject("in a user namespace of its own", &mut run(), &namespace)?);
    let odd = directory.join("a directory: with \"odd\" näme");
    fs::create_dir(&odd)?;
    fs::set_permissions(&odd, Permissions::from_mode(0o755))?;
    let moved = copy(program, &odd.join("other name"))?;
    subjects.push(subject("on another path", Command::new(&moved).uid(NAMELESS).gid(NAMELESS), &[])?);
    let setuid = copy(program, &directory.join("setuid"))?;
    fs::set_permissions(&setuid, Permissions::from_mode(0o6755))?;
    subjects.push(subject(
        "a setuid and setgid program",
        Command::new(&setuid).uid(NAMELESS).gid(NAMELESS),
        &[],
    )?);
    let other = Program::copy(directory.join("padded"), program.bytes + 4_097)?;
    subjects.push(subject("another executable", &mut Command::new(&other.path), &[])?);
    let place = copy(program, &directory.join("place"))?;
    let in_place = ["--run-in-place-of".to_owned(), shown(&other.path), shown(&place)];
    let mut hidden = subject("another file on that path in its own mount namespace", &mut run(), &in_place)?;
    hidden.path_unverified = true;
    subjects.push(hidden);
    let removed = copy(program, &directory.join("removed"))?;
    let mut gone = subject("an executable that was removed", &mut Command::new(&removed), &[])?;
    fs::remove_file(&removed)?;
    gone.path_unverified = true;
    subjects.push(gone);
    Ok(subjects)
}

impl Subject {
    pub(super) fn in_container(what: &'static str, command: &mut Command) -> Result<Self> {
        Ok(Self { in_container: true, ..subject(what, command, &[])? })
    }

    /// Lets it connect to both, asks both, and lets it end.
    pub(super) fn compare(mut self, ours: &Ours, spire: &Agent) -> Result<Comparison> {
        self.workload.hold(ours.socket())?;
        let peer = ours.accept().with_context(|| self.what)?;
        let (pid, started) = (peer.pid, self.workload.pid());
        ensure!(self.in_container || pid == started, "process {pid} has connected, and {started} was to");
        // It has no identity there, which it is told after it was attested.
        let _refused = self.workload.connections(Api::Workload, 1, &spire.socket());
        let theirs = spire.selectors(pid)?;
        let vouch = ours.attest(&peer).with_context(|| self.what)?;
        self.workload.finish()?;
        let (subject, path_unverified) = (self.what.to_owned(), self.path_unverified);
        Ok(Comparison { subject, pid, vouch, spire: theirs, path_unverified })
    }
}

fn subject(what: &'static str, command: &mut Command, arguments: &[String]) -> Result<Subject> {
    let workload = Workload::start(command, arguments).with_context(|| what)?;
    Ok(Subject { what, workload, path_unverified: false, in_container: false })
}

fn become_user(uid: u32, gid: u32, groups: &[u32]) -> [String; 2] {
    let groups: Vec<_> = groups.iter().map(u32::to_string).collect();
    ["--become-user".into(), format!("{uid}:{gid}:{}", groups.join(","))]
}

fn copy(program: &Program, to: &Path) -> Result<PathBuf> {
    fs::copy(&program.path, to).with_context(|| format!("writing {}", to.display()))?;
    Ok(to.to_owned())
}

fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
