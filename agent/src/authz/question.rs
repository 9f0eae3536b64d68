//! A question as it is remembered: in as many bytes as it was sent in, and the input for policies only when somebody wants it.
//! As a document of its own it would be several times as large, and letting the oldest go would take as long as an answer.

use prost::Message as _;
use regorus::Value;

use super::{
    input::{self, BadRequest, InputOptions},
    parts::Parts,
    spiffe,
};
use vouch_proto::envoy::service::auth::v3::{AttributeContext, CheckRequest};

/// What the input is made of beside the question itself.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    pub(super) options: InputOptions,
    /// `None`: policies see no `input.spiffe`.
    pub(super) spiffe: Option<Spiffe>,
}

#[derive(Debug, Clone)]
pub(super) struct Spiffe {
    pub(super) xfcc_is_sanitized: bool,
    /// The Envoy that asks, where it is known.
    pub(super) caller: Option<Value>,
}

#[derive(Debug, Clone)]
pub(super) struct Question {
    message: Box<[u8]>,
    reading: Reading,
}

impl Reading {
    /// What a policy is told that looks at no more than `reads`.
    ///
    /// # Errors
    /// When path, query or body cannot be parsed.
    pub(super) fn input(&self, reads: &Parts, attributes: &AttributeContext) -> Result<Value, BadRequest> {
        let spiffe = || {
            let spiffe = self.spiffe.as_ref()?;
            Some(spiffe::document(attributes, spiffe.xfcc_is_sanitized, spiffe.caller.as_ref()))
        };
        input::document_for(reads, attributes, &self.options, spiffe)
    }
}

impl Question {
    /// Of the `CheckRequest` in `message`.
    pub(super) fn new(message: &[u8], reading: Reading) -> Self {
        Self { message: message.into(), reading }
    }

    /// What a policy was told, whether it looked at it or not.
    pub(super) fn input(&self) -> Option<Value> {
        // Neither fails on what was read before.
        let request = CheckRequest::decode(&*self.message).ok()?;
        self.reading.input(&Parts::All, &request.attributes.unwrap_or_default()).ok()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use vouch_proto::envoy::service::auth::v3::attribute_context::{HttpRequest, Request};

    use super::*;

    #[test]
    fn what_is_remembered_is_what_the_policy_was_told() {
        let headers = [("content-type", "application/json"), ("x-forwarded-client-cert", "URI=spiffe://a/b")];
        let http = HttpRequest {
            method: "POST".into(),
            path: "/a%20b?c=d".into(),
            headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            body: r#"{"e": [1.50, null]}"#.into(),
            ..HttpRequest::default()
        };
        let request = Request { http: Some(http), ..Request::default() };
        let attributes = AttributeContext { request: Some(request), ..AttributeContext::default() };
        let caller = Some(Value::from(json!({"pid": 7})));
        for spiffe in [None, Some(Spiffe { xfcc_is_sanitized: true, caller })] {
            let reading = Reading { options: InputOptions::default(), spiffe };
            let told = reading.input(&Parts::All, &attributes).unwrap();
            assert_eq!(told["parsed_body"]["e"][1], Value::Null);
            let message = CheckRequest { attributes: Some(attributes.clone()) }.encode_to_vec();
            assert_eq!(Question::new(&message, reading).input(), Some(told));
        }
    }
}
