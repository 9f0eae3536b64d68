//! Parts of a document.

use std::collections::BTreeMap;

/// What of a document is meant: all of it, or what is meant of some of its keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parts {
    All,
    Of(BTreeMap<String, Parts>),
}

static ALL: Parts = Parts::All;
static NONE: Parts = Parts::Of(BTreeMap::new());

impl Default for Parts {
    /// Nothing.
    fn default() -> Self {
        Self::Of(BTreeMap::new())
    }
}

impl Parts {
    /// What is meant of the value under `key`.
    pub fn under(&self, key: &str) -> &Self {
        match self {
            Self::All => &ALL,
            Self::Of(keys) => keys.get(key).unwrap_or(&NONE),
        }
    }

    pub fn has(&self, key: &str) -> bool {
        match self {
            Self::All => true,
            Self::Of(keys) => keys.contains_key(key),
        }
    }

    /// All that is at `path`, too.
    pub fn add(&mut self, path: &[String]) {
        let Self::Of(keys) = self else { return };
        match path.split_first() {
            None => *self = Self::All,
            Some((key, rest)) => keys.entry(key.clone()).or_default().add(rest),
        }
    }
}

#[cfg(test)]
impl Parts {
    /// What of `value` is meant; `None` when it has nothing of that.
    pub(super) fn cut(&self, value: &regorus::Value) -> Option<regorus::Value> {
        let (Self::Of(keys), regorus::Value::Object(fields)) = (self, value) else {
            return Some(value.clone());
        };
        let under = |(key, value): (&regorus::Value, &regorus::Value)| {
            let part = keys.get(&**key.as_string().ok()?)?.cut(value)?;
            Some((key.clone(), part))
        };
        let cut: BTreeMap<_, _> = fields.iter_sorted().filter_map(under).collect();
        (!cut.is_empty()).then(|| cut.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Vec<String> {
        text.split('.').map(str::to_owned).collect()
    }

    #[test]
    fn what_is_meant_of_a_key_grows_with_each_path() {
        let mut parts = Parts::default();
        assert!(!parts.has("a"));
        ["a.b.c", "a.d", "a.d.e"].iter().for_each(|text| parts.add(&path(text)));
        assert!(parts.has("a") && parts.under("a").has("b") && !parts.under("a").has("c"));
        assert_eq!(*parts.under("a").under("d"), Parts::All, "and what is below it");
        assert!(parts.under("a").under("d").has("x") && !parts.under("a").under("b").has("x"));
        assert!(!parts.under("z").has("a"));
        parts.add(&[]);
        assert_eq!(parts, Parts::All);
    }
}
