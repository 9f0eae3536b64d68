//! SVIDs and bundles as the bytes that Envoy reads, encoded once per generation.

use bytes::Bytes;
use prost::{
    Message as _,
    encoding::{message, string},
};
use prost_types::Any;
use vouch_proto::envoy::{
    config::core::v3::{DataSource, TypedExtensionConfig, data_source::Specifier},
    extensions::transport_sockets::tls::v3::{
        CertificateValidationContext, Secret, SpiffeCertValidatorConfig, TlsCertificate, secret,
        spiffe_cert_validator_config,
    },
};
use zeroize::{Zeroize, Zeroizing};

use super::names::{BundleName, Names};
use crate::svid::{Encoded, IssuedBundle, IssuedSvid};

pub(super) const SECRET_TYPE: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
const VALIDATOR_NAME: &str = "envoy.tls.cert_validator.spiffe";
const VALIDATOR_TYPE: &str =
    "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig";

/// A whole gRPC message, ready for the wire. Its bytes are shared by every stream that gets the same.
#[derive(Debug, Clone)]
pub struct Message {
    pub bytes: Bytes,
    /// Hash of the content: equal content has an equal version, on every stream and after a restart.
    pub version: std::sync::Arc<str>,
    pub nonce: Box<str>,
}

/// Under which name an SVID is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SvidName {
    SpiffeId,
    Default,
}

/// One secret as it goes into a response, and where its shared message is kept.
#[derive(Clone, Copy)]
pub(super) enum Resource<'a> {
    Svid { issued: &'a IssuedSvid, name: SvidName },
    Bundle { issued: &'a IssuedBundle, name: BundleName, validator: bool },
}

// Slots of `Encodings`. An SVID's two names and a bundle's five shapes, each as resource and as message.
const SVID_SLOTS: usize = 0;
const BUNDLE_SLOTS: usize = 0;

impl Resource<'_> {
    /// The generation of what is rendered: the nonce of its shared message.
    pub(super) fn generation(&self) -> u64 {
        match self {
            Self::Svid { issued, .. } => issued.generation,
            Self::Bundle { issued, .. } => issued.generation,
        }
    }

    /// The message that holds this resource alone: the same bytes for every stream.
    pub(super) fn shared_message(&self, names: &Names) -> Message {
        let nonce = self.generation().to_string();
        let encode = || {
            let message = compose(&[self.encoded(names)], &nonce);
            Encoded { bytes: message.bytes, version: message.version }
        };
        let Encoded { bytes, version } = match self {
            Self::Svid { issued, name } => {
                issued.encodings.get(SVID_SLOTS + 2 * (*name as usize) + 1, encode)
            }
            Self::Bundle { issued, .. } => issued.encodings.get(self.bundle_slot() + 1, encode),
        };
        Message { bytes, version, nonce: nonce.into() }
    }

    /// The resource as field 2 of a `DiscoveryResponse`.
    pub(super) fn encoded(&self, names: &Names) -> Encoded {
        match self {
            Self::Svid { issued, name } => {
                let slot = SVID_SLOTS + 2 * (*name as usize);
                issued.encodings.get(slot, || encode_svid(issued, *name, names))
            }
            Self::Bundle { issued, name, validator } => {
                let slot = self.bundle_slot();
                issued.encodings.get(slot, || encode_bundle(issued, names.of_bundle(*name), *validator))
            }
        }
    }

    fn bundle_slot(&self) -> usize {
        let Self::Bundle { name, validator, .. } = self else { return 0 };
        BUNDLE_SLOTS + 4 * (*name as usize) + 2 * usize::from(*validator)
    }
}

/// A gRPC message with `resources` in their order.
pub(super) fn compose(resources: &[Encoded], nonce: &str) -> Message {
    let version = match resources {
        [only] => only.version.clone(),
        _ => hash(resources.iter().map(|resource| resource.version.as_bytes())),
    };
    let size: usize = resources.iter().map(|resource| resource.bytes.len()).sum();
    // Enough for the short fields: the buffer must not move, or a copy of a key would stay behind.
    let mut bytes =
        Zeroizing::new(Vec::with_capacity(size + SECRET_TYPE.len() + version.len() + nonce.len() + 64));
    bytes.extend_from_slice(&[0; 5]);
    string::encode(1, &version.as_ref().to_owned(), &mut *bytes);
    for resource in resources {
        bytes.extend_from_slice(&resource.bytes);
    }
    string::encode(4, &SECRET_TYPE.to_owned(), &mut *bytes);
    if !nonce.is_empty() {
        string::encode(5, &nonce.to_owned(), &mut *bytes);
    }
    let length = u32::try_from(bytes.len() - 5).expect("a response is smaller than 4 GiB");
    bytes[1..5].copy_from_slice(&length.to_be_bytes());
    Message { bytes: Bytes::from_owner(bytes), version, nonce: nonce.into() }
}

fn encode_svid(issued: &IssuedSvid, name: SvidName, names: &Names) -> Encoded {
    let name = match name {
        SvidName::SpiffeId => issued.svid.id.as_str(),
        SvidName::Default => &names.config.default_svid,
    };
    let chain = issued.svid.chain_pem();
    let version = hash([name.as_bytes(), chain.as_bytes()]);
    let mut key = inline(issued.svid.key.pem().as_bytes());
    let certificate =
        TlsCertificate { certificate_chain: Some(inline(chain.as_bytes())), private_key: Some(key.clone()) };
    let mut secret =
        Secret { name: name.to_owned(), r#type: Some(secret::Type::TlsCertificate(certificate)) };
    let bytes = encode_secret(&secret);
    wipe(&mut key);
    if let Some(secret::Type::TlsCertificate(TlsCertificate { private_key: Some(key), .. })) =
        &mut secret.r#type
    {
        wipe(key);
    }
    Encoded { bytes, version }
}

fn encode_bundle(issued: &IssuedBundle, name: &str, validator: bool) -> Encoded {
    let pem = issued.bundle.pem();
    let trust_domain = issued.bundle.trust_domain.name();
    let version = hash([name.as_bytes(), trust_domain.as_bytes(), pem.as_bytes(), &[u8::from(validator)]]);
    let context = if validator {
        let trust_domains = vec![spiffe_cert_validator_config::TrustDomain {
            name: trust_domain.to_owned(),
            trust_bundle: Some(inline(pem.as_bytes())),
        }];
        let config = SpiffeCertValidatorConfig { trust_domains };
        let typed_config = Some(Any { type_url: VALIDATOR_TYPE.into(), value: config.encode_to_vec() });
        let extension = TypedExtensionConfig { name: VALIDATOR_NAME.into(), typed_config };
        CertificateValidationContext { custom_validator_config: Some(extension), trusted_ca: None }
    } else {
        CertificateValidationContext {
            trusted_ca: Some(inline(pem.as_bytes())),
            custom_validator_config: None,
        }
    };
    let secret = Secret { name: name.to_owned(), r#type: Some(secret::Type::ValidationContext(context)) };
    Encoded { bytes: encode_secret(&secret), version }
}

/// The secret in an `Any`, as field 2 of a `DiscoveryResponse`. Every buffer is wiped when it is let go.
fn encode_secret(secret: &Secret) -> Bytes {
    let mut any = Any { type_url: SECRET_TYPE.into(), value: secret.encode_to_vec() };
    let mut field = Zeroizing::new(Vec::with_capacity(message::encoded_len(2, &any)));
    message::encode(2, &any, &mut *field);
    any.value.zeroize();
    Bytes::from_owner(field)
}

fn inline(bytes: &[u8]) -> DataSource {
    DataSource { specifier: Some(Specifier::InlineBytes(bytes.to_vec())) }
}

fn wipe(source: &mut DataSource) {
    if let Some(Specifier::InlineBytes(bytes)) = &mut source.specifier {
        bytes.zeroize();
    }
}

/// 128 bits of SHA-256 over the parts and their lengths, as hex.
fn hash<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> std::sync::Arc<str> {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    hex::encode(&context.finish().as_ref()[..16]).into()
}
