//! Key pairs: made for SVIDs and authorities, or taken from a file for an intermediate.

use std::{fmt, str::FromStr};

use ring::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
        KeyPair as _,
    },
};

use crate::spiffe::PrivateKey;

/// The kinds of key that this build makes and signs with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum KeyType {
    #[default]
    EcP256,
    EcP384,
}

/// Why there is no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("the system's random generator failed")]
    Random,
    #[error("private key is not usable: {0}")]
    Rejected(String),
}

/// A private key in the form in which it is handed out, and ready to sign.
///
/// The PKCS#8 bytes are wiped on drop. The copy that `ring` keeps for signing is its own and is freed unwiped.
pub struct KeyPair {
    private: PrivateKey,
    signer: Signer,
}

/// Signs; cannot be exported.
pub(crate) struct Signer {
    key_type: KeyType,
    key: EcdsaKeyPair,
}

impl KeyPair {
    /// # Errors
    /// [`KeyError::Random`] when the system has no randomness.
    pub fn generate(key_type: KeyType) -> Result<Self, KeyError> {
        let document = EcdsaKeyPair::generate_pkcs8(key_type.ring(), &SystemRandom::new())
            .map_err(|_| KeyError::Random)?;
        Self::from_pkcs8(PrivateKey::from_pkcs8(document.as_ref().to_vec()), key_type)
    }

    /// # Errors
    /// [`KeyError::Rejected`] when `private` is no key of `key_type`, or its public half does not belong to it.
    pub fn from_pkcs8(private: PrivateKey, key_type: KeyType) -> Result<Self, KeyError> {
        let key = EcdsaKeyPair::from_pkcs8(key_type.ring(), private.pkcs8_der(), &SystemRandom::new())
            .map_err(|rejected| KeyError::Rejected(rejected.to_string()))?;
        Ok(Self { private, signer: Signer { key_type, key } })
    }

    pub fn key_type(&self) -> KeyType {
        self.signer.key_type
    }

    pub fn private(&self) -> &PrivateKey {
        &self.private
    }

    /// The uncompressed point.
    pub fn public(&self) -> &[u8] {
        self.signer.key.public_key().as_ref()
    }

    pub(crate) fn signer(&self) -> &Signer {
        &self.signer
    }

    pub(crate) fn into_signer(self) -> Signer {
        self.signer
    }
}

impl Signer {
    /// The key with this secret `scalar`, big-endian, if `public` (an uncompressed point) is its other half.
    pub(crate) fn from_parts(key_type: KeyType, scalar: &[u8], public: &[u8]) -> Result<Self, KeyError> {
        let rng = SystemRandom::new();
        EcdsaKeyPair::from_private_key_and_public_key(key_type.ring(), scalar, public, &rng)
            .map(|key| Self { key_type, key })
            .map_err(|rejected| KeyError::Rejected(rejected.to_string()))
    }
}

impl KeyType {
    fn ring(self) -> &'static EcdsaSigningAlgorithm {
        match self {
            Self::EcP256 => &ECDSA_P256_SHA256_ASN1_SIGNING,
            Self::EcP384 => &ECDSA_P384_SHA384_ASN1_SIGNING,
        }
    }

    /// Bytes of a secret scalar.
    pub(crate) fn scalar_len(self) -> usize {
        match self {
            Self::EcP256 => 32,
            Self::EcP384 => 48,
        }
    }

    /// As the configuration writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::EcP256 => "ec-p256",
            Self::EcP384 => "ec-p384",
        }
    }
}

impl FromStr for KeyType {
    type Err = UnknownKeyType;

    fn from_str(name: &str) -> Result<Self, UnknownKeyType> {
        [Self::EcP256, Self::EcP384]
            .into_iter()
            .find(|key_type| key_type.name() == name)
            .ok_or(UnknownKeyType)
    }
}

/// The text names no key type of this build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("key type must be ec-p256 or ec-p384")]
pub struct UnknownKeyType;

impl fmt::Display for KeyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl rcgen::PublicKeyData for Signer {
    fn der_bytes(&self) -> &[u8] {
        self.key.public_key().as_ref()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        match self.key_type {
            KeyType::EcP256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            KeyType::EcP384 => &rcgen::PKCS_ECDSA_P384_SHA384,
        }
    }
}

impl rcgen::SigningKey for Signer {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signature =
            self.key.sign(&SystemRandom::new(), message).map_err(|_| rcgen::Error::RingUnspecified)?;
        Ok(signature.as_ref().to_vec())
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyPair({}, ..)", self.signer.key_type)
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({}, ..)", self.key_type)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_one_type_is_refused_as_another() {
        let key = KeyPair::generate(KeyType::EcP384).unwrap();
        let error = KeyPair::from_pkcs8(key.private().clone(), KeyType::EcP256).unwrap_err();
        assert!(matches!(error, KeyError::Rejected(_)));
    }

    #[test]
    fn debug_output_holds_no_key() {
        let key = KeyPair::generate(KeyType::EcP256).unwrap();
        assert_eq!(format!("{key:?} {:?}", key.signer()), "KeyPair(ec-p256, ..) Signer(ec-p256, ..)");
    }
}
