//! What an Envoy and its stream say to each other: a first answer, and then an ACK for each.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use envoy_types::pb::envoy::{
    config::core::v3::{BuildVersion, Extension, Node, node::UserAgentVersionType},
    service::discovery::v3::DiscoveryRequest,
    r#type::v3::SemanticVersion,
};
use prost::Message as _;
use vouch::{
    attestation::Selector,
    registration::{EntryId, RegistrationEntry},
    sds::{Limits, Message, Names, NamesConfig, RequestReader, Subscription},
    spiffe::{Bundle, PrivateKey, SpiffeId, X509Svid},
    svid::{Holder, Identities, IssuedBundle, IssuedSvid},
};

const LIMITS: Limits = Limits { request_bytes: 1 << 20, names: 128 };
/// Bytes of one HTTP/2 DATA frame: a longer request comes in several.
const FRAME: usize = 16 << 10;
/// Of an Envoy 1.40, whose requests have 61,231 bytes.
const EXTENSIONS: usize = 516;
const EXTENSION_BYTES: usize = 114;

/// One secret that nobody has rendered yet, and the stream that is to be told of it.
#[derive(Debug)]
pub(crate) struct FirstAnswer {
    subscription: Subscription,
    request: Vec<u8>,
    identities: Identities,
    names: Names,
}

impl FirstAnswer {
    pub(crate) fn new() -> Self {
        let (request, names) = (framed(&request("", "", None)), names());
        Self { subscription: Subscription::default(), request, identities: identities(), names }
    }

    /// Once, since what is rendered is kept. The message is given with what has to be dropped after it.
    pub(crate) fn run(mut self) -> (Message, Self) {
        let mut reader = RequestReader::new(LIMITS);
        let request = reader.read(&mut &*self.request).expect("a request").expect("a whole one");
        let answer = self.subscription.on_request(request, &self.identities, &self.names);
        (answer.expect("nothing is denied").expect("an answer"), self)
    }
}

/// A stream that was answered, and the ACK that its Envoy sends.
#[derive(Debug)]
pub(crate) struct Ack {
    reader: RequestReader,
    subscription: Subscription,
    request: Vec<u8>,
    identities: Identities,
    names: Names,
}

impl Ack {
    /// From an Envoy with `set_node_on_first_message_only`.
    pub(crate) fn without_node() -> Self {
        Self::of(None)
    }

    /// From an Envoy that says in each request who it is.
    pub(crate) fn with_node() -> Self {
        let ack = Self::of(Some(node()));
        assert!((60_000..63_000).contains(&ack.request.len()), "{}", ack.request.len());
        ack
    }

    fn of(node: Option<Node>) -> Self {
        let (mut subscription, identities, names) = (Subscription::default(), identities(), names());
        let mut reader = RequestReader::new(LIMITS);
        let first = framed(&request("", "", node.clone()));
        let answer = take(&mut reader, &mut subscription, &first, &identities, &names);
        let answer = answer.expect("an answer");
        let request = framed(&request(&answer.version, &answer.nonce, node));
        let mut ack = Self { reader, subscription, request, identities, names };
        assert!(ack.run().is_none(), "an ACK is only taken note of");
        ack
    }

    pub(crate) fn run(&mut self) -> Option<Message> {
        take(&mut self.reader, &mut self.subscription, &self.request, &self.identities, &self.names)
    }
}

fn take(
    reader: &mut RequestReader,
    subscription: &mut Subscription,
    bytes: &[u8],
    identities: &Identities,
    names: &Names,
) -> Option<Message> {
    let mut answer = None;
    for mut frame in bytes.chunks(FRAME) {
        while let Some(request) = reader.read(&mut frame).expect("a request") {
            answer = subscription.on_request(request, identities, names).expect("nothing is denied");
        }
    }
    answer
}

fn names() -> Names {
    Names::new(NamesConfig::default(), &"example.org".parse().expect("a trust domain"))
}

/// One SVID, with a chain and a key as long as real ones. Always the same bytes: a real signature has one more or less.
fn identities() -> Identities {
    let id: SpiffeId = "spiffe://example.org/ns/shop/sa/web".parse().expect("a SPIFFE ID");
    let selectors = vec![Selector::new("unix", "uid:1000")];
    let entry = Arc::new(RegistrationEntry::new(EntryId::new("web"), id.clone(), selectors));
    let not_before = SystemTime::now();
    let not_after = not_before + Duration::from_secs(3600);
    let (chain, key) = (vec![vec![0xa5; 520]], PrivateKey::from_pkcs8(vec![0x5a; 138]));
    let svid = X509Svid { id, chain, key, not_before, not_after };
    let issued = IssuedSvid { entry, svid, generation: 2, encodings: Default::default() };
    let trust_domain = "example.org".parse().expect("a trust domain");
    let bundle = Bundle { trust_domain, x509_authorities: vec![vec![0xc3; 480]] };
    let bundle = IssuedBundle { bundle, generation: 1, encodings: Default::default() };
    let (svids, bundle) = (Arc::new([Arc::new(issued)].into_iter().collect()), Arc::new(bundle));
    Identities { svids, pending: 0, bundle, holder: Holder::Current }
}

fn request(version: &str, nonce: &str, node: Option<Node>) -> DiscoveryRequest {
    DiscoveryRequest {
        version_info: version.into(),
        node,
        resource_names: vec!["default".into()],
        type_url: "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret".into(),
        response_nonce: nonce.into(),
        ..Default::default()
    }
}

fn node() -> Node {
    let version = SemanticVersion { major_number: 1, minor_number: 40, patch: 0 };
    let version = BuildVersion { version: Some(version), metadata: None };
    Node {
        id: "sidecar".into(),
        cluster: "shop".into(),
        user_agent_name: "envoy".into(),
        user_agent_version_type: Some(UserAgentVersionType::UserAgentBuildVersion(version)),
        extensions: (0..EXTENSIONS).map(extension).collect(),
        client_features: (0..30)
            .map(|n| format!("envoy.bench.client_feature_of_some_length_{n:02}"))
            .collect(),
        ..Default::default()
    }
}

fn extension(number: usize) -> Extension {
    let mut extension = Extension {
        name: format!("envoy.filters.http.bench_{number:03}"),
        category: "envoy.filters.http".into(),
        type_urls: vec![format!("envoy.extensions.bench_{number:03}.v3.")],
        ..Default::default()
    };
    let missing = EXTENSION_BYTES.saturating_sub(extension.encoded_len());
    extension.type_urls[0].push_str(&"Settings".repeat(EXTENSION_BYTES / 8)[..missing]);
    extension
}

fn framed(request: &DiscoveryRequest) -> Vec<u8> {
    let length = u32::try_from(request.encoded_len()).expect("a request is smaller than 4 GiB");
    let prefix = [&[0][..], &length.to_be_bytes()].concat();
    [prefix, request.encode_to_vec()].concat()
}
