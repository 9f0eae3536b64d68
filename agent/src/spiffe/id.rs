//! SPIFFE IDs and trust domains.

use std::{
    borrow::Borrow,
    fmt,
    hash::{Hash, Hasher},
    str::FromStr,
    sync::Arc,
};

/// Longest SPIFFE ID in bytes that is made or accepted. SPIFFE-ID §2.3 asks for support of this much.
pub const MAX_ID_LEN: usize = 2048;
/// Longest trust domain name in bytes. SPIFFE-ID §2.1, after RFC 3986's host.
const MAX_TRUST_DOMAIN_LEN: usize = 255;

const SCHEME: &str = "spiffe://";

/// The name of a trust domain, such as `example.org`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrustDomain(Arc<str>);

/// The name of a workload, such as `spiffe://example.org/web`, or of a trust domain: `spiffe://example.org`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SpiffeId {
    text: Arc<str>,
    /// Bytes before the path: scheme and trust domain.
    path_at: usize,
}

/// Why a text is no SPIFFE ID or trust domain name. Source: SPIFFE-ID §2.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    #[error("SPIFFE ID must start with spiffe://")]
    Scheme,
    #[error("trust domain is missing")]
    NoTrustDomain,
    #[error("trust domain has more than {MAX_TRUST_DOMAIN_LEN} bytes")]
    TrustDomainTooLong,
    #[error("trust domain may hold only a-z, 0-9, dot, dash and underscore, not {0:?}")]
    TrustDomainCharacter(char),
    #[error("path segment may hold only a-z, A-Z, 0-9, dot, dash and underscore, not {0:?}")]
    PathCharacter(char),
    #[error("path has an empty segment or ends in a slash")]
    EmptySegment,
    #[error("path segment may not be . or ..")]
    DotSegment,
    #[error("SPIFFE ID has more than {MAX_ID_LEN} bytes")]
    TooLong,
}

impl TrustDomain {
    pub fn name(&self) -> &str {
        &self.0
    }

    /// `spiffe://example.org`, which names the trust domain itself.
    pub fn id(&self) -> SpiffeId {
        let text: Arc<str> = format!("{SCHEME}{}", self.0).into();
        SpiffeId { path_at: text.len(), text }
    }
}

impl SpiffeId {
    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub fn trust_domain(&self) -> TrustDomain {
        TrustDomain(self.text[SCHEME.len()..self.path_at].into())
    }

    /// With its leading slash; empty when the ID names a trust domain.
    pub fn path(&self) -> &str {
        &self.text[self.path_at..]
    }

    /// Whether the ID belongs to `trust_domain`; allocates nothing.
    pub fn is_in(&self, trust_domain: &TrustDomain) -> bool {
        &self.text[SCHEME.len()..self.path_at] == trust_domain.name()
    }
}

impl FromStr for TrustDomain {
    type Err = IdError;

    /// Accepts the bare name only; a name in upper case is refused, never folded.
    fn from_str(name: &str) -> Result<Self, IdError> {
        // SPIFFE-ID §2.1: not empty, lower case, no port, no user, no percent-encoding.
        if name.is_empty() {
            return Err(IdError::NoTrustDomain);
        }
        if let Some(c) = name.chars().find(|c| !is_trust_domain_char(*c)) {
            return Err(IdError::TrustDomainCharacter(c));
        }
        if name.len() > MAX_TRUST_DOMAIN_LEN {
            return Err(IdError::TrustDomainTooLong);
        }
        Ok(Self(name.into()))
    }
}

impl FromStr for SpiffeId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        if text.len() > MAX_ID_LEN {
            return Err(IdError::TooLong);
        }
        let rest = text.strip_prefix(SCHEME).ok_or(IdError::Scheme)?;
        let (domain, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        domain.parse::<TrustDomain>()?;
        if let Some(segments) = path.strip_prefix('/') {
            segments.split('/').try_for_each(check_segment)?;
        }
        Ok(Self { text: text.into(), path_at: SCHEME.len() + domain.len() })
    }
}

/// SPIFFE-ID §2.2: no empty segments, none that means "here" or "up".
pub(crate) fn check_segment(segment: &str) -> Result<(), IdError> {
    match segment {
        "" => Err(IdError::EmptySegment),
        "." | ".." => Err(IdError::DotSegment),
        _ => segment.chars().find(|c| !is_path_char(*c)).map_or(Ok(()), |c| Err(IdError::PathCharacter(c))),
    }
}

// Written out, because `[.-_]` as a range would admit `/ : @ [ \ ]` and upper case.
fn is_trust_domain_char(c: char) -> bool {
    matches!(c, 'a'..='z' | '0'..='9' | '.' | '-' | '_')
}

fn is_path_char(c: char) -> bool {
    matches!(c, 'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '-' | '_')
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TrustDomain({})", self.0)
    }
}

/// As its text: the path begins where the text says.
impl Hash for SpiffeId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl Borrow<str> for SpiffeId {
    fn borrow(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SpiffeId({})", self.text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_grammar_of_the_standard_is_kept() {
        for good in
            ["spiffe://a", "spiffe://example.org/web", "spiffe://1.2.3.4/A-b_c.d/...", "spiffe://a_b/x"]
        {
            assert_eq!(good.parse::<SpiffeId>().unwrap().as_str(), good);
        }
        for (bad, error) in [
            ("", IdError::Scheme),
            ("SPIFFE://a", IdError::Scheme),
            ("spiffe://", IdError::NoTrustDomain),
            ("spiffe:///x", IdError::NoTrustDomain),
            ("spiffe://Example.org", IdError::TrustDomainCharacter('E')),
            ("spiffe://a:80/x", IdError::TrustDomainCharacter(':')),
            ("spiffe://u@a/x", IdError::TrustDomainCharacter('@')),
            ("spiffe://a?q", IdError::TrustDomainCharacter('?')),
            ("spiffe://a/", IdError::EmptySegment),
            ("spiffe://a/x/", IdError::EmptySegment),
            ("spiffe://a//x", IdError::EmptySegment),
            ("spiffe://a/./x", IdError::DotSegment),
            ("spiffe://a/..", IdError::DotSegment),
            ("spiffe://a/x?q", IdError::PathCharacter('?')),
            ("spiffe://a/x#f", IdError::PathCharacter('#')),
            ("spiffe://a/%41", IdError::PathCharacter('%')),
            ("spiffe://a/\u{e9}", IdError::PathCharacter('\u{e9}')),
        ] {
            assert_eq!(bad.parse::<SpiffeId>().unwrap_err(), error, "{bad}");
        }
    }

    #[test]
    fn lengths_are_bounded() {
        let domain = "d".repeat(MAX_TRUST_DOMAIN_LEN);
        assert!(domain.parse::<TrustDomain>().is_ok());
        assert_eq!(format!("{domain}d").parse::<TrustDomain>().unwrap_err(), IdError::TrustDomainTooLong);
        let id = format!("spiffe://a/{}", "x".repeat(MAX_ID_LEN - 11));
        assert_eq!(id.parse::<SpiffeId>().unwrap().as_str().len(), MAX_ID_LEN);
        assert_eq!(format!("{id}x").parse::<SpiffeId>().unwrap_err(), IdError::TooLong);
    }

    proptest! {
        #[test]
        fn whatever_parses_prints_itself_and_splits(text in "(spiffe://)?[a-zA-Z0-9._/:@%?#-]{0,40}") {
            if let Ok(id) = text.parse::<SpiffeId>() {
                prop_assert_eq!(id.to_string(), text.clone());
                prop_assert_eq!(format!("{}{}", id.trust_domain().id(), id.path()), text);
                prop_assert!(id.is_in(&id.trust_domain()));
                prop_assert!(!id.path().contains("//") && !id.path().ends_with('/'));
            }
        }

        #[test]
        fn every_id_of_the_grammar_parses(
            domain in "[a-z0-9._-]{1,60}",
            segments in proptest::collection::vec("[a-zA-Z0-9_-][a-zA-Z0-9._-]{0,20}", 0..6),
        ) {
            let path: String = segments.iter().map(|s| format!("/{s}")).collect();
            let id: SpiffeId = format!("spiffe://{domain}{path}").parse().unwrap();
            prop_assert_eq!(id.trust_domain().to_string(), domain);
            prop_assert_eq!(id.path(), path);
        }
    }
}
