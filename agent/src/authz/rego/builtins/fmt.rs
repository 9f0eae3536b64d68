//! `sprintf`: Go's formatting directives, as far as numbers and text have them. Other values are formatted as the text that
//! Rego has for them.
//!
//! Source: the documentation of Go's package `fmt`.

mod float;
mod spec;
mod text;

use regorus::{Value, value::Value::Number};

use super::{
    Exceeded, TEXT_BYTES,
    args::{Answer, Failure, exactly, text as text_of},
};
use spec::Spec;
pub(super) use text::term;

/// A whole number from here on is taken for one that was written with an exponent.
const DIGITS_TO: f64 = 1e21;

/// What a directive formats.
#[derive(Clone, Debug, PartialEq)]
enum Argument {
    Integer(i64),
    /// Beyond 64 bits, in decimal.
    Big(String),
    Float(f64),
    Text(String),
}

impl Argument {
    fn new(value: &Value) -> Self {
        match value {
            Number(number) if number.is_integer() => match number.as_i64() {
                Some(integer) => Argument::Integer(integer),
                None => match number.as_f64().filter(|n| n.abs() >= DIGITS_TO) {
                    Some(n) => Argument::Float(n),
                    None => Argument::Big(number.format_decimal()),
                },
            },
            Number(number) => Argument::Float(number.as_f64().unwrap_or(f64::NAN)),
            Value::String(text) => Argument::Text(text.to_string()),
            value => Argument::Text(term(value)),
        }
    }

    /// Go's name of its type.
    fn type_name(&self) -> &'static str {
        match self {
            Argument::Integer(_) => "int64",
            Argument::Big(_) => "*big.Int",
            Argument::Float(_) => "float64",
            Argument::Text(_) => "string",
        }
    }
}

pub(super) fn sprintf(args: &[Value]) -> Answer {
    let [format, Value::Array(values)] = exactly(args)? else { return Err(Failure::Error) };
    let mut printer = Printer {
        format: text_of(format)?,
        arguments: values.iter().map(Argument::new).collect(),
        next: 0,
        reordered: false,
        out: String::new(),
    };
    while !printer.format.is_empty() {
        printer.step();
        if printer.out.len() > TEXT_BYTES {
            return Err(Failure::Exceeded(Exceeded::Text));
        }
    }
    printer.extra();
    Ok(Value::from(printer.out))
}

struct Printer<'a> {
    /// What is left of it.
    format: &'a str,
    arguments: Vec<Argument>,
    /// The argument of the next directive.
    next: usize,
    /// An index was given somewhere, so that arguments may well be left over.
    reordered: bool,
    out: String,
}

impl Printer<'_> {
    /// Text up to a directive, and the directive.
    fn step(&mut self) {
        let (plain, rest) = self.format.split_once('%').map_or((self.format, None), |(a, b)| (a, Some(b)));
        self.out.push_str(plain);
        self.format = rest.unwrap_or_default();
        if rest.is_some() {
            self.directive();
        }
    }

    /// What follows a `%`.
    fn directive(&mut self) {
        let mut spec = Spec::default();
        let mut is_index_good = true;
        self.flags(&mut spec);
        let mut after_index = self.index(&mut is_index_good);
        if self.take('*') {
            after_index = false;
            self.width_of_argument(&mut spec);
        } else {
            spec.width = self.number();
            is_index_good &= !(after_index && spec.width.is_some());
        }
        if self.take('.') {
            is_index_good &= !after_index;
            after_index = self.index(&mut is_index_good);
            if self.take('*') {
                after_index = false;
                self.precision_of_argument(&mut spec);
            } else {
                spec.precision = Some(self.number().unwrap_or(0));
            }
        }
        if !after_index {
            self.index(&mut is_index_good);
        }
        self.verb(&spec, is_index_good);
    }

    fn flags(&mut self, spec: &mut Spec) {
        loop {
            match self.format.as_bytes().first() {
                Some(b'#') => spec.sharp = true,
                Some(b'0') => spec.zero = true,
                Some(b'+') => spec.plus = true,
                Some(b'-') => spec.minus = true,
                Some(b' ') => spec.space = true,
                _ => return,
            }
            self.format = &self.format[1..];
        }
    }

    fn take(&mut self, c: char) -> bool {
        let rest = self.format.strip_prefix(c);
        self.format = rest.unwrap_or(self.format);
        rest.is_some()
    }

    /// Digits, if they are next. A number beyond a million ends the directive.
    fn number(&mut self) -> Option<usize> {
        let digits = self.format.bytes().take_while(u8::is_ascii_digit).count();
        let (number, rest) = self.format.split_at(digits);
        let number = number.parse().ok().filter(|&number| number <= spec::LARGEST);
        self.format = if digits > 0 && number.is_none() { "" } else { rest };
        number
    }

    /// `[n]`: the next argument is the n-th. Whether brackets were there and said so.
    fn index(&mut self, is_good: &mut bool) -> bool {
        let Some(inner) = self.format.strip_prefix('[') else { return false };
        self.reordered = true;
        let Some((index, rest)) = inner.split_once(']') else {
            (self.format, *is_good) = (inner, false);
            return false;
        };
        self.format = rest;
        let is_number = !index.is_empty() && index.bytes().all(|b| b.is_ascii_digit());
        let index = index.parse::<usize>().ok().filter(|&index| is_number && index <= spec::LARGEST);
        match index.and_then(|index| index.checked_sub(1)) {
            Some(index) if index < self.arguments.len() => self.next = index,
            _ => *is_good = false,
        }
        index.is_some()
    }

    fn width_of_argument(&mut self, spec: &mut Spec) {
        match self.small_argument() {
            Some(width) => {
                spec.width = usize::try_from(width.unsigned_abs()).ok();
                if width < 0 {
                    (spec.minus, spec.zero) = (true, false);
                }
            }
            None => self.out.push_str("%!(BADWIDTH)"),
        }
    }

    fn precision_of_argument(&mut self, spec: &mut Spec) {
        spec.precision = self.small_argument().and_then(|precision| usize::try_from(precision).ok());
        if spec.precision.is_none() {
            self.out.push_str("%!(BADPREC)");
        }
    }

    /// The next argument as a width or a precision.
    fn small_argument(&mut self) -> Option<i64> {
        let argument = self.arguments.get(self.next)?;
        self.next += 1;
        match argument {
            Argument::Integer(n) if n.unsigned_abs() <= spec::LARGEST as u64 => Some(*n),
            _ => None,
        }
    }

    fn verb(&mut self, spec: &Spec, is_index_good: bool) {
        let Some(verb) = self.format.chars().next() else { return self.out.push_str("%!(NOVERB)") };
        self.format = &self.format[verb.len_utf8()..];
        match self.arguments.get(self.next) {
            _ if verb == '%' => self.out.push('%'),
            _ if !is_index_good => self.out += &format!("%!{verb}(BADINDEX)"),
            None => self.out += &format!("%!{verb}(MISSING)"),
            Some(argument) => {
                // With `%v` the plus is about names of fields, which no value here has.
                let is_value = verb == 'v';
                let (plus, sharp) = (spec.plus && !is_value, spec.sharp && !is_value);
                let spec = Spec { plus, sharp, quotes: spec.sharp && is_value, ..*spec };
                spec.format(argument, verb, &mut self.out);
                self.next += 1;
            }
        }
    }

    /// Arguments that no directive asked for.
    fn extra(&mut self) {
        if self.reordered || self.next >= self.arguments.len() {
            return;
        }
        let describe = |argument: &Argument| {
            let mut described = format!("{}=", argument.type_name());
            Spec::default().format(argument, 'v', &mut described);
            described
        };
        let extra = self.arguments[self.next..].iter().map(describe).collect::<Vec<_>>();
        self.out += &format!("%!(EXTRA {})", extra.join(", "));
    }
}
