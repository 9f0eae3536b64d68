//! What an Envoy says to the Secret Discovery Service, and what is looked at in the answer.

use std::rc::Rc;

use anyhow::{Context as _, Result, bail, ensure};
use clap::ValueEnum;
use prost::Message as _;
use prost_types::Any;
use serde::{Deserialize, Serialize};
use vouch_proto::envoy::{
    config::core::v3::{DataSource, Node, data_source::Specifier},
    extensions::transport_sockets::tls::v3::{Secret, secret},
    service::discovery::v3::DiscoveryRequest,
};

use crate::node;

pub(crate) const STREAM_SECRETS: &str = "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets";
pub(crate) const SECRET_TYPE: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";

/// Before every gRPC message: whether it is compressed, and its length.
pub(crate) const PREFIX_LEN: usize = 5;

/// An answer with its one resource, in the bytes that it was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answer<'a> {
    pub(crate) version: &'a [u8],
    pub(crate) nonce: &'a [u8],
    /// The secret, still as an `Any`.
    pub(crate) resource: &'a [u8],
}

impl<'a> Answer<'a> {
    /// Looks at the fields of a `DiscoveryResponse` without decoding what is in them: it is done for every stream
    /// of every rotation, and must not be what is measured.
    pub(crate) fn read(mut message: &'a [u8]) -> Result<Self> {
        let (mut version, mut nonce, mut resource) = (&[][..], &[][..], None);
        while !message.is_empty() {
            let tag = varint(&mut message)?;
            if tag & 7 != 2 {
                bail!("field {} of the answer has wire type {}", tag >> 3, tag & 7);
            }
            let length = usize::try_from(varint(&mut message)?)?;
            let (content, rest) = message.split_at_checked(length).context("the answer is cut off")?;
            message = rest;
            match tag >> 3 {
                1 => version = content,
                2 if resource.is_some() => bail!("more than one resource, and one was asked for"),
                2 => resource = Some(content),
                5 => nonce = content,
                _ => {}
            }
        }
        Ok(Self { version, nonce, resource: resource.context("an answer without a resource")? })
    }
}

/// What is said of every stream: what it asks for, and whether each request carries an Envoy's whole `Node`.
#[derive(Debug, Clone)]
pub(crate) struct Requests {
    /// Encoded; as an Envoy with `set_node_on_first_message_only` sends none of it after the first request.
    node: Option<Rc<[u8]>>,
}

/// What an acknowledgement carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
pub(crate) enum AckShape {
    /// Version and nonce
    Small,
    /// The 60 KB of Node that an Envoy sends in each request by default
    Envoy,
}

impl Requests {
    pub(crate) fn new(shape: AckShape) -> Self {
        Self { node: (shape == AckShape::Envoy).then(|| node::of_an_envoy().into()) }
    }

    /// The first request of a stream that asks for `name`, as a gRPC message.
    pub(crate) fn first(&self, name: &str) -> Rc<[u8]> {
        let small =
            || Node { id: "bench".into(), cluster: "bench".into(), ..Node::default() }.encode_to_vec();
        let node = self.node.as_deref().map_or_else(small, <[u8]>::to_vec);
        message(name, "", "", Some(&node))
    }

    /// Takes what was sent as `version` with `nonce`.
    pub(crate) fn ack(&self, name: &str, version: &[u8], nonce: &[u8]) -> Result<Rc<[u8]>> {
        let (version, nonce) = (std::str::from_utf8(version)?, std::str::from_utf8(nonce)?);
        Ok(message(name, version, nonce, self.node.as_deref()))
    }
}

/// In the order of its fields, as an Envoy writes it: what a server needs stands on both sides of `node`.
fn message(name: &str, version: &str, nonce: &str, node: Option<&[u8]>) -> Rc<[u8]> {
    let rest = DiscoveryRequest {
        resource_names: vec![name.into()],
        type_url: SECRET_TYPE.into(),
        response_nonce: nonce.into(),
        ..DiscoveryRequest::default()
    };
    let mut bytes = vec![0; PREFIX_LEN];
    if !version.is_empty() {
        put_field(&mut bytes, 1, version.as_bytes());
    }
    if let Some(node) = node {
        put_field(&mut bytes, 2, node);
    }
    rest.encode(&mut bytes).expect("a vector grows");
    put_length(&mut bytes);
    bytes.into()
}

fn put_field(bytes: &mut Vec<u8>, tag: u32, content: &[u8]) {
    prost::encoding::encode_key(tag, prost::encoding::WireType::LengthDelimited, bytes);
    prost::encoding::encode_varint(content.len() as u64, bytes);
    bytes.extend_from_slice(content);
}

/// `message` behind its prefix.
pub(crate) fn grpc(message: &impl prost::Message) -> Vec<u8> {
    let mut bytes = vec![0; PREFIX_LEN];
    message.encode(&mut bytes).expect("a vector grows");
    put_length(&mut bytes);
    bytes
}

fn put_length(bytes: &mut [u8]) {
    let length = (bytes.len() - PREFIX_LEN) as u32;
    bytes[1..PREFIX_LEN].copy_from_slice(&length.to_be_bytes());
}

/// The message at the start of `bytes`, which begins with a prefix; `None` when it is not whole yet.
pub(crate) fn first_message(bytes: &[u8]) -> Result<Option<&[u8]>> {
    let Some((&[compressed, a, b, c, d], rest)) = bytes.split_first_chunk::<PREFIX_LEN>() else {
        return Ok(None);
    };
    if compressed != 0 {
        bail!("a compressed message, which nobody asked for");
    }
    Ok(rest.get(..u32::from_be_bytes([a, b, c, d]) as usize))
}

/// What of a secret changes with a rotation: the chain of a certificate, which must have a key beside it, or the
/// authorities of a bundle. The secret must be the one that was asked for.
pub(crate) fn content(resource: &[u8], name: &str) -> Result<Vec<u8>> {
    let any = Any::decode(resource)?;
    let secret = Secret::decode(&*any.value)?;
    ensure!(any.type_url == SECRET_TYPE && secret.name == name, "{:?} was not asked for", secret.name);
    match secret.r#type.context("a secret without content")? {
        secret::Type::TlsCertificate(certificate) => {
            inline(certificate.private_key).context("a certificate without a key")?;
            inline(certificate.certificate_chain).context("a certificate without a chain")
        }
        secret::Type::ValidationContext(context) => Ok(context.encode_to_vec()),
    }
}

fn inline(source: Option<DataSource>) -> Option<Vec<u8>> {
    match source?.specifier? {
        Specifier::InlineBytes(bytes) if !bytes.is_empty() => Some(bytes),
        _ => None,
    }
}

fn varint(bytes: &mut &[u8]) -> Result<u64> {
    prost::encoding::decode_varint(bytes).context("the answer is cut off")
}

#[cfg(test)]
mod tests {
    use vouch_proto::envoy::{
        extensions::transport_sockets::tls::v3::TlsCertificate, service::discovery::v3::DiscoveryResponse,
    };

    use super::*;

    fn message(version: &str, values: &[&[u8]]) -> Vec<u8> {
        let resources =
            values.iter().map(|value| Any { type_url: SECRET_TYPE.into(), value: value.to_vec() });
        DiscoveryResponse {
            version_info: version.into(),
            resources: resources.collect(),
            type_url: SECRET_TYPE.into(),
            nonce: "17".into(),
        }
        .encode_to_vec()
    }

    #[test]
    fn an_answer_is_read_without_decoding_it() {
        let bytes = message("abc", &[&[9; 300]]);
        let answer = Answer::read(&bytes).unwrap();
        assert_eq!((answer.version, answer.nonce), (&b"abc"[..], &b"17"[..]));
        assert_eq!(Any::decode(answer.resource).unwrap().value, [9; 300]);
        for cut in 1..bytes.len() {
            assert!(Answer::read(&bytes[..cut]).map_or(true, |part| part.nonce != answer.nonce), "{cut}");
        }
    }

    #[test]
    fn an_answer_has_one_resource() {
        assert!(Answer::read(&message("abc", &[])).is_err());
        assert!(Answer::read(&message("abc", &[b"x", b"y"])).is_err());
    }

    #[test]
    fn a_request_reads_as_what_was_meant() {
        for (shape, bytes) in [(AckShape::Small, 80..200), (AckShape::Envoy, 61_000..61_500)] {
            let requests = Requests::new(shape);
            for request in [requests.first("web"), requests.ack("web", b"5f", b"17").unwrap()] {
                let whole = first_message(&request).unwrap().unwrap();
                let read = DiscoveryRequest::decode(whole).unwrap();
                assert_eq!((&*read.resource_names, &*read.type_url), (&["web".to_owned()][..], SECRET_TYPE));
                assert!(
                    ["", "17"].contains(&&*read.response_nonce) && ["", "5f"].contains(&&*read.version_info)
                );
                assert!(bytes.contains(&request.len()), "{}", request.len());
            }
        }
        assert!(Requests::new(AckShape::Small).ack("web", b"\xff", b"").is_err());
    }

    #[test]
    fn what_was_not_asked_for_and_a_certificate_without_a_key_are_refused() {
        let secret = |key: &[u8]| {
            let source =
                |bytes: &[u8]| Some(DataSource { specifier: Some(Specifier::InlineBytes(bytes.to_vec())) });
            let certificate =
                TlsCertificate { certificate_chain: source(b"chain"), private_key: source(key) };
            let secret =
                Secret { name: "web".into(), r#type: Some(secret::Type::TlsCertificate(certificate)) };
            Any { type_url: SECRET_TYPE.into(), value: secret.encode_to_vec() }.encode_to_vec()
        };
        assert_eq!(content(&secret(b"key"), "web").unwrap(), b"chain");
        assert!(content(&secret(b""), "web").is_err());
        assert!(content(&secret(b"key"), "default").is_err());
    }

    #[test]
    fn a_message_is_whole_when_its_prefix_says_so() {
        let bytes = grpc(&DiscoveryRequest { type_url: "t".into(), ..DiscoveryRequest::default() });
        assert_eq!(first_message(&bytes[..bytes.len() - 1]).unwrap(), None);
        let whole = first_message(&bytes).unwrap().unwrap();
        assert_eq!(DiscoveryRequest::decode(whole).unwrap().type_url, "t");
        assert!(first_message(&[1, 0, 0, 0, 0]).is_err());
    }
}
