//! Rego: policies are compiled with a check of everything that could be judged otherwise than OPA judges it, and evaluated
//! within limits.
//!
//! The promise is one-sided: where OPA denies, errors or refuses to load, nothing is allowed here. What cannot be shown to
//! mean the same is refused when the policy is loaded, with file, line and what to write instead.

/// Functions that policies may call.
pub mod builtins;
mod entrypoint;
mod explain;
mod fault;
mod float;
mod gate;
mod index;
mod latch;
mod machine;
mod order;
mod parse;
mod policy;
mod program;
mod reads;
mod rewrite;
mod shape;
mod trial;
mod walk;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use entrypoint::{BadEntrypoint, Entrypoint};
pub use explain::{Explanation, Reached};
pub use fault::Fault;
pub use machine::Difference;
pub use policy::{EvalError, Policy};
pub use trial::{Outcome, TestResult};

/// One file of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// As messages call it, such as its path.
    pub name: String,
    pub text: String,
}

/// One document below `data`, such as a `data.json` beside the policy.
#[derive(Debug, Clone)]
pub struct Data {
    /// As messages call it.
    pub name: String,
    /// Where it is found: `["roles"]` is `data.roles`. Empty: its keys are those of `data` itself.
    pub path: Vec<String>,
    pub value: regorus::Value,
}

/// How large a policy may be and how long a decision may take. What is larger is refused when the policy is loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// For one evaluation, from its start to its result.
    pub time: Duration,
    /// Of one file.
    pub source_bytes: usize,
    /// Characters of one line.
    pub columns: u32,
    /// Lines of one file.
    pub lines: u32,
    /// Brackets of any kind that are open at one place.
    pub nesting: u32,
    /// Operators in a row without a bracket or a new statement between them.
    pub chain: u32,
    /// What reading a file may cost, in tokens: each open `[` or `{` doubles the cost of what is inside it.
    pub reading: u64,
    /// Files of one policy.
    pub files: usize,
    /// Rules that need one another, one below the other, each counted with its loops and with the expressions that are
    /// inside one another. At the default an evaluation fits on a stack of 2 MiB.
    pub depth: u32,
    /// All documents below `data`, as JSON.
    pub data_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            time: Duration::from_millis(100),
            source_bytes: 1 << 20,
            columns: 1024,
            lines: 20_000,
            nesting: 48,
            chain: 128,
            reading: 20_000_000,
            files: 256,
            depth: 100,
            data_bytes: 16 << 20,
        }
    }
}
