//! JSON, judged by a schema that is shipped.

use std::path::Path;

use boon::{Compiler, Schemas};
use serde_json::Value;

/// The one document in `output`.
///
/// # Panics
/// When it is not one JSON document, or `deploy/schemas/NAME.schema.json` does not accept it.
pub fn document(name: &str, output: &[u8]) -> Value {
    let document: Value = serde_json::from_slice(output)
        .unwrap_or_else(|error| panic!("one JSON document: {error}: {}", String::from_utf8_lossy(output)));
    if let Err(faults) = judge(name, &document) {
        panic!("{name}: {faults}\n{document:#}");
    }
    document
}

fn judge(name: &str, document: &Value) -> Result<(), String> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../deploy/schemas/{name}.schema.json"));
    let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
    let schema = compiler
        .compile(file.to_str().expect("the path of this crate is text"), &mut schemas)
        .unwrap_or_else(|error| panic!("{}: {error:#}", file.display()));
    schemas.validate(document, schema).map_err(|error| format!("{error:#}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_schema_refuses_what_is_not_said_or_said_otherwise() {
        let check = json!({ "group": "clock", "verdict": "ok", "code": null, "text": "right", "fix": null });
        let with = |check: Value| json!({ "schema": 1, "exit": 0, "checks": [check] });
        assert_eq!(judge("doctor", &with(check.clone())), Ok(()));
        for (field, value) in [
            ("group", json!("moon")),
            ("verdict", json!("OK")),
            ("verdict", json!("warn")),
            ("code", json!("E1")),
            ("text", json!("")),
            ("more", json!(1)),
        ] {
            let mut other = check.clone();
            other[field] = value.clone();
            assert!(judge("doctor", &with(other)).is_err(), "{field} = {value}");
        }
        assert!(judge("doctor", &json!({ "schema": 1, "exit": 0 })).is_err());
        assert!(judge("explain", &json!({})).is_err());
    }
}
