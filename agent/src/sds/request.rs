//! Reads `DiscoveryRequest`s out of a gRPC byte stream.
//!
//! An Envoy puts its whole `Node`, some 60 KB, into every request unless told otherwise. Two facts of it are of
//! use, so the reader takes nonce, version, names, error and those facts as the bytes pass by and holds nothing
//! else: its memory does not grow with the message, and no nesting makes it recurse.

use super::node::NodeFacts;

/// Longest version, nonce or type URL that is taken.
const MAX_TOKEN: usize = 256;
/// Longest resource name: a SPIFFE ID.
const MAX_NAME: usize = crate::spiffe::MAX_ID_LEN;
/// How much of an Envoy's error text is kept.
const MAX_ERROR_TEXT: usize = 1024;
/// Longest `user_agent_build_version` and metadata entry that are looked into. Longer ones are passed over.
const MAX_BUILD_VERSION: usize = 4096;
const MAX_METADATA_ENTRY: usize = 256;

/// Bounds on what a stranger may send.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of one request message.
    pub request_bytes: usize,
    /// Resource names in one request.
    pub names: usize,
}

/// One `DiscoveryRequest`, as far as it matters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    pub version: String,
    /// As sent, without the empty ones.
    pub names: Vec<String>,
    pub type_url: String,
    pub nonce: String,
    /// Set when the request is a NACK: the first kilobyte of Envoy's reason.
    pub error: Option<String>,
    /// `None` when the request had no `Node`.
    pub node: Option<NodeFacts>,
}

/// Why a byte stream holds no request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    #[error("request is compressed, which was not offered")]
    Compressed,
    #[error("request has {size} bytes, more than the {limit} that are taken")]
    TooLarge { size: usize, limit: usize },
    #[error("request names more than {limit} resources")]
    TooManyNames { limit: usize },
    #[error("{field} has more than {limit} bytes")]
    FieldTooLong { field: &'static str, limit: usize },
    #[error("request is not a DiscoveryRequest: {0}")]
    Malformed(&'static str),
}

impl ReadError {
    /// The limit that was broken, or that it was no limit.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "sds_request",
            Self::TooManyNames { .. } => "names_per_stream",
            Self::Compressed | Self::FieldTooLong { .. } | Self::Malformed(_) => "malformed",
        }
    }
}

/// Push bytes in, take requests out.
#[derive(Debug)]
pub struct RequestReader {
    limits: Limits,
    prefix: [u8; PREFIX_LEN],
    /// Bytes of it that have come.
    prefix_read: usize,
    /// The message being read; `None` between messages.
    message: Option<Message>,
}

const PREFIX_LEN: usize = 5;

impl RequestReader {
    pub fn new(limits: Limits) -> Self {
        Self { limits, prefix: [0; PREFIX_LEN], prefix_read: 0, message: None }
    }

    /// Takes bytes from the front of `data` until a request is whole or `data` is empty.
    ///
    /// # Errors
    /// After an error the stream has no meaning any more: end it.
    pub fn read(&mut self, data: &mut &[u8]) -> Result<Option<Request>, ReadError> {
        loop {
            if let Some(message) = &mut self.message {
                if !message.read(data, self.limits)? {
                    return Ok(None);
                }
                return Ok(self.message.take().map(|message| message.request));
            }
            if data.is_empty() || !self.read_prefix(data)? {
                return Ok(None);
            }
        }
    }

    /// Whether the stream may end here: not within a message.
    pub fn is_between_messages(&self) -> bool {
        self.prefix_read == 0 && self.message.is_none()
    }

    fn read_prefix(&mut self, data: &mut &[u8]) -> Result<bool, ReadError> {
        let missing = &mut self.prefix[self.prefix_read..];
        let bytes = take(data, missing.len());
        missing[..bytes.len()].copy_from_slice(bytes);
        self.prefix_read += bytes.len();
        if self.prefix_read < PREFIX_LEN {
            return Ok(false);
        }
        self.prefix_read = 0;
        let [compressed, a, b, c, d] = self.prefix;
        if compressed != 0 {
            return Err(ReadError::Compressed);
        }
        let size = u32::from_be_bytes([a, b, c, d]) as usize;
        if size > self.limits.request_bytes {
            return Err(ReadError::TooLarge { size, limit: self.limits.request_bytes });
        }
        self.message = Some(Message::new(size));
        Ok(true)
    }
}

/// The messages that are looked into. Everything else is passed over whatever it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Request,
    Node,
    Metadata,
    Status,
}

/// A message whose fields are being read, and how many of its bytes are still to come.
#[derive(Debug, Clone, Copy)]
struct Open {
    level: Level,
    left: usize,
}

/// What the next bytes are.
#[derive(Debug)]
enum Expect {
    Tag(Varint),
    /// A varint field's value.
    Value(u32, Varint),
    Length(u32, Varint),
    /// So many bytes that nobody needs.
    Skip(usize),
    /// The content of a field: `left` bytes, of which the first `keep` go into `kept`.
    Content {
        field: u32,
        left: usize,
        keep: usize,
        kept: Vec<u8>,
    },
}

#[derive(Debug)]
struct Message {
    request: Request,
    open: Vec<Open>,
    expect: Expect,
}

impl Message {
    fn new(size: usize) -> Self {
        let open = vec![Open { level: Level::Request, left: size }];
        Self { request: Request::default(), open, expect: Expect::Tag(Varint::default()) }
    }

    /// Whether the message is whole. Fields cost the same however deep their content nests: the depth of `open`
    /// is bounded by [`Level`].
    fn read(&mut self, data: &mut &[u8], limits: Limits) -> Result<bool, ReadError> {
        loop {
            self.close_finished()?;
            let Some(open) = self.open.last_mut() else { return Ok(true) };
            match &mut self.expect {
                Expect::Tag(varint) => {
                    if varint.is_empty() {
                        open.pass_over(data);
                        if open.left == 0 {
                            continue;
                        }
                    }
                    let Some(tag) = open.varint(varint, data)? else { return Ok(false) };
                    self.expect = open.after_tag(tag)?;
                }
                Expect::Value(field, varint) => {
                    let field = *field;
                    let Some(value) = open.varint(varint, data)? else { return Ok(false) };
                    let level = open.level;
                    self.on_value(level, field, value);
                    self.expect = Expect::Tag(Varint::default());
                }
                Expect::Length(field, varint) => {
                    let field = *field;
                    let Some(length) = open.varint(varint, data)? else { return Ok(false) };
                    let length = usize::try_from(length).unwrap_or(usize::MAX);
                    open.left =
                        open.left.checked_sub(length).ok_or(ReadError::Malformed("field passes its end"))?;
                    let level = open.level;
                    self.on_length(level, field, length, limits)?;
                }
                Expect::Skip(left) => {
                    *left -= take(data, *left).len();
                    if *left > 0 {
                        return Ok(false);
                    }
                    self.expect = Expect::Tag(Varint::default());
                }
                Expect::Content { field, left, keep, kept } => {
                    let bytes = take(data, *left);
                    *left -= bytes.len();
                    let wanted = bytes.len().min(*keep - kept.len());
                    kept.extend_from_slice(&bytes[..wanted]);
                    if *left > 0 {
                        return Ok(false);
                    }
                    let (level, field, kept) = (open.level, *field, std::mem::take(kept));
                    self.on_content(level, field, kept)?;
                    self.expect = Expect::Tag(Varint::default());
                }
            }
        }
    }

    /// Leaves every message that is read to its end.
    fn close_finished(&mut self) -> Result<(), ReadError> {
        while self.open.last().is_some_and(|open| open.left == 0) {
            match &self.expect {
                Expect::Tag(varint) if varint.is_empty() => self.open.pop(),
                // Its length is already taken off `left`.
                Expect::Skip(_) | Expect::Content { .. } => break,
                _ => return Err(ReadError::Malformed("message ends within a field")),
            };
        }
        Ok(())
    }

    fn on_value(&mut self, level: Level, field: u32, value: u64) {
        // google.rpc.Status.code: anything but OK makes the request a NACK, whatever the text.
        if (level, field) == (Level::Status, 1) && value != 0 {
            self.request.error.get_or_insert_default();
        }
    }

    fn on_length(
        &mut self,
        level: Level,
        field: u32,
        length: usize,
        limits: Limits,
    ) -> Result<(), ReadError> {
        let whole = |field: &'static str, limit: usize| {
            if length > limit { Err(ReadError::FieldTooLong { field, limit }) } else { Ok(length) }
        };
        let short = |limit: usize| (length <= limit).then_some(length);
        let keep = match (level, field) {
            (Level::Request, 1) => Some(whole("version_info", MAX_TOKEN)?),
            (Level::Request, 3) if length == 0 => None,
            (Level::Request, 3) if self.request.names.len() == limits.names => {
                return Err(ReadError::TooManyNames { limit: limits.names });
            }
            (Level::Request, 3) => Some(whole("resource name", MAX_NAME)?),
            (Level::Request, 4) => Some(whole("type_url", MAX_TOKEN)?),
            (Level::Request, 5) => Some(whole("response_nonce", MAX_TOKEN)?),
            (Level::Request, 2) => {
                self.request.node.get_or_insert_default();
                return self.enter(Level::Node, length);
            }
            (Level::Request, 6) => {
                self.request.error.get_or_insert_default();
                return self.enter(Level::Status, length);
            }
            (Level::Node, 3) => return self.enter(Level::Metadata, length),
            (Level::Node, 8) => short(MAX_BUILD_VERSION),
            (Level::Metadata, 1) => short(MAX_METADATA_ENTRY),
            (Level::Status, 2) => Some(length.min(MAX_ERROR_TEXT)),
            _ => None,
        };
        self.expect = match keep {
            Some(keep) => Expect::Content { field, left: length, keep, kept: Vec::with_capacity(keep) },
            None => Expect::Skip(length),
        };
        Ok(())
    }

    fn enter(&mut self, level: Level, length: usize) -> Result<(), ReadError> {
        self.open.push(Open { level, left: length });
        self.expect = Expect::Tag(Varint::default());
        Ok(())
    }

    fn on_content(&mut self, level: Level, field: u32, bytes: Vec<u8>) -> Result<(), ReadError> {
        let text = |bytes| String::from_utf8(bytes).map_err(|_| ReadError::Malformed("text is not UTF-8"));
        match (level, field) {
            (Level::Request, 1) => self.request.version = text(bytes)?,
            (Level::Request, 3) => self.request.names.push(text(bytes)?),
            (Level::Request, 4) => self.request.type_url = text(bytes)?,
            (Level::Request, 5) => self.request.nonce = text(bytes)?,
            // Cut at a bound, so the last character may be in pieces.
            (Level::Status, 2) => self.request.error = Some(String::from_utf8_lossy(&bytes).into_owned()),
            (Level::Node, 8) => self.request.node.get_or_insert_default().take_build_version(&bytes),
            (Level::Metadata, 1) => self.request.node.get_or_insert_default().take_metadata(&bytes),
            _ => {}
        }
        Ok(())
    }
}

impl Level {
    /// The fields that are of use, one bit for each.
    fn wanted(self) -> u16 {
        let fields: &[u32] = match self {
            Self::Request => &[1, 2, 3, 4, 5, 6],
            Self::Node => &[3, 8],
            Self::Metadata => &[1],
            Self::Status => &[1, 2],
        };
        fields.iter().fold(0, |bits, field| bits | 1 << field)
    }
}

impl Open {
    /// Passes over what nobody needs as long as it lies there whole, field by field: most of an Envoy's `Node` are its
    /// hundreds of extensions. Whatever is not plain is left to the long way.
    fn pass_over(&mut self, data: &mut &[u8]) {
        let wanted = self.level.wanted();
        let here = data.len().min(self.left);
        let mut bytes = &data[..here];
        while let [tag @ 0x08..=0x7f, rest @ ..] = bytes {
            if tag & 7 != 2 || wanted >> (tag >> 3) & 1 != 0 {
                break;
            }
            let (length, rest) = match rest {
                [length @ ..=0x7f, rest @ ..] => (usize::from(*length), rest),
                [low, high @ ..=0x7f, rest @ ..] => (usize::from(low & 0x7f) | usize::from(*high) << 7, rest),
                _ => break,
            };
            let Some(rest) = rest.get(length..) else { break };
            bytes = rest;
        }
        let passed = here - bytes.len();
        take(data, passed);
        self.left -= passed;
    }

    fn varint(&mut self, varint: &mut Varint, data: &mut &[u8]) -> Result<Option<u64>, ReadError> {
        while self.left > 0 {
            let [byte] = *take(data, 1) else { return Ok(None) };
            self.left -= 1;
            if let Some(value) = varint.push(byte)? {
                return Ok(Some(value));
            }
        }
        Err(ReadError::Malformed("message ends within a field"))
    }

    fn after_tag(&mut self, tag: u64) -> Result<Expect, ReadError> {
        let field = u32::try_from(tag >> 3).ok().filter(|field| (1..1 << 29).contains(field));
        let field = field.ok_or(ReadError::Malformed("field number out of range"))?;
        let mut skip = |bytes: usize| {
            self.left = self.left.checked_sub(bytes).ok_or(ReadError::Malformed("field passes its end"))?;
            Ok(Expect::Skip(bytes))
        };
        match tag & 7 {
            0 => Ok(Expect::Value(field, Varint::default())),
            1 => skip(8),
            2 => Ok(Expect::Length(field, Varint::default())),
            5 => skip(4),
            _ => Err(ReadError::Malformed("unknown wire type")),
        }
    }
}

/// A varint that may arrive in pieces.
#[derive(Debug, Default)]
struct Varint {
    value: u64,
    bytes: u32,
}

impl Varint {
    fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    fn push(&mut self, byte: u8) -> Result<Option<u64>, ReadError> {
        // The tenth byte carries the 64th bit only.
        if self.bytes > 9 || (self.bytes == 9 && byte > 1) {
            return Err(ReadError::Malformed("varint is too long"));
        }
        self.value |= u64::from(byte & 0x7f) << (7 * self.bytes);
        self.bytes += 1;
        if byte & 0x80 != 0 {
            return Ok(None);
        }
        Ok(Some(self.value))
    }
}

/// Takes at most `count` bytes from the front of `data`.
fn take<'a>(data: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (front, rest) = data.split_at(count.min(data.len()));
    *data = rest;
    front
}

#[cfg(test)]
mod tests;
