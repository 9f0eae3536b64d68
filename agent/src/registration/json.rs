//! JSON in which every value knows where it stands.
//!
//! Written here because an operator is to be told the line and column of any mistake in a value, of a key that
//! stands twice, and of what stands behind the end; the usual parser drops positions and keeps the last of two
//! equal keys. A property test holds it against that parser.

use std::borrow::Cow;

use super::document::{Key, Node, SyntaxError, Value};

/// Deepest nesting that is read; entries need five.
const MAX_DEPTH: usize = 16;
/// Most keys of one object; an entry has fewer than twenty. Keeps the search for duplicates short.
const MAX_KEYS: usize = 64;
/// Most values of one file: room for more than thirty in each of [`super::MAX_ENTRIES`].
const MAX_VALUES: usize = 8 << 20;

/// Reads one JSON document that is all of `text`. Source: RFC 8259.
pub(super) fn from_json(text: &str) -> Result<Node<'_>, SyntaxError> {
    let mut parser = Parser { text, bytes: text.as_bytes(), at: 0, values: 0 };
    let root = parser.value(0)?;
    parser.skip_space();
    match parser.peek() {
        None => Ok(root),
        Some(_) => Err(parser.error("text behind the end of the document")),
    }
}

struct Parser<'t> {
    text: &'t str,
    bytes: &'t [u8],
    at: usize,
    values: usize,
}

type Parsed<T> = Result<T, SyntaxError>;

impl<'t> Parser<'t> {
    fn value(&mut self, depth: usize) -> Parsed<Node<'t>> {
        self.skip_space();
        self.values += 1;
        if depth > MAX_DEPTH {
            return Err(self.error(format!("more than {MAX_DEPTH} levels of nesting")));
        }
        if self.values > MAX_VALUES {
            return Err(self.error(format!("more than {MAX_VALUES} values")));
        }
        let start = self.at;
        let value = match self.peek() {
            Some(b'{') => self.object(depth)?,
            Some(b'[') => self.array(depth)?,
            Some(b'"') => Value::Text(self.string()?),
            Some(b'-' | b'0'..=b'9') => self.number()?,
            Some(b't') => self.word("true", Value::Bool(true))?,
            Some(b'f') => self.word("false", Value::Bool(false))?,
            Some(b'n') => self.word("null", Value::Null)?,
            _ => return Err(self.expected("a value")),
        };
        Ok(Node { value, span: start..self.at })
    }

    fn object(&mut self, depth: usize) -> Parsed<Value<'t>> {
        self.at += 1;
        let mut pairs: Vec<(Key<'t>, Node<'t>)> = Vec::new();
        self.skip_space();
        if self.take(b'}') {
            return Ok(Value::Table(pairs));
        }
        loop {
            let key = self.key(&pairs)?;
            self.skip_space();
            if !self.take(b':') {
                return Err(self.expected("a colon"));
            }
            pairs.push((key, self.value(depth + 1)?));
            self.skip_space();
            if self.take(b'}') {
                return Ok(Value::Table(pairs));
            }
            if !self.take(b',') {
                return Err(self.expected("a comma or }"));
            }
        }
    }

    fn key(&mut self, earlier: &[(Key<'t>, Node<'t>)]) -> Parsed<Key<'t>> {
        self.skip_space();
        if self.peek() != Some(b'"') {
            return Err(self.expected("a key in double quotes"));
        }
        let start = self.at;
        let name = self.string()?;
        let span = start..self.at;
        if earlier.iter().any(|(key, _)| key.name == name) {
            return Err(SyntaxError { message: format!("key {name:?} stands twice in one object"), span });
        }
        if earlier.len() == MAX_KEYS {
            return Err(SyntaxError { message: format!("more than {MAX_KEYS} keys in one object"), span });
        }
        Ok(Key { name, span })
    }

    fn array(&mut self, depth: usize) -> Parsed<Value<'t>> {
        self.at += 1;
        let mut list = Vec::new();
        self.skip_space();
        if self.take(b']') {
            return Ok(Value::List(list));
        }
        loop {
            list.push(self.value(depth + 1)?);
            self.skip_space();
            if self.take(b']') {
                return Ok(Value::List(list));
            }
            if !self.take(b',') {
                return Err(self.expected("a comma or ]"));
            }
        }
    }

    /// Borrowed from the file unless it holds an escape.
    fn string(&mut self) -> Parsed<Cow<'t, str>> {
        self.at += 1;
        let start = self.at;
        let mut owned: Option<String> = None;
        let mut copied = start;
        loop {
            match self.peek() {
                Some(b'"') => {
                    let tail = &self.text[copied..self.at];
                    self.at += 1;
                    return Ok(match owned {
                        None => Cow::Borrowed(tail),
                        Some(text) => Cow::Owned(text + tail),
                    });
                }
                Some(b'\\') => {
                    let text = owned.get_or_insert_default();
                    text.push_str(&self.text[copied..self.at]);
                    let c = self.escape()?;
                    owned.get_or_insert_default().push(c);
                    copied = self.at;
                }
                Some(0..=0x1f) => return Err(self.error("a control character must be escaped in a string")),
                Some(_) => self.at += 1,
                None => return Err(self.error("the file ends inside a string")),
            }
        }
    }

    /// What an escape stands for; `at` moves from its backslash to behind it.
    fn escape(&mut self) -> Parsed<char> {
        let start = self.at;
        self.at += 1;
        let simple = match self.peek() {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode_escape(start),
            _ => return Err(self.error("unknown escape")),
        };
        self.at += 1;
        Ok(simple)
    }

    /// RFC 8259 §7: beyond the basic plane, two escapes make one character; half a pair is no text.
    fn unicode_escape(&mut self, start: usize) -> Parsed<char> {
        let first = self.code_unit()?;
        let units = if (0xd800..0xdc00).contains(&first) && self.peek() == Some(b'\\') {
            self.at += 1;
            vec![first, self.code_unit()?]
        } else {
            vec![first]
        };
        match char::decode_utf16(units).collect::<Result<Vec<char>, _>>().as_deref() {
            Ok([c]) => Ok(*c),
            _ => Err(SyntaxError { message: "half of a surrogate pair".into(), span: start..self.at }),
        }
    }

    fn code_unit(&mut self) -> Parsed<u16> {
        if !self.take(b'u') {
            return Err(self.error("half of a surrogate pair"));
        }
        let digits =
            self.bytes.get(self.at..self.at + 4).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        let unit = digits
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u16::from_str_radix(digits, 16).ok());
        match unit {
            Some(unit) => {
                self.at += 4;
                Ok(unit)
            }
            None => Err(self.expected("four hexadecimal digits")),
        }
    }

    fn number(&mut self) -> Parsed<Value<'t>> {
        let start = self.at;
        self.take(b'-');
        if !self.take(b'0') {
            self.digits()?;
        } else if matches!(self.peek(), Some(b'0'..=b'9')) {
            return Err(self.error("a number may not start with 0"));
        }
        let whole = self.at;
        if self.take(b'.') {
            self.digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            if !self.take(b'+') {
                self.take(b'-');
            }
            self.digits()?;
        }
        let integer = (self.at == whole).then(|| self.text[start..whole].parse().ok()).flatten();
        Ok(integer.map_or(Value::Other, Value::Integer))
    }

    fn digits(&mut self) -> Parsed<()> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start { Err(self.expected("a digit")) } else { Ok(()) }
    }

    fn word(&mut self, word: &str, value: Value<'t>) -> Parsed<Value<'t>> {
        if self.bytes[self.at..].starts_with(word.as_bytes()) {
            self.at += word.len();
            Ok(value)
        } else {
            Err(self.expected("a value"))
        }
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let taken = self.peek() == Some(byte);
        self.at += usize::from(taken);
        taken
    }

    fn expected(&self, what: &str) -> SyntaxError {
        match self.text.get(self.at..).and_then(|rest| rest.chars().next()) {
            Some(c) => self.error(format!("expected {what}, found {c:?}")),
            None => self.error(format!("expected {what}, but the file ends")),
        }
    }

    fn error(&self, message: impl Into<String>) -> SyntaxError {
        SyntaxError { message: message.into(), span: self.at..self.at + 1 }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The same value as the usual parser reads it.
    fn plain(node: &Node<'_>) -> serde_json::Value {
        match &node.value {
            Value::Null | Value::Other => serde_json::Value::Null,
            Value::Bool(value) => (*value).into(),
            Value::Integer(number) => (*number).into(),
            Value::Text(text) => text.to_string().into(),
            Value::List(list) => list.iter().map(plain).collect(),
            Value::Table(pairs) => {
                serde_json::Value::Object(pairs.iter().map(|(k, v)| (k.name.to_string(), plain(v))).collect())
            }
        }
    }

    /// What is no integer to us becomes null on both sides.
    fn without_fractions(value: serde_json::Value) -> serde_json::Value {
        match value {
            serde_json::Value::Number(number) if !number.is_i64() => serde_json::Value::Null,
            serde_json::Value::Array(list) => list.into_iter().map(without_fractions).collect(),
            serde_json::Value::Object(map) => {
                map.into_iter().map(|(k, v)| (k, without_fractions(v))).collect()
            }
            other => other,
        }
    }

    fn failure(text: &str) -> (String, usize) {
        let error = from_json(text).unwrap_err();
        (error.message, error.span.start)
    }

    #[test]
    fn a_key_that_stands_twice_is_an_error() {
        assert_eq!(failure(r#"{"a":1,"\u0061":2}"#), (r#"key "a" stands twice in one object"#.into(), 7));
    }

    #[test]
    fn text_behind_the_end_is_an_error() {
        assert_eq!(failure("{} x"), ("text behind the end of the document".into(), 3));
        assert_eq!(failure("{}{}").1, 2);
    }

    #[test]
    fn nesting_and_keys_are_bounded() {
        assert!(failure(&"[".repeat(1_000_000)).0.contains("levels of nesting"));
        let keys: Vec<String> = (0..=MAX_KEYS).map(|n| format!("\"{n}\":1")).collect();
        assert!(failure(&format!("{{{}}}", keys.join(","))).0.contains("keys in one object"));
    }

    #[test]
    fn a_cut_file_says_that_it_ends() {
        let text = r#"{"entries":[{"hint":"a\u00e9\n"}]}"#;
        for end in 0..text.len() {
            assert!(from_json(&text[..end]).is_err(), "{end}");
        }
        assert_eq!(failure("[1,").0, "expected a value, but the file ends");
    }

    #[test]
    fn integers_are_whole_numbers_of_64_bits() {
        for (text, value) in [
            ("-0", Value::Integer(0)),
            ("-9223372036854775808", Value::Integer(i64::MIN)),
            ("9223372036854775808", Value::Other),
            ("1.0", Value::Other),
            ("1e2", Value::Other),
        ] {
            assert_eq!(from_json(text).unwrap().value, value, "{text}");
        }
        for text in ["01", "-", "+1", "1.", ".5", "1e", "0x1", "NaN"] {
            assert!(from_json(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn it_agrees_with_the_usual_parser(
            text in r#"([\[\]{},: "\\]|"a"|"b"|"\\u00e9\\n"|"\\ud83d\\ude00"|\\u|0|-?[1-9][0-9]{0,2}|1e5|0\.5|true|null|é|\n){0,12}"#,
        ) {
            let ours = from_json(&text);
            let usual = serde_json::from_str::<serde_json::Value>(&text);
            match (ours, usual) {
                (Ok(ours), Ok(usual)) => prop_assert_eq!(plain(&ours), without_fractions(usual)),
                (Err(_), Err(_)) => {}
                (Err(error), Ok(_)) => prop_assert!(error.message.contains("stands twice"), "{:?}", error),
                // A number beyond every float is still a number.
                (Ok(_), Err(error)) => prop_assert!(error.to_string().contains("out of range"), "{}", error),
            }
        }

        #[test]
        fn every_document_of_the_usual_writer_is_read(value in any_json()) {
            let text = serde_json::to_string_pretty(&value).unwrap();
            prop_assert_eq!(plain(&from_json(&text).unwrap()), value);
        }
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<String>().prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
                proptest::collection::btree_map(any::<String>(), inner, 0..6)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }
}
