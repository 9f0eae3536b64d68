//! `parsed_query`, and forms that are written like a query.

use std::collections::BTreeMap;

use regorus::Value;

use super::{
    BadRequest, Part,
    escape::{Plus, unescape},
};

/// Most parameters of one query or form.
pub(super) const MAX_PARAMETERS: usize = 10_000;

/// An object of every name, with the array of its values in their order.
///
/// # Errors
/// When an escape is none, on any `;`, and past [`MAX_PARAMETERS`].
pub(super) fn parameters(query: &[u8], part: Part) -> Result<Value, BadRequest> {
    if query.iter().filter(|byte| **byte == b'&').count() >= MAX_PARAMETERS {
        return Err(BadRequest::TooManyParameters(part));
    }
    let mut parameters = Lists::default();
    for parameter in query.split(|byte| *byte == b'&').filter(|parameter| !parameter.is_empty()) {
        if parameter.contains(&b';') {
            return Err(BadRequest::Semicolon(part));
        }
        let equals = parameter.iter().position(|byte| *byte == b'=');
        let (name, value) = match equals {
            Some(at) => (&parameter[..at], &parameter[at + 1..]),
            None => (parameter, &b""[..]),
        };
        let name = unescape(name, Plus::Space, part)?;
        let value = unescape(value, Plus::Space, part)?;
        parameters.add(&name, Value::from(&*value));
    }
    Ok(parameters.into_value())
}

/// Names, and under each what came with it.
#[derive(Debug, Default)]
pub(super) struct Lists(BTreeMap<Value, Vec<Value>>);

impl Lists {
    pub(super) fn add(&mut self, name: &str, value: Value) {
        self.0.entry(name.into()).or_default().push(value);
    }

    pub(super) fn into_value(self) -> Value {
        let lists = self.0.into_iter().map(|(name, values)| (name, values.into()));
        lists.collect::<BTreeMap<_, _>>().into()
    }
}
