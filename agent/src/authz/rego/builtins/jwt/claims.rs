//! What `io.jwt.decode_verify` demands of a token.

use std::cmp::Ordering;

use regorus::Value;

use super::{
    super::args::{Failure, text},
    keys::{self, Key, NamedKey},
    member,
};

#[derive(Debug)]
pub(super) struct Constraints {
    /// Of `cert`, or the one of `secret`.
    pub(super) keys: Vec<NamedKey>,
    algorithm: String,
    issuer: String,
    audience: String,
    time_ns: f64,
}

impl Constraints {
    /// # Errors
    /// When a constraint has another name or type than these, or when there are not either keys or a secret.
    pub(super) fn new(value: &Value, now_ns: f64) -> Result<Self, Failure> {
        let Value::Object(object) = value else { return Err(Failure::Error) };
        let (mut certificates, mut secret) = (None, "");
        let (mut algorithm, mut issuer, mut audience, mut time_ns) = ("", "", "", now_ns);
        for (name, value) in object.iter_sorted() {
            match text(name)? {
                "cert" => certificates = Some(keys::parse(text(value)?)?),
                "secret" => secret = text(value)?,
                "alg" => algorithm = text(value)?,
                "iss" => issuer = text(value)?,
                "aud" => audience = text(value)?,
                "time" => time_ns = time(value)?,
                _ => return Err(Failure::Error),
            }
        }
        let keys = match (certificates, secret) {
            (Some(keys), "") => keys,
            (None, secret) if !secret.is_empty() => {
                vec![NamedKey::only(Key::Secret(secret.as_bytes().to_vec()))]
            }
            _ => return Err(Failure::Error),
        };
        let [algorithm, issuer, audience] = [algorithm, issuer, audience].map(str::to_owned);
        Ok(Constraints { keys, algorithm, issuer, audience, time_ns })
    }

    /// Whether a token may be signed by this algorithm.
    pub(super) fn allows(&self, algorithm: &str) -> bool {
        self.algorithm.is_empty() || self.algorithm == algorithm
    }

    /// Whether a payload is from the issuer, for the audience, and of this time.
    ///
    /// # Errors
    /// When `exp` or `nbf` is no number.
    pub(super) fn are_met(&self, payload: &Value) -> Result<bool, Failure> {
        let is_issuer = |issuer: &Value| text(issuer).is_ok_and(|issuer| issuer == self.issuer);
        if !self.issuer.is_empty() && !member(payload, "iss").is_some_and(is_issuer) {
            return Ok(false);
        }
        if !member(payload, "aud").map_or(self.audience.is_empty(), |audience| self.is_for(audience)) {
            return Ok(false);
        }
        let now = Value::from(self.time_ns / 1e9);
        let at = |claim| match member(payload, claim) {
            None => Ok(None),
            Some(time @ Value::Number(_)) => Ok(Some(now.cmp(time))),
            Some(_) => Err(Failure::Error),
        };
        if at("exp")?.is_some_and(|order| order != Ordering::Less) {
            return Ok(false);
        }
        Ok(at("nbf")? != Some(Ordering::Less))
    }

    fn is_for(&self, audience: &Value) -> bool {
        let is_ours = |audience: &Value| text(audience).is_ok_and(|audience| audience == self.audience);
        match audience {
            Value::Array(audiences) => audiences.iter().any(is_ours),
            audience => is_ours(audience),
        }
    }
}

fn time(value: &Value) -> Result<f64, Failure> {
    let Value::Number(number) = value else { return Err(Failure::Error) };
    // Nanoseconds are more digits than a float has; the nearest one is near enough.
    let time_ns = number.format_decimal().parse::<f64>().map_err(|_| Failure::Error)?;
    if time_ns < 0.0 { Err(Failure::Error) } else { Ok(time_ns) }
}
