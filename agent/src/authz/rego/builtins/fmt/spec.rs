//! One directive: flags, width and precision, and what they make of a value.

use std::fmt::Write;

use super::{Argument, float, text};

/// The largest width, precision and index.
pub(super) const LARGEST: usize = 1_000_000;

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spec {
    pub(super) sharp: bool,
    pub(super) zero: bool,
    pub(super) plus: bool,
    pub(super) minus: bool,
    pub(super) space: bool,
    /// `%#v`: text in quotes.
    pub(super) quotes: bool,
    pub(super) width: Option<usize>,
    pub(super) precision: Option<usize>,
}

impl Spec {
    pub(super) fn format(&self, argument: &Argument, verb: char, out: &mut String) {
        if verb == 'T' {
            return self.pad(&self.cut(argument.type_name()), out);
        }
        let is_done = match argument {
            Argument::Integer(n) => self.integer(*n, verb, out),
            Argument::Big(digits) => self.big(digits, verb, out),
            Argument::Float(n) => self.float(*n, verb, out),
            Argument::Text(text) => self.text(text, verb, out),
        };
        if !is_done {
            self.bad(argument, verb, out);
        }
    }

    /// The verb is not for this type.
    fn bad(&self, argument: &Argument, verb: char, out: &mut String) {
        write!(out, "%!{verb}({}=", argument.type_name()).expect("a String takes all");
        self.format(argument, 'v', out);
        out.push(')');
    }

    /// Up to the width, by blanks or on the left by zeros.
    fn pad(&self, text: &str, out: &mut String) {
        let missing = self.width.unwrap_or(0).saturating_sub(text.chars().count());
        let padding = if self.zero && !self.minus { "0" } else { " " }.repeat(missing);
        if self.minus {
            *out += text;
            *out += &padding;
        } else {
            *out += &padding;
            *out += text;
        }
    }

    /// Up to the precision.
    fn cut(&self, text: &str) -> String {
        text.chars().take(self.precision.unwrap_or(usize::MAX)).collect()
    }

    fn text(&self, value: &str, verb: char, out: &mut String) -> bool {
        match verb {
            'v' if self.quotes => self.pad(&text::quoted(&self.cut(value), false), out),
            's' | 'v' => self.pad(&self.cut(value), out),
            'q' => {
                let value = self.cut(value);
                let is_raw = self.sharp && text::fits_backquotes(&value);
                let quoted = if is_raw { format!("`{value}`") } else { text::quoted(&value, self.plus) };
                self.pad(&quoted, out);
            }
            'x' | 'X' => self.pad(&self.hexadecimal(value.as_bytes(), verb), out),
            _ => return false,
        }
        true
    }

    fn hexadecimal(&self, bytes: &[u8], verb: char) -> String {
        let bytes = &bytes[..bytes.len().min(self.precision.unwrap_or(usize::MAX))];
        let digits =
            bytes.iter().map(|byte| if verb == 'x' { format!("{byte:02x}") } else { format!("{byte:02X}") });
        let prefix = if self.sharp { format!("0{verb}") } else { String::new() };
        let (separator, digits) = (if self.space { " " } else { "" }, digits.collect::<Vec<_>>());
        match digits.as_slice() {
            [] => String::new(),
            digits if self.space => {
                digits.iter().map(|d| format!("{prefix}{d}")).collect::<Vec<_>>().join(separator)
            }
            digits => prefix + &digits.join(separator),
        }
    }

    fn integer(&self, n: i64, verb: char, out: &mut String) -> bool {
        let size = n.unsigned_abs();
        match verb {
            'd' | 'v' => self.digits(n < 0, &size.to_string(), "", out),
            'b' => self.digits(n < 0, &format!("{size:b}"), if self.sharp { "0b" } else { "" }, out),
            'o' => self.digits(n < 0, &format!("{size:o}"), if self.sharp { "0" } else { "" }, out),
            'O' => self.digits(n < 0, &format!("{size:o}"), "0o", out),
            'x' => self.digits(n < 0, &format!("{size:x}"), if self.sharp { "0x" } else { "" }, out),
            'X' => self.digits(n < 0, &format!("{size:X}"), if self.sharp { "0X" } else { "" }, out),
            'c' => self.pad(text::code_point(n).encode_utf8(&mut [0; 4]), out),
            'q' => self.pad(&text::quoted_char(text::code_point(n), self.plus), out),
            'U' => self.unicode(n, out),
            _ => return false,
        }
        true
    }

    fn big(&self, digits: &str, verb: char, out: &mut String) -> bool {
        let (negative, digits) = digits.strip_prefix('-').map_or((false, digits), |digits| (true, digits));
        let is_decimal = matches!(verb, 'd' | 's' | 'v');
        if is_decimal {
            self.digits(negative, digits, "", out);
        }
        is_decimal
    }

    /// Digits after their sign and prefix, with zeros up to the precision, or else to the width.
    fn digits(&self, negative: bool, digits: &str, prefix: &str, out: &mut String) {
        let blanks = Spec { zero: false, ..*self };
        if self.precision == Some(0) && digits == "0" {
            return blanks.pad("", out);
        }
        let is_signed = negative || self.plus || self.space;
        let filled = if self.zero && !self.minus { self.width } else { None };
        let least =
            self.precision.or(filled.map(|width| width.saturating_sub(is_signed.into()))).unwrap_or(0);
        let zeros = "0".repeat(least.saturating_sub(digits.len()));
        // An octal number that starts with a zero already needs no other.
        let prefix = if prefix == "0" && (!zeros.is_empty() || digits == "0") { "" } else { prefix };
        blanks.pad(&format!("{}{prefix}{zeros}{digits}", self.sign(negative)), out);
    }

    fn sign(&self, negative: bool) -> &'static str {
        match (negative, self.plus, self.space) {
            (true, ..) => "-",
            (false, true, _) => "+",
            (false, false, true) => " ",
            _ => "",
        }
    }

    fn unicode(&self, n: i64, out: &mut String) {
        let least = self.precision.unwrap_or(4).max(4);
        let mut shown = format!("U+{:0least$X}", n as u64);
        if self.sharp
            && let Some(c) = u32::try_from(n).ok().and_then(char::from_u32).filter(|&c| text::is_printed(c))
        {
            shown += &format!(" '{c}'");
        }
        Spec { zero: false, ..*self }.pad(&shown, out);
    }

    fn float(&self, n: f64, verb: char, out: &mut String) -> bool {
        let Some(digits) = float::unsigned(n.abs(), verb, self.precision) else { return false };
        let sign = self.sign(n.is_sign_negative());
        let missing = self.width.unwrap_or(0).saturating_sub(sign.len() + digits.len());
        if self.zero && !self.minus && missing > 0 {
            *out += &format!("{sign}{}{digits}", "0".repeat(missing));
        } else {
            self.pad(&format!("{sign}{digits}"), out);
        }
        true
    }
}
