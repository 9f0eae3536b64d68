//! A URI's parts.
//!
//! Source: RFC 3986 §3.

use std::fmt::Write;

use regorus::Value;

use super::{super::args::Answer, object};

/// The parts under the names that OPA gives them. User and password are not shown.
pub(super) fn described(uri: &str) -> Answer {
    let (rest, fragment) = uri.split_once('#').unwrap_or((uri, ""));
    let (scheme, rest) = rest.split_once(':').unwrap_or(("", rest));
    let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
    let (authority, path) = match rest.strip_prefix("//") {
        Some(rest) => {
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            (Some(authority), path)
        }
        None => (None, rest),
    };
    let is_opaque = authority.is_none() && !path.starts_with('/') && !scheme.is_empty();
    let (opaque, path) = if is_opaque { (path, "") } else { ("", path) };
    let (user, host) =
        authority.and_then(|a| a.rsplit_once('@')).map_or((None, authority), |(u, h)| (Some(u), Some(h)));
    let (plain_path, plain_fragment) = (unescaped(path), unescaped(fragment));
    let raw =
        |given: &str, plain: &str, also: &str| if escaped(plain, also) == given { "" } else { given }.into();
    Ok(object(vec![
        ("ForceQuery", Value::Bool(query == Some(""))),
        ("Fragment", plain_fragment.as_str().into()),
        ("Host", host.unwrap_or("").into()),
        ("OmitHost", Value::Bool(authority.is_none() && path.starts_with('/') && !scheme.is_empty())),
        ("Opaque", opaque.into()),
        ("Path", plain_path.as_str().into()),
        ("RawFragment", raw(fragment, &plain_fragment, "!()*?[]'")),
        ("RawPath", raw(path, &plain_path, "")),
        ("RawQuery", query.unwrap_or("").into()),
        ("Scheme", scheme.to_ascii_lowercase().into()),
        ("User", if user.is_some() { Value::new_object() } else { Value::Null }),
    ]))
}

fn unescaped(escaped: &str) -> String {
    let (mut plain, mut rest) = (Vec::with_capacity(escaped.len()), escaped.as_bytes());
    while let [first, after @ ..] = rest {
        let code = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(|_| *first == b'%') {
            Some(byte) => {
                plain.push(byte);
                rest = &after[2..];
            }
            None => {
                plain.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

/// With escapes for all but letters, digits and what a path, and `also`, may have.
fn escaped(plain: &str, also: &str) -> String {
    let mut escaped = String::with_capacity(plain.len());
    for byte in plain.bytes() {
        let c = char::from(byte);
        if byte.is_ascii_alphanumeric() || "-_.~$&+,/:;=@".contains(c) || also.contains(c) {
            escaped.push(c);
        } else {
            write!(escaped, "%{byte:02X}").expect("a String takes all");
        }
    }
    escaped
}
