//! RSA keys of SVIDs, which `ring` does not make. They sign nothing here.

use super::key::KeyError;
use crate::spiffe::PrivateKey;

/// A new key of 2048 bits in PKCS#8, and its RSAPublicKey in DER. Takes 35 to 100 ms of CPU.
#[cfg(feature = "aws-lc-rs")]
pub(super) fn generate() -> Result<(PrivateKey, Box<[u8]>), KeyError> {
    use aws_lc_rs::{
        encoding::{AsDer, Pkcs8V1Der},
        rsa::{KeyPair, KeySize},
        signature::KeyPair as _,
    };

    let key = KeyPair::generate(KeySize::Rsa2048).map_err(|_| KeyError::Random)?;
    let private: Pkcs8V1Der<'_> =
        key.as_der().map_err(|_| KeyError::Rejected("it has no PKCS#8 form".to_owned()))?;
    Ok((PrivateKey::from_pkcs8(private.as_ref().to_vec()), key.public_key().as_ref().into()))
}

#[cfg(not(feature = "aws-lc-rs"))]
pub(super) fn generate() -> Result<(PrivateKey, Box<[u8]>), KeyError> {
    Err(KeyError::NotInThisBuild(super::key::KeyType::Rsa2048))
}
