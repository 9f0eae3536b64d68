//! X.509-SVIDs and the keys that belong to them.

use std::{fmt, time::SystemTime};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use super::SpiffeId;

const BEGIN: &str = "-----BEGIN PRIVATE KEY-----\n";
const END: &str = "-----END PRIVATE KEY-----\n";
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
        let base64 = Zeroizing::new(STANDARD.encode(&*self.0));
        let size = BEGIN.len() + base64.len() + base64.len().div_ceil(PEM_LINE) + END.len();
        let mut text = Zeroizing::new(String::with_capacity(size));
        text.push_str(BEGIN);
        for start in (0..base64.len()).step_by(PEM_LINE) {
            text.push_str(&base64[start..base64.len().min(start + PEM_LINE)]);
            text.push('\n');
        }
        text.push_str(END);
        text
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_in_pem_is_what_others_write() {
        for length in [0, 1, 47, 48, 49, 138, 1217] {
            let der: Vec<u8> = (0..length).map(|at| at as u8).collect();
            let pem = PrivateKey::from_pkcs8(der.clone()).pem();
            assert_eq!(*pem, pem_of("PRIVATE KEY", &[der]));
            assert!(pem.capacity() <= pem.len() + 1, "it never had to grow");
        }
    }
}
