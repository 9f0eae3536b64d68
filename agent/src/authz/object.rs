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

    /// An empty text is absent.
    pub(super) fn text(&mut self, key: &Value, text: &str) {
        if !text.is_empty() {
            self.put(key.clone(), text.into());
        }
    }

    /// Whatever is the default of its type is absent.
    pub(super) fn scalar<T: Into<Value> + Default + PartialEq>(&mut self, key: &Value, scalar: T) {
        if scalar != T::default() {
            self.put(key.clone(), scalar.into());
        }
    }

    pub(super) fn some(&mut self, key: &Value, value: Option<Value>) {
        if let Some(value) = value {
            self.put(key.clone(), value);
        }
    }

    pub(super) fn into_value(self) -> Value {
        self.0.into_iter().collect::<BTreeMap<_, _>>().into()
    }
}
