//! The web server before an API, as the published one is configured.

use std::net::SocketAddr;

use super::not_found;
use crate::http::{Connection, Request, Response};

/// Where requests of some paths go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The path has to begin with it; of several that do, the first one counts.
    pub prefix: String,
    /// A listener of the web's own Envoy, which does the rest.
    pub to: SocketAddr,
    /// When the answer is 403, say that it was this backend's policy; else the answer goes on as it came.
    pub says_who_refused: Option<String>,
}

pub(super) fn answer(name: &str, routes: &[Route], request: &Request) -> Response {
    if request.path.starts_with("/noproxy") {
        return Response::text(200, format!("{name} no proxy endpoint"));
    }
    let Some(route) = routes.iter().find(|route| request.path.starts_with(&route.prefix)) else {
        return not_found();
    };
    let answered = Connection::open(route.to).and_then(|mut connection| connection.send(request));
    match (answered, &route.says_who_refused) {
        (Err(error), _) => Response::text(502, format!("{} does not answer: {error}", route.to)),
        (Ok(answer), Some(backend)) if answer.status == 403 => {
            Response::text(403, format!("Forbidden. Not authorized by {backend}'s OPA."))
        }
        (Ok(answer), _) => answer,
    }
}

#[cfg(test)]
mod tests {
    use std::{io::BufReader, net::TcpListener, thread};

    use super::*;

    /// Somebody who answers once, with `answer`.
    fn backend(answer: Response) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            Request::read(&mut BufReader::new(&stream)).unwrap().unwrap();
            answer.write(&mut stream).unwrap();
        });
        address
    }

    fn through(says_who_refused: Option<&str>, answer: Response) -> (u16, String) {
        let routes = [Route {
            prefix: "/".to_owned(),
            to: backend(answer),
            says_who_refused: says_who_refused.map(str::to_owned),
        }];
        let got = super::answer("ec-web", &routes, &Request::get("/data", &[]));
        (got.status, got.body)
    }

    #[test]
    fn what_the_backend_answers_goes_on() {
        assert_eq!(through(Some("api"), Response::text(200, "hi")), (200, "hi".to_owned()));
        assert_eq!(through(None, Response::text(403, "")), (403, String::new()));
    }

    #[test]
    fn a_refusal_says_whose_it_was_where_it_shall() {
        let (status, body) = through(Some("ec-backend"), Response::text(403, ""));
        assert_eq!((status, body.as_str()), (403, "Forbidden. Not authorized by ec-backend's OPA."));
    }

    #[test]
    fn its_own_page_needs_no_backend() {
        assert_eq!(answer("web", &[], &Request::get("/noproxy", &[])).body, "web no proxy endpoint");
        assert_eq!(answer("web", &[], &Request::get("/data", &[])).status, 404);
    }
}
