//! Messages of the bus as bytes.

/// A method call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call<'a> {
    pub(crate) to: &'a str,
    /// The object's path.
    pub(crate) at: &'a str,
    pub(crate) interface: &'a str,
    pub(crate) member: &'a str,
    pub(crate) arguments: &'a [Argument<'a>],
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Argument<'a> {
    Text(&'a str),
    Number(u32),
    /// The one descriptor that goes with the call.
    Descriptor,
}

/// The values of an answer.
#[derive(Debug)]
pub(crate) struct Body {
    signature: String,
    bytes: Vec<u8>,
    big_endian: bool,
}

/// The first bytes of a message that comes in.
#[derive(Debug)]
pub(super) struct Head {
    big_endian: bool,
    kind: u8,
    body: u32,
    fields: u32,
}

/// What a message is to whoever waits for the answer to a call.
#[derive(Debug)]
pub(super) enum Outcome {
    Returned(Body),
    /// With the name of an error.
    Refused(String),
    Unrelated,
}

// Kinds of messages.
const CALL: u8 = 1;
const RETURN: u8 = 2;
const ERROR: u8 = 3;
// Fields of a header.
const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SIGNATURE: u8 = 8;
const DESCRIPTORS: u8 = 9;
/// Where the parts of a message, and the fields of its header, begin.
const ALIGNMENT: usize = 8;
const VERSION: u8 = 1;

impl Call<'_> {
    pub(super) fn encode(&self, serial: u32, with_descriptor: bool) -> Vec<u8> {
        let (mut body, mut signature) = (Writer::default(), String::new());
        for argument in self.arguments {
            signature.push(match argument {
                Argument::Text(text) => {
                    body.text(text);
                    's'
                }
                Argument::Number(number) => {
                    body.number(*number);
                    'u'
                }
                Argument::Descriptor => {
                    body.number(0);
                    'h'
                }
            });
        }
        let mut fields = Writer::default();
        fields.field(PATH, "o", |fields| fields.text(self.at));
        fields.field(INTERFACE, "s", |fields| fields.text(self.interface));
        fields.field(MEMBER, "s", |fields| fields.text(self.member));
        fields.field(DESTINATION, "s", |fields| fields.text(self.to));
        if !signature.is_empty() {
            fields.field(SIGNATURE, "g", |fields| fields.signature(&signature));
        }
        if with_descriptor {
            fields.field(DESCRIPTORS, "u", |fields| fields.number(1));
        }
        let mut whole = Writer(vec![b'l', CALL, 0, VERSION]);
        whole.number(body.length());
        whole.number(serial);
        whole.number(fields.length());
        whole.0.extend(fields.0);
        whole.align(ALIGNMENT);
        whole.0.extend(body.0);
        whole.0
    }
}

impl Head {
    pub(super) const SIZE: usize = 16;

    pub(super) fn parse(bytes: [u8; Self::SIZE]) -> Result<Self, &'static str> {
        let [endian, kind, _, version, rest @ ..] = bytes;
        let big_endian = match endian {
            b'l' => false,
            b'B' => true,
            _ => return Err("that is no message of a bus"),
        };
        if version != VERSION {
            return Err("a message is of a version that is not known");
        }
        let mut rest = Reader::new(&rest, big_endian);
        let (body, _serial, fields) = (rest.number(), rest.number(), rest.number());
        let (Some(body), Some(fields)) = (body, fields) else { return Err("a head is cut off") };
        Ok(Self { big_endian, kind, body, fields })
    }

    /// How many bytes follow; `None` for more than there can be.
    pub(super) fn rest(&self) -> Option<usize> {
        let fields = usize::try_from(self.fields).ok()?.checked_next_multiple_of(ALIGNMENT)?;
        fields.checked_add(usize::try_from(self.body).ok()?)
    }

    /// `rest` has the length that [`Self::rest`] said.
    pub(super) fn outcome(&self, rest: &[u8], serial: u32) -> Result<Outcome, &'static str> {
        const MALFORMED: &str = "the head of a message is malformed";
        let (fields, body) = usize::try_from(self.fields)
            .ok()
            .and_then(|fields| Some((rest.get(..fields)?, rest.get(fields.next_multiple_of(ALIGNMENT)..)?)))
            .ok_or(MALFORMED)?;
        let mut fields = Reader::new(fields, self.big_endian);
        let (mut name, mut reply_to, mut signature) = (None, None, String::new());
        while !fields.is_at_end() {
            match fields.field().ok_or(MALFORMED)? {
                (ERROR_NAME, Value::Text(text)) => name = Some(text),
                (REPLY_SERIAL, Value::Number(number)) => reply_to = Some(number),
                (SIGNATURE, Value::Text(text)) => signature = text.to_owned(),
                _ => {}
            }
        }
        if reply_to != Some(serial) {
            return Ok(Outcome::Unrelated);
        }
        match (self.kind, name) {
            (RETURN, _) => {
                Ok(Outcome::Returned(Body { signature, bytes: body.to_vec(), big_endian: self.big_endian }))
            }
            (ERROR, Some(name)) => Ok(Outcome::Refused(name.to_owned())),
            _ => Err(MALFORMED),
        }
    }
}

impl Body {
    /// The first value, if it is a text or the path of an object.
    pub(crate) fn text(&self) -> Option<String> {
        let is_text = self.signature.starts_with(['s', 'o']);
        Reader::new(&self.bytes, self.big_endian).text().filter(|_| is_text).map(str::to_owned)
    }

    /// The first value, if it is a text in a variant.
    pub(crate) fn text_within(&self) -> Option<String> {
        let mut reader = Reader::new(&self.bytes, self.big_endian);
        let is_text = self.signature.starts_with('v') && matches!(reader.signature()?, "s" | "o");
        reader.text().filter(|_| is_text).map(str::to_owned)
    }
}

#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn length(&self) -> u32 {
        u32::try_from(self.0.len()).expect("a call is short")
    }

    fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    fn number(&mut self, number: u32) {
        self.align(4);
        self.0.extend(number.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.number(u32::try_from(text.len()).expect("a text is short"));
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    fn signature(&mut self, signature: &str) {
        self.0.push(u8::try_from(signature.len()).expect("a signature is short"));
        self.0.extend(signature.as_bytes());
        self.0.push(0);
    }

    fn field(&mut self, code: u8, signature: &str, value: impl FnOnce(&mut Self)) {
        self.align(ALIGNMENT);
        self.0.push(code);
        self.signature(signature);
        value(self);
    }
}

/// Of bytes that begin where alignment begins.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    big_endian: bool,
}

enum Value<'a> {
    Text(&'a str),
    Number(u32),
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8], big_endian: bool) -> Self {
        Self { bytes, at: 0, big_endian }
    }

    fn is_at_end(&self) -> bool {
        self.at >= self.bytes.len()
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(taken)
    }

    fn number(&mut self) -> Option<u32> {
        self.at = self.at.next_multiple_of(4);
        let bytes = self.take(4)?.try_into().ok()?;
        Some(if self.big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = usize::try_from(self.number()?).ok()?;
        self.terminated(length)
    }

    fn signature(&mut self) -> Option<&'a str> {
        let length = usize::from(*self.take(1)?.first()?);
        self.terminated(length)
    }

    fn terminated(&mut self, length: usize) -> Option<&'a str> {
        let (end, text) = self.take(length.checked_add(1)?)?.split_last()?;
        std::str::from_utf8(text).ok().filter(|text| *end == 0 && !text.contains('\0'))
    }

    fn field(&mut self) -> Option<(u8, Value<'a>)> {
        self.at = self.at.next_multiple_of(ALIGNMENT);
        let code = *self.take(1)?.first()?;
        let value = match self.signature()? {
            "s" | "o" => Value::Text(self.text()?),
            "g" => Value::Text(self.signature()?),
            "u" => Value::Number(self.number()?),
            _ => return None,
        };
        Some((code, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(message: &[u8], serial: u32) -> Result<Outcome, &'static str> {
        let (fixed, rest) = message.split_at(Head::SIZE);
        let head = Head::parse(fixed.try_into().unwrap())?;
        assert_eq!(head.rest(), Some(rest.len()));
        head.outcome(rest, serial)
    }

    /// A return of kind `kind` to call 7, with the error's name if there is one, and one text.
    fn answer(kind: u8, name: Option<&str>, text: &str) -> Vec<u8> {
        let (mut fields, mut body) = (Writer::default(), Writer::default());
        fields.field(REPLY_SERIAL, "u", |fields| fields.number(7));
        if let Some(name) = name {
            fields.field(ERROR_NAME, "s", |fields| fields.text(name));
        }
        fields.field(SIGNATURE, "g", |fields| fields.signature("s"));
        body.text(text);
        let mut whole = Writer(vec![b'l', kind, 0, VERSION]);
        for number in [body.length(), 1, fields.length()] {
            whole.number(number);
        }
        whole.0.extend(fields.0);
        whole.align(ALIGNMENT);
        whole.0.extend(body.0);
        whole.0
    }

    /// Put together by hand from the specification.
    #[test]
    fn a_call_is_laid_out_as_the_specification_says() {
        let call =
            Call { to: "a.b", at: "/c", interface: "d.e", member: "F", arguments: &[Argument::Number(1)] };
        let expected: &[&[u8]] = &[
            b"l\x01\x00\x01\x04\x00\x00\x00\x02\x00\x00\x00\x47\x00\x00\x00",
            b"\x01\x01o\x00\x02\x00\x00\x00/c\x00\x00\x00\x00\x00\x00",
            b"\x02\x01s\x00\x03\x00\x00\x00d.e\x00\x00\x00\x00\x00",
            b"\x03\x01s\x00\x01\x00\x00\x00F\x00\x00\x00\x00\x00\x00\x00",
            b"\x06\x01s\x00\x03\x00\x00\x00a.b\x00\x00\x00\x00\x00",
            b"\x08\x01g\x00\x01u\x00\x00",
            b"\x01\x00\x00\x00",
        ];
        assert_eq!(call.encode(2, false), expected.concat());
    }

    #[test]
    fn an_answer_is_told_from_what_comes_between() {
        let returned = parse(&answer(RETURN, None, "hello"), 7).unwrap();
        let Outcome::Returned(body) = returned else { panic!("{returned:?}") };
        assert_eq!((body.text(), body.text_within()), (Some("hello".into()), None));
        assert!(matches!(parse(&answer(RETURN, None, "x"), 8), Ok(Outcome::Unrelated)));
        let refused = parse(&answer(ERROR, Some("a.b.C"), "why"), 7);
        assert!(matches!(refused, Ok(Outcome::Refused(name)) if name == "a.b.C"));
    }

    #[test]
    fn no_bytes_break_the_reader() {
        let whole = answer(RETURN, Some("a.b"), "hello");
        for place in 0..whole.len() {
            for byte in [0, 1, 0x7f, 0xff] {
                let mut broken = whole.clone();
                broken[place] = byte;
                let (fixed, rest) = broken.split_at(Head::SIZE);
                let Ok(head) = Head::parse(fixed.try_into().unwrap()) else { continue };
                if let Ok(Outcome::Returned(body)) = head.outcome(rest, 7) {
                    let _ = (body.text(), body.text_within());
                }
            }
        }
    }
}
