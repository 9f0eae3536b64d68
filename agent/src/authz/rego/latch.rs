//! Functions that meet a limit end the evaluation, whatever the engine makes of their error: where a function has several
//! definitions, it would take the value of another one.

use std::cell::Cell;

use regorus::Value;

use super::builtins::{Builtin, Exceeded};

thread_local! {
    /// The first limit that was met by the evaluation on this thread.
    static MET: Cell<Option<Exceeded>> = const { Cell::new(None) };
}

/// At the start of an evaluation.
pub(super) fn open() {
    MET.set(None);
}

/// At its end.
pub(super) fn met() -> Option<Exceeded> {
    MET.get()
}

pub(super) fn call<E: From<Exceeded>>(builtin: &Builtin, args: &[Value]) -> Result<Value, E> {
    (builtin.call)(args).map_err(|limit| {
        MET.set(MET.get().or(Some(limit)));
        limit.into()
    })
}
