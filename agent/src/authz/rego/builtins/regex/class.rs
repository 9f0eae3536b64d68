//! Classes of code points, and escapes.

use std::fmt::Write;

use super::syntax::Invalid;

/// Code points, in the engine's syntax without the brackets.
#[derive(Debug, Default)]
pub(super) struct Class {
    members: String,
}

/// UTF-16's surrogates are code points that RE2 lets a pattern name. No text has one.
const SURROGATES: (u32, u32) = (0xd800, 0xdfff);

const DIGITS: &str = "0-9";
const SPACES: &str = r"\t\n\x0c\r ";
const WORDS: &str = "0-9A-Z_a-z";

impl Class {
    /// A class up to its `]`, and whether it is negated; its `[` is read.
    pub(super) fn read(rest: &mut &str) -> Result<(Self, bool), Invalid> {
        let mut class = Class::default();
        let negated = take(rest, "^");
        let mut is_first = true;
        while is_first || !take(rest, "]") {
            is_first = false;
            class.read_member(rest)?;
        }
        Ok((class, negated))
    }

    /// A named class, an escape, a code point or a range of them.
    fn read_member(&mut self, rest: &mut &str) -> Result<(), Invalid> {
        if let Some((name, after)) = rest.strip_prefix("[:").and_then(|named| named.split_once(":]")) {
            *rest = after;
            return self.push_posix(name);
        }
        if let Some(mut escaped) = rest.strip_prefix('\\')
            && self.read_group(&mut escaped)?
        {
            *rest = escaped;
            return Ok(());
        }
        let low = member(rest)?;
        let is_range = rest.len() > 1 && rest.starts_with('-') && !rest.starts_with("-]");
        let high = if is_range {
            *rest = &rest[1..];
            member(rest)?
        } else {
            low
        };
        if high < low {
            return Err(Invalid);
        }
        self.push(low, high);
        Ok(())
    }

    /// What a backslash stands before: a group of code points, or a single one.
    pub(super) fn read_escaped(&mut self, rest: &mut &str) -> Result<(), Invalid> {
        if !self.read_group(rest)? {
            let c = escaped(rest)?;
            self.push(c, c);
        }
        Ok(())
    }

    /// Whether a letter for a group was there, after its backslash.
    fn read_group(&mut self, rest: &mut &str) -> Result<bool, Invalid> {
        let (members, negated) = match rest.as_bytes().first() {
            Some(b'd') => (DIGITS, false),
            Some(b'D') => (DIGITS, true),
            Some(b's') => (SPACES, false),
            Some(b'S') => (SPACES, true),
            Some(b'w') => (WORDS, false),
            Some(b'W') => (WORDS, true),
            Some(b'p') => return self.read_property(rest, false).map(|()| true),
            Some(b'P') => return self.read_property(rest, true).map(|()| true),
            _ => return Ok(false),
        };
        *rest = &rest[1..];
        self.push_group(members, negated);
        Ok(true)
    }

    /// `p` or `P` and the name of a category or a script, in braces if it has more than a letter.
    fn read_property(&mut self, rest: &mut &str, mut negated: bool) -> Result<(), Invalid> {
        *rest = &rest[1..];
        let whole = *rest;
        let first = next_char(rest)?;
        let mut name = &whole[..first.len_utf8()];
        if first == '{' {
            (name, *rest) = rest.split_once('}').ok_or(Invalid)?;
        }
        if let Some(after) = name.strip_prefix('^') {
            (name, negated) = (after, !negated);
        }
        self.push_group(&property(name)?, negated);
        Ok(())
    }

    fn push_posix(&mut self, name: &str) -> Result<(), Invalid> {
        let (name, negated) = name.strip_prefix('^').map_or((name, false), |name| (name, true));
        let members = match name {
            "alnum" => "0-9A-Za-z",
            "alpha" => "A-Za-z",
            "ascii" => r"\x00-\x7f",
            "blank" => r"\t ",
            "cntrl" => r"\x00-\x1f\x7f",
            "digit" => DIGITS,
            "graph" => "!-\\~",
            "lower" => "a-z",
            "print" => " -\\~",
            "punct" => r"!-/:-@\[-`\{-\~",
            "space" => r"\t-\r ",
            "upper" => "A-Z",
            "word" => WORDS,
            "xdigit" => "0-9A-Fa-f",
            _ => return Err(Invalid),
        };
        self.push_group(members, negated);
        Ok(())
    }

    fn push_group(&mut self, members: &str, negated: bool) {
        self.members += if negated { "[^" } else { "[" };
        self.members += members;
        self.members.push(']');
    }

    /// The code points from `low` to `high`, both among them.
    pub(super) fn push(&mut self, low: u32, high: u32) {
        let (first, last) = SURROGATES;
        if low <= last && first <= high {
            if low < first {
                self.push(low, first - 1);
            }
            if last < high {
                self.push(last + 1, high);
            }
            return;
        }
        write!(self.members, r"\x{{{low:x}}}-\x{{{high:x}}}").expect("a String takes all");
    }

    /// The class in the engine's syntax. A class of nothing matches nothing.
    pub(super) fn written(&self, negated: bool, fold_case: bool) -> String {
        let (members, negated) = match self.members.as_str() {
            "" => (ANY, !negated),
            members => (members, negated),
        };
        let not = if negated { "^" } else { "" };
        if fold_case { format!("(?i:[{not}{members}])") } else { format!("[{not}{members}]") }
    }
}

/// The next code point, which a pattern must still have.
pub(super) fn next_char(rest: &mut &str) -> Result<char, Invalid> {
    let mut chars = rest.chars();
    let c = chars.next().ok_or(Invalid)?;
    *rest = chars.as_str();
    Ok(c)
}

fn take(rest: &mut &str, prefix: &str) -> bool {
    match rest.strip_prefix(prefix) {
        Some(after) => {
            *rest = after;
            true
        }
        None => false,
    }
}

/// A code point in a class, escaped or not.
fn member(rest: &mut &str) -> Result<u32, Invalid> {
    if take(rest, "\\") { escaped(rest) } else { Ok(next_char(rest)?.into()) }
}

/// The code point that an escape stands for; its backslash is read.
fn escaped(rest: &mut &str) -> Result<u32, Invalid> {
    Ok(match next_char(rest)? {
        'a' => 0x07,
        'f' => 0x0c,
        'n' => 0x0a,
        'r' => 0x0d,
        't' => 0x09,
        'v' => 0x0b,
        'x' => return hexadecimal(rest),
        '0' => octal(rest, 0),
        // Alone it is a reference to a group, which RE2 does not have.
        c @ '1'..='7' if rest.starts_with(|c| matches!(c, '0'..='7')) => octal(rest, digit(c, 8)?),
        c if c.is_ascii() && !c.is_ascii_alphanumeric() => c.into(),
        _ => return Err(Invalid),
    })
}

/// Up to two octal digits after a first one.
fn octal(rest: &mut &str, first: u32) -> u32 {
    let mut value = first;
    for _ in 0..2 {
        let Some(next) = rest.chars().next().and_then(|c| c.to_digit(8)) else { break };
        value = value * 8 + next;
        *rest = &rest[1..];
    }
    value
}

/// Two hexadecimal digits, or any number of them in braces.
fn hexadecimal(rest: &mut &str) -> Result<u32, Invalid> {
    if !take(rest, "{") {
        let high = digit(next_char(rest)?, 16)?;
        return Ok(high * 16 + digit(next_char(rest)?, 16)?);
    }
    let (digits, after) = rest.split_once('}').ok_or(Invalid)?;
    *rest = after;
    if digits.is_empty() {
        return Err(Invalid);
    }
    digits.chars().try_fold(0, |value, c| {
        let value = value * 16 + digit(c, 16)?;
        if value > char::MAX.into() { Err(Invalid) } else { Ok(value) }
    })
}

fn digit(c: char, radix: u32) -> Result<u32, Invalid> {
    c.to_digit(radix).ok_or(Invalid)
}

/// All code points, in the engine's syntax.
const ANY: &str = r"\x{0}-\x{10ffff}";

/// A category or a script by its name, as a class's members. Case, spaces, hyphens and underscores are not looked at.
fn property(name: &str) -> Result<String, Invalid> {
    let wanted = bare(name);
    match wanted.as_str() {
        "any" => return Ok(ANY.to_owned()),
        "ascii" => return Ok(r"\x00-\x7f".to_owned()),
        "assigned" => return Ok(r"\P{gc=Cn}".to_owned()),
        // Surrogates: in no text.
        "cs" | "surrogate" => return Ok(format!("[^{ANY}]")),
        _ => {}
    }
    let is_in = |names: &str| names.split_ascii_whitespace().any(|known| bare(known) == wanted);
    if is_in(CATEGORIES) {
        Ok(format!(r"\p{{gc={wanted}}}"))
    } else if is_in(SCRIPTS) {
        Ok(format!(r"\p{{sc={wanted}}}"))
    } else {
        Err(Invalid)
    }
}

fn bare(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '_' | '-' | ' ')).map(|c| c.to_ascii_lowercase()).collect()
}

/// Unicode's general categories, short and long.
const CATEGORIES: &str = "C Cc Cf Cn Co L LC Ll Lm Lo Lt Lu M Mc Me Mn N Nd Nl No P Pc Pd Pe Pf Pi Po Ps S Sc Sk Sm So Z Zl \
    Zp Zs Cased_Letter Close_Punctuation Combining_Mark Connector_Punctuation Control Currency_Symbol Dash_Punctuation \
    Decimal_Number Enclosing_Mark Final_Punctuation Format Initial_Punctuation Letter Letter_Number Line_Separator \
    Lowercase_Letter Mark Math_Symbol Modifier_Letter Modifier_Symbol Nonspacing_Mark Number Open_Punctuation Other \
    Other_Letter Other_Number Other_Punctuation Other_Symbol Paragraph_Separator Private_Use Punctuation Separator \
    Space_Separator Spacing_Mark Symbol Titlecase_Letter Unassigned Uppercase_Letter cntrl digit punct";

/// Unicode's scripts by their long names; RE2 has no short ones.
const SCRIPTS: &str = "Adlam Ahom Anatolian_Hieroglyphs Arabic Armenian Avestan Balinese Bamum Bassa_Vah Batak Bengali \
    Bhaiksuki Bopomofo Brahmi Braille Buginese Buhid Canadian_Aboriginal Carian Caucasian_Albanian Chakma Cham Cherokee \
    Chorasmian Common Coptic Cuneiform Cypriot Cypro_Minoan Cyrillic Deseret Devanagari Dives_Akuru Dogra Duployan \
    Egyptian_Hieroglyphs Elbasan Elymaic Ethiopic Georgian Glagolitic Gothic Grantha Greek Gujarati Gunjala_Gondi Gurmukhi \
    Han Hangul Hanifi_Rohingya Hanunoo Hatran Hebrew Hiragana Imperial_Aramaic Inherited Inscriptional_Pahlavi \
    Inscriptional_Parthian Javanese Kaithi Kannada Katakana Kawi Kayah_Li Kharoshthi Khitan_Small_Script Khmer Khojki \
    Khudawadi Lao Latin Lepcha Limbu Linear_A Linear_B Lisu Lycian Lydian Mahajani Makasar Malayalam Mandaic Manichaean \
    Marchen Masaram_Gondi Medefaidrin Meetei_Mayek Mende_Kikakui Meroitic_Cursive Meroitic_Hieroglyphs Miao Modi Mongolian \
    Mro Multani Myanmar Nabataean Nag_Mundari Nandinagari New_Tai_Lue Newa Nko Nushu Nyiakeng_Puachue_Hmong Ogham Ol_Chiki \
    Old_Hungarian Old_Italic Old_North_Arabian Old_Permic Old_Persian Old_Sogdian Old_South_Arabian Old_Turkic Old_Uyghur \
    Oriya Osage Osmanya Pahawh_Hmong Palmyrene Pau_Cin_Hau Phags_Pa Phoenician Psalter_Pahlavi Rejang Runic Samaritan \
    Saurashtra Sharada Shavian Siddham SignWriting Sinhala Sogdian Sora_Sompeng Soyombo Sundanese Syloti_Nagri Syriac Tagalog \
    Tagbanwa Tai_Le Tai_Tham Tai_Viet Takri Tamil Tangsa Tangut Telugu Thaana Thai Tibetan Tifinagh Tirhuta Toto Ugaritic Vai \
    Vithkuqi Wancho Warang_Citi Yezidi Yi Zanabazar_Square";
