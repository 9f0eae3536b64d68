//! The embedded CA: authorities that are made, remembered and replaced here.
//!
//! Prepared → published → active → retired, each step durable before it counts. A root leaves the bundle only
//! after its own end, and no SVID outlives its root, so nothing that is valid loses its root.

mod authorities;

use std::{
    path::Path,
    time::{Duration, SystemTime},
};

use super::{
    Error,
    certificate::{self, BACKDATE, Validity, date, seconds, whole_seconds},
    log::{Opened, Prepared, Record, SignerId, State, StateLog, damaged},
    signer::{Curve, Signer},
    signing::Signing,
};
use crate::{problem::Problem, spiffe::TrustDomain};
use authorities::{Authorities, Ca, Stage, Step};

/// How far time may seem to have gone back before it is called a fact.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(10 * 60);
/// 2026-01-01. A clock before that is not set yet.
const EARLIEST: u64 = 1_767_225_600;
/// Most steps of one tick: from nothing usable to an active authority takes three, retiring a few more.
const MAX_STEPS: usize = 16;

/// The authorities of this node's trust domain, and the log that remembers them.
#[derive(Debug)]
pub(super) struct Embedded {
    log: StateLog,
    ca_ttl: Duration,
    trust_domain: TrustDomain,
    authorities: Authorities,
    /// A step since the last tick that ended well changed signer or bundle.
    changed: bool,
}

/// The trust domain of the node whose state is in `state_dir`; `None` where no node has been yet. Makes nothing.
///
/// # Errors
/// E0201, E0202, E0203, E0205 and E0206, as when an agent opens it.
pub fn stored_trust_domain(state_dir: &Path) -> Result<Option<TrustDomain>, Problem> {
    if !state_dir.exists() {
        return Ok(None);
    }
    let State::Known(opened) = State::open(state_dir)? else { return Ok(None) };
    Ok(Authorities::replay(&opened.records).ok().and_then(|authorities| authorities.trust_domain))
}

impl Embedded {
    /// Opens the state directory, and makes an authority if it is new.
    ///
    /// # Errors
    /// E0201 to E0206 as [`State::open`], E0205 also when the log contradicts itself, E0207 when it belongs to
    /// another trust domain, E0208 when the clock is not set.
    pub(super) fn open(
        path: &Path,
        trust_domain: &TrustDomain,
        ca_ttl: Duration,
        now: SystemTime,
    ) -> Result<Self, Problem> {
        match State::open(path)? {
            State::Known(opened) => Self::restore(opened, trust_domain, ca_ttl),
            State::New(vacant) => {
                require_clock(now)?;
                let prepared =
                    new_authority(trust_domain, ca_ttl, now).map_err(|error| no_authority(&error))?;
                let ca = SignerId::of(&prepared.certificate);
                let records = [
                    Record::TrustDomain(trust_domain.clone()),
                    Record::Prepared(prepared),
                    Record::Published { ca, at: now },
                    Record::Active { ca },
                ];
                let authorities = Authorities::replay(&records).map_err(|why| damaged(path, &why))?;
                let log = vacant.create(&records)?;
                Ok(Self { log, ca_ttl, trust_domain: trust_domain.clone(), authorities, changed: false })
            }
        }
    }

    fn restore(opened: Opened, trust_domain: &TrustDomain, ca_ttl: Duration) -> Result<Self, Problem> {
        let path = opened.path();
        let authorities = Authorities::replay(&opened.records).map_err(|why| damaged(&path, &why))?;
        match &authorities.trust_domain {
            Some(stored) if stored == trust_domain => {}
            Some(stored) => return Err(other_trust_domain(&path, stored, trust_domain)),
            None => return Err(damaged(&path, "it names no trust domain")),
        }
        if !authorities.list.iter().any(|ca| ca.stage != Stage::Prepared) {
            return Err(damaged(&path, "it holds no authority that was ever published"));
        }
        if opened.torn_bytes > 0 {
            tracing::warn!(
                path = %path.display(), bytes = opened.torn_bytes,
                "the state log ended in an unfinished record, which was cut off"
            );
        }
        let log = opened.accept()?;
        Ok(Self { log, ca_ttl, trust_domain: trust_domain.clone(), authorities, changed: false })
    }

    /// Takes every step that is due at `now`: prepares a successor at half of the active authority's life,
    /// activates it in the last sixth, retires what has ended. Returns whether signer or bundle changed since the
    /// last tick that ended well.
    ///
    /// # Errors
    /// E0204 when the log cannot be written, E0201 or E0205 when it is not what was written, E0217 when no authority can
    /// be made; what was stays in force, and the next tick tries again.
    pub(super) fn tick(&mut self, now: SystemTime) -> Result<bool, Problem> {
        for _ in 0..MAX_STEPS {
            let Some(step) = self.authorities.next_step(now) else { break };
            let record = self.record_of(step, now)?;
            self.log.append(&record)?;
            self.authorities.apply(&record).map_err(|why| damaged(Path::new("in memory"), &why))?;
            self.changed |= step != Step::HighWater;
        }
        Ok(std::mem::take(&mut self.changed))
    }

    fn record_of(&self, step: Step, now: SystemTime) -> Result<Record, Problem> {
        Ok(match step {
            Step::Prepare => {
                require_clock(now)?;
                let prepared = new_authority(&self.trust_domain, self.ca_ttl, now);
                Record::Prepared(prepared.map_err(|error| no_authority(&error))?)
            }
            Step::Publish(ca) => Record::Published { ca, at: now },
            Step::Activate(ca) => Record::Active { ca },
            Step::Retire(ca) => Record::Retired { ca },
            Step::HighWater => {
                let ends = self.authorities.list.iter().map(|ca| ca.validity.not_after);
                Record::HighWater { clock: now, not_after: ends.max().unwrap_or(now) }
            }
        })
    }

    /// What signs now.
    ///
    /// # Errors
    /// E0205 when there is none, or its key is not usable.
    pub(super) fn signing(&self) -> Result<Signing, Problem> {
        self.authorities
            .active()
            .ok_or_else(|| "no authority is active".to_owned())
            .and_then(|ca| ca.signing().map_err(|error| error.to_string()))
            .map_err(|why| damaged(Path::new("of the embedded CA"), &why))
    }

    /// DER, oldest first: everything published and not retired.
    pub(super) fn roots(&self) -> Vec<Vec<u8>> {
        self.published().map(|ca| ca.certificate.clone()).collect()
    }

    /// Whose SVIDs may be in use.
    pub(super) fn signers(&self) -> Vec<SignerId> {
        self.published().map(|ca| ca.id).collect()
    }

    /// Whether another authority is ready for the time after the active one.
    pub(super) fn has_successor(&self) -> bool {
        self.authorities.list.iter().any(|ca| matches!(ca.stage, Stage::Published(_)))
    }

    /// How far the clock stands behind what this node has already seen; `None` when it does not.
    pub(super) fn clock_behind(&self, now: SystemTime) -> Option<Duration> {
        let behind = self.authorities.high_water?.duration_since(now).ok()?;
        (behind > CLOCK_TOLERANCE).then_some(behind)
    }

    fn published(&self) -> impl Iterator<Item = &Ca> {
        self.authorities.list.iter().filter(|ca| ca.stage != Stage::Prepared)
    }
}

fn new_authority(trust_domain: &TrustDomain, ca_ttl: Duration, now: SystemTime) -> Result<Prepared, Error> {
    let (key, signer) = Signer::generate(Curve::P256)?;
    let validity = Validity {
        not_before: whole_seconds(now.checked_sub(BACKDATE).unwrap_or(now)),
        not_after: whole_seconds(now.checked_add(ca_ttl).ok_or(Error::Date)?),
    };
    let certificate = certificate::root(trust_domain, &signer, validity)?;
    Ok(Prepared { certificate, key })
}

/// A root made while the clock reads 1970 would be worthless a second later.
fn require_clock(now: SystemTime) -> Result<(), Problem> {
    if seconds(now) >= EARLIEST {
        return Ok(());
    }
    Err(Problem::new("E0208", "the clock is not set, so no authority can be made")
        .why(format!("it reads {}", date(now)))
        .fix("set the clock (timedatectl, chronyd, ntpd), then start the agent again"))
}

fn no_authority(error: &Error) -> Problem {
    Problem::new("E0217", "no authority can be made")
        .why(error.to_string())
        .fix("choose a ca_ttl between one minute and a few decades, on a system with a random generator")
}

fn other_trust_domain(path: &Path, stored: &TrustDomain, asked: &TrustDomain) -> Problem {
    Problem::new("E0207", format!("this state belongs to trust domain {stored}, not to {asked}"))
        .why(format!("{} holds the authority of {stored}; one agent serves one trust domain", path.display()))
        .fix(format!("set trust_domain = \"{stored}\" again, or give {asked} a state_dir of its own"))
}

#[cfg(test)]
mod tests;
