//! Forms in parts (RFC 7578), out of bytes that are all there.
//!
//! Written here because the parsers at hand read streams asynchronously. It takes what browsers and clients send; what
//! is rare and could be read in more than one way (folded headers, a preamble, an encoding of a part) is refused.

use regorus::Value;

use super::{json, media_type::MediaType};
use crate::authz::input::{BadRequest, escape::lossy, query::Lists};

/// Most parts of one body, with a name or not.
const MAX_PARTS: usize = 1000;
/// Most headers of one part.
const MAX_PART_HEADERS: usize = 32;
/// Longest boundary. Source: RFC 2046 §5.1.1.
const MAX_BOUNDARY_BYTES: usize = 70;

/// An object of every name, with the array of what its parts hold: text, or a value where a part is JSON. Parts without
/// a name are passed over. Null when `content_type` has no boundary.
///
/// # Errors
/// When the body is not in such parts, or one that says it is JSON is not.
pub(super) fn parse(body: &[u8], content_type: &str, depth: usize) -> Result<Value, BadRequest> {
    let media_type = MediaType::parse(content_type).map_err(BadRequest::ContentType)?;
    let Some(boundary) = media_type.parameter("boundary") else { return Ok(Value::Null) };
    if !(1..=MAX_BOUNDARY_BYTES).contains(&boundary.len()) {
        return Err(BadRequest::ContentType("the boundary has no bytes, or more than 70"));
    }
    let mut reader = Reader::new(body, boundary);
    reader.form(depth).map_err(|fault| match fault {
        Fault::Form(fault) => BadRequest::Multipart { at: reader.at, fault },
        Fault::Json(error) => error,
    })
}

enum Fault {
    Form(&'static str),
    Json(BadRequest),
}

impl From<&'static str> for Fault {
    fn from(fault: &'static str) -> Self {
        Self::Form(fault)
    }
}

struct Reader<'t> {
    body: &'t [u8],
    at: usize,
    /// `--` and the boundary.
    dashed: Vec<u8>,
    /// How lines end, by that of the first part.
    newline: &'static [u8],
}

/// What the line of a boundary says.
#[derive(Debug, PartialEq, Eq)]
enum Boundary {
    Part,
    End,
}

impl<'t> Reader<'t> {
    fn new(body: &'t [u8], boundary: &str) -> Self {
        let dashed = format!("--{boundary}").into_bytes();
        let first_end = body.iter().position(|byte| *byte == b'\n');
        let first = first_end.map(|at| &body[..at]).and_then(|line| line.strip_prefix(&*dashed));
        // Without any part there is no first line that would say it.
        let is_bare = first.is_some_and(|line| !line.ends_with(b"\r") && !line.starts_with(b"--"));
        Self { body, at: 0, dashed, newline: if is_bare { b"\n" } else { b"\r\n" } }
    }

    fn rest(&self) -> &'t [u8] {
        &self.body[self.at..]
    }

    fn form(&mut self, depth: usize) -> Result<Value, Fault> {
        let mut form = Lists::default();
        let mut parts = 0;
        while self.boundary()? == Boundary::Part {
            parts += 1;
            if parts > MAX_PARTS {
                return Err(Fault::Form("more than 1000 parts"));
            }
            let part = self.headers()?;
            let content = self.content()?;
            let Some(name) = part.name else { continue };
            let value = if part.is_json {
                json::parse(content, depth).map_err(Fault::Json)?
            } else {
                Value::from(&*lossy(content))
            };
            form.add(&name, value);
        }
        Ok(form.into_value())
    }

    /// Passes the line of a boundary.
    fn boundary(&mut self) -> Result<Boundary, &'static str> {
        const MISSING: &str = "the line of a boundary is missing";
        let mut rest = self.rest().strip_prefix(&*self.dashed).ok_or(MISSING)?;
        let mut is_end = false;
        if let Some(behind) = rest.strip_prefix(b"--") {
            (rest, is_end) = (behind, true);
        }
        let spaces = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        rest = &rest[spaces..];
        if is_end {
            return if rest.is_empty() || rest.starts_with(self.newline) {
                Ok(Boundary::End)
            } else {
                Err(MISSING)
            };
        }
        let behind = rest.strip_prefix(self.newline).ok_or(MISSING)?;
        self.at = self.body.len() - behind.len();
        Ok(Boundary::Part)
    }

    /// Passes the headers of a part and the empty line behind them.
    fn headers(&mut self) -> Result<Part, &'static str> {
        let mut headers = Headers::default();
        for _ in 0..=MAX_PART_HEADERS {
            let length = find(self.rest(), self.newline).ok_or("the headers of a part have no end")?;
            let line = &self.rest()[..length];
            if line.is_empty() {
                let part = headers.part()?;
                self.at += self.newline.len();
                return Ok(part);
            }
            headers.take(line)?;
            self.at += length + self.newline.len();
        }
        Err("a part with more than 32 headers")
    }

    /// Passes the content of a part, up to the next boundary.
    fn content(&mut self) -> Result<&'t [u8], &'static str> {
        let rest = self.rest();
        if is_boundary(rest, &self.dashed) {
            return Ok(&[]);
        }
        let mut at = 0;
        while let Some(found) = find(&rest[at..], self.newline) {
            at += found;
            let behind = at + self.newline.len();
            if is_boundary(&rest[behind..], &self.dashed) {
                self.at += behind;
                return Ok(&rest[..at]);
            }
            at += 1;
        }
        Err("a part has no end")
    }
}

/// A longer word that starts like the boundary is content.
fn is_boundary(text: &[u8], dashed: &[u8]) -> bool {
    let behind = text.strip_prefix(dashed);
    behind.is_some_and(|behind| match behind {
        [] | [b' ' | b'\t' | b'\r' | b'\n', ..] | [b'-', b'-', ..] => true,
        [..] => false,
    })
}

fn find(text: &[u8], newline: &[u8]) -> Option<usize> {
    text.windows(newline.len()).position(|window| window == newline)
}

/// What the headers of a part say that counts.
#[derive(Debug)]
struct Part {
    name: Option<String>,
    is_json: bool,
}

#[derive(Debug, Default)]
struct Headers {
    disposition: Option<String>,
    content_type: Option<String>,
    encoding: Option<String>,
}

impl Headers {
    fn take(&mut self, line: &[u8]) -> Result<(), &'static str> {
        let line = str::from_utf8(line).map_err(|_| "a header of a part is not UTF-8")?;
        let (name, value) = line.split_once(':').ok_or("a header of a part without `:`")?;
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_name) {
            return Err("the name of a header of a part is none");
        }
        if value.contains(|character: char| character.is_control() && character != '\t') {
            return Err("a control character in a header of a part");
        }
        let known = match &*name.to_ascii_lowercase() {
            "content-disposition" => &mut self.disposition,
            "content-type" => &mut self.content_type,
            "content-transfer-encoding" => &mut self.encoding,
            _ => return Ok(()),
        };
        let is_second = known.replace(value.trim_matches([' ', '\t']).to_owned()).is_some();
        if is_second { Err("a header comes twice in a part") } else { Ok(()) }
    }

    fn part(&self) -> Result<Part, &'static str> {
        if self.encoding.as_ref().is_some_and(|encoding| encoding.eq_ignore_ascii_case("quoted-printable")) {
            return Err("a part in quoted-printable: send it as it is");
        }
        let disposition = self.disposition.as_deref().map(MediaType::parse).transpose()?;
        let name = disposition.filter(|disposition| disposition.name == "form-data");
        let name = name.and_then(|disposition| disposition.parameter("name").map(str::to_owned));
        let is_json = self.content_type.as_ref().is_some_and(|kind| kind.contains("application/json"));
        Ok(Part { name: name.filter(|name| !name.is_empty()), is_json })
    }
}

#[cfg(test)]
mod tests;
