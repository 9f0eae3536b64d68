use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use nix::{sys::signal::Signal, unistd::Pid};
use serde_json::Value;
use tempfile::TempDir;
use vouch_tests::{Agent, Cgroup, Settings, agent::temporary_dir, eventually, metrics, user};

use super::{
    actor::{Actor, Heard, ask, steps},
    programs::{EVIL, GOOD, Programs, text},
};

pub(super) const LIMIT: Duration = Duration::from_secs(20);
/// An agent, and programs that are told apart by their files. Whatever they leave running ends with this.
pub(super) struct Stage {
    pub(super) agent: Agent,
    pub(super) dir: TempDir,
    pub(super) cgroup: Cgroup,
    marks: AtomicU32,
}

/// When the attack happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    /// The agent learns of the connection when everything is over.
    BeforeAccept,
    /// The agent has accepted the connection, and nothing was asked on it yet.
    AfterAccept,
}

impl Stage {
    /// `entries` are made when the programs are there.
    pub(super) fn new(programs: &[&str], entries: impl FnOnce(&Programs) -> Vec<Value>) -> Self {
        Self::with(programs, entries, |settings| settings.set("kernel.hooks", "require"))
    }

    /// Two programs, each of which is served its own when it plays no trick.
    pub(super) fn good_and_evil() -> Self {
        let stage = Self::new(&["good", "evil"], |programs| programs.good_and_evil());
        assert_eq!(stage.honest("good", user::STRANGER), Heard::only(&GOOD));
        assert_eq!(stage.honest("evil", user::STRANGER), Heard::only(&[EVIL]));
        stage
    }

    pub(super) fn with(
        programs: &[&str],
        entries: impl FnOnce(&Programs) -> Vec<Value>,
        settings: impl FnOnce(Settings) -> Settings,
    ) -> Self {
        let dir = temporary_dir();
        let made = Programs::make(dir.path(), programs);
        // An attack may take longer than the agent waits for a first call, and is not to be ended by that.
        let patient =
            ["limits.preface_timeout", "limits.first_request_timeout", "limits.attestation_timeout"];
        let plain = Settings::new(entries(&made));
        let plain = patient.iter().fold(plain, |settings, limit| settings.set(limit, "60s"));
        let agent = Agent::start(settings(plain));
        // Programs leave marks for each other here, whoever they run as.
        fs::create_dir(dir.path().join("marks")).unwrap();
        fs::set_permissions(dir.path().join("marks"), fs::Permissions::from_mode(0o777)).unwrap();
        Self { agent, dir, cgroup: Cgroup::new(), marks: AtomicU32::new(0) }
    }

    pub(super) fn program(&self, name: &str) -> String {
        text(&self.dir.path().join(name))
    }

    pub(super) fn socket(&self) -> String {
        text(&self.agent.socket())
    }

    /// A file that is not there yet.
    pub(super) fn mark(&self) -> String {
        let number = self.marks.fetch_add(1, Ordering::Relaxed);
        text(&self.dir.path().join("marks").join(number.to_string()))
    }

    /// Starts `words` as `uid`, without privileges unless that is 0, in a cgroup that is killed in the end.
    pub(super) fn start(&self, uid: u32, words: &[String]) -> Actor {
        let mut command = Command::new("sh");
        command.args(["-c", "echo $$ > \"$0\" && exec \"$@\""]).arg(self.cgroup.dir().join("cgroup.procs"));
        if uid != 0 {
            let id = uid.to_string();
            command.args(["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups", "--"]);
        }
        Actor::new(command.args(words).stdout(Stdio::piped()).spawn().unwrap())
    }

    /// `evil` does `connect`, and goes on with `then`, which ends by asking, [`When`] the agent is where it should
    /// be.
    pub(super) fn attack(&mut self, when: When, uid: u32, connect: &[String], then: &[String]) -> Heard {
        let evil = self.program("evil");
        self.attack_by(when, uid, &[&[evil], connect].concat(), then)
    }

    /// The same, by any command whose last words are steps, the very last ones of which connect.
    pub(super) fn attack_by(&mut self, when: When, uid: u32, words: &[String], then: &[String]) -> Heard {
        let mut actor = self.begin(when, uid, words, then);
        self.finish(when, &mut actor)
    }

    /// Connects, and lets `then` begin.
    pub(super) fn begin(&mut self, when: When, uid: u32, words: &[String], then: &[String]) -> Actor {
        let accepted = self.accepted();
        if when == When::BeforeAccept {
            self.freeze();
        }
        let (ready, go) = (self.mark(), self.mark());
        let pause = steps(["touch", &ready, "await", &go]);
        let mut actor = self.start(uid, &[words, &pause, then].concat());
        actor.wait("touch");
        if when == When::AfterAccept {
            eventually("the connection is accepted", LIMIT, || (self.accepted() > accepted).then_some(()));
        }
        fs::write(&go, "").unwrap();
        actor
    }

    /// Hears what comes of it.
    pub(super) fn finish(&mut self, when: When, actor: &mut Actor) -> Heard {
        if when == When::BeforeAccept {
            actor.wait("call");
            self.thaw();
        }
        actor.hear()
    }

    /// The agent does nothing until [`Self::thaw`].
    pub(super) fn freeze(&mut self) {
        self.agent.process().signal(Signal::SIGSTOP);
        let threads = format!("/proc/{}/task", self.agent.process().pid());
        eventually("the agent stands still", LIMIT, || {
            let stopped = |thread: fs::DirEntry| {
                fs::read_to_string(thread.path().join("stat")).unwrap_or_default().contains(") T ")
            };
            fs::read_dir(&threads).unwrap().flatten().all(stopped).then_some(())
        });
    }

    pub(super) fn thaw(&mut self) {
        self.agent.process().signal(Signal::SIGCONT);
    }

    /// What a program gets that plays no trick.
    pub(super) fn honest(&self, name: &str, uid: u32) -> Heard {
        let words = [steps([&*self.program(name), "connect", &self.socket()]), ask()].concat();
        self.start(uid, &words).hear()
    }

    /// Somebody of ours who runs `program`.
    pub(super) fn runs(&self, program: &str) -> Option<Pid> {
        let ours = fs::read_to_string(self.cgroup.dir().join("cgroup.procs")).unwrap();
        let runs = |pid: &&str| {
            fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|file| file == Path::new(program))
        };
        ours.lines().find(runs).map(|pid| Pid::from_raw(pid.parse().unwrap()))
    }

    /// Waits until so many connections or calls ended that way. A client may hear of the end first.
    pub(super) fn wait_for_ended(&self, what: &str, reason: &str, count: u64) {
        eventually(&format!("{count} {what} ended by {reason}"), LIMIT, || {
            (self.ended(what, reason) >= count).then_some(())
        });
    }

    pub(super) fn ended(&self, what: &str, reason: &str) -> u64 {
        self.metric(&format!("vouch_{what}_ended_total{{outcome=\"refused\",reason=\"{reason}\"}}"))
    }

    pub(super) fn accepted(&self) -> u64 {
        self.metric("vouch_connections_accepted_total")
    }

    /// 0 as long as nothing was counted.
    pub(super) fn metric(&self, name: &str) -> u64 {
        metrics::value(&self.agent.metrics(), name).map_or(0, |count| count as u64)
    }
}
