//! Connections, with and without TLS.

use std::{
    io::{self, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::Arc,
    thread,
};

use rustls::{ServerConfig, ServerConnection, StreamOwned, crypto::ring, pki_types::PrivateKeyDer};

use super::{Seen, Service, Tls};
use crate::http::Request;

/// What ends TLS for `name` and `localhost`, with a key of its own and a certificate that it signed itself.
///
/// # Errors
/// When there is no randomness.
pub(super) fn acceptor(name: &str) -> io::Result<Arc<ServerConfig>> {
    let made = rcgen::generate_simple_self_signed([name.to_owned(), "localhost".to_owned()])
        .map_err(io::Error::other)?;
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).map_err(io::Error::other)?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|config| config.with_no_client_auth().with_single_cert(vec![made.cert.into()], key));
    config.map(Arc::new).map_err(io::Error::other)
}

pub(super) fn serve(service: &Arc<Service>, listener: &TcpListener, acceptor: Option<&Arc<ServerConfig>>) {
    for stream in listener.incoming().flatten() {
        let (service, acceptor) = (Arc::clone(service), acceptor.cloned());
        // A client that breaks off is not missed.
        thread::spawn(move || _ = converse(&service, stream, acceptor));
    }
}

fn converse(service: &Service, stream: TcpStream, acceptor: Option<Arc<ServerConfig>>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let Some(acceptor) = acceptor else { return answer_all(service, stream, &Seen::default()) };
    let mut connection = ServerConnection::new(acceptor).map_err(io::Error::other)?;
    let mut stream = stream;
    while connection.is_handshaking() {
        connection.complete_io(&mut stream)?;
    }
    let server_name = connection.server_name().map(str::to_owned);
    answer_all(service, StreamOwned::new(connection, stream), &Seen { tls: Some(Tls { server_name }) })
}

fn answer_all(service: &Service, stream: impl Read + Write, seen: &Seen) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    while let Some(request) = Request::read(&mut stream)? {
        service.answer(&request, seen).write(stream.get_mut())?;
    }
    Ok(())
}
