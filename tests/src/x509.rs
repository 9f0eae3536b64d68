//! Certificates as a stranger reads them.

use std::time::SystemTime;

use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509Certificate};

/// What a test asks of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// URIs in the subject alternative name.
    pub uris: Vec<String>,
    /// DNS names in the same.
    pub dns_names: Vec<String>,
    /// Lower-case hexadecimal, as Envoy prints it.
    pub serial: String,
    pub not_after: SystemTime,
}

/// # Panics
/// When `der` is not one certificate.
pub fn facts(der: &[u8]) -> Facts {
    let (rest, certificate) = X509Certificate::from_der(der).expect("a certificate in DER");
    assert!(rest.is_empty(), "nothing follows the certificate");
    let names: Vec<_> = certificate
        .extensions()
        .iter()
        .filter_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectAlternativeName(names) => Some(&names.general_names),
            _ => None,
        })
        .flatten()
        .collect();
    let uris = names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some((*uri).to_owned()),
        _ => None,
    });
    let dns_names = names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    });
    let end = u64::try_from(certificate.validity().not_after.timestamp()).expect("it ends after 1970");
    Facts {
        uris: uris.collect(),
        dns_names: dns_names.collect(),
        serial: certificate.raw_serial().iter().map(|byte| format!("{byte:02x}")).collect(),
        not_after: SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(end),
    }
}

/// The DER of every certificate in `pem`, in order.
///
/// # Panics
/// When it is not PEM.
pub fn certificates(pem: &[u8]) -> Vec<Vec<u8>> {
    let blocks = pem::parse_many(pem).expect("PEM");
    blocks.into_iter().filter(|block| block.tag() == "CERTIFICATE").map(pem::Pem::into_contents).collect()
}
