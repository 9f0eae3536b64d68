//! Which authorities there are, how far each has come, and what is to happen next. Plain: no disk, no clock.

use std::time::{Duration, SystemTime};

use super::super::{
    Error,
    certificate::{BACKDATE, Validity},
    chain,
    log::{Prepared, Record, SignerId},
    signer::{Curve, Signer},
    signing::Signing,
};
use crate::spiffe::{PrivateKey, TrustDomain};

/// A new root is in every consumer's hands this long before it signs, or for a twelfth of a short life.
const PROPAGATION: Duration = Duration::from_secs(5 * 60);
/// A root stays in the bundle this long after its end, or for its life if that is shorter, for peers whose clocks
/// are behind.
const RETIRE_AFTER: Duration = Duration::from_secs(24 * 60 * 60);
/// How often the high-water mark is written.
const HIGH_WATER_EVERY: Duration = Duration::from_secs(6 * 60 * 60);

/// What the log says.
#[derive(Debug, Default)]
pub(super) struct Authorities {
    pub(super) trust_domain: Option<TrustDomain>,
    /// Oldest first, retired ones left out.
    pub(super) list: Vec<Ca>,
    pub(super) high_water: Option<SystemTime>,
}

#[derive(Debug)]
pub(super) struct Ca {
    pub(super) id: SignerId,
    pub(super) certificate: Vec<u8>,
    key: PrivateKey,
    pub(super) validity: Validity,
    pub(super) stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Prepared,
    Published(SystemTime),
    Active,
    /// It signed once; what it signed may still be in use.
    Former,
}

/// What is to be done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Prepare,
    Publish(SignerId),
    Activate(SignerId),
    Retire(SignerId),
    HighWater,
}

impl Authorities {
    pub(super) fn replay(records: &[Record]) -> Result<Self, String> {
        let mut authorities = Self::default();
        for record in records {
            authorities.apply(record)?;
        }
        Ok(authorities)
    }

    /// # Errors
    /// Says why `record` cannot follow what was applied before.
    pub(super) fn apply(&mut self, record: &Record) -> Result<(), String> {
        match record {
            Record::TrustDomain(name) if self.trust_domain.is_none() && self.list.is_empty() => {
                self.trust_domain = Some(name.clone());
            }
            Record::TrustDomain(_) => return Err("it names its trust domain twice".to_owned()),
            Record::Prepared(prepared) => {
                let ca = Ca::new(prepared)?;
                if self.list.iter().any(|known| known.id == ca.id) {
                    return Err("it prepares an authority twice".to_owned());
                }
                self.list.push(ca);
            }
            Record::Published { ca, at } => match &mut self.get(*ca)?.stage {
                stage @ Stage::Prepared => *stage = Stage::Published(*at),
                _ => return Err("it publishes an authority twice".to_owned()),
            },
            Record::Active { ca } => {
                if self.get(*ca)?.stage == Stage::Prepared {
                    return Err("it activates an authority that was not published".to_owned());
                }
                self.list
                    .iter_mut()
                    .filter(|ca| ca.stage == Stage::Active)
                    .for_each(|ca| ca.stage = Stage::Former);
                self.get(*ca)?.stage = Stage::Active;
            }
            Record::Retired { ca } => {
                if self.get(*ca)?.stage == Stage::Active {
                    return Err("it retires the active authority".to_owned());
                }
                self.list.retain(|known| known.id != *ca);
            }
            Record::HighWater { clock, .. } => self.high_water = self.high_water.max(Some(*clock)),
        }
        Ok(())
    }

    fn get(&mut self, id: SignerId) -> Result<&mut Ca, String> {
        self.list
            .iter_mut()
            .find(|ca| ca.id == id)
            .ok_or_else(|| format!("it names an unknown authority, {id:?}"))
    }

    pub(super) fn active(&self) -> Option<&Ca> {
        self.list.iter().find(|ca| ca.stage == Stage::Active)
    }

    pub(super) fn next_step(&self, now: SystemTime) -> Option<Step> {
        if let Some(ca) = self.list.iter().find(|ca| ca.stage == Stage::Prepared) {
            return Some(Step::Publish(ca.id));
        }
        let Some(active) = self.active().filter(|ca| ca.is_valid(now)) else {
            // Nothing signs: no time to let the bundle travel first. The newest lasts longest.
            let usable = self.list.iter().rev().find(|ca| ca.is_valid(now));
            return Some(usable.map_or(Step::Prepare, |ca| Step::Activate(ca.id)));
        };
        let life = active.life();
        let left = active.validity.not_after.duration_since(now).unwrap_or_default();
        let successor = self.list.iter().find_map(|ca| match ca.stage {
            // In whole seconds: of a short life, two may well end in the same one.
            Stage::Published(at) if ca.validity.not_after >= active.validity.not_after => Some((ca.id, at)),
            _ => None,
        });
        match successor {
            None if left < life / 2 => return Some(Step::Prepare),
            Some((id, at)) if left < life / 6 && at + PROPAGATION.min(life / 12) <= now => {
                return Some(Step::Activate(id));
            }
            _ => {}
        }
        let ended = |ca: &&Ca| {
            ca.stage != Stage::Active && ca.validity.not_after + RETIRE_AFTER.min(ca.life()) <= now
        };
        if let Some(ca) = self.list.iter().find(ended) {
            return Some(Step::Retire(ca.id));
        }
        self.high_water.is_none_or(|mark| mark + HIGH_WATER_EVERY <= now).then_some(Step::HighWater)
    }
}

impl Ca {
    fn new(prepared: &Prepared) -> Result<Self, String> {
        let facts = chain::facts(&prepared.certificate).ok_or("a certificate in it cannot be read")?;
        let signer = Signer::from_pkcs8(&prepared.key, Curve::P256).map_err(|error| error.to_string())?;
        if facts.public_key != signer.public() {
            return Err("a certificate in it does not belong to the key beside it".to_owned());
        }
        Ok(Self {
            id: SignerId::of(&prepared.certificate),
            certificate: prepared.certificate.clone(),
            key: prepared.key.clone(),
            validity: facts.validity,
            stage: Stage::Prepared,
        })
    }

    fn is_valid(&self, now: SystemTime) -> bool {
        self.validity.not_before <= now && now < self.validity.not_after
    }

    /// Without the minute before it was made.
    fn life(&self) -> Duration {
        let valid = self.validity.not_after.duration_since(self.validity.not_before).unwrap_or_default();
        valid.saturating_sub(BACKDATE)
    }

    pub(super) fn signing(&self) -> Result<Signing, Error> {
        let signer = Signer::from_pkcs8(&self.key, Curve::P256)?;
        Signing::new(&self.certificate, signer, Vec::new(), self.validity)
    }
}
