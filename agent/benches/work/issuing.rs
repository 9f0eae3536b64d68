//! One SVID from the embedded CA.

use std::time::SystemTime;

use tempfile::TempDir;
use vouch::{
    authority::{Authority, KeyPair, KeyType, Signed, SvidRequest},
    svid::Issuer,
};

use super::authority;

#[derive(Debug)]
pub(crate) struct Issuing {
    authority: Authority,
    request: SvidRequest,
    key: KeyPair,
    _state: TempDir,
}

impl Issuing {
    pub(crate) fn new() -> Self {
        let (authority, _state) = authority::embedded();
        let id = "spiffe://example.org/ns/shop/sa/web".parse().expect("a SPIFFE ID");
        let request = SvidRequest { id, dns_names: Vec::new(), ttl: None, now: SystemTime::now() };
        let key = KeyPair::generate(KeyType::EcP256).expect("a key");
        Self { authority, request, key, _state }
    }

    /// Key and certificate.
    pub(crate) fn with_a_new_key(&self) -> Signed {
        Issuer::issue(&self.authority, &self.request).expect("an SVID")
    }

    /// The certificate alone: the key was made ahead.
    pub(crate) fn with_a_key_made_ahead(&self) -> Signed {
        self.authority.issue(&self.request, &self.key).expect("an SVID")
    }
}
