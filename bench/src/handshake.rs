//! A fresh TLS handshake, to see which certificate somebody presents now.

use std::{
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

const LIMIT: Duration = Duration::from_secs(5);

/// A client that takes any certificate: it is looked at, and nothing is sent to its owner.
#[derive(Debug)]
pub(crate) struct Handshakes(Arc<ClientConfig>);

#[derive(Debug)]
struct AnyCertificate(CryptoProvider);

impl Handshakes {
    pub(crate) fn new() -> Result<Self> {
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions()?.dangerous();
        let any = Arc::new(AnyCertificate(ring::default_provider()));
        let mut config = builder.with_custom_certificate_verifier(any).with_no_client_auth();
        // A resumed session shows the certificate of the first.
        config.resumption = rustls::client::Resumption::disabled();
        Ok(Self(Arc::new(config)))
    }

    /// The leaf that is presented at `address`, in DER.
    pub(crate) fn leaf(&self, address: SocketAddr) -> Result<Vec<u8>> {
        let mut socket = TcpStream::connect_timeout(&address, LIMIT)?;
        socket.set_read_timeout(Some(LIMIT))?;
        socket.set_nodelay(true)?;
        let mut tls = ClientConnection::new(Arc::clone(&self.0), ServerName::from(address.ip()))?;
        while tls.is_handshaking() {
            tls.complete_io(&mut socket)?;
        }
        let chain = tls.peer_certificates().context("no certificate")?;
        Ok(chain.first().context("an empty chain")?.to_vec())
    }
}

impl ServerCertVerifier for AnyCertificate {
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
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
