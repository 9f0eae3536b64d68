//! What an Envoy says to the Secret Discovery Service, and what is looked at in the answer.

use anyhow::{Context as _, Result, bail};
use prost::Message as _;
use prost_types::Any;
use vouch_proto::envoy::{
    config::core::v3::Node,
    extensions::transport_sockets::tls::v3::{Secret, secret},
    service::discovery::v3::{DiscoveryRequest, DiscoveryResponse},
};

pub(crate) const STREAM_SECRETS: &str = "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets";
/// The secret that every stream asks for.
pub(crate) const NAME: &str = "default";
const SECRET_TYPE: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";

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

/// The first request of a stream, as a gRPC message.
pub(crate) fn first_request() -> Vec<u8> {
    let node = Node { id: "bench".into(), cluster: "bench".into(), ..Node::default() };
    grpc(&DiscoveryRequest { node: Some(node), ..request() })
}

/// Takes what was sent as `version` with `nonce`. Without a `Node`, as an Envoy with
/// `set_node_on_first_message_only` does.
pub(crate) fn ack(version: &[u8], nonce: &[u8]) -> Result<Vec<u8>> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec());
    Ok(grpc(&DiscoveryRequest { version_info: text(version)?, response_nonce: text(nonce)?, ..request() }))
}

fn request() -> DiscoveryRequest {
    DiscoveryRequest {
        resource_names: vec![NAME.into()],
        type_url: SECRET_TYPE.into(),
        ..DiscoveryRequest::default()
    }
}

/// `message` behind its prefix.
pub(crate) fn grpc(message: &impl prost::Message) -> Vec<u8> {
    let mut bytes = vec![0; PREFIX_LEN];
    message.encode(&mut bytes).expect("a vector grows");
    let length = (bytes.len() - PREFIX_LEN) as u32;
    bytes[1..PREFIX_LEN].copy_from_slice(&length.to_be_bytes());
    bytes
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

/// The chain of the secret in `resource`, which must be the one that was asked for, with a key.
pub(crate) fn chain(resource: &[u8]) -> Result<Vec<u8>> {
    use vouch_proto::envoy::config::core::v3::data_source::Specifier;
    let any = Any::decode(resource)?;
    let secret = Secret::decode(&*any.value)?;
    let Some(secret::Type::TlsCertificate(certificate)) = secret.r#type else {
        bail!("{:?} is not a certificate", secret.name);
    };
    if any.type_url != SECRET_TYPE || secret.name != NAME {
        bail!("{:?} of type {} was not asked for", secret.name, any.type_url);
    }
    let inline = |source: Option<vouch_proto::envoy::config::core::v3::DataSource>| match source?.specifier? {
        Specifier::InlineBytes(bytes) if !bytes.is_empty() => Some(bytes),
        _ => None,
    };
    inline(certificate.private_key).context("a certificate without a key")?;
    inline(certificate.certificate_chain).context("a certificate without a chain")
}

/// Another answer with the same length in every field, as a gRPC message: what the raw anchor sends in `round`.
pub(crate) fn same_size(answer: &Answer<'_>, round: usize) -> Result<Vec<u8>> {
    let any = Any::decode(answer.resource)?;
    let number = |length: usize| format!("{round:0length$}");
    let message = grpc(&DiscoveryResponse {
        version_info: number(answer.version.len()),
        resources: vec![Any { type_url: any.type_url, value: vec![b'x'; any.value.len()] }],
        type_url: SECRET_TYPE.into(),
        nonce: "1".repeat(answer.nonce.len()),
    });
    Ok(message)
}

fn varint(bytes: &mut &[u8]) -> Result<u64> {
    prost::encoding::decode_varint(bytes).context("the answer is cut off")
}

#[cfg(test)]
mod tests {
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
    fn the_anchor_sends_as_many_bytes_as_the_agent() {
        let bytes = message("0123456789abcdef", &[&[9; 1_000]]);
        let stand_in = same_size(&Answer::read(&bytes).unwrap(), 3).unwrap();
        assert_eq!(stand_in.len(), bytes.len() + PREFIX_LEN);
        let answer = Answer::read(first_message(&stand_in).unwrap().unwrap()).unwrap();
        assert_eq!(answer.version, b"0000000000000003");
        assert_eq!(ack(answer.version, answer.nonce).unwrap().len(), ack(&[b'a'; 16], b"17").unwrap().len());
    }

    #[test]
    fn a_message_is_whole_when_its_prefix_says_so() {
        let bytes = grpc(&request());
        assert_eq!(first_message(&bytes[..bytes.len() - 1]).unwrap(), None);
        let whole = first_message(&bytes).unwrap().unwrap();
        assert_eq!(DiscoveryRequest::decode(whole).unwrap().resource_names, [NAME]);
        assert!(first_message(&[1, 0, 0, 0, 0]).is_err());
    }
}
