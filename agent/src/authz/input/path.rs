//! `parsed_path`.

use regorus::Value;

use super::{
    BadRequest, Part,
    escape::{Plus, unescape},
};

/// The segments of `path`, which has no query any more: unescaped as a whole, without slashes at its start. An escaped
/// slash separates, too; dots are names like any other; the empty path is one empty segment.
///
/// # Errors
/// When an escape is none.
pub(super) fn segments(path: &str) -> Result<Value, BadRequest> {
    let path = unescape(path.as_bytes(), Plus::Itself, Part::Path)?;
    let segments = path.trim_start_matches('/').split('/').map(Value::from);
    Ok(segments.collect::<Vec<_>>().into())
}
