//! Questions about authorization, as an Envoy asks them.

use envoy_types::pb::{
    envoy::service::auth::v3::{
        AttributeContext, CheckRequest, CheckResponse,
        attribute_context::{HttpRequest, Request},
        check_response::HttpResponse,
    },
    google::protobuf::value::Kind,
};
use tonic::{Status, transport::Channel};

use crate::grpc;

pub const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";

/// What is asked about a GET of `path`.
pub fn question(path: &str) -> CheckRequest {
    let http = HttpRequest { method: "GET".into(), path: path.into(), ..HttpRequest::default() };
    let request = Request { http: Some(http), ..Request::default() };
    CheckRequest {
        attributes: Some(AttributeContext { request: Some(request), ..AttributeContext::default() }),
    }
}

/// What is asked about a GET of `path` with the context extension `service`.
pub fn question_of(service: &str, path: &str) -> CheckRequest {
    let mut question = question(path);
    attributes(&mut question).context_extensions.insert("service".into(), service.into());
    question
}

/// # Panics
/// When there are none.
pub fn attributes(question: &mut CheckRequest) -> &mut AttributeContext {
    question.attributes.as_mut().expect("a question has attributes")
}

/// # Panics
/// When it is about no HTTP request.
pub fn http(question: &mut CheckRequest) -> &mut HttpRequest {
    let request = attributes(question).request.as_mut();
    request.and_then(|request| request.http.as_mut()).expect("it is about an HTTP request")
}

/// Asks.
///
/// # Errors
/// The server's status.
pub async fn ask(channel: &Channel, question: &CheckRequest) -> Result<CheckResponse, Status> {
    grpc::unary(channel, CHECK, question).await
}

/// # Panics
/// When it says neither.
pub fn is_allowed(answer: &CheckResponse) -> bool {
    answer.status.as_ref().expect("an answer has a status").code == 0
}

/// The text `key` of its dynamic metadata.
pub fn metadata(answer: &CheckResponse, key: &str) -> Option<String> {
    match answer.dynamic_metadata.as_ref()?.fields.get(key)?.kind.as_ref()? {
        Kind::StringValue(text) => Some(text.clone()),
        _ => None,
    }
}

/// The header `name` that it adds to the request, or to a denial.
pub fn header<'a>(answer: &'a CheckResponse, name: &str) -> Option<&'a str> {
    let headers = match answer.http_response.as_ref()? {
        HttpResponse::OkResponse(ok) => &ok.headers,
        HttpResponse::DeniedResponse(denied) => &denied.headers,
        HttpResponse::ErrorResponse(error) => &error.headers,
    };
    let mut headers = headers.iter().filter_map(|option| option.header.as_ref());
    headers.find(|header| header.key == name).map(|header| header.value.as_str())
}

/// The status that a denial gives the client.
pub fn denied_status(answer: &CheckResponse) -> Option<i32> {
    match answer.http_response.as_ref()? {
        HttpResponse::DeniedResponse(denied) => denied.status.as_ref().map(|status| status.code),
        _ => None,
    }
}
