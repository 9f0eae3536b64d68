//! The services of the demos: an API, a web that stands before it, a greeting, and an echo with or without TLS.

mod echo;
mod server;
mod web;

use std::{io, net::TcpListener, sync::Arc};

pub use web::Route;

use crate::http::{Request, Response};

/// What a service is, by the name that it goes by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Service {
    /// Greets its client at `/data`, and an administrator at `/admin`.
    Api(String),
    /// Answers at `/noproxy` and hands everything else on, as the web server of a shop does.
    Web { name: String, routes: Vec<Route> },
    /// Says hello to everybody.
    Hello(String),
    /// Says what it was asked, over TLS if `tls`, with a certificate that it made itself.
    Echo { name: String, tls: bool },
}

/// What a service knows of the connection of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// `None` without TLS.
    pub tls: Option<Tls>,
}

/// What a client said when TLS began.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    pub server_name: Option<String>,
}

impl Service {
    /// Serves every connection of `listener`, each on a thread of its own, until the process ends.
    ///
    /// # Errors
    /// When no certificate can be made.
    pub fn serve(self, listener: &TcpListener) -> io::Result<()> {
        let acceptor = match &self {
            Self::Echo { name, tls: true } => Some(server::acceptor(name)?),
            _ => None,
        };
        server::serve(&Arc::new(self), listener, acceptor.as_ref());
        Ok(())
    }

    fn answer(&self, request: &Request, seen: &Seen) -> Response {
        match self {
            Self::Api(name) => api(name, request),
            Self::Web { name, routes } => web::answer(name, routes, request),
            Self::Hello(name) => {
                Response::text(200, format!("Hello, world!\nVersion: 1.0.0\nHostname: {name}\n"))
            }
            Self::Echo { name, .. } => echo::answer(name, request, seen),
        }
    }
}

fn api(name: &str, request: &Request) -> Response {
    match request.path.split('?').next() {
        Some("/data") => Response::text(200, format!("Hi {name} client!")),
        Some("/admin") => Response::text(200, format!("Hi {name} administrator!")),
        _ => not_found(),
    }
}

fn not_found() -> Response {
    Response::text(404, "there is nothing here")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(service: &Service, path: &str) -> (u16, String) {
        let answer = service.answer(&Request::get(path, &[]), &Seen::default());
        (answer.status, answer.body)
    }

    #[test]
    fn an_api_greets_clients_and_administrators() {
        let api = Service::Api("ec-backend".to_owned());
        assert_eq!(body(&api, "/data"), (200, "Hi ec-backend client!".to_owned()));
        assert_eq!(body(&api, "/admin"), (200, "Hi ec-backend administrator!".to_owned()));
        assert_eq!(body(&api, "/").0, 404);
    }
}
