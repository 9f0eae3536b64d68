//! The id of an entry that was given none.

use ring::digest::{Context, SHA256};

use super::EntryId;
use crate::attestation::Selector;

/// Bytes of the hash that become the id: 128 bits are beyond chance, and short enough to be typed.
const ID_BYTES: usize = 16;

/// The id of the entry that gives `spiffe_id`, or what a template of that text makes, to processes with `selectors`, without `exclude`, and vouched for by
/// `attested_by`, all sorted and without duplicates: 32 hex digits.
///
/// Only who gets what is hashed. An edit of the lifetime, the hint or the DNS names leaves the id alone, and
/// with it every order that goes by id, above all which SVID is Envoy's `default`; so does moving the entry
/// within its file, to another file, or to the other format.
pub(super) fn id_of(
    spiffe_id: &str,
    selectors: &[Selector],
    exclude: &[Selector],
    attested_by: &[Box<str>],
) -> EntryId {
    let mut hash = Context::new(&SHA256);
    // Every part is preceded by its length, so no two different entries feed the same bytes.
    let mut part = |bytes: &str| {
        hash.update(&(bytes.len() as u64).to_be_bytes());
        hash.update(bytes.as_bytes());
    };
    part("vouch registration entry 1");
    part(spiffe_id);
    for list in [selectors, exclude] {
        part(&list.len().to_string());
        for selector in list {
            part(selector.kind());
            part(selector.value());
        }
    }
    // Only where there are some: an entry without keeps the id that it had before there were any.
    attested_by.iter().for_each(|kind| part(kind));
    EntryId::new(hex::encode(&hash.finish().as_ref()[..ID_BYTES]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selector(text: &str) -> Selector {
        let (kind, value) = text.split_once(':').unwrap_or((text, ""));
        Selector::new(kind, value)
    }

    #[test]
    fn the_id_of_a_known_entry_never_changes() {
        // Order survives upgrades only while this holds.
        let id = id_of("spiffe://example.org/web", &[selector("unix:uid:1000")], &[], &[]);
        assert_eq!(id.as_str(), "8a51cec694474f8b33ed7f9e4c79efe7");
    }

    #[test]
    fn what_is_excluded_is_not_what_is_required() {
        let spiffe_id = "spiffe://example.org/web";
        let (a, b) = (selector("unix:uid:1"), selector("unix:uid:2"));
        let required = id_of(spiffe_id, &[a.clone(), b.clone()], &[], &[]);
        let excluded = id_of(spiffe_id, std::slice::from_ref(&a), &[b], &[]);
        let plain = id_of(spiffe_id, std::slice::from_ref(&a), &[], &[]);
        let attested = id_of(spiffe_id, &[a], &[], &["unix".into()]);
        assert_ne!(required, excluded);
        assert_ne!(plain, attested);
    }
}
