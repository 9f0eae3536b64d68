//! The two facts of an Envoy's `Node` that change an answer.

use prost::Message;
use vouch_proto::envoy::config::core::v3::BuildVersion;

/// What an Envoy says of itself, as far as it decides the shape of a bundle.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeFacts {
    /// Major and minor; `None` when the node has no build version or one without an inner version.
    version: Option<(u32, u32)>,
    /// The node's own word in its metadata, above the agent's setting.
    disable_validator: Option<bool>,
}

/// The metadata key by which a node chooses for itself. Source: SPIRE's SDS.
const DISABLE_KEY: &str = "disable_spiffe_cert_validation";
/// The first Envoy whose SPIFFE validator is trusted is the one after this.
const LAST_WITHOUT_VALIDATOR: (u32, u32) = (1, 17);

impl NodeFacts {
    /// Whether this node gets `SPIFFECertValidatorConfig`; otherwise it gets plain root certificates.
    /// `disabled` is the agent's own setting.
    pub fn takes_spiffe_validator(&self, disabled: bool) -> bool {
        !self.disable_validator.unwrap_or(disabled)
            && self.version.is_none_or(|version| version > LAST_WITHOUT_VALIDATOR)
    }

    /// `bytes` is a `BuildVersion`; one that cannot be read says nothing.
    pub(super) fn take_build_version(&mut self, bytes: &[u8]) {
        let version = BuildVersion::decode(bytes).ok().and_then(|build| build.version);
        self.version = version.map(|version| (version.major_number, version.minor_number)).or(self.version);
    }

    /// `bytes` is one entry of `Node.metadata.fields`; one that cannot be read says nothing.
    pub(super) fn take_metadata(&mut self, bytes: &[u8]) {
        let Ok(entry) = MetadataEntry::decode(bytes) else { return };
        if entry.key == DISABLE_KEY {
            self.disable_validator = entry.value.and_then(|value| value.as_bool()).or(self.disable_validator);
        }
    }
}

/// One entry of a `google.protobuf.Struct`, cut down to the values that can mean a boolean.
#[derive(Clone, PartialEq, Message)]
struct MetadataEntry {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<MetadataValue>,
}

#[derive(Clone, PartialEq, Message)]
struct MetadataValue {
    #[prost(string, optional, tag = "3")]
    text: Option<String>,
    #[prost(bool, optional, tag = "4")]
    boolean: Option<bool>,
}

impl MetadataValue {
    fn as_bool(&self) -> Option<bool> {
        self.boolean.or_else(|| match self.text.as_deref()? {
            "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
            "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use vouch_proto::envoy::config::core::v3::SemanticVersion;

    use super::*;

    fn with_version(major_number: u32, minor_number: u32) -> NodeFacts {
        let version = Some(SemanticVersion { major_number, minor_number, patch: 0 });
        let mut facts = NodeFacts::default();
        facts.take_build_version(&BuildVersion { version }.encode_to_vec());
        facts
    }

    fn with_metadata(text: Option<&str>, boolean: Option<bool>) -> NodeFacts {
        let value = Some(MetadataValue { text: text.map(str::to_owned), boolean });
        let mut facts = NodeFacts::default();
        facts.take_metadata(&MetadataEntry { key: DISABLE_KEY.into(), value }.encode_to_vec());
        facts
    }

    #[test]
    fn old_envoys_get_plain_roots() {
        for (major, minor, validator) in [(0, 99, false), (1, 17, false), (1, 18, true), (2, 0, true)] {
            assert_eq!(
                with_version(major, minor).takes_spiffe_validator(false),
                validator,
                "{major}.{minor}"
            );
        }
        assert!(NodeFacts::default().takes_spiffe_validator(false));
    }

    #[test]
    fn a_build_version_without_its_inner_part_is_ordinary_input() {
        let mut facts = NodeFacts::default();
        facts.take_build_version(&[]);
        facts.take_build_version(&[0xff; 9]);
        assert!(facts.takes_spiffe_validator(false));
    }

    #[test]
    fn the_nodes_own_word_overrides_the_agents() {
        assert!(!with_metadata(Some("t"), None).takes_spiffe_validator(false));
        assert!(with_metadata(Some("False"), None).takes_spiffe_validator(true));
        assert!(!with_metadata(None, Some(true)).takes_spiffe_validator(false));
        assert!(with_metadata(Some("perhaps"), None).takes_spiffe_validator(false));
        assert!(!with_metadata(Some("perhaps"), None).takes_spiffe_validator(true));
    }
}
