use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Lines},
    process::{Child, ChildStdout},
};

use nix::unistd::Pid;

use super::programs::{EVIL, GOOD_FILE, GOOD_HASH, GOOD_PATH, GROUP, ROOT, VICTIM};

/// Asked for by everybody, so that what is served is all that is earned.
const SECRETS: [&str; 8] = ["default", GOOD_PATH, GOOD_HASH, GOOD_FILE, EVIL, VICTIM, ROOT, GROUP];

/// A running program, or who became of it.
pub(super) struct Actor {
    pub(super) child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Actor {
    /// Its standard output is a pipe.
    pub(super) fn new(mut child: Child) -> Self {
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    pub(super) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Waits until it, or a child of it, has done `step`.
    pub(super) fn wait(&mut self, step: &str) {
        self.wait_for_one_of(&[step]);
    }

    /// The first line that is one of `lines`.
    pub(super) fn wait_for_one_of<'a>(&mut self, lines: &[&'a str]) -> &'a str {
        for line in self.lines.by_ref() {
            let line = line.unwrap();
            if let Some(found) = lines.iter().find(|wanted| **wanted == line) {
                return found;
            }
        }
        panic!("the actor ended before {lines:?}");
    }

    /// Everything it, or a child of it, hears.
    pub(super) fn hear(&mut self) -> Heard {
        let mut heard = Heard::default();
        let mut call = 0;
        for line in self.lines.by_ref() {
            let line = line.unwrap();
            match line.split_once(' ') {
                Some(("answer", ids)) => heard.take(call, ids),
                None if line == "closed" => heard.closed += 1,
                None if line == "hear" => return heard,
                None if line == "denied" => {}
                _ => continue,
            }
            call += 1;
        }
        panic!("the actor ended before it heard: {heard:?}");
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// What came back on one connection.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Heard {
    pub(super) workload_api: BTreeSet<String>,
    pub(super) sds: BTreeSet<String>,
    /// Calls whose connection ended before they did.
    pub(super) closed: usize,
}

impl Heard {
    pub(super) fn only(identities: &[&str]) -> Self {
        let identities: BTreeSet<String> = identities.iter().map(|&id| id.to_owned()).collect();
        Self { workload_api: identities.clone(), sds: identities, closed: 0 }
    }

    /// Every call was answered, by a refusal.
    pub(super) fn nothing() -> Self {
        Self::default()
    }

    /// Nothing but `identities`, or less: what was heard before something changed.
    pub(super) fn is_within(&self, identities: &[&str]) -> bool {
        self.workload_api.iter().chain(&self.sds).all(|heard| identities.contains(&heard.as_str()))
    }

    /// The connection was closed on every call.
    pub(super) fn closed() -> Self {
        Self { closed: 1 + SECRETS.len(), ..Self::default() }
    }

    fn take(&mut self, call: usize, identities: &str) {
        let heard = if call == 0 { &mut self.workload_api } else { &mut self.sds };
        heard.extend(identities.split(',').map(str::to_owned));
    }
}

pub(super) fn steps<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(str::to_owned).to_vec()
}

/// Asks for everything on the socket, and hears what comes.
pub(super) fn ask() -> Vec<String> {
    [call(), hear()].concat()
}

/// The first half of [`ask`].
pub(super) fn call() -> Vec<String> {
    steps(["call", &SECRETS.join(",")])
}

/// The second half.
pub(super) fn hear() -> Vec<String> {
    steps(["hear", &(1 + SECRETS.len()).to_string()])
}

/// Has a child do `part`.
pub(super) fn fork(part: &[String]) -> Vec<String> {
    [&steps(["fork", &part.len().to_string()]), part].concat()
}
