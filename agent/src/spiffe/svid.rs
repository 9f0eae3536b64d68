//! X.509-SVIDs and the keys that belong to them.

use std::{fmt, time::SystemTime};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use super::SpiffeId;

/// Characters of base64 on one line of PEM. Source: RFC 7468.
const PEM_LINE: usize = 64;

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

    /// PEM with the label `PRIVATE KEY`. No part of it is left behind in a buffer that is not wiped.
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

/// DER documents one after the other as PEM, each under `label`. They may be keys: the text never moves while it is made,
/// and what it is made of is wiped.
pub(crate) fn pem_of(label: &str, ders: &[Vec<u8>]) -> String {
    let (begin, end) = (format!("-----BEGIN {label}-----\n"), format!("-----END {label}-----\n"));
    let parts: Vec<_> = ders.iter().map(|der| Zeroizing::new(STANDARD.encode(der))).collect();
    let size = |base64: &str| begin.len() + base64.len() + base64.len().div_ceil(PEM_LINE) + end.len();
    let mut text = String::with_capacity(parts.iter().map(|base64| size(base64)).sum());
    for base64 in &parts {
        text.push_str(&begin);
        for start in (0..base64.len()).step_by(PEM_LINE) {
            text.push_str(&base64[start..base64.len().min(start + PEM_LINE)]);
            text.push('\n');
        }
        text.push_str(&end);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_in_pem_is_what_others_write() {
        for length in [0, 1, 47, 48, 49, 138, 1217] {
            let der: Vec<u8> = (0..length).map(|at| at as u8).collect();
            let pem = PrivateKey::from_pkcs8(der.clone()).pem();
            let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
            assert_eq!(*pem, pem::encode_config(&pem::Pem::new("PRIVATE KEY", der), config));
            assert!(pem.capacity() <= pem.len() + 1, "it never had to grow");
        }
    }
}
