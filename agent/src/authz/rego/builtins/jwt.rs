//! `io.jwt.*`: JSON Web Tokens, signed. Encrypted ones are none of ours.
//!
//! `ES512` is not verified: a token that says so is never valid.
//!
//! Source: RFC 7515 §5.2, RFC 7519 §7.2.

mod claims;
mod keys;

use std::time::{SystemTime, UNIX_EPOCH};

use regorus::Value;

use super::{
    args::{Answer, Failure, exactly, text},
    encoding,
};
use claims::Constraints;
use keys::{Algorithm, Key, NamedKey};

/// A token's three parts as they were sent, and its header.
struct Token<'a> {
    /// What is signed: the first two parts with the dot between them.
    signed: &'a str,
    payload: &'a str,
    signature: Vec<u8>,
    header: Value,
}

impl<'a> Token<'a> {
    fn parse(token: &'a str) -> Result<Self, Failure> {
        let [header, payload, signature] =
            token.split('.').collect::<Vec<_>>().try_into().map_err(|_| Failure::Error)?;
        let header_value = object(header)?;
        if member(&header_value, "enc").is_some() {
            return Err(Failure::Error);
        }
        Ok(Token {
            signed: &token[..header.len() + 1 + payload.len()],
            payload,
            signature: encoding::from_base64url(signature)?,
            header: header_value,
        })
    }
}

/// A member of an object.
fn member<'v>(object: &'v Value, name: &str) -> Option<&'v Value> {
    object.as_object().ok()?.get(&name.into())
}

/// A part that is a JSON object.
fn object(part: &str) -> Answer {
    json_object(&decoded(part)?)
}

fn json_object(json: &str) -> Answer {
    let value = encoding::from_json(json)?;
    if matches!(value, Value::Object(_)) { Ok(value) } else { Err(Failure::Error) }
}

fn decoded(part: &str) -> Result<String, Failure> {
    Ok(String::from_utf8_lossy(&encoding::from_base64url(part)?).into_owned())
}

/// The parameters of a header that say something about the signature.
#[derive(Debug, Default)]
struct Header {
    algorithm: String,
    key_id: String,
    content_type: String,
    /// A parameter must be understood, and is not.
    is_beyond_us: bool,
}

impl Header {
    fn new(header: &Value) -> Result<Self, Failure> {
        let parameter = |name| member(header, name).map_or(Ok(""), text);
        parameter("typ")?;
        Ok(Header {
            algorithm: parameter("alg")?.to_owned(),
            key_id: parameter("kid")?.to_owned(),
            content_type: parameter("cty")?.to_owned(),
            is_beyond_us: is_beyond_us(header)?,
        })
    }

    /// Whether the signature may be looked at.
    fn is_valid(&self) -> bool {
        !self.algorithm.is_empty() && !self.is_beyond_us
    }
}

/// RFC 7515 §4.1.11: `crit` is a list of names, not empty, and each of them must be understood.
fn is_beyond_us(header: &Value) -> Result<bool, Failure> {
    let Some(critical) = member(header, "crit") else { return Ok(false) };
    let Value::Array(critical) = critical else { return Err(Failure::Error) };
    let names = critical.iter().map_while(|name| text(name).ok()).collect::<Vec<_>>();
    if names.is_empty() {
        return Err(Failure::Error);
    }
    let is_known = |name: &str| matches!(name, "alg" | "kid" | "typ" | "cty" | "crit");
    Ok(names.iter().any(|name| !is_known(name) && member(header, name).is_some()))
}

/// Header, payload and signature, the last in hexadecimal. Nothing is verified.
pub(super) fn decode(args: &[Value]) -> Answer {
    let [token] = exactly(args)?;
    let mut token = text(token)?.to_owned();
    loop {
        let [header, payload, signature] =
            token.split('.').collect::<Vec<_>>().try_into().map_err(|_| Failure::Error)?;
        let header = object(header)?;
        if member(&header, "enc").is_some() {
            return Err(Failure::Error);
        }
        let payload = decoded(payload)?;
        // A token in a token; some write it in quotes.
        if member(&header, "cty").map_or(Ok(""), text)? == "JWT" {
            token = payload.trim_matches(['"', '\'']).to_owned();
            continue;
        }
        let signature = Value::from(hex::encode(encoding::from_base64url(signature)?));
        return Ok(Value::from(vec![header, json_object(&payload)?, signature]));
    }
}

/// Defines the functions that verify by one algorithm.
macro_rules! verifiers {
    ($($name:ident $algorithm:ident)*) => {
        $(pub(super) fn $name(args: &[Value]) -> Answer {
            verify(Algorithm::$algorithm, args)
        })*
    };
}

verifiers! {
    verify_rs256 Rs256
    verify_rs384 Rs384
    verify_rs512 Rs512
    verify_ps256 Ps256
    verify_ps384 Ps384
    verify_ps512 Ps512
    verify_es256 Es256
    verify_es384 Es384
    verify_eddsa EdDsa
}

/// Whether a key of these signed the token: the one that its `kid` names, or else any that is not for another algorithm.
fn verify(algorithm: Algorithm, args: &[Value]) -> Answer {
    let [token, keys] = exactly(args)?;
    let (token, keys) = (text(token)?, keys::parse(text(keys)?)?);
    let token = Token::parse(token)?;
    let header = Header::new(&token.header)?;
    Ok(Value::Bool(is_signed(&token, &header, algorithm, &keys)))
}

fn is_signed(token: &Token<'_>, header: &Header, algorithm: Algorithm, keys: &[NamedKey]) -> bool {
    let verifies = |key: &NamedKey| key.key.verifies(algorithm, token.signed.as_bytes(), &token.signature);
    let named = keys.iter().find(|key| !header.key_id.is_empty() && key.id == header.key_id);
    match named {
        Some(key) => verifies(key),
        None => keys
            .iter()
            .any(|key| (key.algorithm.is_empty() || key.algorithm == header.algorithm) && verifies(key)),
    }
}

pub(super) fn verify_hs256(args: &[Value]) -> Answer {
    verify_secret(Algorithm::Hs256, args)
}

pub(super) fn verify_hs384(args: &[Value]) -> Answer {
    verify_secret(Algorithm::Hs384, args)
}

pub(super) fn verify_hs512(args: &[Value]) -> Answer {
    verify_secret(Algorithm::Hs512, args)
}

/// Whether the token was signed with this secret. Its header is not looked at.
fn verify_secret(algorithm: Algorithm, args: &[Value]) -> Answer {
    let [token, secret] = exactly(args)?;
    let (token, secret) = (text(token)?, text(secret)?);
    let [header, payload, signature] =
        token.split('.').collect::<Vec<_>>().try_into().map_err(|_| Failure::Error)?;
    let signature = encoding::from_base64url(signature)?;
    let key = Key::Secret(secret.as_bytes().to_vec());
    let signed = &token[..header.len() + 1 + payload.len()];
    Ok(Value::Bool(key.verifies(algorithm, signed.as_bytes(), &signature)))
}

/// `[true, header, payload]` of a token whose signature and claims meet the constraints, otherwise `[false, {}, {}]`.
pub(super) fn decode_verify(args: &[Value]) -> Answer {
    let [token, constraints] = exactly(args)?;
    let constraints = Constraints::new(constraints, now_ns())?;
    let mut token = text(token)?.to_owned();
    let (header, payload) = loop {
        let signed = Token::parse(&token)?;
        let header = Header::new(&signed.header)?;
        if !header.is_valid() || !constraints.allows(&header.algorithm) {
            return Ok(unverified());
        }
        let algorithm = Algorithm::named(&header.algorithm);
        if !algorithm.is_some_and(|algorithm| is_signed(&signed, &header, algorithm, &constraints.keys)) {
            return Ok(unverified());
        }
        let payload = decoded(signed.payload)?;
        if !header.content_type.eq_ignore_ascii_case("JWT") {
            break (signed.header, json_object(&payload)?);
        }
        token = payload;
    };
    if constraints.are_met(&payload)? {
        Ok(Value::from(vec![Value::Bool(true), header, payload]))
    } else {
        Ok(unverified())
    }
}

fn unverified() -> Value {
    Value::from(vec![Value::Bool(false), Value::new_object(), Value::new_object()])
}

/// The time of a constraint that names none.
#[expect(clippy::cast_precision_loss, reason = "claims are compared in seconds")]
fn now_ns() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_nanos() as f64)
}
