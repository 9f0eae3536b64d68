//! The authorities of one trust domain.

use super::TrustDomain;

/// The X.509 authorities of one trust domain, each a DER certificate. Bundles are never merged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    pub trust_domain: TrustDomain,
    /// DER, oldest first. A consumer trusts each of them.
    pub x509_authorities: Vec<Vec<u8>>,
}

impl Bundle {
    /// All authorities one after the other, as the Workload API carries them.
    pub fn concatenated_der(&self) -> Vec<u8> {
        self.x509_authorities.concat()
    }

    /// All authorities as PEM, as Envoy reads them.
    pub fn pem(&self) -> String {
        super::svid::pem_of("CERTIFICATE", &self.x509_authorities)
    }
}
