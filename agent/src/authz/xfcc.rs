//! The header `x-forwarded-client-cert` (XFCC): one element for each hop, of what it saw of its client's certificate.
//!
//! Elements are joined by `,`, the pairs of an element by `;`, a pair is `key=value`. Keys are By, Hash, Cert, Chain,
//! Subject, URI and DNS in any case. A value with `,`, `;` or `"` stands in double quotes, a `"` in it as `\"`.
//!
//! What a text in this grammar tells, and what not:
//! - Envoy quotes Cert, Chain and Subject. By, URI and DNS are written as they stand in the certificate. A name with `,`
//!   or `;` in it therefore reads as the end of its value. Such a remnant is mostly no pair, or one with an unknown key,
//!   and the header is refused. A name that holds `;URI=spiffe://…` or `,By=…;URI=…` cannot be told from pairs
//!   that a hop has written: trust the URI only of a hop whose clients' authority lets no such name into a certificate.
//! - Only Envoy's mode SANITIZE_SET makes the header the word of the last hop alone. Otherwise it may be a client's text.
//! - Subjects escape a `\` as `\\`, this grammar does not. An even number of `\` before a `"` would end the value by one
//!   rule and go on by the other, so it is refused.

use std::fmt;

use regorus::Value;

use super::object::Fields;

/// Longest header, in bytes. Envoy takes 60 KiB for all headers of a request by default.
pub const MAX_BYTES: usize = 64 * 1024;
/// Most elements: hops.
pub const MAX_ELEMENTS: usize = 256;
/// Most pairs of one element: a certificate may have many DNS names.
pub const MAX_PAIRS: usize = 256;

/// What one hop says of its client.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Element {
    /// URI SANs of the hop's own certificate.
    pub by: Vec<String>,
    /// SHA-256 of the client's certificate, in hexadecimal digits.
    pub hash: Option<String>,
    /// The client's certificate, PEM, URL-encoded.
    pub cert: Option<String>,
    /// The client's whole chain, PEM, URL-encoded.
    pub chain: Option<String>,
    /// May be empty: certificates need no subject.
    pub subject: Option<String>,
    /// URI SANs of the client. `URI=` says that there is none.
    pub uri: Vec<String>,
    /// DNS SANs of the client.
    pub dns: Vec<String>,
}

/// Where a header leaves the grammar, or is too large.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("x-forwarded-client-cert, byte {at}: {fault}")]
pub struct Error {
    /// Bytes before the place.
    pub at: usize,
    pub fault: Fault,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("more than {MAX_BYTES} bytes")]
    TooLong,
    #[error("more than {MAX_ELEMENTS} elements")]
    TooManyElements,
    #[error("more than {MAX_PAIRS} pairs in one element")]
    TooManyPairs,
    #[error("a key and `=` are missing")]
    NoKey,
    #[error("the key is none of By, Hash, Cert, Chain, Subject, URI, DNS")]
    UnknownKey,
    #[error("the key may come once in an element")]
    RepeatedKey,
    #[error("a quote within a value that does not start with one")]
    StrayQuote,
    #[error("the quoted value has no end")]
    NoEndQuote,
    #[error("behind a quoted value comes neither `;` nor `,`")]
    BehindQuote,
    #[error("an even number of backslashes before a quote: whether the value ends here cannot be told")]
    UnclearQuote,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    By,
    Hash,
    Cert,
    Chain,
    Subject,
    Uri,
    Dns,
}

/// Every element of `header`, the first hop first. An empty header has none.
///
/// # Errors
/// The first place that is not in the grammar, or the bound that is met.
pub fn parse(header: &str) -> Result<Vec<Element>, Error> {
    if header.len() > MAX_BYTES {
        return Err(Error { at: MAX_BYTES, fault: Fault::TooLong });
    }
    let mut elements = Vec::new();
    let mut scanner = Scanner { text: header, at: 0 };
    while elements.is_empty() && !header.is_empty() || scanner.takes(b',') {
        if elements.len() == MAX_ELEMENTS {
            return Err(scanner.error(Fault::TooManyElements));
        }
        elements.push(scanner.element()?);
    }
    Ok(elements)
}

/// Elements as policies see them: an array of objects with the keys in lower case; `by`, `uri` and `dns` are always
/// there, as arrays.
pub fn value(elements: &[Element]) -> Value {
    elements.iter().map(Element::value).collect::<Vec<_>>().into()
}

impl Element {
    fn value(&self) -> Value {
        let mut fields = Fields::with_capacity(7);
        let texts =
            |texts: &[String]| Value::from(texts.iter().map(|text| Value::from(&**text)).collect::<Vec<_>>());
        let singles = [("cert", &self.cert), ("chain", &self.chain), ("hash", &self.hash)];
        fields.put("by".into(), texts(&self.by));
        for (key, text) in singles.into_iter().chain([("subject", &self.subject)]) {
            if let Some(text) = text {
                fields.put(key.into(), Value::from(&**text));
            }
        }
        fields.put("dns".into(), texts(&self.dns));
        fields.put("uri".into(), texts(&self.uri));
        fields.into_value()
    }

    /// Whether the key may come, again if it has come before.
    fn takes(&mut self, key: Key, value: String) -> bool {
        let names = match key {
            Key::By => &mut self.by,
            Key::Uri => &mut self.uri,
            Key::Dns => &mut self.dns,
            Key::Hash => return self.hash.replace(value).is_none(),
            Key::Cert => return self.cert.replace(value).is_none(),
            Key::Chain => return self.chain.replace(value).is_none(),
            Key::Subject => return self.subject.replace(value).is_none(),
        };
        // An empty name says that there is none.
        if !value.is_empty() {
            names.push(value);
        }
        true
    }
}

/// As Envoy writes it, in its order, with quotes where they are needed. What was parsed is read again as it was.
impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.by.iter().try_for_each(|name| write!(f, "By={};", Quoted(name)))?;
        let singles = [("Hash", &self.hash), ("Cert", &self.cert), ("Chain", &self.chain)];
        for (key, text) in singles.into_iter().chain([("Subject", &self.subject)]) {
            text.iter().try_for_each(|text| write!(f, "{key}={};", Quoted(text)))?;
        }
        self.dns.iter().try_for_each(|name| write!(f, "DNS={};", Quoted(name)))?;
        match self.uri.split_last() {
            None => f.write_str("URI="),
            Some((last, others)) => {
                others.iter().try_for_each(|name| write!(f, "URI={};", Quoted(name)))?;
                write!(f, "URI={}", Quoted(last))
            }
        }
    }
}

struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.contains([',', ';', '"']) {
            write!(f, "\"{}\"", self.0.replace('"', "\\\""))
        } else {
            f.write_str(self.0)
        }
    }
}

impl Key {
    fn of(text: &str) -> Option<Self> {
        let keys = [
            ("By", Self::By),
            ("Hash", Self::Hash),
            ("Cert", Self::Cert),
            ("Chain", Self::Chain),
            ("Subject", Self::Subject),
            ("URI", Self::Uri),
            ("DNS", Self::Dns),
        ];
        keys.into_iter().find(|(name, _)| text.eq_ignore_ascii_case(name)).map(|(_, key)| key)
    }
}

struct Scanner<'a> {
    text: &'a str,
    /// On a character's border.
    at: usize,
}

impl Scanner<'_> {
    fn rest(&self) -> &[u8] {
        &self.text.as_bytes()[self.at..]
    }

    fn error(&self, fault: Fault) -> Error {
        Error { at: self.at, fault }
    }

    /// Whether `byte`, an ASCII character, comes next, which is then passed.
    fn takes(&mut self, byte: u8) -> bool {
        let is_next = self.rest().first() == Some(&byte);
        self.at += usize::from(is_next);
        is_next
    }

    /// Up to `,` or the end.
    fn element(&mut self) -> Result<Element, Error> {
        // A proxy that joins headers may put a space behind the comma.
        while self.takes(b' ') || self.takes(b'\t') {}
        let mut element = Element::default();
        for _ in 0..MAX_PAIRS {
            let start = self.at;
            let key = self.key()?;
            let value = self.value()?;
            if !element.takes(key, value) {
                return Err(Error { at: start, fault: Fault::RepeatedKey });
            }
            if !self.takes(b';') {
                return Ok(element);
            }
        }
        Err(self.error(Fault::TooManyPairs))
    }

    /// Up to and with `=`.
    fn key(&mut self) -> Result<Key, Error> {
        let length = self.rest().iter().position(|byte| b"=,;\"".contains(byte));
        let length = length.filter(|length| *length > 0 && self.rest()[*length] == b'=');
        let length = length.ok_or_else(|| self.error(Fault::NoKey))?;
        let key = Key::of(&self.text[self.at..self.at + length]);
        let key = key.ok_or_else(|| self.error(Fault::UnknownKey))?;
        self.at += length + 1;
        Ok(key)
    }

    /// Up to `;`, `,` or the end.
    fn value(&mut self) -> Result<String, Error> {
        if self.takes(b'"') {
            return self.quoted();
        }
        let length = self.rest().iter().position(|byte| b",;\"".contains(byte));
        let length = length.unwrap_or(self.rest().len());
        let value = self.text[self.at..self.at + length].to_owned();
        self.at += length;
        if self.rest().first() == Some(&b'"') {
            return Err(self.error(Fault::StrayQuote));
        }
        Ok(value)
    }

    /// Behind the first quote.
    fn quoted(&mut self) -> Result<String, Error> {
        let mut value = String::new();
        loop {
            let length = self.rest().iter().position(|byte| *byte == b'"');
            let length = length.ok_or_else(|| self.error(Fault::NoEndQuote))?;
            let piece = &self.text[self.at..self.at + length];
            self.at += length;
            match piece.bytes().rev().take_while(|byte| *byte == b'\\').count() {
                0 => value.push_str(piece),
                odd if odd % 2 == 1 => {
                    value.push_str(&piece[..length - 1]);
                    value.push('"');
                    self.at += 1;
                    continue;
                }
                _ => return Err(self.error(Fault::UnclearQuote)),
            }
            self.at += 1;
            return match self.rest().first() {
                None | Some(b';' | b',') => Ok(value),
                Some(_) => Err(self.error(Fault::BehindQuote)),
            };
        }
    }
}

#[cfg(test)]
mod tests;
