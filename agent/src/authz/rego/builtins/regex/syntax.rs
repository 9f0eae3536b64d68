//! RE2's syntax as Go has it, written out in the engine's own, so that no part of it is left to the engine's reading:
//! what RE2 refuses is refused, what it takes for a letter stays one, and a class is spelled in code points.
//!
//! Source: RE2's syntax page, and its flags as Go's `regexp` sets them (Perl's classes and operators, `$` at the end of
//! the text only).

use std::fmt::Write;

use super::class::{self, Class};

/// The most that one atom may be repeated by all the counts around it together.
const REPEATED: u32 = 1000;

/// A pattern that RE2 refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Invalid;

/// A pattern in the engine's syntax.
#[derive(Debug, Default)]
pub(super) struct Translated {
    pub(super) pattern: String,
    /// By number; the first group is the whole match and has no name.
    pub(super) group_names: Vec<Option<String>>,
}

/// # Errors
/// When RE2 has no such pattern.
pub(super) fn translate(pattern: &str) -> Result<Translated, Invalid> {
    let mut translator = Translator::new(pattern);
    while !translator.rest.is_empty() {
        translator.step()?;
    }
    if !translator.outer.is_empty() {
        return Err(Invalid);
    }
    Ok(Translated { pattern: translator.out, group_names: translator.group_names })
}

/// What `(?ismU)` set.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Flags {
    pub(super) fold_case: bool,
    multi_line: bool,
    dot_is_any: bool,
    ungreedy: bool,
}

/// A group that is open, or the pattern as a whole.
#[derive(Clone, Copy, Debug, Default)]
struct Level {
    /// To return to at its end.
    flags: Flags,
    /// Where it starts in what is written.
    start: usize,
    /// The most that something in it is repeated by the counts there.
    repeated: u32,
}

/// What a repetition that follows would repeat.
#[derive(Clone, Copy, Debug)]
struct Atom {
    start: usize,
    repeated: u32,
    /// It is a repetition itself: another may not follow at once.
    is_repetition: bool,
}

struct Translator<'a> {
    rest: &'a str,
    out: String,
    flags: Flags,
    level: Level,
    outer: Vec<Level>,
    atom: Option<Atom>,
    group_names: Vec<Option<String>>,
}

impl<'a> Translator<'a> {
    fn new(pattern: &'a str) -> Self {
        Translator {
            rest: pattern,
            out: String::new(),
            flags: Flags::default(),
            level: Level { repeated: 1, ..Level::default() },
            outer: Vec::new(),
            atom: None,
            group_names: vec![None],
        }
    }

    fn step(&mut self) -> Result<(), Invalid> {
        let repeats = self.repetition();
        if let Some((min, max)) = repeats? {
            return self.repeat(min, max);
        }
        if let Some(atom) = &mut self.atom {
            atom.is_repetition = false;
        }
        let c = class::next_char(&mut self.rest)?;
        match c {
            '(' => self.open()?,
            ')' => self.close()?,
            '|' => self.alternative(),
            '^' => self.put(if self.flags.multi_line { "(?m:^)" } else { r"\A" }),
            '$' => self.put(if self.flags.multi_line { "(?m:$)" } else { r"\z" }),
            '.' => self.put(if self.flags.dot_is_any { "(?s:.)" } else { "[^\\n]" }),
            '[' => self.class()?,
            '\\' => self.escape()?,
            c => self.literal(c),
        }
        Ok(())
    }

    /// One atom more, in the engine's syntax.
    fn put(&mut self, atom: &str) {
        self.atom = Some(Atom { start: self.out.len(), repeated: 1, is_repetition: false });
        self.out.push_str(atom);
    }

    fn literal(&mut self, c: char) {
        if c.is_ascii_alphanumeric() && !self.flags.fold_case {
            return self.put(c.encode_utf8(&mut [0; 4]));
        }
        let mut class = Class::default();
        class.push(c.into(), c.into());
        self.put_class(&class, false);
    }

    fn put_class(&mut self, class: &Class, negated: bool) {
        self.put(&class.written(negated, self.flags.fold_case));
    }

    fn alternative(&mut self) {
        self.out.push('|');
        self.atom = None;
    }

    /// A group, capturing or not, or flags for the rest of this one; its `(` is read.
    fn open(&mut self) -> Result<(), Invalid> {
        if let Some(rest) = self.rest.strip_prefix("?P<").or_else(|| self.rest.strip_prefix("?<")) {
            let (name, rest) = rest.split_once('>').ok_or(Invalid)?;
            self.rest = rest;
            return self.capture(Some(name));
        }
        let Some(rest) = self.rest.strip_prefix('?') else { return self.capture(None) };
        self.rest = rest;
        let (flags, is_group) = self.flags_read()?;
        if is_group {
            self.enter("(?:");
        }
        self.flags = flags;
        Ok(())
    }

    fn capture(&mut self, name: Option<&str>) -> Result<(), Invalid> {
        if let Some(name) = name {
            let is_word = !name.is_empty() && name.bytes().all(|b| b == b'_' || b.is_ascii_alphanumeric());
            if !is_word {
                return Err(Invalid);
            }
        }
        self.group_names.push(name.map(str::to_owned));
        self.enter("(");
        Ok(())
    }

    fn enter(&mut self, paren: &str) {
        self.outer.push(self.level);
        self.level = Level { flags: self.flags, start: self.out.len(), repeated: 1 };
        self.out.push_str(paren);
        self.atom = None;
    }

    fn close(&mut self) -> Result<(), Invalid> {
        let outer = self.outer.pop().ok_or(Invalid)?;
        let Level { flags, start, repeated } = self.level;
        self.out.push(')');
        self.flags = flags;
        self.level = Level { repeated: outer.repeated.max(repeated), ..outer };
        self.atom = Some(Atom { start, repeated, is_repetition: false });
        Ok(())
    }

    /// Flags up to `:`, which starts a group, or `)`.
    fn flags_read(&mut self) -> Result<(Flags, bool), Invalid> {
        let (mut flags, mut on, mut seen) = (self.flags, true, false);
        loop {
            let c = class::next_char(&mut self.rest)?;
            match c {
                'i' => flags.fold_case = on,
                'm' => flags.multi_line = on,
                's' => flags.dot_is_any = on,
                'U' => flags.ungreedy = on,
                '-' if on => (on, seen) = (false, false),
                ':' | ')' if on || seen => return Ok((flags, c == ':')),
                _ => return Err(Invalid),
            }
            seen |= c != '-';
        }
    }

    fn class(&mut self) -> Result<(), Invalid> {
        let (class, negated) = Class::read(&mut self.rest)?;
        self.put_class(&class, negated);
        Ok(())
    }

    /// What follows a backslash.
    fn escape(&mut self) -> Result<(), Invalid> {
        let mut chars = self.rest.chars();
        let atom = match chars.next().ok_or(Invalid)? {
            'A' => r"\A",
            'z' => r"\z",
            'b' => r"(?-u:\b)",
            'B' => r"(?-u:\B)",
            'Q' => {
                self.rest = chars.as_str();
                self.quoted();
                return Ok(());
            }
            _ => {
                let mut class = Class::default();
                class.read_escaped(&mut self.rest)?;
                self.put_class(&class, false);
                return Ok(());
            }
        };
        self.rest = chars.as_str();
        self.put(atom);
        Ok(())
    }

    /// Text as it is, up to `\E` or the end.
    fn quoted(&mut self) {
        let (text, rest) = self.rest.split_once(r"\E").unwrap_or((self.rest, ""));
        self.rest = rest;
        for c in text.chars() {
            self.literal(c);
        }
    }

    /// `*`, `+`, `?` or counts in braces, if they are next; braces around anything else are letters.
    fn repetition(&mut self) -> Result<Option<(u32, Option<u32>)>, Invalid> {
        let range = match self.rest.as_bytes().first() {
            Some(b'*') => (0, None),
            Some(b'+') => (1, None),
            Some(b'?') => (0, Some(1)),
            Some(b'{') => return self.counts(),
            _ => return Ok(None),
        };
        self.rest = &self.rest[1..];
        Ok(Some(range))
    }

    fn counts(&mut self) -> Result<Option<(u32, Option<u32>)>, Invalid> {
        let Some((inner, rest)) = self.rest[1..].split_once('}') else { return Ok(None) };
        let (min, max) = match inner.split_once(',') {
            None => (count(inner), Some(count(inner))),
            Some((min, "")) => (count(min), None),
            Some((min, max)) => (count(min), Some(count(max))),
        };
        let (Some(min), Some(max)) = (min, max.map_or(Some(None), |max| max.map(Some))) else {
            return Ok(None);
        };
        self.rest = rest;
        if min > REPEATED || max.is_some_and(|max| max > REPEATED || max < min) {
            return Err(Invalid);
        }
        Ok(Some((min, max)))
    }

    fn repeat(&mut self, min: u32, max: Option<u32>) -> Result<(), Invalid> {
        let mut ungreedy = self.flags.ungreedy;
        if let Some(rest) = self.rest.strip_prefix('?') {
            self.rest = rest;
            ungreedy = !ungreedy;
        }
        let atom = self.atom.filter(|atom| !atom.is_repetition).ok_or(Invalid)?;
        let repeated = repeated(atom.repeated, min, max)?;
        self.out.insert_str(atom.start, "(?:");
        match max {
            None => write!(self.out, "){{{min},}}"),
            Some(max) => write!(self.out, "){{{min},{max}}}"),
        }
        .expect("a String takes all");
        if ungreedy {
            self.out.push('?');
        }
        self.level.repeated = self.level.repeated.max(repeated);
        self.atom = Some(Atom { start: atom.start, repeated, is_repetition: true });
        Ok(())
    }
}

/// How often something in an atom is repeated once the atom is, too; an atom that may be left out altogether counts once.
fn repeated(inner: u32, min: u32, max: Option<u32>) -> Result<u32, Invalid> {
    let counted = max.unwrap_or(min);
    if max == Some(0) {
        return Ok(1);
    }
    if min < 2 && counted < 2 {
        return Ok(inner);
    }
    let repeated = inner.saturating_mul(counted);
    if repeated > REPEATED { Err(Invalid) } else { Ok(repeated) }
}

/// Digits without a leading zero. What does not fit is more than any limit.
fn count(digits: &str) -> Option<u32> {
    let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let is_plain = is_number && (digits == "0" || !digits.starts_with('0'));
    is_plain.then(|| digits.parse().unwrap_or(u32::MAX))
}
