//! X.509-SVIDs and the keys that belong to them.

use std::{fmt, time::SystemTime};

use zeroize::Zeroizing;

use super::SpiffeId;

/// An unencrypted PKCS#8 private key in DER. Prints as `PrivateKey(..)` and is wiped on drop.
#[derive(Clone)]
pub struct PrivateKey(Zeroizing<Vec<u8>>);

impl PrivateKey {
    /// Takes PKCS#8 DER as it comes from a key generator; nothing is parsed.
    pub fn from_pkcs8(der: Vec<u8>) -> Self {
        Self(Zeroizing::new(der))
    }

    /// The DER bytes. What is made of them must be wiped by whoever makes it.
    pub fn pkcs8_der(&self) -> &[u8] {
        &self.0
    }

    /// PEM with the label `PRIVATE KEY`.
    pub fn pem(&self) -> Zeroizing<String> {
        Zeroizing::new(pem_of("PRIVATE KEY", std::slice::from_ref(&*self.0)))
    }
}

/// For `Bytes::from_owner`: whoever holds such bytes holds the key, and it is wiped with the last of them.
impl AsRef<[u8]> for PrivateKey {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(..)")
    }
}

/// An X.509-SVID with its private key.
#[derive(Debug, Clone)]
pub struct X509Svid {
    pub id: SpiffeId,
    /// DER, leaf first, root left out. Never empty.
    pub chain: Vec<Vec<u8>>,
    pub key: PrivateKey,
    pub not_before: SystemTime,
    pub not_after: SystemTime,
}

impl X509Svid {
    /// The chain one after the other, as the Workload API carries it.
    pub fn concatenated_der(&self) -> Vec<u8> {
        self.chain.concat()
    }

    /// The chain as PEM, leaf first.
    pub fn chain_pem(&self) -> String {
        pem_of("CERTIFICATE", &self.chain)
    }
}

/// DER documents one after the other as PEM, each under `label`.
pub(crate) fn pem_of(label: &str, ders: &[Vec<u8>]) -> String {
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    ders.iter().map(|der| pem::encode_config(&pem::Pem::new(label, der.as_slice()), config)).collect()
}
