//! What we put into certificates: roots of the embedded CA, and X.509-SVIDs.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyUsagePurpose, SanType, SerialNumber,
};
use ring::rand::{SecureRandom, SystemRandom};
use time::OffsetDateTime;

use super::{Error, key::KeyPair, signer::Signer};
use crate::spiffe::{SpiffeId, TrustDomain};

/// How far certificates reach into the past, so that a peer whose clock is behind accepts them.
pub(super) const BACKDATE: Duration = Duration::from_secs(60);

/// X.520's bound on a common name.
const MAX_COMMON_NAME: usize = 64;
/// 128 bits, as X.509 profiles ask for at least 64 from a random generator.
const SERIAL_BYTES: usize = 16;

/// From when to when, both ends included, in whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) not_before: SystemTime,
    pub(super) not_after: SystemTime,
}

/// A self-signed root for `trust_domain`, in DER.
///
/// cA and keyCertSign are set, and its only URI SAN is the trust domain's SPIFFE ID. Source: X509-SVID §2, §4.
pub(super) fn root(trust_domain: &TrustDomain, key: &Signer, validity: Validity) -> Result<Vec<u8>, Error> {
    let mut params = params(validity)?;
    let mark = hex::encode(random::<4>()?);
    let name: String = trust_domain.name().chars().take(MAX_COMMON_NAME - 1 - mark.len()).collect();
    params.distinguished_name.push(DnType::OrganizationName, "Vouch");
    // The mark keeps two authorities of one trust domain apart for verifiers that look an issuer up by name.
    params.distinguished_name.push(DnType::CommonName, format!("{name} {mark}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.subject_alt_names = vec![uri(&trust_domain.id())?];
    Ok(params.self_signed(key)?.der().to_vec())
}

/// An X.509-SVID for the public half of `key`, in DER.
///
/// Source: X509-SVID §2 (one URI SAN), §3 (cA false, digitalSignature, both extended usages).
pub(super) fn leaf(
    id: &SpiffeId,
    dns_names: &[String],
    key: &KeyPair,
    validity: Validity,
    issuer: &Issuer<'static, Signer>,
) -> Result<Vec<u8>, Error> {
    let mut params = params(validity)?;
    params.distinguished_name.push(DnType::OrganizationName, "Vouch");
    if let Some(name) = dns_names.first().filter(|name| name.len() <= MAX_COMMON_NAME) {
        params.distinguished_name.push(DnType::CommonName, name.as_str());
    }
    params.is_ca = IsCa::ExplicitNoCa;
    // RFC 5480 §3 knows no keyEncipherment for EC keys, and RFC 4055 §1.2 no keyAgreement for RSA.
    let exchange = if key.key_type().is_elliptic() {
        KeyUsagePurpose::KeyAgreement
    } else {
        KeyUsagePurpose::KeyEncipherment
    };
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, exchange];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    params.subject_alt_names.push(uri(id)?);
    for name in dns_names {
        params.subject_alt_names.push(dns(name)?);
    }
    Ok(params.signed_by(key, issuer)?.der().to_vec())
}

fn params(validity: Validity) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.not_before = calendar(validity.not_before)?;
    params.not_after = calendar(validity.not_after)?;
    params.serial_number = Some(serial()?);
    Ok(params)
}

fn serial() -> Result<SerialNumber, Error> {
    loop {
        let bytes = random::<SERIAL_BYTES>()?;
        // RFC 5280 §4.1.2.2: positive. A first byte of zero would only be stripped, one above 0x7f padded.
        if bytes != [0; SERIAL_BYTES] {
            return Ok(SerialNumber::from(bytes.to_vec()));
        }
    }
}

fn uri(id: &SpiffeId) -> Result<SanType, Error> {
    Ok(SanType::URI(id.as_str().try_into()?))
}

fn dns(name: &str) -> Result<SanType, Error> {
    let text = name.try_into().map_err(|_| Error::DnsName(name.to_owned()))?;
    if name.is_empty() || name.len() > 253 || name.bytes().any(|byte| !byte.is_ascii_graphic()) {
        return Err(Error::DnsName(name.to_owned()));
    }
    Ok(SanType::DnsName(text))
}

/// Whole seconds since the epoch, rounded down; times before it count as the epoch.
pub(super) fn seconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Rounded down to what a certificate can say.
pub(super) fn whole_seconds(at: SystemTime) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds(at))
}

/// As an operator reads it; beyond the year 9999 that year's end.
pub(super) fn date(at: SystemTime) -> String {
    let shown = UNIX_EPOCH + Duration::from_secs(seconds(at).min(253_402_300_799));
    humantime::format_rfc3339_seconds(shown).to_string()
}

fn calendar(at: SystemTime) -> Result<OffsetDateTime, Error> {
    i64::try_from(seconds(at))
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .ok_or(Error::Date)
}

fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| Error::Random)?;
    Ok(bytes)
}
