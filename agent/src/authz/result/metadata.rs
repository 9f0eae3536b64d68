//! `dynamic_metadata`, which Envoy's other filters and access logs see.

use prost_types::{ListValue, Struct, value::Kind as Protobuf};
use regorus::Value;

use super::{Kind, MAX_METADATA_BYTES, MAX_METADATA_DEPTH, MAX_METADATA_VALUES, ResultError, fields::key};

/// Numbers become doubles, sets become lists. Empty when there is none.
///
/// # Errors
/// When it is no object, holds a number past every double, or is too large.
pub(super) fn of(value: &Value) -> Result<Struct, ResultError> {
    match value {
        Value::Undefined => Ok(Struct::default()),
        Value::Object(_) => {
            let Protobuf::StructValue(of) = Room::default().value(value, 0)? else {
                return Err(ResultError::DynamicMetadata(Kind::Object));
            };
            Ok(of)
        }
        other => Err(ResultError::DynamicMetadata(Kind::of(other))),
    }
}

/// What is used up of what metadata may take.
#[derive(Default)]
struct Room {
    values: usize,
    bytes: usize,
}

impl Room {
    /// Within `depth` others.
    fn value(&mut self, value: &Value, depth: usize) -> Result<Protobuf, ResultError> {
        self.values += 1;
        if depth > MAX_METADATA_DEPTH || self.values > MAX_METADATA_VALUES {
            return Err(ResultError::DynamicMetadataTooLarge);
        }
        Ok(match value {
            Value::Null => Protobuf::NullValue(0),
            Value::Bool(value) => Protobuf::BoolValue(*value),
            Value::Number(number) => {
                // Of what has more digits than a double the nearest one.
                let double: Option<f64> = number.format_decimal().parse().ok();
                let double = double.filter(|double| double.is_finite());
                Protobuf::NumberValue(double.ok_or(ResultError::DynamicMetadataValue(Kind::Number))?)
            }
            Value::String(text) => Protobuf::StringValue(self.text(text)?),
            Value::Array(array) => self.list(array.iter(), depth)?,
            Value::Set(set) => self.list(set.iter_sorted(), depth)?,
            Value::Object(object) => {
                let members = object.iter_sorted().map(|(name, value)| {
                    let kind = Some(self.value(value, depth + 1)?);
                    let name = key(name).ok_or(ResultError::DynamicMetadataValue(Kind::of(name)))?;
                    Ok((self.text(&name)?, prost_types::Value { kind }))
                });
                Protobuf::StructValue(Struct { fields: members.collect::<Result<_, _>>()? })
            }
            Value::Undefined => return Err(ResultError::DynamicMetadataValue(Kind::Undefined)),
        })
    }

    fn list<'v>(
        &mut self,
        values: impl Iterator<Item = &'v Value>,
        depth: usize,
    ) -> Result<Protobuf, ResultError> {
        let values = values.map(|value| Ok(prost_types::Value { kind: Some(self.value(value, depth + 1)?) }));
        Ok(Protobuf::ListValue(ListValue { values: values.collect::<Result<_, _>>()? }))
    }

    fn text(&mut self, text: &str) -> Result<String, ResultError> {
        self.bytes += text.len();
        if self.bytes > MAX_METADATA_BYTES {
            return Err(ResultError::DynamicMetadataTooLarge);
        }
        Ok(text.to_owned())
    }
}
