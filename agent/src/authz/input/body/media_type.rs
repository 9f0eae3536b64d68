//! `type/subtype; name=value`, as in the headers Content-Type and Content-Disposition.

/// A media type or disposition, in lower case, and its parameters.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct MediaType {
    pub(super) name: String,
    /// Names in lower case, each one once.
    parameters: Vec<(String, String)>,
}

impl MediaType {
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }

    /// Reads all of `text`.
    ///
    /// # Errors
    /// What is wrong with it. Parameters in pieces or with a character set (RFC 2231: `name*0`, `name*`) would need to be
    /// put together; they are refused, but for `filename*`, which nothing here asks for.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let (name, mut rest) = text.split_at(text.find(';').unwrap_or(text.len()));
        let name = name.trim_matches(is_space).to_ascii_lowercase();
        let is_type = match name.split_once('/') {
            Some((first, second)) => is_token(first) && is_token(second),
            None => is_token(&name),
        };
        if !is_type {
            return Err("neither type/subtype nor a word");
        }
        let mut parameters: Vec<(String, String)> = Vec::new();
        loop {
            rest = rest.trim_start_matches(is_space);
            if rest.is_empty() {
                return Ok(Self { name, parameters });
            }
            rest = rest.strip_prefix(';').ok_or("text behind the value of a parameter")?;
            rest = rest.trim_start_matches(is_space);
            if rest.is_empty() {
                continue;
            }
            let (parameter, behind) = parameter(rest)?;
            rest = behind;
            if parameters.iter().any(|(known, _)| *known == parameter.0) {
                return Err("a parameter comes twice");
            }
            parameters.push(parameter);
        }
    }
}

type Parameter = (String, String);

/// `name=value` at the start of `text`, and what comes behind it.
fn parameter(text: &str) -> Result<(Parameter, &str), &'static str> {
    let (name, rest) = token(text);
    let rest = rest.trim_start_matches(is_space).strip_prefix('=');
    let rest = rest.filter(|_| !name.is_empty()).ok_or("a parameter without name or `=`")?;
    let name = name.to_ascii_lowercase();
    if name.contains('*') && name != "filename*" {
        return Err("a parameter with `*` in its name");
    }
    let rest = rest.trim_start_matches(is_space);
    if let Some(rest) = rest.strip_prefix('"') {
        let (value, rest) = quoted(rest)?;
        return Ok(((name, value), rest));
    }
    let (value, rest) = token(rest);
    if value.is_empty() {
        return Err("a parameter without a value");
    }
    Ok(((name, value.to_owned()), rest))
}

/// Behind the first quote. A backslash escapes what could not stand in a word, and else is itself: some clients send
/// paths of files.
fn quoted(text: &str) -> Result<(String, &str), &'static str> {
    let mut value = String::new();
    let mut characters = text.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Ok((value, &text[at + 1..])),
            '\\' => match characters.next_if(|(_, next)| SPECIAL.contains(*next)) {
                Some((_, escaped)) => value.push(escaped),
                None => value.push('\\'),
            },
            character => value.push(character),
        }
    }
    Err("a quoted value has no end")
}

const SPECIAL: &str = r#"()<>@,;:\"/[]?="#;

fn token(text: &str) -> (&str, &str) {
    text.split_at(text.find(|character| !is_token_character(character)).unwrap_or(text.len()))
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.chars().all(is_token_character)
}

fn is_token_character(character: char) -> bool {
    character.is_ascii_graphic() && !SPECIAL.contains(character)
}

fn is_space(character: char) -> bool {
    character == ' ' || character == '\t'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_media_type_has_parameters() {
        let text = "Multipart/Form-Data ; Boundary=\"a b\\\"c\\d\";charset=utf-8 ;";
        let media_type = MediaType::parse(text).unwrap();
        assert_eq!(media_type.name, "multipart/form-data");
        assert_eq!(media_type.parameter("boundary"), Some("a b\"c\\d"));
        assert_eq!(media_type.parameter("charset"), Some("utf-8"));
        assert_eq!(media_type.parameter("name"), None);
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for text in [
            "",
            "a/",
            "a/b/c",
            "a b",
            "a/b, c/d",
            "a/b;x",
            "a/b;=y",
            "a/b;x=",
            "a/b;x=y z",
            "a/b;x=\"y",
            "a/b;x=\"y\"z",
            "a/b;x=y;X=y",
            "a/b;x=é",
            "form-data; name*=utf-8''a",
            "form-data; name*0=a",
        ] {
            assert!(MediaType::parse(text).is_err(), "{text}");
        }
        assert!(MediaType::parse("form-data; name=a; filename*=utf-8''b").is_ok());
    }
}
