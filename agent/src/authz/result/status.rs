//! `http_status`.

use regorus::Value;

use super::{Kind, ResultError};

/// What a denial is without `http_status`.
pub(super) const FORBIDDEN: u16 = 403;
/// What a request that cannot be parsed is.
pub(super) const BAD_REQUEST: u16 = 400;

/// A number among Envoy's status codes.
///
/// Rego's numbers do not keep how they were written: `403.0` cannot be told from `403`, and is taken for it.
pub(super) fn of(value: &Value) -> Result<u16, ResultError> {
    match value {
        Value::Undefined => Ok(FORBIDDEN),
        Value::Number(number) => {
            let code = value.as_u16().ok().filter(|code| is_known(*code));
            code.ok_or_else(|| ResultError::HttpStatusCode(number.format_decimal()))
        }
        other => Err(ResultError::HttpStatus(Kind::of(other))),
    }
}

/// Source: Envoy's `envoy.type.v3.StatusCode`. A code that is not in it Envoy refuses together with the whole answer.
fn is_known(code: u16) -> bool {
    matches!(
        code,
        100 | 200..=208
            | 226
            | 300..=305
            | 307
            | 308
            | 400..=417
            | 421..=424
            | 426
            | 428
            | 429
            | 431
            | 500..=508
            | 510
            | 511
    )
}
