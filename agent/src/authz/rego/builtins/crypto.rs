//! `crypto.*` without certificates: digests and message authentication codes, as hexadecimal text.

use regorus::Value;
use ring::{digest, hmac};

use super::{
    args::{Answer, exactly, text},
    md5,
};

pub(super) fn md5(args: &[Value]) -> Answer {
    let [value] = exactly(args)?;
    Ok(Value::from(hex::encode(md5::digest(text(value)?.as_bytes()))))
}

pub(super) fn sha1(args: &[Value]) -> Answer {
    digested(&digest::SHA1_FOR_LEGACY_USE_ONLY, args)
}

pub(super) fn sha256(args: &[Value]) -> Answer {
    digested(&digest::SHA256, args)
}

fn digested(algorithm: &'static digest::Algorithm, args: &[Value]) -> Answer {
    let [value] = exactly(args)?;
    Ok(Value::from(hex::encode(digest::digest(algorithm, text(value)?.as_bytes()))))
}

pub(super) fn hmac_md5(args: &[Value]) -> Answer {
    let [message, key] = exactly(args)?;
    Ok(Value::from(hex::encode(md5::hmac(text(key)?.as_bytes(), text(message)?.as_bytes()))))
}

pub(super) fn hmac_sha1(args: &[Value]) -> Answer {
    authenticated(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, args)
}

pub(super) fn hmac_sha256(args: &[Value]) -> Answer {
    authenticated(hmac::HMAC_SHA256, args)
}

pub(super) fn hmac_sha512(args: &[Value]) -> Answer {
    authenticated(hmac::HMAC_SHA512, args)
}

fn authenticated(algorithm: hmac::Algorithm, args: &[Value]) -> Answer {
    let [message, key] = exactly(args)?;
    let key = hmac::Key::new(algorithm, text(key)?.as_bytes());
    Ok(Value::from(hex::encode(hmac::sign(&key, text(message)?.as_bytes()))))
}

/// Whether two codes are the same, in a time that does not tell where they differ.
pub(super) fn hmac_equal(args: &[Value]) -> Answer {
    let [a, b] = exactly(args)?;
    let (a, b) = (text(a)?.as_bytes(), text(b)?.as_bytes());
    let differing = a.iter().zip(b).fold(0, |differing, (a, b)| differing | (a ^ b));
    Ok(Value::Bool(a.len() == b.len() && std::hint::black_box(differing) == 0))
}
