//! Who signs: the embedded CA, or an intermediate from files.

mod certificate;
mod chain;
mod embedded;
mod intermediate;
mod keeper;
mod key;
mod log;
mod pkcs8;
mod pool;
mod rsa;
mod signer;
mod signing;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::{
    problem::Problem,
    spiffe::{Bundle, SpiffeId, TrustDomain},
};
use certificate::date;
use embedded::Embedded;
use intermediate::Intermediate;
use signing::Signing;

pub use embedded::stored_trust_domain;
pub use intermediate::IntermediateFiles;
pub use key::{KeyError, KeyPair, KeyType, UnknownKeyType};
pub use log::SignerId;
pub use pool::{KeyMetrics, KeyPool};
pub use signing::Signed;

/// How long before its end a signer is worth a warning, or a twelfth of a shorter life.
const WARN_BEFORE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// What is to be signed. Not about who asked: entitlement is decided before.
#[derive(Debug, Clone)]
pub struct SvidRequest {
    pub id: SpiffeId,
    pub dns_names: Vec<String>,
    /// `None` takes the authority's default.
    pub ttl: Option<Duration>,
    pub now: SystemTime,
}

/// What holds for every kind of authority.
#[derive(Debug, Clone)]
pub struct AuthorityConfig {
    pub trust_domain: TrustDomain,
    /// Lifetime of an X.509-SVID whose entry names none.
    pub svid_ttl: Duration,
    /// Of the keys of SVIDs.
    pub key_type: KeyType,
    pub source: AuthoritySource,
}

/// Where the signing key comes from.
#[derive(Debug, Clone)]
pub enum AuthoritySource {
    Embedded { state_dir: PathBuf, ca_ttl: Duration },
    Intermediate(IntermediateFiles),
}

/// What consumers are to trust, and whose SVIDs are still good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trust {
    pub bundle: Arc<Bundle>,
    /// An SVID of any other signer is to be replaced at once.
    pub signers: Vec<SignerId>,
}

/// Signs SVIDs for one trust domain. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Authority(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: AuthorityConfig,
    signing: ArcSwap<Signing>,
    trust: watch::Sender<Arc<Trust>>,
    /// Touched by [`Authority::refresh`] alone, which may wait for the disk; signing never does.
    source: Mutex<Source>,
    standing: ArcSwap<Standing>,
}

#[derive(Debug)]
enum Source {
    Embedded(Embedded),
    Intermediate(Intermediate),
}

/// What the last refresh found out.
#[derive(Debug, Default)]
struct Standing {
    has_successor: bool,
    clock_behind: Option<Duration>,
    trouble: Option<Arc<Problem>>,
}

/// Why an SVID was not signed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the signing certificate expired at {}", date(*.0))]
    Expired(SystemTime),
    #[error("the signing certificate is not valid before {}", date(*.0))]
    NotYetValid(SystemTime),
    #[error("{id} is not in trust domain {trust_domain}")]
    ForeignId { id: SpiffeId, trust_domain: TrustDomain },
    #[error("{0} names a trust domain, not a workload")]
    NoPath(SpiffeId),
    #[error("{0:?} is no DNS name")]
    DnsName(String),
    #[error("a date is beyond what a certificate can say")]
    Date,
    #[error("the system's random generator failed")]
    Random,
    #[error("the subject of the signing certificate cannot be repeated in what it signs")]
    IssuerName,
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("signing failed")]
    Sign(#[from] rcgen::Error),
}

impl Error {
    /// Whether asking again with the same request can give another answer.
    pub fn is_transient(&self) -> bool {
        !matches!(self, Self::ForeignId { .. } | Self::NoPath(_) | Self::DnsName(_) | Self::Date)
    }
}

impl Authority {
    /// Opens the state directory or reads the files; blocks on the disk. A new state directory gets its authority.
    ///
    /// # Errors
    /// E0201 to E0208 and E0217 for the embedded CA, E0210 to E0216, E0218 and E0219 for an intermediate.
    pub fn open(config: AuthorityConfig, now: SystemTime) -> Result<Self, Problem> {
        let mut source = match &config.source {
            AuthoritySource::Embedded { state_dir, ca_ttl } => {
                Source::Embedded(Embedded::open(state_dir, &config.trust_domain, *ca_ttl, now)?)
            }
            AuthoritySource::Intermediate(files) => {
                Source::Intermediate(Intermediate::load(files.clone(), &config.trust_domain, now)?)
            }
        };
        // What became due while the agent was down. Trouble with it is kept as a fact; what is valid still signs.
        let trouble = source.refresh(now).err().map(Arc::new);
        let signing = ArcSwap::new(source.signing()?);
        let trust = watch::Sender::new(Arc::new(source.trust(&config.trust_domain)));
        let standing = ArcSwap::from_pointee(Standing { trouble, ..source.standing(now) });
        Ok(Self(Arc::new(Inner { config, signing, trust, source: Mutex::new(source), standing })))
    }

    /// Signs an X.509-SVID that binds the public half of `key` to the request's SPIFFE ID. Never waits.
    ///
    /// The chain is DER, leaf first, root left out. Valid from `now` less one minute of clock skew for the
    /// request's TTL, shortened so that it never outlives the path it is signed by.
    ///
    /// # Errors
    /// See [`Error`].
    ///
    /// Source: SPIFFE X509-SVID §2 to §4.
    pub fn issue(&self, request: &SvidRequest, key: &KeyPair) -> Result<Signed, Error> {
        self.check(request)?;
        self.0.signing.load().issue(request, self.0.config.svid_ttl, key)
    }

    /// Whether `request` would be signed, whatever the key.
    ///
    /// # Errors
    /// Those of [`Self::issue`] that need no key to be known.
    pub fn check(&self, request: &SvidRequest) -> Result<(), Error> {
        let trust_domain = &self.0.config.trust_domain;
        if !request.id.is_in(trust_domain) {
            return Err(Error::ForeignId { id: request.id.clone(), trust_domain: trust_domain.clone() });
        }
        if request.id.path().is_empty() {
            return Err(Error::NoPath(request.id.clone()));
        }
        self.0.signing.load().check(request.now)
    }

    pub fn config(&self) -> &AuthorityConfig {
        &self.0.config
    }

    pub fn bundle(&self) -> Arc<Bundle> {
        self.0.trust.borrow().bundle.clone()
    }

    /// The newest [`Trust`]; a new root shows here before anything is signed by it.
    pub fn trust(&self) -> watch::Receiver<Arc<Trust>> {
        self.0.trust.subscribe()
    }

    /// When the signer in use ends.
    pub fn expires(&self) -> SystemTime {
        self.0.signing.load().validity().not_after
    }

    /// Whether the signer ends within 30 days (or the last twelfth of a shorter life) and nothing is ready to
    /// follow it.
    pub fn warns(&self, now: SystemTime) -> bool {
        let validity = self.0.signing.load().validity();
        let life = validity.not_after.duration_since(validity.not_before).unwrap_or_default();
        let left = validity.not_after.duration_since(now).unwrap_or_default();
        // Once it is over, that is no warning any more.
        !left.is_zero() && left < WARN_BEFORE.min(life / 12) && !self.0.standing.load().has_successor
    }

    /// How far the clock stands behind what this node had already seen, when it does by more than ten minutes.
    pub fn clock_behind(&self) -> Option<Duration> {
        self.0.standing.load().clock_behind
    }

    /// Why the last refresh kept what was there before.
    pub fn trouble(&self) -> Option<Arc<Problem>> {
        self.0.standing.load().trouble.clone()
    }

    /// Takes the steps that are due: the next authority of the embedded CA, or changed files. Blocks on the disk.
    ///
    /// # Errors
    /// What [`Self::trouble`] returns afterwards. What was in force stays so.
    pub fn refresh(&self, now: SystemTime) -> Result<(), Arc<Problem>> {
        let mut source = self.source();
        let outcome =
            source.refresh(now).and_then(|changed| if changed { self.publish(&source) } else { Ok(()) });
        let trouble = outcome.err().map(Arc::new);
        self.0.standing.store(Arc::new(Standing { trouble: trouble.clone(), ..source.standing(now) }));
        trouble.map_or(Ok(()), Err)
    }

    /// The bundle goes first: nobody sees an SVID whose root is not out yet.
    fn publish(&self, source: &Source) -> Result<(), Problem> {
        let signing = source.signing()?;
        self.0.trust.send_if_modified(|trust| {
            let new = source.trust(&self.0.config.trust_domain);
            let changed = **trust != new;
            *trust = Arc::new(new);
            changed
        });
        self.0.signing.store(signing);
        Ok(())
    }

    fn source(&self) -> MutexGuard<'_, Source> {
        // A panic in a refresh leaves a source that the next refresh starts from.
        self.0.source.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source {
    fn refresh(&mut self, now: SystemTime) -> Result<bool, Problem> {
        match self {
            Self::Embedded(embedded) => embedded.tick(now),
            Self::Intermediate(intermediate) => intermediate.reload(now),
        }
    }

    fn signing(&self) -> Result<Arc<Signing>, Problem> {
        match self {
            Self::Embedded(embedded) => embedded.signing().map(Arc::new),
            Self::Intermediate(intermediate) => Ok(intermediate.signing.clone()),
        }
    }

    fn trust(&self, trust_domain: &TrustDomain) -> Trust {
        let (x509_authorities, signers) = match self {
            Self::Embedded(embedded) => (embedded.roots(), embedded.signers()),
            Self::Intermediate(files) => (files.roots.clone(), vec![files.signing.id()]),
        };
        let trust_domain = trust_domain.clone();
        Trust { bundle: Arc::new(Bundle { trust_domain, x509_authorities }), signers }
    }

    fn standing(&self, now: SystemTime) -> Standing {
        match self {
            Self::Embedded(embedded) => Standing {
                has_successor: embedded.has_successor(),
                clock_behind: embedded.clock_behind(now),
                trouble: None,
            },
            Self::Intermediate(_) => Standing::default(),
        }
    }
}

#[cfg(test)]
mod tests;
