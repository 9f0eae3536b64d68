//! What servers without certificates of their own send: as many bytes in every field as the agent's secret has.

use anyhow::Result;
use prost::Message as _;
use prost_types::Any;
use serde::{Deserialize, Serialize};
use vouch_proto::envoy::{
    config::core::v3::{DataSource, data_source::Specifier},
    extensions::transport_sockets::tls::v3::{CertificateValidationContext, Secret, TlsCertificate, secret},
    service::discovery::v3::DiscoveryResponse,
};

use crate::sds::{self, Answer, SECRET_TYPE};

/// Sizes of an answer and of the secret in it; nothing of their content but the name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Shape {
    name: String,
    version_bytes: usize,
    nonce_bytes: usize,
    secret_bytes: usize,
    /// Of a certificate: chain and key.
    certificate_bytes: Option<(usize, usize)>,
}

impl Shape {
    pub(crate) fn of(answer: &Answer<'_>) -> Result<Self> {
        let any = Any::decode(answer.resource)?;
        let secret = Secret::decode(&*any.value)?;
        let bytes = |source: Option<DataSource>| match source.and_then(|source| source.specifier) {
            Some(Specifier::InlineBytes(bytes)) => bytes.len(),
            _ => 0,
        };
        let certificate_bytes = match secret.r#type {
            Some(secret::Type::TlsCertificate(certificate)) => {
                Some((bytes(certificate.certificate_chain), bytes(certificate.private_key)))
            }
            _ => None,
        };
        Ok(Self {
            name: secret.name,
            version_bytes: answer.version.len(),
            nonce_bytes: answer.nonce.len(),
            secret_bytes: any.value.len(),
            certificate_bytes,
        })
    }

    /// The secret of `round`.
    pub(crate) fn secret(&self, round: usize) -> Secret {
        let digits = |length: usize| {
            Some(DataSource { specifier: Some(Specifier::InlineBytes(digits(round, length).into())) })
        };
        let with = |content| Secret { name: self.name.clone(), r#type: Some(content) };
        if let Some((chain, key)) = self.certificate_bytes {
            return with(secret::Type::TlsCertificate(TlsCertificate {
                certificate_chain: digits(chain),
                private_key: digits(key),
            }));
        }
        let bundle = |length| {
            with(secret::Type::ValidationContext(CertificateValidationContext {
                trusted_ca: digits(length),
                custom_validator_config: None,
            }))
        };
        let fits = |length: &usize| bundle(*length).encoded_len() <= self.secret_bytes;
        bundle((0..=self.secret_bytes).rev().find(fits).unwrap_or_default())
    }

    /// The answer of `round`. Another one every time, and the bytes of `secret` are inside.
    pub(crate) fn response(&self, round: usize, secret: &Secret) -> DiscoveryResponse {
        DiscoveryResponse {
            version_info: digits(round, self.version_bytes),
            resources: vec![Any { type_url: SECRET_TYPE.into(), value: secret.encode_to_vec() }],
            type_url: SECRET_TYPE.into(),
            nonce: digits(round, self.nonce_bytes),
        }
    }

    /// The same as a gRPC message.
    pub(crate) fn message(&self, round: usize) -> Vec<u8> {
        sds::grpc(&self.response(round, &self.secret(round)))
    }
}

/// `round` in `length` digits, the lowest of them when there are more.
fn digits(round: usize, length: usize) -> String {
    let text = format!("{round:0length$}");
    text[text.len() - length..].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sds::first_message;

    fn answered(content: secret::Type) -> Vec<u8> {
        let secret = Secret { name: "default".into(), r#type: Some(content) };
        sds::grpc(&DiscoveryResponse {
            version_info: "0123456789abcdef".into(),
            resources: vec![Any { type_url: SECRET_TYPE.into(), value: secret.encode_to_vec() }],
            type_url: SECRET_TYPE.into(),
            nonce: "17".into(),
        })
    }

    fn bytes(length: usize) -> Option<DataSource> {
        Some(DataSource { specifier: Some(Specifier::InlineBytes(vec![9; length])) })
    }

    fn read(message: &[u8]) -> Answer<'_> {
        Answer::read(first_message(message).unwrap().unwrap()).unwrap()
    }

    #[test]
    fn a_certificate_is_stood_in_for_by_one_of_the_same_size() {
        let certificate = TlsCertificate { certificate_chain: bytes(900), private_key: bytes(241) };
        let message = answered(secret::Type::TlsCertificate(certificate));
        let shape = Shape::of(&read(&message)).unwrap();
        let (third, fourth) = (shape.message(3), shape.message(4));
        assert_eq!((third.len(), fourth.len()), (message.len(), message.len()));
        let chain = |message: &[u8]| sds::content(read(message).resource, "default").unwrap();
        assert_ne!(chain(&third), chain(&fourth));
        assert_eq!((read(&third).version, read(&third).nonce), (&b"0000000000000003"[..], &b"03"[..]));
    }

    #[test]
    fn a_bundle_is_stood_in_for_by_one_of_the_same_size() {
        let bundle = CertificateValidationContext { trusted_ca: bytes(700), custom_validator_config: None };
        let message = answered(secret::Type::ValidationContext(bundle));
        let shape = Shape::of(&read(&message)).unwrap();
        assert_eq!(shape.message(1).len(), message.len());
        assert_ne!(shape.message(1), shape.message(2));
    }
}
