//! What the mesh's services are asked, rightly and wrongly, as Envoy tells it.

use std::collections::BTreeMap;

use prost_types::Timestamp;
use vouch_proto::envoy::{
    config::core::v3::{Address, SocketAddress, address, socket_address},
    service::auth::v3::{
        AttributeContext, CheckRequest,
        attribute_context::{HttpRequest, Peer, Request},
    },
};

pub(crate) const XFCC: &str = "x-forwarded-client-cert";
const SECRET: &str = "x-opa-secret";

/// One request and what it is about.
pub(crate) struct Case {
    pub(crate) about: String,
    pub(crate) request: CheckRequest,
}

/// Requests to the services of `side`, which is `ec` or `news`. The first is one that each of them allows; every
/// other differs from it in what it is about.
pub(crate) fn cases(side: &str) -> Vec<Case> {
    let right = Sketch::right(side);
    let mut cases = vec![right.case("right")];
    cases.extend(paths(&right));
    cases.extend(methods(&right));
    cases.extend(certificates(&right, side));
    cases.extend(secrets(&right, side));
    cases.push(Sketch { source: false, ..right.clone() }.case("no source"));
    cases.push(Sketch { headers: BTreeMap::new(), ..right }.case("no headers"));
    cases
}

/// What a request is made from.
#[derive(Clone)]
struct Sketch {
    method: &'static str,
    path: &'static str,
    headers: BTreeMap<String, String>,
    source: bool,
}

impl Sketch {
    fn right(side: &str) -> Self {
        let headers = [(XFCC, certificate(&id(side))), (SECRET, format!("{side}-web-secret"))];
        let headers = headers.map(|(name, value)| (name.to_owned(), value)).into();
        Self { method: "GET", path: "/data", headers, source: true }
    }

    fn with(&self, header: &str, value: &str) -> Self {
        let mut changed = self.clone();
        changed.headers.insert(header.to_owned(), value.to_owned());
        changed
    }

    fn without(&self, header: &str) -> Self {
        let mut changed = self.clone();
        changed.headers.remove(header);
        changed
    }

    fn case(&self, about: &str) -> Case {
        Case { about: about.to_owned(), request: self.request() }
    }

    fn request(&self) -> CheckRequest {
        let mut headers = self.headers.clone();
        headers.insert(":method".to_owned(), self.method.to_owned());
        headers.insert(":path".to_owned(), self.path.to_owned());
        let http = HttpRequest {
            id: "1335".to_owned(),
            method: self.method.to_owned(),
            headers,
            path: self.path.to_owned(),
            host: "backend:8000".to_owned(),
            scheme: "https".to_owned(),
            protocol: "HTTP/1.1".to_owned(),
            ..HttpRequest::default()
        };
        let time = Timestamp { seconds: 1_795_341_600, nanos: 123_456_789 };
        let source = peer("10.1.2.9", 41_234, "spiffe://example.org/ec-web");
        let attributes = AttributeContext {
            source: self.source.then_some(source),
            destination: Some(peer("10.1.2.3", 8_000, "spiffe://example.org/ec-backend")),
            request: Some(Request { time: Some(time), http: Some(http) }),
            ..AttributeContext::default()
        };
        CheckRequest { attributes: Some(attributes) }
    }
}

fn peer(host: &str, port: u32, principal: &str) -> Peer {
    let socket = SocketAddress {
        address: host.to_owned(),
        port_specifier: Some(socket_address::PortSpecifier::PortValue(port)),
        ..SocketAddress::default()
    };
    let address = Address { address: Some(address::Address::SocketAddress(socket)) };
    Peer { address: Some(address), principal: principal.to_owned(), ..Peer::default() }
}

fn id(side: &str) -> String {
    format!("spiffe://example.org/{side}-web")
}

/// As Envoy writes it when it sets the header itself and gives away the URI alone.
fn certificate(id: &str) -> String {
    format!(
        "By=spiffe://example.org/backend;Hash=468ed33be74eee6556d90c0149c1309e9ba61d6425303443c0748a02dd8de688;URI={id}"
    )
}

fn paths(right: &Sketch) -> Vec<Case> {
    let paths = [
        "",
        "/",
        "*",
        "/admin",
        "/data?a=1&b=%20x+y",
        "/data?",
        "/data/",
        "//data",
        "/%64ata",
        "/x/../data",
        "/./data",
        "/data#a",
        "/DATA",
        "/data%00",
        "/data ",
        "data",
        "/data%2f",
        "/data\u{e9}",
        "/data;x=1",
    ];
    paths.map(|path| Sketch { path, ..right.clone() }.case(&format!("path {path:?}"))).into()
}

fn methods(right: &Sketch) -> Vec<Case> {
    let methods = ["POST", "get", "HEAD", "OPTIONS", "", "GET "];
    methods.map(|method| Sketch { method, ..right.clone() }.case(&format!("method {method:?}"))).into()
}

fn secrets(right: &Sketch, side: &str) -> Vec<Case> {
    let other = if side == "ec" { "news-web-secret" } else { "ec-web-secret" };
    let texts = [
        ("other", other.to_owned()),
        ("wrong", "secret".to_owned()),
        ("doubled", format!("{side}-web-secret,{side}-web-secret")),
        ("empty", String::new()),
        ("upper case", format!("{side}-WEB-secret")),
        ("space", format!(" {side}-web-secret")),
    ];
    let mut cases: Vec<_> =
        texts.iter().map(|(about, text)| right.with(SECRET, text).case(&format!("secret {about}"))).collect();
    cases.push(right.without(SECRET).case("secret absent"));
    let upper = right.without(SECRET).with("X-Opa-Secret", &format!("{side}-web-secret"));
    cases.push(upper.case("secret under an upper-case name"));
    cases
}

fn certificates(right: &Sketch, side: &str) -> Vec<Case> {
    let mut cases: Vec<_> = certificate_texts(side)
        .iter()
        .map(|(about, text)| right.with(XFCC, text).case(&format!("certificate {about}")))
        .collect();
    cases.push(right.without(XFCC).case("certificate absent"));
    let upper = right.without(XFCC).with("X-Forwarded-Client-Cert", &certificate(&id(side)));
    cases.push(upper.case("certificate under an upper-case name"));
    cases
}

fn certificate_texts(side: &str) -> Vec<(&'static str, String)> {
    let id = id(side);
    let other = if side == "ec" { "spiffe://example.org/news-web" } else { "spiffe://example.org/ec-web" };
    let by = "By=spiffe://example.org/backend";
    let ours = certificate(&id);
    let theirs = certificate(other);
    vec![
        ("other id", theirs.clone()),
        ("empty", String::new()),
        ("of one part", format!("URI={id}")),
        ("of two parts", format!("{by};URI={id}")),
        ("of four parts", format!("{by};Hash=ab;Subject=\"CN=web\";URI={id}")),
        ("of five parts", format!("{by};Hash=ab;Subject=\"\";URI={id};DNS=web")),
        ("with its subject third", format!("{by};Hash=ab;Subject=\"CN=web\"")),
        ("with a DNS name third", format!("{by};Hash=ab;DNS=web.example.org")),
        ("with the id as DNS name", format!("{by};Hash=ab;DNS={id}")),
        ("with an empty URI", format!("{by};Hash=ab;URI=")),
        ("without =", format!("{by};Hash=ab;{id}")),
        ("with two =", format!("{by};Hash=ab;URI={id}=x")),
        ("with the id behind two =", format!("{by};Hash=ab;URI=={id}")),
        ("with quotes", format!("{by};Hash=ab;URI=\"{id}\"")),
        ("with a space before the URI", format!("{by};Hash=ab; URI={id}")),
        ("with a space behind the URI", format!("{by};Hash=ab;URI={id} ")),
        ("with a trailing ;", format!("{ours};")),
        ("with a leading ;", format!(";{ours}")),
        ("with the id in upper case", format!("{by};Hash=ab;URI={}", id.to_uppercase())),
        ("with the key in lower case", format!("{by};Hash=ab;uri={id}")),
        ("of another trust domain", certificate(&format!("spiffe://example.com/{side}-web"))),
        ("with more behind the id", certificate(&format!("{id}2"))),
        ("with a path behind the id", certificate(&format!("{id}/x"))),
        ("with less than the id", certificate(&id[..id.len() - 1])),
        ("with the URI first", format!("URI={id};{by};Hash=ab")),
        ("with ours first of two", format!("{ours},{theirs}")),
        ("with ours second of two", format!("{theirs},{ours}")),
        ("with text before it", format!("x,{ours}")),
        ("made of separators", ";;".to_owned()),
        ("made up", format!("x;y;z={id}")),
        ("of two hundred", vec![ours.clone(); 200].join(",")),
        ("as JSON", format!("[{{\"uri\":[\"{id}\"]}}]")),
    ]
}
