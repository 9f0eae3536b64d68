//! The rule for DNS names in certificates.

/// Longest name in bytes. RFC 1035 §2.3.4, in text form.
const MAX_NAME_LEN: usize = 253;
/// Longest label in bytes. RFC 1035 §2.3.4.
const MAX_LABEL_LEN: usize = 63;

/// Why a text is no DNS name that a certificate may carry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum DnsError {
    #[error("name is empty")]
    Empty,
    #[error("name has more than {MAX_NAME_LEN} bytes")]
    TooLong,
    #[error("a label is empty, as by two dots in a row or a dot at either end")]
    EmptyLabel,
    #[error("label {0:?} has more than {MAX_LABEL_LEN} bytes")]
    LabelTooLong(String),
    #[error("label may hold only letters, digits and dashes, not {0:?}")]
    Character(char),
    #[error("label {0:?} starts or ends with a dash")]
    Dash(String),
    #[error("a wildcard may only be the whole first label of a name with more labels, as in *.example.org")]
    Wildcard,
    #[error("last label is a number, so the name would read as an address")]
    Numeric,
}

/// Checks that `name` is a host name, or a wildcard for one level of them.
///
/// Source: RFC 1123 §2.1; for wildcards RFC 6125 §6.4.3.
pub(super) fn check(name: &str) -> Result<(), DnsError> {
    if name.is_empty() {
        return Err(DnsError::Empty);
    }
    if name.len() > MAX_NAME_LEN {
        return Err(DnsError::TooLong);
    }
    let host = name.strip_prefix("*.").unwrap_or(name);
    if host.contains('*') {
        return Err(DnsError::Wildcard);
    }
    host.split('.').try_for_each(check_label)?;
    match host.rsplit('.').next() {
        Some(last) if last.chars().all(|c| c.is_ascii_digit()) => Err(DnsError::Numeric),
        _ => Ok(()),
    }
}

fn check_label(label: &str) -> Result<(), DnsError> {
    if label.is_empty() {
        return Err(DnsError::EmptyLabel);
    }
    if label.len() > MAX_LABEL_LEN {
        return Err(DnsError::LabelTooLong(label.to_owned()));
    }
    if let Some(c) = label.chars().find(|c| !c.is_ascii_alphanumeric() && *c != '-') {
        return Err(DnsError::Character(c));
    }
    if label.starts_with('-') || label.ends_with('-') {
        return Err(DnsError::Dash(label.to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_and_first_label_wildcards_pass() {
        for good in ["a", "web.example.org", "*.example.org", "1and1.com", "xn--bcher-kva.example", "A-b.C"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for (bad, error) in [
            ("", DnsError::Empty),
            (".", DnsError::EmptyLabel),
            ("a.", DnsError::EmptyLabel),
            ("a..b", DnsError::EmptyLabel),
            ("*", DnsError::Wildcard),
            ("a.*.org", DnsError::Wildcard),
            ("w*.example.org", DnsError::Wildcard),
            ("*.*.org", DnsError::Wildcard),
            ("*.", DnsError::EmptyLabel),
            ("a_b.org", DnsError::Character('_')),
            ("a b", DnsError::Character(' ')),
            ("b\u{fc}cher.example", DnsError::Character('\u{fc}')),
            ("-a.org", DnsError::Dash("-a".into())),
            ("10.0.0.1", DnsError::Numeric),
        ] {
            assert_eq!(check(bad), Err(error), "{bad}");
        }
        assert_eq!(check(&format!("{}.org", "a".repeat(64))), Err(DnsError::LabelTooLong("a".repeat(64))));
        assert_eq!(check(&"a.".repeat(127)), Err(DnsError::TooLong));
    }
}
