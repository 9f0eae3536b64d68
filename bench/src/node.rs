//! The `Node` that an Envoy puts into each of its requests unless it is told otherwise: made up here, in the shape of
//! the real thing. An Envoy 1.40 lists 516 extensions in 59,657 bytes, and its request has 61,231.

use prost::Message;

const EXTENSIONS: usize = 516;
const FEATURES: usize = 30;
/// Of every other extension, all its fields together; the ones between have one more.
const EXTENSION_BYTES: usize = 113;

const CATEGORIES: [&str; 6] = [
    "envoy.filters.http",
    "envoy.filters.network",
    "envoy.access_loggers",
    "envoy.matching.inputs",
    "envoy.transport_sockets",
    "envoy.resource_monitors",
];

/// Source: Envoy's core.v3.Node, as far as it matters for its size.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Node {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(string, tag = "2")]
    cluster: String,
    #[prost(string, tag = "6")]
    user_agent_name: String,
    #[prost(message, repeated, tag = "9")]
    extensions: Vec<Extension>,
    #[prost(string, repeated, tag = "10")]
    client_features: Vec<String>,
}

/// Source: Envoy's core.v3.Extension.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Extension {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    category: String,
    #[prost(string, repeated, tag = "6")]
    type_urls: Vec<String>,
}

/// Encoded, without the tag and length that stand before it in a request.
pub(crate) fn of_an_envoy() -> Vec<u8> {
    Node {
        id: "bench".into(),
        cluster: "bench".into(),
        user_agent_name: "envoy".into(),
        extensions: (0..EXTENSIONS).map(extension).collect(),
        client_features: (0..FEATURES)
            .map(|n| format!("envoy.bench.client_feature_of_some_length_{n:02}"))
            .collect(),
    }
    .encode_to_vec()
}

fn extension(number: usize) -> Extension {
    let category = CATEGORIES[number % CATEGORIES.len()];
    let name = format!("{category}.bench_{number:03}");
    let mut type_url = format!("envoy.extensions.bench_{number:03}.v3.");
    // Two bytes of tag and length before each of the three.
    let used = name.len() + category.len() + type_url.len() + 6;
    type_url.push_str(
        &"Settings".repeat(EXTENSION_BYTES / 8)[..EXTENSION_BYTES.saturating_sub(used) + number % 2],
    );
    Extension { name, category: category.into(), type_urls: vec![type_url] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_has_the_extensions_of_a_real_one_in_as_many_bytes() {
        let node = Node::decode(&*of_an_envoy()).unwrap();
        assert_eq!(node.extensions.len(), 516);
        let bytes: usize = node.extensions.iter().map(|extension| extension.encoded_len() + 2).sum();
        assert!((59_300..60_100).contains(&bytes), "{bytes}");
    }
}
