//! The words that settings may be, with what they mean: read and shown by the same tables.

use super::authz::{HeaderAppend, PolicyErrors, XfccMeaning};
use super::sections::{Hooks, KeyType, LogFormat, LogLevel, MinimumGrade, PathMeaning};

pub(super) const KEY_TYPES: &[(&str, KeyType)] =
    &[("ec-p256", KeyType::EcP256), ("ec-p384", KeyType::EcP384), ("rsa-2048", KeyType::Rsa2048)];
pub(super) const GRADES: &[(&str, MinimumGrade)] =
    &[("kernel", MinimumGrade::Kernel), ("pidfd", MinimumGrade::Pidfd), ("peercred", MinimumGrade::Peercred)];
pub(super) const PATH_MEANINGS: &[(&str, PathMeaning)] =
    &[("verified", PathMeaning::Verified), ("spire", PathMeaning::Spire)];
pub(super) const HOOKS: &[(&str, Hooks)] =
    &[("auto", Hooks::Auto), ("off", Hooks::Off), ("require", Hooks::Require)];
/// What `pins` may be beside a path.
pub(super) const AUTO: &str = "auto";
pub(super) const OFF: &str = "off";
pub(super) const POLICY_ERRORS: &[(&str, PolicyErrors)] =
    &[("deny", PolicyErrors::Deny), ("grpc", PolicyErrors::Grpc)];
pub(super) const HEADER_APPENDS: &[(&str, HeaderAppend)] =
    &[("unset", HeaderAppend::Unset), ("overwrite", HeaderAppend::Overwrite)];
pub(super) const XFCC_MEANINGS: &[(&str, XfccMeaning)] =
    &[("claimed", XfccMeaning::Claimed), ("sanitize_set", XfccMeaning::SanitizeSet)];
pub(super) const LOG_FORMATS: &[(&str, LogFormat)] =
    &[("auto", LogFormat::Auto), ("text", LogFormat::Text), ("json", LogFormat::Json)];
pub(super) const LOG_LEVELS: &[(&str, LogLevel)] = &[
    ("error", LogLevel::Error),
    ("warn", LogLevel::Warn),
    ("info", LogLevel::Info),
    ("debug", LogLevel::Debug),
    ("trace", LogLevel::Trace),
];
