//! What logs and explanations show of a question and its answer: everything but secrets.

use serde_json::{Map, Value};

/// Headers that are masked whatever the configuration says.
pub(super) const ALWAYS: [&str; 4] = ["authorization", "cookie", "proxy-authorization", "set-cookie"];
const XFCC: &str = "x-forwarded-client-cert";
/// What stands in the place of what is not shown.
pub(super) const MASKED: &str = "***";

/// Deepest nesting that is shown: who reads JSON has a limit of its own, often 128, and an event is some levels itself.
const DEEPEST: usize = 96;
/// What stands in the place of what lies deeper.
const CUT: &str = "...";

/// Which values are secrets; without more, those of the usual headers of credentials.
#[derive(Debug, Clone)]
pub struct Mask {
    /// Lower case.
    headers: Vec<String>,
}

impl Default for Mask {
    fn default() -> Self {
        Self::new(&[])
    }
}

impl Mask {
    /// With `more` headers beside the usual ones of credentials.
    pub fn new(more: &[String]) -> Self {
        let always = ALWAYS.iter().map(ToString::to_string);
        Self { headers: always.chain(more.iter().map(|name| name.to_ascii_lowercase())).collect() }
    }

    /// An input document without the values of secret headers, and without bodies.
    pub fn input(&self, input: &regorus::Value) -> Value {
        let mut input = json(input);
        if let Some(http) = input.pointer_mut("/attributes/request/http") {
            cover(http, &["body", "rawBody"]);
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
        cover(&mut input, &["parsed_body"]);
        input
    }

    /// What a policy said, without the values of secret headers that it sets.
    pub fn result(&self, result: &regorus::Value) -> Value {
        let mut result = json(result);
        for headers in ["/headers", "/response_headers_to_add"] {
            if let Some(headers) = result.pointer_mut(headers) {
                self.fields(headers);
            }
        }
        result
    }

    /// In either of the forms that a policy may write: one object, or a list of them.
    fn fields(&self, headers: &mut Value) {
        match headers {
            Value::Array(list) => list.iter_mut().for_each(|part| self.fields(part)),
            Value::Object(fields) => {
                let secret: Vec<String> = fields.keys().filter(|key| self.hides(key)).cloned().collect();
                secret.iter().for_each(|key| cover_one(fields, key));
            }
            _ => {}
        }
    }

    /// A header of Envoy's, as key and value.
    fn pair(&self, pair: &mut Value) {
        if pair.get("key").and_then(Value::as_str).is_some_and(|key| self.hides(key)) {
            cover(pair, &["value", "rawValue"]);
        }
    }

    fn hides(&self, header: &str) -> bool {
        self.headers.iter().any(|hidden| hidden.eq_ignore_ascii_case(header))
    }
}

fn cover(object: &mut Value, keys: &[&str]) {
    if let Value::Object(fields) = object {
        keys.iter().for_each(|key| cover_one(fields, key));
    }
}

/// Nothing stays nothing: that there was no body is no secret.
fn cover_one(fields: &mut Map<String, Value>, key: &str) {
    if let Some(value) = fields.get_mut(key).filter(|value| !value.is_null()) {
        *value = Value::String(MASKED.into());
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
        let mask_ = Mask::new(&["X-Opa-Secret".into()]);
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
        let mask = Mask::new(&["X-Forwarded-Client-Cert".into()]);
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
}
