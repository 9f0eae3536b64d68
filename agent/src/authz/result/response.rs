//! The message that Envoy is sent.

use prost_types::{Struct, value::Kind as Protobuf};
use vouch_proto::{
    envoy::{
        config::core::v3::{
            HeaderValue, HeaderValueOption, QueryParameter, header_value_option::HeaderAppendAction,
        },
        service::auth::v3::{
            CheckResponse, DeniedHttpResponse, HttpStatus, OkHttpResponse, check_response::HttpResponse,
        },
    },
    google::rpc::Status,
};

use super::{Allowed, Answer, Changes, Denied, Entry, Verdict, status::BAD_REQUEST};
use crate::authz::input::BadRequest;

const OK: i32 = 0;
const PERMISSION_DENIED: i32 = 7;

/// What is said of headers to the upstream that a request already has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum HeaderAppend {
    /// Nothing, as OPA-Envoy. Envoy up to 1.36 then overwrites, 1.37.0 appends.
    #[default]
    Unset,
    /// They are overwritten by every Envoy; of several values for one name the last wins.
    Overwrite,
}

impl Verdict {
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allow(_))
    }

    /// The answer as Envoy takes it. `decision_id` is in its dynamic metadata, whatever the policy put there under that name.
    pub fn into_response(self, decision_id: &str, append: HeaderAppend) -> CheckResponse {
        let (code, http_response, mut metadata) = match self {
            Self::Allow(Allowed { changes, dynamic_metadata }) => {
                (OK, changes.map(|changes| ok_response(changes, append)), dynamic_metadata)
            }
            Self::Deny(Denied { answer, dynamic_metadata }) => {
                (PERMISSION_DENIED, answer.map(denied_response), dynamic_metadata)
            }
        };
        let id = prost_types::Value { kind: Some(Protobuf::StringValue(decision_id.to_owned())) };
        metadata.fields.insert("decision_id".to_owned(), id);
        response(code, String::new(), http_response, Some(metadata))
    }
}

/// The denial of a request that cannot be asked about: 400, the reason in its body, no decision.
pub fn bad_request(error: &BadRequest) -> CheckResponse {
    let text = format!("request_parse_error: {error}");
    let answer = Answer { http_status: BAD_REQUEST, headers: Vec::new(), body: text.clone() };
    response(PERMISSION_DENIED, text, Some(denied_response(answer)), None)
}

fn response(
    code: i32,
    message: String,
    http_response: Option<HttpResponse>,
    dynamic_metadata: Option<Struct>,
) -> CheckResponse {
    CheckResponse { status: Some(Status { code, message }), http_response, dynamic_metadata }
}

fn ok_response(changes: Changes, append: HeaderAppend) -> HttpResponse {
    let set = changes.query_parameters_to_set.into_iter();
    HttpResponse::OkResponse(OkHttpResponse {
        headers: headers(changes.headers, append),
        headers_to_remove: changes.request_headers_to_remove,
        response_headers_to_add: headers(changes.response_headers_to_add, HeaderAppend::Unset),
        query_parameters_to_set: set
            .map(|Entry { name, value }| QueryParameter { key: name, value })
            .collect(),
        query_parameters_to_remove: changes.query_parameters_to_remove,
    })
}

fn denied_response(answer: Answer) -> HttpResponse {
    HttpResponse::DeniedResponse(DeniedHttpResponse {
        status: Some(HttpStatus { code: i32::from(answer.http_status) }),
        // Unset, the first of a name replaces and the others are added, so that several cookies can be set.
        headers: headers(answer.headers, HeaderAppend::Unset),
        body: answer.body,
    })
}

fn headers(entries: Vec<Entry>, append: HeaderAppend) -> Vec<HeaderValueOption> {
    let action = match append {
        HeaderAppend::Unset => HeaderAppendAction::default(),
        HeaderAppend::Overwrite => HeaderAppendAction::OverwriteIfExistsOrAdd,
    };
    let option = |Entry { name, value }| HeaderValueOption {
        header: Some(HeaderValue { key: name, value, raw_value: Vec::new() }),
        append: None,
        append_action: action.into(),
        keep_empty_value: false,
    };
    entries.into_iter().map(option).collect()
}
