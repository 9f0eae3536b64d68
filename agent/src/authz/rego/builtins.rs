//! Functions that policies may call: ours, in the place of or beside the engine's own, and those of the engine that mean
//! what OPA 1.22 means by them.
//!
//! Ours are added to the engine as extensions, which it looks up before its own.

mod args;
mod legacy;
mod regex;

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
}

/// The most text that one of our functions answers with.
const TEXT_BYTES: usize = 1 << 20;

/// Whether a policy may call this: one of ours, or one of the engine's own that behave as OPA's do.
///
/// Functions that only version 0 of Rego has are among them; [`is_legacy`] tells them apart.
pub fn is_known(name: &str, arity: usize) -> bool {
    all().iter().any(|builtin| builtin.name == name && usize::from(builtin.arity) == arity)
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

static ALL: [Builtin; 17] = [
    builtin!("regex.find_all_string_submatch_n", 3, regex::find_all_string_submatch_n),
    builtin!("regex.find_n", 3, regex::find_n),
    builtin!("regex.is_valid", 1, regex::is_valid),
    builtin!("regex.match", 2, regex::is_match),
    builtin!("regex.replace", 3, regex::replace),
    builtin!("regex.split", 2, regex::split),
    builtin!("regex.template_match", 4, regex::template_match),
    legacy!("all", 1, legacy::all),
    legacy!("any", 1, legacy::any),
    legacy!("cast_array", 1, legacy::cast_array),
    legacy!("cast_boolean", 1, legacy::cast_boolean),
    legacy!("cast_null", 1, legacy::cast_null),
    legacy!("cast_object", 1, legacy::cast_object),
    legacy!("cast_set", 1, legacy::cast_set),
    legacy!("cast_string", 1, legacy::cast_string),
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
