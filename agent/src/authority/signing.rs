//! One certificate and key that sign SVIDs at this moment. Immutable; signing is pure computation.

use std::time::{Duration, SystemTime};

use rcgen::Issuer;
use x509_parser::parse_x509_certificate;

use super::{
    Error, SvidRequest,
    certificate::{self, BACKDATE, Validity},
    key::{KeyPair, KeyType},
    log::SignerId,
    signer::Signer,
};
use crate::spiffe::X509Svid;

/// What signs, and what stands between it and the roots.
#[derive(Debug)]
pub(super) struct Signing {
    issuer: Issuer<'static, Signer>,
    id: SignerId,
    /// DER, the signing certificate first; roots left out.
    intermediates: Vec<Vec<u8>>,
    validity: Validity,
}

/// A signed SVID, and who signed it.
#[derive(Debug)]
pub struct Signed {
    pub svid: X509Svid,
    pub signer: SignerId,
}

impl Signing {
    /// `certificate` belongs to `key`; `validity` is that of the whole path to a root.
    ///
    /// # Errors
    /// [`Error::IssuerName`] when the certificate's subject cannot be written again byte by byte, so that no
    /// verifier would find its way from an SVID to it.
    pub(super) fn new(
        certificate: &[u8],
        key: Signer,
        intermediates: Vec<Vec<u8>>,
        validity: Validity,
    ) -> Result<Self, Error> {
        let issuer = Issuer::from_ca_cert_der(&certificate.into(), key).map_err(|_| Error::IssuerName)?;
        let signing = Self { issuer, id: SignerId::of(certificate), intermediates, validity };
        signing.prove_name(certificate)?;
        Ok(signing)
    }

    pub(super) fn id(&self) -> SignerId {
        self.id
    }

    pub(super) fn validity(&self) -> Validity {
        self.validity
    }

    pub(super) fn issue(
        &self,
        request: &SvidRequest,
        default_ttl: Duration,
        key: &KeyPair,
    ) -> Result<Signed, Error> {
        let validity = self.svid_validity(request.now, request.ttl.unwrap_or(default_ttl))?;
        let leaf = certificate::leaf(&request.id, &request.dns_names, key, validity, &self.issuer)?;
        let svid = X509Svid {
            id: request.id.clone(),
            chain: std::iter::once(leaf).chain(self.intermediates.iter().cloned()).collect(),
            key: key.private().clone(),
            not_before: validity.not_before,
            not_after: validity.not_after,
        };
        Ok(Signed { svid, signer: self.id })
    }

    /// Whether anything can be signed at `now`.
    pub(super) fn check(&self, now: SystemTime) -> Result<(), Error> {
        let Validity { not_before, not_after } = self.validity;
        if now < not_before {
            return Err(Error::NotYetValid(not_before));
        }
        if now >= not_after {
            return Err(Error::Expired(not_after));
        }
        Ok(())
    }

    /// From `now` less the backdate for `ttl`, within the signer's own validity.
    fn svid_validity(&self, now: SystemTime, ttl: Duration) -> Result<Validity, Error> {
        self.check(now)?;
        let signer = self.validity;
        let not_before = now.checked_sub(BACKDATE).unwrap_or(now).max(signer.not_before);
        let not_after = now.checked_add(ttl).map_or(signer.not_after, |end| end.min(signer.not_after));
        Ok(Validity {
            not_before: certificate::whole_seconds(not_before),
            not_after: certificate::whole_seconds(not_after),
        })
    }

    fn prove_name(&self, certificate: &[u8]) -> Result<(), Error> {
        let probe = certificate::leaf(
            &"spiffe://probe/x".parse().expect("a valid SPIFFE ID"),
            &[],
            &KeyPair::generate(KeyType::EcP256)?,
            self.validity,
            &self.issuer,
        )?;
        let (_, probe) = parse_x509_certificate(&probe).map_err(|_| Error::IssuerName)?;
        let (_, signer) = parse_x509_certificate(certificate).map_err(|_| Error::IssuerName)?;
        if probe.issuer().as_raw() == signer.subject().as_raw() { Ok(()) } else { Err(Error::IssuerName) }
    }
}
