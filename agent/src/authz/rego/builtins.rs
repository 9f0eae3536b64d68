//! Functions that policies may call.

use regorus::{Value, unstable::BUILTINS};

/// One function that policies may call, in the place of or beside the engine's own.
#[derive(Debug)]
pub struct Builtin {
    pub name: &'static str,
    pub arity: u8,
    /// [`Value::Undefined`] on error.
    pub call: fn(&[Value]) -> Value,
}

pub fn all() -> &'static [Builtin] {
    &[]
}

/// Whether policies may call the engine's own function of that name with that many arguments.
pub fn is_known(name: &str, arity: usize) -> bool {
    name != "http.send" && BUILTINS.get(name).is_some_and(|(_, args)| usize::from(*args) == arity)
}
