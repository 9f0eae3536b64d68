//! What one call was told so far, taken down as it changes.

use std::{
    sync::Arc,
    time::{Instant, SystemTime},
};

use super::{Applicant, DecisionId, Decisions, Evidence, Outcome, Ruling};
use crate::{
    attestation::{Run, Selector, SelectorSet, Standing},
    quiet::Quiet,
    registration::{Entries, EntryId, RegistrationEntry, without},
    spiffe::SpiffeId,
};

/// Strangers may be denied as often as they like.
static DENIED: Quiet = Quiet::new();

/// Of one call. Compares in some nanoseconds where nothing has changed, and takes down what has.
#[derive(Debug)]
pub struct Account {
    decisions: Arc<Decisions>,
    applicant: Arc<Applicant>,
    run: Arc<Run>,
    told: Option<Entries>,
    /// What was lost last.
    lost: Option<(DecisionId, Vec<(EntryId, SpiffeId)>)>,
    /// Those of the process before its end.
    selectors: Arc<SelectorSet>,
}

impl Account {
    pub fn new(decisions: Arc<Decisions>, applicant: Arc<Applicant>, run: Arc<Run>) -> Self {
        let selectors = Arc::clone(&run.standing().borrow().selectors);
        Self { decisions, applicant, run, told: None, lost: None, selectors }
    }

    /// The entries whose SVIDs the caller holds from `now` on, sorted by id, and what is known of it.
    pub fn told(&mut self, held: &Entries, standing: &Standing, now: SystemTime) {
        let is_as_before = |told: &Entries| {
            Arc::ptr_eq(told, held) || told.len() == held.len() && without(told, held).next().is_none()
        };
        if self.told.as_ref().is_some_and(is_as_before) {
            return;
        }
        let change = self.change(standing);
        if !standing.gone {
            self.selectors = Arc::clone(&standing.selectors);
        }
        let before = self.told.replace(Arc::clone(held));
        match before {
            None if held.is_empty() => {}
            None => {
                self.record(Outcome::Served(held.iter().map(|entry| names(entry)).collect()), now);
            }
            Some(before) => {
                let lost: Vec<_> = without(&before, held).map(|entry| names(entry)).collect();
                let gained: Vec<_> = without(held, &before).map(|entry| names(entry)).collect();
                if !lost.is_empty() {
                    let id = self.record(Outcome::Lost { identities: lost.clone(), change }, now);
                    self.say(id, "identity lost", change);
                    self.lost = Some((id, lost));
                }
                if !gained.is_empty() {
                    self.record(Outcome::Gained(gained), now);
                }
            }
        }
    }

    /// The call ends because it may not have what it asks for: names, or none where it asks for all it can have.
    /// What was lost before it was asked for again is no second decision.
    pub fn denied(&mut self, asked: &[String], now: SystemTime) -> DecisionId {
        if let Some((id, lost)) = &self.lost {
            let was_lost = |name: &String| lost.iter().any(|(_, given)| given.as_str() == name);
            let holds_nothing = self.told.as_ref().is_none_or(|told| told.is_empty());
            if holds_nothing || !asked.is_empty() && asked.iter().all(was_lost) {
                return *id;
            }
        }
        let id = self.record(Outcome::Denied { asked: asked.to_vec() }, now);
        self.say(id, "identity denied", "");
        id
    }

    fn record(&self, outcome: Outcome, now: SystemTime) -> DecisionId {
        let evidence = Evidence { selectors: Arc::clone(&self.selectors), costs: self.run.costs() };
        let ruling = Ruling { applicant: Arc::clone(&self.applicant), evidence: Some(evidence), outcome };
        self.decisions.record(ruling, now)
    }

    fn say(&self, decision: DecisionId, what: &str, change: &str) {
        if let Some(suppressed) = DENIED.line(Instant::now()) {
            let (pid, uid) = (self.applicant.pid, self.applicant.uid);
            tracing::info!(pid, uid, %decision, change, suppressed, "{what} (E0412)");
        }
    }

    /// Why less is earned than before, in a word.
    fn change(&self, standing: &Standing) -> &'static str {
        match &standing.now {
            _ if standing.gone => "exit",
            Some(now) => change_between(&self.selectors, now),
            None if *standing.selectors != *self.selectors => "selectors",
            None => "entries",
        }
    }
}

/// The weightiest difference: what is executed, by whom, where.
fn change_between(before: &SelectorSet, now: &SelectorSet) -> &'static str {
    let differs = |belongs: fn(&Selector) -> bool| {
        let missing = |from: &SelectorSet, other: &SelectorSet| {
            from.iter().any(|selector| belongs(selector) && !other.contains(selector))
        };
        missing(before, now) || missing(now, before)
    };
    let of_executable = |selector: &Selector| {
        matches!(
            (selector.kind(), selector.field()),
            ("unix", "path" | "sha256") | ("kernel", "exe" | "fsverity")
        )
    };
    let of_cgroup = |selector: &Selector| {
        matches!((selector.kind(), selector.field()), ("kernel", "cgroup" | "cgroup_name" | "container"))
    };
    if differs(of_executable) {
        "exec"
    } else if differs(|selector| selector.kind() == "unix" || selector.field() == "cap") {
        "credentials"
    } else if differs(of_cgroup) {
        "cgroup"
    } else {
        "process"
    }
}

fn names(entry: &RegistrationEntry) -> (EntryId, SpiffeId) {
    (entry.id.clone(), entry.spiffe_id.clone())
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::attestation::{Attestor, AttestorConfig, Grade, PathRule, Peer};

    fn entry(id: &str) -> RegistrationEntry {
        RegistrationEntry::new(
            EntryId::new(id),
            format!("spiffe://example.org/{id}").parse().unwrap(),
            vec![],
        )
    }

    /// An account of this very process, and the socket that keeps it connected.
    async fn account(decisions: &Arc<Decisions>) -> (Account, UnixStream) {
        let config = AttestorConfig {
            path: PathRule::Verified,
            hash_size_limit: 1,
            timeout: std::time::Duration::from_secs(5),
            in_flight: 1,
            in_flight_per_caller: 1,
            queued: 1,
            reserve: 0.0,
            rate: crate::rate::Rate::new(1, 1),
            remembered: 1,
        };
        let (ours, theirs) = UnixStream::pair().unwrap();
        let peer = Arc::new(Peer::of(&ours, None, Grade::Peercred).unwrap());
        let run = Attestor::new(config, None, None, vec![]).attest(&peer).await.unwrap();
        let applicant = Applicant {
            pid: peer.pid,
            uid: peer.uid,
            gid: peer.gid,
            caller: peer.caller_key(),
            grade: Some(peer.grade),
            proof: "test",
            cgroup: None,
            container: None,
            executable: None,
            exec_count: None,
            birth: 1,
        };
        (Account::new(Arc::clone(decisions), Arc::new(applicant), run), theirs)
    }

    fn words(decisions: &Decisions) -> Vec<String> {
        let told = |outcome: &Outcome| {
            let ids: Vec<&str> = outcome.identities().iter().map(|(id, _)| id.as_str()).collect();
            format!("{} {}", outcome.word(), ids.join(" "))
        };
        let mut words: Vec<String> =
            decisions.find(100, |_| true).iter().map(|decision| told(&decision.ruling.outcome)).collect();
        words.reverse();
        words
    }

    #[tokio::test]
    async fn each_change_is_taken_down_once() {
        let decisions = Arc::new(Decisions::new(100));
        let (mut account, _open) = account(&decisions).await;
        let standing = Standing::new(Arc::clone(&account.selectors));
        let (a, b) = (Arc::new(entry("a")), Arc::new(entry("b")));
        let now = SystemTime::now();
        for held in [&[][..], &[&a], &[&a], &[&a, &b], &[&b], &[]] {
            account.told(&held.iter().copied().cloned().collect(), &standing, now);
        }
        assert_eq!(words(&decisions), ["gained a", "gained b", "lost a", "lost b"]);
        let lost = account.denied(&[], now);
        let known = decisions.get(lost).unwrap();
        assert!(matches!(known.ruling.outcome, Outcome::Lost { change: "entries", .. }), "{known:?}");
        assert!(!known.ruling.evidence.as_ref().unwrap().costs.is_empty());
    }

    #[tokio::test]
    async fn a_name_that_was_never_held_is_a_denial_and_one_that_was_lost_is_that_loss() {
        let decisions = Arc::new(Decisions::new(100));
        let (mut account, _open) = account(&decisions).await;
        let standing = Standing::new(Arc::clone(&account.selectors));
        let (a, b) = (Arc::new(entry("a")), Arc::new(entry("b")));
        let now = SystemTime::now();
        account.told(&[a, Arc::clone(&b)].into(), &standing, now);
        account.told(&[b].into(), &standing, now);
        let of = |id: DecisionId| decisions.get(id).unwrap().ruling.outcome.word();
        assert_eq!(of(account.denied(&["spiffe://example.org/c".into()], now)), "denied");
        assert_eq!(of(account.denied(&["spiffe://example.org/a".into()], now)), "lost");
        let gone = Standing { gone: true, ..Standing::default() };
        account.told(&[].into(), &gone, now);
        let known = decisions.get(account.denied(&["default".into()], now)).unwrap();
        assert!(matches!(known.ruling.outcome, Outcome::Lost { change: "exit", .. }), "{known:?}");
        assert!(!known.ruling.evidence.as_ref().unwrap().selectors.is_empty(), "those it had");
    }

    #[test]
    fn a_change_has_a_name() {
        let set = |values: &[(&'static str, &'static str)]| -> SelectorSet {
            values.iter().map(|(kind, value)| Selector::new(*kind, *value)).collect()
        };
        let before = set(&[("unix", "uid:7"), ("unix", "path:/a"), ("kernel", "cgroup:/a")]);
        for (now, word) in [
            (set(&[("unix", "uid:8"), ("unix", "path:/b"), ("kernel", "cgroup:/a")]), "exec"),
            (set(&[("unix", "uid:8"), ("unix", "path:/a"), ("kernel", "cgroup:/b")]), "credentials"),
            (set(&[("unix", "uid:7"), ("unix", "path:/a"), ("kernel", "cgroup:/b")]), "cgroup"),
            (before.clone(), "process"),
        ] {
            assert_eq!(change_between(&before, &now), word);
        }
    }
}
