//! Entries as a file that says them.

use std::time::{Duration, SystemTime};

use toml::Value;

use super::RegistrationEntry;
use crate::attestation::Selector;

/// A TOML file of `entries`; loaded again it gives the same ones. Each carries its id, so that a later edit of
/// its selectors does not rename it. Expiries are cut to whole seconds.
pub fn render_toml<'a>(entries: impl IntoIterator<Item = &'a RegistrationEntry>) -> String {
    let mut file = String::new();
    for entry in entries {
        if !file.is_empty() {
            file.push('\n');
        }
        file.push_str("[[entries]]\n");
        for (key, value) in fields(entry) {
            file.push_str(&format!("{key} = {value}\n"));
        }
    }
    // A file says that it is meant to hold none.
    if file.is_empty() { "entries = []\n".to_owned() } else { file }
}

/// What differs from leaving it out.
fn fields(entry: &RegistrationEntry) -> Vec<(&'static str, Value)> {
    let mut fields = vec![
        ("entry_id", Value::from(entry.id.as_str())),
        ("spiffe_id", Value::from(entry.spiffe_id.as_str())),
        ("selectors", selectors(&entry.selectors)),
    ];
    if !entry.exclude.is_empty() {
        fields.push(("exclude", selectors(&entry.exclude)));
    }
    if !entry.attested_by.is_empty() {
        let kinds = entry.attested_by.iter().map(|kind| Value::from(kind.as_ref()));
        fields.push(("attested_by", kinds.collect::<Vec<_>>().into()));
    }
    if let Some(ttl) = entry.x509_svid_ttl {
        fields.push(("x509_svid_ttl", seconds(ttl)));
    }
    if !entry.dns_names.is_empty() {
        fields.push(("dns_names", Value::from(entry.dns_names.clone())));
    }
    if !entry.hint.is_empty() {
        fields.push(("hint", Value::from(entry.hint.as_str())));
    }
    if let Some(since_1970) = entry.expires_at.and_then(|end| end.duration_since(SystemTime::UNIX_EPOCH).ok())
    {
        fields.push(("expires_at", seconds(since_1970)));
    }
    fields
}

/// The short form; of a whole type, its bare name.
fn selectors(list: &[Selector]) -> Value {
    let text = |selector: &Selector| match selector.value() {
        "" => Value::from(selector.kind()),
        _ => Value::from(selector.to_string()),
    };
    list.iter().map(text).collect::<Vec<_>>().into()
}

fn seconds(duration: Duration) -> Value {
    Value::Integer(i64::try_from(duration.as_secs()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::{collection::btree_set, prelude::*};

    use super::*;
    use crate::registration::{EntryId, load};

    fn reloaded(text: &str) -> Vec<RegistrationEntry> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("entries.toml");
        fs::write(&file, text).unwrap();
        load(&[file], &"example.org".parse().unwrap()).unwrap().entries
    }

    fn any_entry() -> impl Strategy<Value = RegistrationEntry> {
        let selector = ("[a-z0-9]{1,4}", "[ -~é]{1,8}").prop_map(|(kind, value)| Selector::new(kind, value));
        let excluded = ("[a-z0-9]{1,4}", "[ -~é]{0,8}").prop_map(|(kind, value)| Selector::new(kind, value));
        (
            ("[!-~]{1,10}", "[a-z0-9]{1,8}", "[ -~é\n]{0,10}"),
            (btree_set(selector, 1..4), btree_set(excluded, 0..3), btree_set("[a-z0-9]{1,4}", 0..3)),
            proptest::option::of(2u64..1000),
            proptest::option::of(1u64..1 << 40),
            btree_set("[a-z][a-z0-9]{0,5}(\\.[a-z]{1,5})?", 0..3),
        )
            .prop_map(
                |((id, path, hint), (selectors, exclude, attested_by), ttl, end, dns_names)| {
                    RegistrationEntry {
                        id: EntryId::new(id),
                        spiffe_id: format!("spiffe://example.org/{path}").parse().unwrap(),
                        selectors: selectors.into_iter().collect(),
                        exclude: exclude.into_iter().collect(),
                        attested_by: attested_by.into_iter().map(Into::into).collect(),
                        x509_svid_ttl: ttl.map(Duration::from_secs),
                        dns_names: dns_names.into_iter().collect(),
                        hint,
                        expires_at: end.map(|end| SystemTime::UNIX_EPOCH + Duration::from_secs(end)),
                        derived_from: None,
                    }
                },
            )
    }

    proptest! {
        #[test]
        fn what_is_rendered_loads_as_the_same_entries(entries in proptest::collection::vec(any_entry(), 0..4)) {
            let mut entries = entries;
            entries.sort_by(|a, b| a.id.cmp(&b.id));
            entries.dedup_by(|a, b| a.id == b.id);
            prop_assert_eq!(reloaded(&render_toml(&entries)), entries);
        }
    }
}
