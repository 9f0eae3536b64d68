//! Distinguished names.

use std::collections::BTreeMap;

use regorus::Value;
use x509_parser::x509::X509Name;

use super::{
    super::args::{Answer, Failure},
    numbers, object,
};

/// Attributes with several values each.
const LISTS: [(&str, &str); 7] = [
    ("2.5.4.6", "Country"),
    ("2.5.4.7", "Locality"),
    ("2.5.4.8", "Province"),
    ("2.5.4.9", "StreetAddress"),
    ("2.5.4.10", "Organization"),
    ("2.5.4.11", "OrganizationalUnit"),
    ("2.5.4.17", "PostalCode"),
];

/// The known attributes by their names, and all in `Names`. Of several common names and serial numbers the last counts.
pub(super) fn described(name: &X509Name<'_>) -> Answer {
    let (mut names, mut lists) = (Vec::new(), BTreeMap::<String, Vec<Value>>::new());
    for attribute in name.iter_attributes() {
        let value = Value::from(attribute.as_str().map_err(|_| Failure::Error)?);
        names.push(object(vec![("Type", numbers(attribute.attr_type())?), ("Value", value.clone())]));
        lists.entry(attribute.attr_type().to_id_string()).or_default().push(value);
    }
    let last =
        |oid: &str| lists.get(oid).and_then(|values| values.last().cloned()).unwrap_or_else(|| "".into());
    let mut members = vec![
        ("CommonName", last("2.5.4.3")),
        ("SerialNumber", last("2.5.4.5")),
        ("ExtraNames", Value::Null),
        ("Names", list(names)),
    ];
    for (oid, member) in LISTS {
        members.push((member, list(lists.get(oid).cloned().unwrap_or_default())));
    }
    Ok(object(members))
}

/// An array; null if it is empty.
pub(super) fn list(values: Vec<Value>) -> Value {
    if values.is_empty() { Value::Null } else { Value::from(values) }
}
