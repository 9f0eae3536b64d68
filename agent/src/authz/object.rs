//! Objects of Rego, built field by field.

use std::collections::BTreeMap;

use regorus::Value;

/// The fields of an object to be. Cheapest when they come in the order of their keys; of two with one key the last
/// counts.
#[derive(Debug, Default)]
pub(super) struct Fields(Vec<(Value, Value)>);

impl Fields {
    pub(super) fn with_capacity(fields: usize) -> Self {
        Self(Vec::with_capacity(fields))
    }

    pub(super) fn put(&mut self, key: Value, value: Value) {
        self.0.push((key, value));
    }

    pub(super) fn into_value(self) -> Value {
        self.0.into_iter().collect::<BTreeMap<_, _>>().into()
    }
}
