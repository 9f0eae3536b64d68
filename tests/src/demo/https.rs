//! A client of HTTPS, as `curl -k` and `curl --cacert` are.

use std::{io, net::SocketAddr, sync::Arc};

use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    StreamOwned,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use crate::http::{Connection, Request, Response, dial};

/// Whom a client believes.
#[derive(Debug)]
pub(super) enum Trust {
    /// Everybody.
    Anybody,
    /// Who has a certificate below one of these.
    Roots(Vec<Vec<u8>>),
}

/// An answer, and the first certificate that the server presented.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) response: Response,
    pub(super) certificate: Vec<u8>,
}

/// Asks `server` for `/` under the name `localhost`, which TLS says, too.
///
/// # Errors
/// When the server cannot be reached, is not believed, or does not speak HTTP.
pub(super) fn get(server: SocketAddr, trust: Trust) -> io::Result<Answer> {
    let name = ServerName::try_from("localhost").expect("a DNS name");
    let mut connection = ClientConnection::new(Arc::new(config(trust)?), name).map_err(io::Error::other)?;
    let mut stream = dial(server)?;
    while connection.is_handshaking() {
        connection.complete_io(&mut stream)?;
    }
    let chain = connection.peer_certificates().unwrap_or_default();
    let certificate = chain.first().map(|leaf| leaf.to_vec()).unwrap_or_default();
    let host = format!("localhost:{}", server.port());
    let request = Request::get("/", &[("host", &host), ("accept", "*/*")]);
    let response = Connection::over(StreamOwned::new(connection, stream)).send(&request)?;
    Ok(Answer { response, certificate })
}

fn config(trust: Trust) -> io::Result<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    Ok(match trust {
        Trust::Anybody => config
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Believes(provider)))
            .with_no_client_auth(),
        Trust::Roots(roots) => {
            let mut store = RootCertStore::empty();
            store.add_parsable_certificates(roots.into_iter().map(CertificateDer::from));
            config.with_root_certificates(store).with_no_client_auth()
        }
    })
}

/// Believes every certificate whose key the server has.
#[derive(Debug)]
struct Believes(Arc<CryptoProvider>);

impl ServerCertVerifier for Believes {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
