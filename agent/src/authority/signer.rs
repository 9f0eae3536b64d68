//! Keys that sign: those of authorities, made here or taken from a file.

use std::fmt;

use ring::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
        KeyPair as _,
    },
};

use super::key::KeyError;
use crate::spiffe::PrivateKey;

/// The curves that are signed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Curve {
    P256,
    P384,
}

/// Signs; cannot be exported. The copy of the key that `ring` keeps for it is freed unwiped.
pub(super) struct Signer {
    curve: Curve,
    key: EcdsaKeyPair,
}

impl Signer {
    /// A new key, and the form in which it is kept.
    pub(super) fn generate(curve: Curve) -> Result<(PrivateKey, Self), KeyError> {
        let private = curve.generate()?;
        let signer = Self::from_pkcs8(&private, curve)?;
        Ok((private, signer))
    }

    /// # Errors
    /// [`KeyError::Rejected`] when `private` is no key on `curve`, or its public half does not belong to it.
    pub(super) fn from_pkcs8(private: &PrivateKey, curve: Curve) -> Result<Self, KeyError> {
        EcdsaKeyPair::from_pkcs8(curve.ring(), private.pkcs8_der(), &SystemRandom::new())
            .map(|key| Self { curve, key })
            .map_err(|rejected| KeyError::Rejected(rejected.to_string()))
    }

    /// The key with this secret `scalar`, big-endian, if `public` (an uncompressed point) is its other half.
    pub(super) fn from_parts(curve: Curve, scalar: &[u8], public: &[u8]) -> Result<Self, KeyError> {
        let rng = SystemRandom::new();
        EcdsaKeyPair::from_private_key_and_public_key(curve.ring(), scalar, public, &rng)
            .map(|key| Self { curve, key })
            .map_err(|rejected| KeyError::Rejected(rejected.to_string()))
    }

    /// The uncompressed point.
    pub(super) fn public(&self) -> &[u8] {
        self.key.public_key().as_ref()
    }
}

impl Curve {
    /// A new key as `ring` writes it: PKCS#8 that ends with the public point.
    pub(super) fn generate(self) -> Result<PrivateKey, KeyError> {
        let document =
            EcdsaKeyPair::generate_pkcs8(self.ring(), &SystemRandom::new()).map_err(|_| KeyError::Random)?;
        Ok(PrivateKey::from_pkcs8(document.as_ref().to_vec()))
    }

    /// The public point of a key made by [`Self::generate`]: loading the key again to learn it would cost as much as
    /// making it.
    pub(super) fn point_at_end(self, pkcs8: &[u8]) -> Result<&[u8], KeyError> {
        let missing = || KeyError::Rejected("its public half is missing".to_owned());
        let at = pkcs8.len().checked_sub(self.point_len()).ok_or_else(missing)?;
        // The BIT STRING's number of unused bits, then the mark of an uncompressed point.
        match pkcs8.split_at(at) {
            ([.., 0], point @ [4, ..]) => Ok(point),
            _ => Err(missing()),
        }
    }

    fn ring(self) -> &'static EcdsaSigningAlgorithm {
        match self {
            Self::P256 => &ECDSA_P256_SHA256_ASN1_SIGNING,
            Self::P384 => &ECDSA_P384_SHA384_ASN1_SIGNING,
        }
    }

    pub(super) fn algorithm(self) -> &'static rcgen::SignatureAlgorithm {
        match self {
            Self::P256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            Self::P384 => &rcgen::PKCS_ECDSA_P384_SHA384,
        }
    }

    /// Bytes of a secret scalar.
    pub(super) fn scalar_len(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
        }
    }

    /// Bytes of an uncompressed point: one, then two coordinates.
    pub(super) fn point_len(self) -> usize {
        1 + 2 * self.scalar_len()
    }
}

impl rcgen::PublicKeyData for Signer {
    fn der_bytes(&self) -> &[u8] {
        self.public()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        self.curve.algorithm()
    }
}

impl rcgen::SigningKey for Signer {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signature =
            self.key.sign(&SystemRandom::new(), message).map_err(|_| rcgen::Error::RingUnspecified)?;
        Ok(signature.as_ref().to_vec())
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({:?}, ..)", self.curve)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_on_one_curve_is_refused_on_another() {
        let (private, _) = Signer::generate(Curve::P384).unwrap();
        let error = Signer::from_pkcs8(&private, Curve::P256).unwrap_err();
        assert!(matches!(error, KeyError::Rejected(_)));
    }

    #[test]
    fn debug_output_holds_no_key() {
        let (private, signer) = Signer::generate(Curve::P256).unwrap();
        assert_eq!(format!("{private:?} {signer:?}"), "PrivateKey(..) Signer(P256, ..)");
    }
}
