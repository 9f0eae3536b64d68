//! `crypto.x509.parse_certificates`: certificates as objects with the members that OPA gives them.

mod extensions;
mod name;
mod url;

use std::fmt::Write;

use regorus::Value;
use x509_parser::{
    asn1_rs::Oid,
    certificate::X509Certificate,
    parse_x509_certificate,
    public_key::PublicKey,
    signature_algorithm::SignatureAlgorithm,
    time::ASN1Time,
    x509::{AlgorithmIdentifier, SubjectPublicKeyInfo},
};

use super::{
    args::{Answer, Failure, exactly, text},
    encoding,
};

/// The most certificates that one text may hold.
pub(super) const CERTIFICATES: usize = 100;

const BEGIN: &str = "-----BEGIN";

/// Certificates in PEM, or in base64 of PEM or of DER, one after the other.
pub(super) fn parse_certificates(args: &[Value]) -> Answer {
    let [value] = exactly(args)?;
    let given = text(value)?;
    let der = if given.starts_with(BEGIN) {
        of_pem(given)?
    } else {
        let decoded = encoding::from_base64(given)?;
        match std::str::from_utf8(&decoded) {
            Ok(pem) if pem.starts_with(BEGIN) => of_pem(pem)?,
            _ => decoded,
        }
    };
    let (mut certificates, mut rest) = (Vec::new(), der.as_slice());
    while !rest.is_empty() {
        let (after, certificate) = parse_x509_certificate(rest).map_err(|_| Failure::Error)?;
        certificates.push(described(&certificate, &rest[..rest.len() - after.len()])?);
        if certificates.len() > CERTIFICATES {
            return Err(Failure::Exceeded(super::Exceeded::Certificates));
        }
        rest = after;
    }
    Ok(Value::from(certificates))
}

/// What the blocks hold, one after the other. Text around them is not looked at.
fn of_pem(text: &str) -> Result<Vec<u8>, Failure> {
    let mut der = Vec::new();
    for block in pem::parse_many(text).map_err(|_| Failure::Error)? {
        if block.tag() != "CERTIFICATE" {
            return Err(Failure::Error);
        }
        der.extend_from_slice(block.contents());
    }
    Ok(der)
}

/// Members by their names.
type Members = Vec<(&'static str, Value)>;

fn object(members: Members) -> Value {
    Value::from(
        members
            .into_iter()
            .map(|(name, value)| (name.into(), value))
            .collect::<std::collections::BTreeMap<_, _>>(),
    )
}

fn described(certificate: &X509Certificate<'_>, raw: &[u8]) -> Answer {
    let key = certificate.public_key();
    let (key_algorithm, public_key) = public_key(key)?;
    let mut members = vec![
        ("Issuer", name::described(certificate.issuer())?),
        ("NotAfter", time(certificate.validity().not_after)),
        ("NotBefore", time(certificate.validity().not_before)),
        ("PublicKey", public_key),
        ("PublicKeyAlgorithm", Value::from(key_algorithm)),
        ("Raw", base64(raw)),
        ("RawIssuer", base64(certificate.issuer().as_raw())),
        ("RawSubject", base64(certificate.subject().as_raw())),
        ("RawSubjectPublicKeyInfo", base64(key.raw)),
        ("RawTBSCertificate", base64(certificate.tbs_certificate.as_ref())),
        ("SerialNumber", whole(certificate.raw_serial())?),
        ("Signature", base64(&certificate.signature_value.data)),
        ("SignatureAlgorithm", Value::from(signature_algorithm(&certificate.signature_algorithm))),
        ("Subject", name::described(certificate.subject())?),
        ("Version", Value::from(certificate.version().0 + 1)),
    ];
    members.extend(extensions::described(certificate)?);
    Ok(object(members))
}

fn base64(bytes: &[u8]) -> Value {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    Value::from(STANDARD.encode(bytes))
}

/// RFC 3339, in UTC, to the second.
fn time(time: ASN1Time) -> Value {
    let time = time.to_datetime();
    Value::from(format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        time.year(),
        u8::from(time.month()),
        time.day(),
        time.hour(),
        time.minute(),
        time.second()
    ))
}

/// A big-endian number of any length, in full.
fn whole(bytes: &[u8]) -> Answer {
    // In billions, the lowest first.
    let mut parts = vec![0_u64];
    for byte in bytes {
        let mut carried = u64::from(*byte);
        for part in &mut parts {
            let value = *part * 256 + carried;
            (*part, carried) = (value % 1_000_000_000, value / 1_000_000_000);
        }
        if carried > 0 {
            parts.push(carried);
        }
    }
    let mut digits = parts.pop().unwrap_or(0).to_string();
    for part in parts.iter().rev() {
        write!(digits, "{part:09}").expect("a String takes all");
    }
    Value::from_numeric_string(&digits).map_err(|_| Failure::Error)
}

/// The number that stands for the kind of key, and the key.
fn public_key(key: &SubjectPublicKeyInfo<'_>) -> Result<(u64, Value), Failure> {
    const RSA: u64 = 1;
    const ECDSA: u64 = 3;
    const ED25519: u64 = 4;
    if key.algorithm.algorithm.to_id_string() == "1.3.101.112" {
        return Ok((ED25519, base64(&key.subject_public_key.data)));
    }
    Ok(match key.parsed() {
        Ok(PublicKey::RSA(rsa)) => {
            (RSA, object(vec![("N", whole(rsa.modulus)?), ("E", whole(rsa.exponent)?)]))
        }
        Ok(PublicKey::EC(point)) => {
            let [4, coordinates @ ..] = point.data() else { return Err(Failure::Error) };
            let (x, y) = coordinates.split_at(coordinates.len() / 2);
            (ECDSA, object(vec![("Curve", Value::new_object()), ("X", whole(x)?), ("Y", whole(y)?)]))
        }
        _ => (0, Value::Null),
    })
}

/// The number that stands for how a certificate is signed; 0 for other ways.
fn signature_algorithm(algorithm: &AlgorithmIdentifier<'_>) -> u64 {
    match algorithm.algorithm.to_id_string().as_str() {
        "1.2.840.113549.1.1.4" => 2,
        "1.2.840.113549.1.1.5" => 3,
        "1.2.840.113549.1.1.11" => 4,
        "1.2.840.113549.1.1.12" => 5,
        "1.2.840.113549.1.1.13" => 6,
        "1.2.840.113549.1.1.10" => pss(algorithm),
        "1.2.840.10045.4.1" => 9,
        "1.2.840.10045.4.3.2" => 10,
        "1.2.840.10045.4.3.3" => 11,
        "1.2.840.10045.4.3.4" => 12,
        "1.3.101.112" => 16,
        _ => 0,
    }
}

fn pss(algorithm: &AlgorithmIdentifier<'_>) -> u64 {
    let Ok(SignatureAlgorithm::RSASSA_PSS(parameters)) = SignatureAlgorithm::try_from(algorithm) else {
        return 0;
    };
    match parameters.hash_algorithm_oid().to_id_string().as_str() {
        "2.16.840.1.101.3.4.2.1" => 13,
        "2.16.840.1.101.3.4.2.2" => 14,
        "2.16.840.1.101.3.4.2.3" => 15,
        _ => 0,
    }
}

/// An object identifier as its numbers.
fn numbers(oid: &Oid<'_>) -> Answer {
    let numbers = oid.iter().ok_or(Failure::Error)?;
    Ok(Value::from(numbers.map(Value::from).collect::<Vec<_>>()))
}
