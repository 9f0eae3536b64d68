//! What a resource name means.

use crate::spiffe::TrustDomain;

/// The names that stand for "mine", and two switches. Source: SPIRE's `sds` block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamesConfig {
    /// Stands for the first SVID; `default` unless configured.
    pub default_svid: String,
    /// Stands for the bundle of this trust domain; `ROOTCA` unless configured.
    pub default_bundle: String,
    /// Stands for every bundle; `ALL` unless configured. Has no effect when it equals `default_bundle`.
    pub default_all_bundles: String,
    /// Send plain root certificates instead of Envoy's SPIFFE validator, unless a node says otherwise.
    pub disable_spiffe_validator: bool,
    /// Serve the names that may be served and pass over the rest, instead of refusing the request.
    pub partial: bool,
}

/// The same, with the trust domain's own name.
#[derive(Debug, Clone)]
pub struct Names {
    pub(super) config: NamesConfig,
    pub(super) trust_domain_id: String,
}

/// What one name asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// This trust domain's bundle under one of its three names.
    Bundle(BundleName),
    /// An SVID; by its SPIFFE ID unless no entry matches.
    Svid,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BundleName {
    TrustDomain,
    Default,
    All,
}

impl Names {
    pub fn new(config: NamesConfig, trust_domain: &TrustDomain) -> Self {
        Self { config, trust_domain_id: trust_domain.id().to_string() }
    }

    pub(super) fn meaning(&self, name: &str) -> Meaning {
        if name == self.trust_domain_id {
            Meaning::Bundle(BundleName::TrustDomain)
        } else if name == self.config.default_bundle {
            Meaning::Bundle(BundleName::Default)
        } else if name == self.config.default_all_bundles {
            Meaning::Bundle(BundleName::All)
        } else {
            Meaning::Svid
        }
    }

    pub(super) fn of_bundle(&self, name: BundleName) -> &str {
        match name {
            BundleName::TrustDomain => &self.trust_domain_id,
            BundleName::Default => &self.config.default_bundle,
            BundleName::All => &self.config.default_all_bundles,
        }
    }
}

impl Default for NamesConfig {
    fn default() -> Self {
        Self {
            default_svid: "default".into(),
            default_bundle: "ROOTCA".into(),
            default_all_bundles: "ALL".into(),
            disable_spiffe_validator: false,
            partial: false,
        }
    }
}
