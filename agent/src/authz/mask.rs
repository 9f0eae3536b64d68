//! What logs and explanations show of a question and its answer: everything but secrets.

mod parameters;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

use parameters::{covered_query, covered_url, is_credential};

/// Headers that are masked whatever the configuration says.
pub(super) const ALWAYS: [&str; 4] = ["authorization", "cookie", "proxy-authorization", "set-cookie"];
const XFCC: &str = "x-forwarded-client-cert";
/// What stands in the place of what is not shown.
pub(super) const MASKED: &str = "***";

/// Deepest nesting that is shown: who reads JSON has a limit of its own, often 128, and an event is some levels itself.
const DEEPEST: usize = 96;
/// What stands in the place of what lies deeper.
const CUT: &str = "...";

/// Which values are secrets; without more, those of the usual headers and query parameters of credentials.
#[derive(Debug, Clone)]
pub struct Mask {
    /// Lower case.
    headers: Vec<String>,
    /// JSON pointers into an event.
    fields: Vec<String>,
}

impl Default for Mask {
    fn default() -> Self {
        Self::new(&[], &[])
    }
}

impl Mask {
    /// With `more` headers beside the usual ones of credentials, and whatever `fields` point to in an event.
    pub fn new(more: &[String], fields: &[String]) -> Self {
        let always = ALWAYS.iter().map(ToString::to_string);
        let headers = always.chain(more.iter().map(|name| name.to_ascii_lowercase())).collect();
        Self { headers, fields: fields.to_vec() }
    }

    /// An input document without the values of secret headers and parameters, and without bodies.
    pub fn input(&self, input: &regorus::Value) -> Value {
        let mut input = json(input);
        if let Some(http) = input.pointer_mut("/attributes/request/http") {
            cover(http, &["body", "rawBody"]);
            rewrite_at(http, "path", covered_url);
            rewrite_at(http, "query", covered_query);
            rewrite_at(http, "fragment", covered_query);
            if let Some(fields) = http.pointer_mut("/headers") {
                self.fields(fields);
            }
            if let Some(Value::Array(pairs)) = http.pointer_mut("/headerMap/headers") {
                pairs.iter_mut().for_each(|pair| self.pair(pair));
            }
        }
        if self.hides(XFCC)
            && let Some(spiffe) = input.pointer_mut("/spiffe")
        {
            cover(spiffe, &["xfcc"]);
        }
        if let Some(parameters) = input.get_mut("parsed_query") {
            cover_if(parameters, is_credential);
        }
        cover(&mut input, &["parsed_body"]);
        input
    }

    /// What a policy said, without the values of secret headers and parameters that it sets.
    pub fn result(&self, result: &regorus::Value) -> Value {
        let mut result = json(result);
        for headers in ["/headers", "/response_headers_to_add"] {
            if let Some(headers) = result.pointer_mut(headers) {
                self.fields(headers);
            }
        }
        if let Some(parameters) = result.get_mut("query_parameters_to_set") {
            cover_if(parameters, is_credential);
        }
        result
    }

    /// An error without the values that it quotes: whatever a policy looked at may be one of a header.
    pub fn error(&self, error: &str) -> String {
        let Some(from) = quoted_value(error) else { return error.to_owned() };
        // Values may hold quotes of their own.
        let to = error.rfind('`').filter(|to| *to > from).unwrap_or(error.len());
        format!("{}{MASKED}{}", &error[..from], &error[to..])
    }

    /// Covers in a whole event what an operator wants to have covered. What is not there is no secret.
    pub(super) fn cover_fields(&self, event: &mut Value) {
        for pointer in &self.fields {
            if let Some(value) = event.pointer_mut(pointer).filter(|value| !value.is_null()) {
                *value = Value::String(MASKED.into());
            }
        }
    }

    /// In either of the forms that a policy may write: one object, or a list of them.
    fn fields(&self, headers: &mut Value) {
        match headers {
            Value::Array(list) => list.iter_mut().for_each(|part| self.fields(part)),
            Value::Object(fields) => {
                fields.values_mut().for_each(|value| rewrite(value, covered_url));
                cover_if(headers, |header| self.hides(header));
            }
            _ => {}
        }
    }

    /// A header of Envoy's, as key and value.
    fn pair(&self, pair: &mut Value) {
        if pair.get("key").and_then(Value::as_str).is_some_and(|key| self.hides(key)) {
            return cover(pair, &["value", "rawValue"]);
        }
        rewrite_at(pair, "value", covered_url);
        rewrite_at(pair, "rawValue", |raw| {
            let value = String::from_utf8(STANDARD.decode(raw).ok()?).ok()?;
            covered_url(&value).map(|covered| STANDARD.encode(covered))
        });
    }

    fn hides(&self, header: &str) -> bool {
        self.headers.iter().any(|hidden| hidden.eq_ignore_ascii_case(header))
    }
}

/// Where the first value begins that stands in backquotes; names of functions and fields, and single characters, are none.
fn quoted_value(error: &str) -> Option<usize> {
    let is_name = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_lowercase())
            && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_. ".contains(c))
    };
    let mut at = 0;
    while let Some(open) = error[at..].find('`') {
        let from = at + open + 1;
        let Some(length) = error[from..].find('`') else { return Some(from) };
        let text = &error[from..][..length];
        if text.chars().count() > 1 && !is_name(text) {
            return Some(from);
        }
        at = from + length + 1;
    }
    None
}

/// Puts what `covered` makes of a text, or of each text of a list, in its place.
fn rewrite(value: &mut Value, covered: impl Fn(&str) -> Option<String> + Copy) {
    match value {
        Value::Array(list) => list.iter_mut().for_each(|value| rewrite(value, covered)),
        Value::String(text) => {
            if let Some(shown) = covered(text) {
                *text = shown;
            }
        }
        _ => {}
    }
}

/// The same for what stands under `key`.
fn rewrite_at(object: &mut Value, key: &str, covered: impl Fn(&str) -> Option<String> + Copy) {
    if let Some(value) = object.get_mut(key) {
        rewrite(value, covered);
    }
}

fn cover(object: &mut Value, keys: &[&str]) {
    cover_if(object, |key| keys.contains(&key));
}

/// Nothing stays nothing: that there was no body is no secret.
fn cover_if(object: &mut Value, is_secret: impl Fn(&str) -> bool) {
    if let Value::Object(fields) = object {
        for (_, value) in fields.iter_mut().filter(|(key, value)| is_secret(key) && !value.is_null()) {
            *value = Value::String(MASKED.into());
        }
    }
}

/// As JSON has it; what JSON cannot say is said in words.
pub(super) fn json(value: &regorus::Value) -> Value {
    let shown = serde_json::to_value(value);
    let mut shown = shown.unwrap_or_else(|error| Value::String(format!("cannot be shown: {error}")));
    cut(&mut shown, DEEPEST);
    shown
}

/// Shows nothing that lies deeper than `left`.
fn cut(value: &mut Value, left: usize) {
    match value {
        Value::Array(_) | Value::Object(_) if left == 0 => *value = Value::String(CUT.into()),
        Value::Array(list) => list.iter_mut().for_each(|inner| cut(inner, left - 1)),
        Value::Object(fields) => fields.values_mut().for_each(|inner| cut(inner, left - 1)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(mask: fn(&Mask, &regorus::Value) -> Value, value: Value) -> Value {
        let mask_ = Mask::new(&["X-Opa-Secret".into()], &[]);
        mask(&mask_, &regorus::Value::from(value))
    }

    #[test]
    fn secret_headers_and_bodies_of_a_question_are_not_shown() {
        let input = json!({
            "attributes": {"request": {"http": {
                "headers": {"authorization": "Bearer a", "x-opa-secret": "b", "cookie": "c", ":path": "/d"},
                "headerMap": {"headers": [{"key": "Cookie", "rawValue": "Yw=="}, {"key": "x", "rawValue": "eA=="}]},
                "body": "e", "rawBody": "Zg==", "path": "/d",
            }}},
            "parsed_body": {"password": "g"}, "parsed_path": ["d"],
        });
        let expected = json!({
            "attributes": {"request": {"http": {
                "headers": {"authorization": "***", "x-opa-secret": "***", "cookie": "***", ":path": "/d"},
                "headerMap": {"headers": [{"key": "Cookie", "rawValue": "***"}, {"key": "x", "rawValue": "eA=="}]},
                "body": "***", "rawBody": "***", "path": "/d",
            }}},
            "parsed_body": "***", "parsed_path": ["d"],
        });
        assert_eq!(shown(Mask::input, input), expected);
        assert_eq!(shown(Mask::input, json!({"parsed_body": null})), json!({"parsed_body": null}));
        assert_eq!(shown(Mask::input, json!(7)), json!(7));
    }

    #[test]
    fn what_lies_too_deep_for_readers_is_cut() {
        let deep = |levels: usize| (0..levels).fold(json!([]), |inner, _| json!([inner]));
        let depth = |value: &Value| {
            let inner = std::iter::successors(Some(value), |value| value.get(0));
            (inner.clone().count(), inner.last().cloned())
        };
        assert_eq!(depth(&shown(Mask::result, deep(DEEPEST - 1))), (DEEPEST, Some(json!([]))));
        assert_eq!(depth(&shown(Mask::result, deep(900))), (DEEPEST + 1, Some(json!("..."))));
    }

    #[test]
    fn headers_called_key_and_value_are_headers_as_others() {
        let headers = json!({"key": "a", "value": "b", "rawValue": "c", "cookie": "d"});
        let expected = json!({"key": "a", "value": "b", "rawValue": "c", "cookie": "***"});
        let of = |headers| json!({"attributes": {"request": {"http": {"headers": headers}}}});
        assert_eq!(shown(Mask::input, of(headers)), of(expected));
    }

    #[test]
    fn certificates_that_were_forwarded_are_a_header_in_every_form() {
        let mask = Mask::new(&["X-Forwarded-Client-Cert".into()], &[]);
        let input = regorus::Value::from(json!({"spiffe": {"xfcc": {"elements": []}, "caller": 1}}));
        assert_eq!(mask.input(&input), json!({"spiffe": {"xfcc": "***", "caller": 1}}));
    }

    #[test]
    fn secret_headers_that_a_policy_sets_are_not_shown() {
        let result = json!({
            "allowed": false, "body": "no", "headers": {"Set-Cookie": ["a", "b"], "x": "y"},
            "response_headers_to_add": [{"set-cookie": "c"}, {"z": "w"}],
        });
        let expected = json!({
            "allowed": false, "body": "no", "headers": {"Set-Cookie": "***", "x": "y"},
            "response_headers_to_add": [{"set-cookie": "***"}, {"z": "w"}],
        });
        assert_eq!(shown(Mask::result, result), expected);
        assert_eq!(shown(Mask::result, json!(true)), json!(true));
    }

    #[test]
    fn credentials_among_query_parameters_are_not_shown_wherever_they_stand() {
        let raw = |text: &str| STANDARD.encode(text);
        let input = |token: &str, value: Value| {
            let path = format!("/a?token={token}&page=2");
            json!({
                "attributes": {"request": {"http": {
                    "path": path, "query": format!("code={token}&x=1"), "fragment": format!("id_token={token}"),
                    "headers": {":path": path, "referer": format!("https://e.org{path}"), "accept": "a?b=c"},
                    "headerMap": {"headers": [
                        {"key": ":path", "rawValue": raw(&path)}, {"key": "referer", "value": path},
                        {"key": "x", "rawValue": raw("y?z=1")},
                    ]},
                }}},
                "parsed_path": ["a"], "parsed_query": {"token": value, "page": ["2"]},
            })
        };
        let expected = input("***", json!("***"));
        assert_eq!(shown(Mask::input, input("s3cret", json!(["s3cret"]))), expected);
        let result = |token: &str| {
            json!({
                "allowed": true, "query_parameters_to_set": {"api_key": token, "page": "2"},
                "headers": {"location": [format!("/b?sig={token}")]},
            })
        };
        assert_eq!(shown(Mask::result, result("s3cret")), result("***"));
    }

    #[test]
    fn fields_that_an_operator_names_are_not_shown_and_those_that_are_absent_are_nothing() {
        let pointers = [
            "/input/attributes/metadataContext",
            "/input/parsed_path/1",
            "/result/headers/x~1y",
            "/input/none/0",
        ];
        let mask = Mask::new(&[], &pointers.map(str::to_owned));
        let mut event = json!({
            "input": {"attributes": {"metadataContext": {"a": 1}, "method": "GET"}, "parsed_path": ["a", "b"]},
            "result": {"headers": {"x/y": ["z"], "x": "w"}}, "policy": "p",
        });
        mask.cover_fields(&mut event);
        let expected = json!({
            "input": {"attributes": {"metadataContext": "***", "method": "GET"}, "parsed_path": ["a", "***"]},
            "result": {"headers": {"x/y": "***", "x": "w"}}, "policy": "p",
        });
        assert_eq!(event, expected);
        let mut nothing = json!({"policy": "p"});
        mask.cover_fields(&mut nothing);
        assert_eq!(nothing, json!({"policy": "p"}));
    }

    #[test]
    fn values_that_an_error_quotes_are_not_shown() {
        for (error, shown) in [
            (
                "policy:7:9: `some .. in collection` expects array/set/object. Got `\"Bearer s3`cret\"`",
                "policy:7:9: `some .. in collection` expects array/set/object. Got `***`",
            ),
            ("value for key `\"s3cret\"` generated multiple times: `1` and `2`", "value for key `***`"),
            (
                "`base64.decode` expects string argument. Got `12345` instead",
                "`base64.decode` expects string argument. Got `***` instead",
            ),
            ("inside of `Bearer s3cret", "inside of `***"),
            ("`;` in the query: it separates nothing", "`;` in the query: it separates nothing"),
            (
                "`allowed` is a string: it should be a boolean",
                "`allowed` is a string: it should be a boolean",
            ),
            (
                "policy:3:1: rules must not produce multiple outputs",
                "policy:3:1: rules must not produce multiple outputs",
            ),
        ] {
            assert_eq!(Mask::default().error(error), shown);
        }
    }
}
