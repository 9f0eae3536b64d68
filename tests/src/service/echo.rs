//! Says what it was asked.

use serde_json::{Map, Value, json};

use super::Seen;
use crate::http::{Request, Response};

/// The fields that the TLS sandbox shows, under the names that it has for them.
pub(super) fn answer(name: &str, request: &Request, seen: &Seen) -> Response {
    let headers: Map<String, Value> =
        request.headers.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
    let host = request.header("host").unwrap_or_default();
    // Without TLS of its own it goes by what the proxy before it says.
    let own = if seen.tls.is_some() { "https" } else { "http" };
    let connection = seen.tls.as_ref().map_or_else(
        || json!({}),
        |tls| {
            let server_name = tls.server_name.clone().map_or(Value::Bool(false), Value::String);
            json!({ "servername": server_name })
        },
    );
    let said = json!({
        "path": request.path,
        "headers": headers,
        "method": request.method,
        "body": request.body,
        "hostname": host.split(':').next(),
        "protocol": request.header("x-forwarded-proto").unwrap_or(own),
        "os": { "hostname": name },
        "connection": connection,
    });
    let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
    Response { status: 200, headers, body: format!("{said:#}\n"), closes: false }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::Tls;

    fn said(seen: &Seen, headers: &[(&str, &str)]) -> Value {
        serde_json::from_str(&answer("service", &Request::get("/", headers), seen).body).unwrap()
    }

    #[test]
    fn the_server_name_that_a_client_asked_for_is_said() {
        let with = |server_name| Seen { tls: Some(Tls { server_name }) };
        assert_eq!(said(&with(None), &[])["connection"]["servername"], false);
        assert_eq!(said(&with(Some("a".to_owned())), &[])["connection"]["servername"], "a");
        assert_eq!(said(&Seen::default(), &[])["connection"], json!({}));
    }

    #[test]
    fn the_protocol_is_what_the_proxy_says() {
        assert_eq!(said(&Seen::default(), &[])["protocol"], "http");
        assert_eq!(said(&Seen::default(), &[("x-forwarded-proto", "https")])["protocol"], "https");
        let tls = Seen { tls: Some(Tls::default()) };
        assert_eq!(said(&tls, &[("host", "localhost:1")])["protocol"], "https");
        assert_eq!(said(&tls, &[("host", "localhost:1")])["hostname"], "localhost");
    }
}
