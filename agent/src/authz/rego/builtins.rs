//! Functions that policies may call: ours, in the place of or beside the engine's own, and those of the engine that mean
//! what OPA 1.22 means by them.
//!
//! Ours are added to the engine as extensions, which it looks up before its own.

mod aggregates;
mod args;
mod cidr;
mod collections;
mod crypto;
mod encoding;
mod engine;
mod fmt;
mod glob;
mod jwt;
mod legacy;
mod md5;
mod numbers;
mod paths;
mod regex;
mod semver;
mod strings;
mod time;
mod units;
mod x509;

use regorus::Value;

use args::Failure;

/// One function that policies may call, in the place of or beside the engine's own.
#[derive(Clone, Copy, Debug)]
pub struct Builtin {
    /// The name that a policy writes.
    pub name: &'static str,
    /// How many arguments it takes, always.
    pub arity: u8,
    /// Whether only version 0 of Rego has it: a module of version 1 that calls it is refused.
    pub legacy: bool,
    /// [`Value::Undefined`] where OPA's built-in function errors, which ends the body that called it. An error ends the
    /// evaluation as a whole, as it must: to `not`, a function that gave up looks like one that said no.
    pub call: fn(&[Value]) -> Result<Value, Exceeded>,
}

/// A limit of ours that a call met, so that it has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Exceeded {
    #[error(
        "a regular expression takes more than {} KiB when it is compiled, or nests too deeply: shorten it",
        regex::COMPILED_BYTES >> 10
    )]
    Pattern,
    #[error("a function would answer with more than {} KiB of text: give it less", TEXT_BYTES >> 10)]
    Text,
    #[error("a range has more than {} numbers: make it smaller", numbers::RANGE)]
    Numbers,
    #[error(
        "networks have more than {} addresses to list, or {} pairs to compare: make them smaller",
        cidr::EXPANDED,
        cidr::PAIRS
    )]
    Addresses,
    #[error("an amount of units.parse has an exponent beyond {}", units::EXPONENT)]
    Exponent,
    #[error("a product has more than {} bits: multiply less", aggregates::PRODUCT_BITS)]
    Product,
    #[error("a number has more digits than are kept: let it be text")]
    Digits,
    #[error("a text has more than {} certificates: split it", x509::CERTIFICATES)]
    Certificates,
    #[error("a path of json.filter or json.remove has more than {} segments: shorten it", paths::DEPTH)]
    Path,
}

/// The most text that one of our functions answers with.
const TEXT_BYTES: usize = 1 << 20;

/// Whether a policy may call this: one of ours, or one of the engine's own that behave as OPA's do.
///
/// Functions that only version 0 of Rego has are among them; [`is_legacy`] tells them apart.
pub fn is_known(name: &str, arity: usize) -> bool {
    let is_ours = |builtin: &Builtin| builtin.name == name && usize::from(builtin.arity) == arity;
    all().iter().any(is_ours) || engine::KNOWN.contains(&(name, arity))
}

/// Every function that a policy may call, with its numbers of arguments.
#[cfg(test)]
pub(super) fn names() -> impl Iterator<Item = (&'static str, usize)> {
    let ours = all().iter().map(|builtin| (builtin.name, usize::from(builtin.arity)));
    ours.chain(engine::KNOWN.iter().copied())
}

/// Whether only modules of Rego's version 0 may call this.
pub fn is_legacy(name: &str) -> bool {
    all().iter().any(|builtin| builtin.name == name && builtin.legacy)
}

/// Names a function of [`Builtin::call`]'s shape by one that is easier to write.
macro_rules! builtin {
    ($name:literal, $arity:literal, $body:path) => {
        Builtin { name: $name, arity: $arity, legacy: false, call: |args| answer($body(args)) }
    };
}

/// One that only version 0 of Rego has.
macro_rules! legacy {
    ($name:literal, $arity:literal, $body:path) => {
        Builtin { legacy: true, ..builtin!($name, $arity, $body) }
    };
}

/// All functions of ours.
pub fn all() -> &'static [Builtin] {
    &ALL
}

static ALL: [Builtin; 93] = [
    builtin!("abs", 1, numbers::abs),
    builtin!("array.flatten", 1, collections::flatten),
    builtin!("base64.decode", 1, encoding::base64_decode),
    builtin!("base64.is_valid", 1, encoding::base64_is_valid),
    builtin!("base64url.decode", 1, encoding::base64url_decode),
    builtin!("ceil", 1, numbers::ceil),
    builtin!("count", 1, strings::count),
    builtin!("crypto.hmac.equal", 2, crypto::hmac_equal),
    builtin!("crypto.hmac.md5", 2, crypto::hmac_md5),
    builtin!("crypto.hmac.sha1", 2, crypto::hmac_sha1),
    builtin!("crypto.hmac.sha256", 2, crypto::hmac_sha256),
    builtin!("crypto.hmac.sha512", 2, crypto::hmac_sha512),
    builtin!("crypto.md5", 1, crypto::md5),
    builtin!("crypto.sha1", 1, crypto::sha1),
    builtin!("crypto.sha256", 1, crypto::sha256),
    builtin!("crypto.x509.parse_certificates", 1, x509::parse_certificates),
    builtin!("floor", 1, numbers::floor),
    builtin!("format_int", 2, numbers::format_int),
    builtin!("glob.match", 3, glob::is_match),
    builtin!("glob.quote_meta", 1, glob::quote_meta),
    builtin!("indexof", 2, strings::indexof),
    builtin!("indexof_n", 2, strings::indexof_n),
    builtin!("io.jwt.decode", 1, jwt::decode),
    builtin!("io.jwt.decode_verify", 2, jwt::decode_verify),
    builtin!("io.jwt.verify_eddsa", 2, jwt::verify_eddsa),
    builtin!("io.jwt.verify_es256", 2, jwt::verify_es256),
    builtin!("io.jwt.verify_es384", 2, jwt::verify_es384),
    builtin!("io.jwt.verify_hs256", 2, jwt::verify_hs256),
    builtin!("io.jwt.verify_hs384", 2, jwt::verify_hs384),
    builtin!("io.jwt.verify_hs512", 2, jwt::verify_hs512),
    builtin!("io.jwt.verify_ps256", 2, jwt::verify_ps256),
    builtin!("io.jwt.verify_ps384", 2, jwt::verify_ps384),
    builtin!("io.jwt.verify_ps512", 2, jwt::verify_ps512),
    builtin!("io.jwt.verify_rs256", 2, jwt::verify_rs256),
    builtin!("io.jwt.verify_rs384", 2, jwt::verify_rs384),
    builtin!("io.jwt.verify_rs512", 2, jwt::verify_rs512),
    builtin!("json.filter", 2, paths::filter),
    builtin!("json.is_valid", 1, encoding::json_is_valid),
    builtin!("json.marshal", 1, encoding::json_marshal),
    builtin!("json.remove", 2, paths::remove),
    builtin!("json.unmarshal", 1, encoding::json_unmarshal),
    builtin!("lower", 1, strings::lower),
    builtin!("max", 1, aggregates::max),
    builtin!("min", 1, aggregates::min),
    builtin!("net.cidr_contains", 2, cidr::contains),
    builtin!("net.cidr_contains_matches", 2, cidr::contains_matches),
    builtin!("net.cidr_expand", 1, cidr::expand),
    builtin!("net.cidr_intersects", 2, cidr::intersects),
    builtin!("net.cidr_is_valid", 1, cidr::is_valid),
    builtin!("net.cidr_merge", 1, cidr::merge),
    builtin!("numbers.range", 2, numbers::range),
    builtin!("numbers.range_step", 3, numbers::range_step),
    builtin!("object.subset", 2, collections::subset),
    builtin!("product", 1, aggregates::product),
    builtin!("regex.find_all_string_submatch_n", 3, regex::find_all_string_submatch_n),
    builtin!("regex.find_n", 3, regex::find_n),
    builtin!("regex.is_valid", 1, regex::is_valid),
    builtin!("regex.match", 2, regex::is_match),
    builtin!("regex.replace", 3, regex::replace),
    builtin!("regex.split", 2, regex::split),
    builtin!("regex.template_match", 4, regex::template_match),
    builtin!("replace", 3, strings::replace),
    builtin!("round", 1, numbers::round),
    builtin!("semver.compare", 2, semver::compare),
    builtin!("semver.is_valid", 1, semver::is_valid),
    builtin!("sort", 1, aggregates::sort),
    builtin!("sprintf", 2, fmt::sprintf),
    builtin!("strings.count", 2, strings::occurrences),
    builtin!("strings.replace_n", 2, strings::replace_n),
    builtin!("strings.split_n", 3, strings::split_n),
    builtin!("substring", 3, strings::substring),
    builtin!("sum", 1, aggregates::sum),
    builtin!("time.parse_duration_ns", 1, time::parse_duration_ns),
    builtin!("time.parse_rfc3339_ns", 1, time::parse_rfc3339_ns),
    builtin!("to_number", 1, numbers::to_number),
    builtin!("trace", 1, collections::trace),
    builtin!("units.parse", 1, units::parse),
    builtin!("upper", 1, strings::upper),
    builtin!("urlquery.decode", 1, encoding::urlquery_decode),
    builtin!("urlquery.decode_object", 1, encoding::urlquery_decode_object),
    builtin!("urlquery.encode", 1, encoding::urlquery_encode),
    builtin!("urlquery.encode_object", 1, encoding::urlquery_encode_object),
    legacy!("all", 1, legacy::all),
    legacy!("any", 1, legacy::any),
    legacy!("cast_array", 1, legacy::cast_array),
    legacy!("cast_boolean", 1, legacy::cast_boolean),
    legacy!("cast_null", 1, legacy::cast_null),
    legacy!("cast_object", 1, legacy::cast_object),
    legacy!("cast_set", 1, legacy::cast_set),
    legacy!("cast_string", 1, legacy::cast_string),
    legacy!("net.cidr_overlap", 2, cidr::contains),
    legacy!("re_match", 2, regex::is_match),
    legacy!("set_diff", 2, legacy::set_diff),
];

fn answer(given: Result<Value, Failure>) -> Result<Value, Exceeded> {
    match given {
        Ok(value) => Ok(value),
        Err(Failure::Error) => Ok(Value::Undefined),
        Err(Failure::Exceeded(limit)) => Err(limit),
    }
}

#[cfg(test)]
mod tests;
