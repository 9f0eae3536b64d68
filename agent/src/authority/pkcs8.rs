//! Just enough DER to take an EC key out of PKCS#8 or SEC1, as other tools write them.

use zeroize::Zeroizing;

use super::signer::Curve;

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const OBJECT_ID: u8 = 0x06;
/// SEC1's `[0] parameters`.
const PARAMETERS: u8 = 0xa0;

const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];

/// A secret scalar, big-endian.
pub(super) struct EcKey {
    /// `None` when the file does not say.
    pub(super) curve: Option<Curve>,
    scalar: Zeroizing<Vec<u8>>,
}

impl EcKey {
    /// With leading zeros up to the curve's length; `None` when it is too long for that curve.
    pub(super) fn padded(&self, curve: Curve) -> Option<Zeroizing<Vec<u8>>> {
        let missing = curve.scalar_len().checked_sub(self.scalar.len())?;
        let mut padded = Zeroizing::new(Vec::with_capacity(curve.scalar_len()));
        padded.resize(missing, 0);
        padded.extend(self.scalar.iter());
        Some(padded)
    }
}

/// RFC 5208 `PrivateKeyInfo` around RFC 5915 `ECPrivateKey`.
pub(super) fn from_pkcs8(der: &[u8]) -> Result<EcKey, &'static str> {
    const MALFORMED: &str = "its PKCS#8 is malformed";
    let mut info = Reader(der).into_value(SEQUENCE).ok_or(MALFORMED)?;
    info.value(INTEGER).ok_or(MALFORMED)?;
    let mut algorithm = Reader(info.value(SEQUENCE).ok_or(MALFORMED)?);
    if algorithm.value(OBJECT_ID).ok_or(MALFORMED)? != EC_PUBLIC_KEY {
        return Err("it is not an EC key");
    }
    let curve = curve(algorithm.value(OBJECT_ID).ok_or(MALFORMED)?)?;
    let inner = from_sec1(info.value(OCTET_STRING).ok_or(MALFORMED)?)?;
    if inner.curve.is_some_and(|named| named != curve) {
        return Err("it names two different curves");
    }
    Ok(EcKey { curve: Some(curve), ..inner })
}

/// RFC 5915 `ECPrivateKey`.
pub(super) fn from_sec1(der: &[u8]) -> Result<EcKey, &'static str> {
    const MALFORMED: &str = "its EC private key is malformed";
    let mut key = Reader(der).into_value(SEQUENCE).ok_or(MALFORMED)?;
    if key.value(INTEGER).ok_or(MALFORMED)? != [1] {
        return Err(MALFORMED);
    }
    let scalar = Zeroizing::new(key.value(OCTET_STRING).ok_or(MALFORMED)?.to_vec());
    let curve = match key.value(PARAMETERS) {
        Some(parameters) => Some(curve(Reader(parameters).value(OBJECT_ID).ok_or(MALFORMED)?)?),
        None => None,
    };
    Ok(EcKey { curve, scalar })
}

fn curve(name: &[u8]) -> Result<Curve, &'static str> {
    match name {
        P256 => Ok(Curve::P256),
        P384 => Ok(Curve::P384),
        _ => Err("its curve is neither P-256 nor P-384"),
    }
}

/// What is still unread of a DER value.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// The content of the next element when it has this tag; otherwise nothing is consumed.
    fn value(&mut self, tag: u8) -> Option<&'a [u8]> {
        let rest = self.0.strip_prefix(&[tag])?;
        let (&first, rest) = rest.split_first()?;
        let (len, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81 => rest.split_first().map(|(len, rest)| (usize::from(*len), rest))?,
            0x82 => rest
                .split_first_chunk::<2>()
                .map(|(len, rest)| (usize::from(u16::from_be_bytes(*len)), rest))?,
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(len)?;
        self.0 = rest;
        Some(content)
    }

    fn into_value(mut self, tag: u8) -> Option<Self> {
        self.value(tag).map(Reader)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn our_own_keys_are_read() {
        for curve in [Curve::P256, Curve::P384] {
            let read = from_pkcs8(curve.generate().unwrap().pkcs8_der()).unwrap();
            assert_eq!(read.curve, Some(curve));
            assert_eq!(read.padded(curve).unwrap().len(), curve.scalar_len());
        }
    }

    proptest! {
        #[test]
        fn damaged_keys_never_panic(at in 0_usize..138, to: u8, cut in 0_usize..139) {
            let mut der = Curve::P256.generate().unwrap().pkcs8_der().to_vec();
            if let Some(byte) = der.get_mut(at) { *byte = to; }
            der.truncate(cut);
            if let Ok(key) = from_pkcs8(&der) {
                let _ = key.padded(Curve::P384);
            }
        }
    }
}
