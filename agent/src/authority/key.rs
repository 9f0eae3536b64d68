//! Keys of SVIDs.

use std::{fmt, str::FromStr};

use super::{rsa, signer::Curve};
use crate::spiffe::PrivateKey;

/// The kinds of key that an SVID may have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum KeyType {
    #[default]
    EcP256,
    EcP384,
    /// Made by builds with the feature `aws-lc-rs` only; see [`Self::is_made_here`].
    Rsa2048,
}

/// Why there is no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("the system's random generator failed")]
    Random,
    #[error("private key is not usable: {0}")]
    Rejected(String),
    #[error("this build makes no {0} keys")]
    NotInThisBuild(KeyType),
    #[error("no key is ready yet")]
    NoneReady,
}

/// A private key in the form in which it is handed out, and its public half. Wiped on drop.
///
/// The copy that a crypto library holds while it makes the key is its own.
pub struct KeyPair {
    key_type: KeyType,
    private: PrivateKey,
    /// As a certificate holds it: an uncompressed point, or an RSAPublicKey in DER.
    public: Box<[u8]>,
}

impl KeyPair {
    /// Takes some ten microseconds for EC keys and some ten milliseconds for RSA.
    ///
    /// # Errors
    /// [`KeyError::Random`] when the system has no randomness, [`KeyError::NotInThisBuild`].
    pub fn generate(key_type: KeyType) -> Result<Self, KeyError> {
        let (private, public) = match key_type.curve() {
            Some(curve) => {
                let private = curve.generate()?;
                let public = curve.point_at_end(private.pkcs8_der())?.into();
                (private, public)
            }
            None => rsa::generate()?,
        };
        Ok(Self { key_type, private, public })
    }

    pub fn key_type(&self) -> KeyType {
        self.key_type
    }

    pub fn private(&self) -> &PrivateKey {
        &self.private
    }

    /// The bits of the subject's public key: an uncompressed point, or an RSAPublicKey in DER.
    pub fn public(&self) -> &[u8] {
        &self.public
    }
}

impl KeyType {
    /// Whether this build makes such keys.
    pub fn is_made_here(self) -> bool {
        self.is_elliptic() || cfg!(feature = "aws-lc-rs")
    }

    /// Whether a key is made in microseconds, so that nobody need wait for one.
    pub fn is_elliptic(self) -> bool {
        self.curve().is_some()
    }

    fn curve(self) -> Option<Curve> {
        match self {
            Self::EcP256 => Some(Curve::P256),
            Self::EcP384 => Some(Curve::P384),
            Self::Rsa2048 => None,
        }
    }

    /// As the configuration writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::EcP256 => "ec-p256",
            Self::EcP384 => "ec-p384",
            Self::Rsa2048 => "rsa-2048",
        }
    }
}

impl FromStr for KeyType {
    type Err = UnknownKeyType;

    fn from_str(name: &str) -> Result<Self, UnknownKeyType> {
        [Self::EcP256, Self::EcP384, Self::Rsa2048]
            .into_iter()
            .find(|key_type| key_type.name() == name)
            .ok_or(UnknownKeyType)
    }
}

/// The text names no key type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("key type must be ec-p256, ec-p384 or rsa-2048")]
pub struct UnknownKeyType;

impl fmt::Display for KeyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl rcgen::PublicKeyData for KeyPair {
    fn der_bytes(&self) -> &[u8] {
        &self.public
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        self.key_type.curve().map_or(&rcgen::PKCS_RSA_SHA256, Curve::algorithm)
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyPair({}, ..)", self.key_type)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::signer::Signer;

    #[test]
    fn the_public_half_belongs_to_the_private_one() {
        for (key_type, curve) in [(KeyType::EcP256, Curve::P256), (KeyType::EcP384, Curve::P384)] {
            let key = KeyPair::generate(key_type).unwrap();
            assert_eq!(Signer::from_pkcs8(key.private(), curve).unwrap().public(), key.public());
        }
    }

    #[test]
    fn a_build_says_which_keys_it_makes() {
        for key_type in [KeyType::EcP256, KeyType::EcP384, KeyType::Rsa2048] {
            assert_eq!(key_type.name().parse(), Ok(key_type));
            assert_eq!(KeyPair::generate(key_type).is_ok(), key_type.is_made_here());
        }
        assert_eq!(KeyType::Rsa2048.is_made_here(), cfg!(feature = "aws-lc-rs"));
    }

    #[test]
    fn debug_output_holds_no_key() {
        let key = KeyPair::generate(KeyType::EcP256).unwrap();
        assert_eq!(format!("{key:?}"), "KeyPair(ec-p256, ..)");
    }
}
