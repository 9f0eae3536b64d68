//! Keys that verify signatures: from a certificate or a public key in PEM, or from JSON Web Keys.
//!
//! RSA keys have 2048 to 8192 bits; shorter ones verify nothing.
//!
//! Source: RFC 7517, RFC 7518 §3.

use regorus::Value;
use ring::{hmac, signature};
use x509_parser::{
    parse_x509_certificate, prelude::FromDer, public_key::PublicKey, x509::SubjectPublicKeyInfo,
};

use super::{
    super::{
        args::{Failure, elements, text},
        encoding,
    },
    member,
};

/// How a token is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    EdDsa,
    Hs256,
    Hs384,
    Hs512,
}

impl Algorithm {
    /// By its name in a header. `none` is not among them.
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "RS256" => Self::Rs256,
            "RS384" => Self::Rs384,
            "RS512" => Self::Rs512,
            "PS256" => Self::Ps256,
            "PS384" => Self::Ps384,
            "PS512" => Self::Ps512,
            "ES256" => Self::Es256,
            "ES384" => Self::Es384,
            "EdDSA" => Self::EdDsa,
            "HS256" => Self::Hs256,
            "HS384" => Self::Hs384,
            "HS512" => Self::Hs512,
            _ => return None,
        })
    }
}

/// A key, and what a set of keys says of it: "" where it says nothing.
#[derive(Debug)]
pub(super) struct NamedKey {
    pub(super) id: String,
    pub(super) algorithm: String,
    pub(super) key: Key,
}

impl NamedKey {
    /// One that nothing is said of.
    pub(super) fn only(key: Key) -> Self {
        NamedKey { id: String::new(), algorithm: String::new(), key }
    }
}

pub(super) enum Key {
    Rsa {
        modulus: Vec<u8>,
        exponent: Vec<u8>,
    },
    /// A point, not compressed.
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
    Secret(Vec<u8>),
    /// Of a kind that verifies nothing here.
    Other,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(..)")
    }
}

impl Key {
    /// Whether this key signed a message. A key of another kind than the algorithm's did not.
    pub(super) fn verifies(&self, algorithm: Algorithm, message: &[u8], signed: &[u8]) -> bool {
        match self {
            Key::Rsa { modulus, exponent } => rsa(algorithm).is_some_and(|parameters| {
                let key = signature::RsaPublicKeyComponents { n: modulus, e: exponent };
                key.verify(parameters, message, signed).is_ok()
            }),
            Key::Secret(secret) => secret_algorithm(algorithm).is_some_and(|algorithm| {
                hmac::verify(&hmac::Key::new(algorithm, secret), message, signed).is_ok()
            }),
            key => key.curve(algorithm).is_some_and(|(curve, point)| {
                signature::UnparsedPublicKey::new(curve, point).verify(message, signed).is_ok()
            }),
        }
    }

    fn curve(&self, algorithm: Algorithm) -> Option<(&'static dyn signature::VerificationAlgorithm, &[u8])> {
        match (algorithm, self) {
            (Algorithm::Es256, Key::P256(point)) => Some((&signature::ECDSA_P256_SHA256_FIXED, point)),
            (Algorithm::Es384, Key::P384(point)) => Some((&signature::ECDSA_P384_SHA384_FIXED, point)),
            (Algorithm::EdDsa, Key::Ed25519(point)) => Some((&signature::ED25519, point)),
            _ => None,
        }
    }
}

fn rsa(algorithm: Algorithm) -> Option<&'static signature::RsaParameters> {
    Some(match algorithm {
        Algorithm::Rs256 => &signature::RSA_PKCS1_2048_8192_SHA256,
        Algorithm::Rs384 => &signature::RSA_PKCS1_2048_8192_SHA384,
        Algorithm::Rs512 => &signature::RSA_PKCS1_2048_8192_SHA512,
        Algorithm::Ps256 => &signature::RSA_PSS_2048_8192_SHA256,
        Algorithm::Ps384 => &signature::RSA_PSS_2048_8192_SHA384,
        Algorithm::Ps512 => &signature::RSA_PSS_2048_8192_SHA512,
        _ => return None,
    })
}

fn secret_algorithm(algorithm: Algorithm) -> Option<hmac::Algorithm> {
    match algorithm {
        Algorithm::Hs256 => Some(hmac::HMAC_SHA256),
        Algorithm::Hs384 => Some(hmac::HMAC_SHA384),
        Algorithm::Hs512 => Some(hmac::HMAC_SHA512),
        _ => None,
    }
}

/// The key of a PEM block, of a JSON Web Key, or those of a set of them.
pub(super) fn parse(keys: &str) -> Result<Vec<NamedKey>, Failure> {
    match pem_block(keys) {
        Some((block, "")) => Ok(vec![NamedKey::only(of_pem(block)?)]),
        Some(_) => Err(Failure::Error),
        None => of_json(&encoding::from_json(keys)?),
    }
}

/// The first PEM block, which starts a line, and what follows the line that ends it.
fn pem_block(text: &str) -> Option<(&str, &str)> {
    const BEGIN: &str = "-----BEGIN ";
    let begin = if text.starts_with(BEGIN) { 0 } else { text.find("\n-----BEGIN ")? + 1 };
    let end = begin + text[begin..].find("\n-----END ")? + 1;
    let (_, rest) = text[end..].split_once('\n').unwrap_or(("", ""));
    Some((&text[begin..text.len() - rest.len()], rest))
}

fn of_pem(block: &str) -> Result<Key, Failure> {
    let block = pem::parse(block).map_err(|_| Failure::Error)?;
    match block.tag() {
        "CERTIFICATE" => match parse_x509_certificate(block.contents()) {
            Ok((&[], certificate)) => of_spki(certificate.public_key()),
            _ => Err(Failure::Error),
        },
        "PUBLIC KEY" => match SubjectPublicKeyInfo::from_der(block.contents()) {
            Ok((&[], key)) => of_spki(&key),
            _ => Err(Failure::Error),
        },
        _ => Err(Failure::Error),
    }
}

fn of_spki(key: &SubjectPublicKeyInfo<'_>) -> Result<Key, Failure> {
    const P256: usize = 256;
    const P384: usize = 384;
    // RFC 8410 §3: Ed25519.
    if key.algorithm.algorithm.to_id_string() == "1.3.101.112" {
        return Ok(Key::Ed25519(key.subject_public_key.data.to_vec()));
    }
    Ok(match key.parsed().map_err(|_| Failure::Error)? {
        PublicKey::RSA(rsa) => {
            Key::Rsa { modulus: without_zeros(rsa.modulus), exponent: without_zeros(rsa.exponent) }
        }
        PublicKey::EC(point) if point.key_size() == P256 => Key::P256(point.data().to_vec()),
        PublicKey::EC(point) if point.key_size() == P384 => Key::P384(point.data().to_vec()),
        _ => Key::Other,
    })
}

fn without_zeros(number: &[u8]) -> Vec<u8> {
    number.iter().copied().skip_while(|&byte| byte == 0).collect()
}

fn of_json(value: &Value) -> Result<Vec<NamedKey>, Failure> {
    let keys = match member(value, "keys") {
        Some(keys @ Value::Array(_)) => elements(keys)?,
        Some(_) => return Err(Failure::Error),
        None => vec![value],
    };
    let keys = keys.into_iter().map(of_jwk).collect::<Result<Vec<_>, _>>()?;
    // A key for encryption is not for tokens.
    Ok(keys.into_iter().filter(|key| !is_for_encryption(&key.algorithm)).collect())
}

/// RFC 7518 §4.1.
fn is_for_encryption(algorithm: &str) -> bool {
    ["RSA", "A128", "A192", "A256", "dir", "ECDH-", "PBES2-"].iter().any(|start| algorithm.starts_with(start))
}

/// Whether tokens are signed by it, whether here or not.
fn is_for_signatures(algorithm: &str) -> bool {
    Algorithm::named(algorithm).is_some() || matches!(algorithm, "ES512" | "ES256K" | "none")
}

fn of_jwk(jwk: &Value) -> Result<NamedKey, Failure> {
    let said = |name| member(jwk, name).map_or(Ok(String::new()), |value| text(value).map(str::to_owned));
    let required = |name| member(jwk, name).ok_or(Failure::Error).and_then(text).and_then(bytes);
    let key = match (said("kty")?.as_str(), said("crv")?.as_str()) {
        // A private key signs; it verifies nothing here.
        ("RSA" | "EC" | "OKP", _) if member(jwk, "d").is_some() => Key::Other,
        ("RSA", _) => {
            Key::Rsa { modulus: without_zeros(&required("n")?), exponent: without_zeros(&required("e")?) }
        }
        ("EC", "P-256") => Key::P256(point(&required("x")?, &required("y")?, 32)?),
        ("EC", "P-384") => Key::P384(point(&required("x")?, &required("y")?, 48)?),
        ("EC", "P-521") => Key::Other,
        ("OKP", "Ed25519") => {
            Key::Ed25519(Some(required("x")?).filter(|x| x.len() == 32).ok_or(Failure::Error)?)
        }
        ("OKP", "X25519") => Key::Other,
        ("oct", _) => Key::Secret(required("k")?),
        _ => return Err(Failure::Error),
    };
    let (id, algorithm) = (said("kid")?, said("alg")?);
    if algorithm.is_empty() || is_for_signatures(&algorithm) || is_for_encryption(&algorithm) {
        Ok(NamedKey { id, algorithm, key })
    } else {
        Err(Failure::Error)
    }
}

fn bytes(encoded: &str) -> Result<Vec<u8>, Failure> {
    encoding::from_base64url(encoded)
}

/// Two coordinates as one point that is not compressed. Source: RFC 7518 §6.2.1, SEC 1 §2.3.3.
fn point(x: &[u8], y: &[u8], size: usize) -> Result<Vec<u8>, Failure> {
    if x.len() == size && y.len() == size { Ok([&[4], x, y].concat()) } else { Err(Failure::Error) }
}
