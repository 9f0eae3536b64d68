//! Text becomes syntax: today's Rego first, then that of OPA before 1.0.

use regorus::{Engine, PolicyLengthConfig};

use super::{Fault, Limits, Source, shape};

/// Which syntax a source is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Syntax {
    Today,
    /// That of OPA before 1.0.
    Old,
}

/// Adds each source to `engine`, in whichever syntax it is written, and tells which.
///
/// A source that says `import rego.v1` is of today's syntax, as is one that both would accept. Sources of both kinds stand
/// side by side.
///
/// # Errors
/// One fault for each file that cannot be read; two when it might be meant in either syntax.
pub(super) fn add(
    engine: &mut Engine,
    sources: &[Source],
    limits: &Limits,
) -> Result<Vec<Syntax>, Vec<Fault>> {
    let (mut syntaxes, mut faults) = (Vec::new(), Vec::new());
    engine.set_policy_length_config(lengths(limits));
    for source in sources {
        match add_one(engine, source, limits) {
            Ok(syntax) => syntaxes.push(syntax),
            Err(wrong) => faults.extend(wrong),
        }
    }
    if faults.is_empty() { Ok(syntaxes) } else { Err(faults) }
}

fn add_one(engine: &mut Engine, source: &Source, limits: &Limits) -> Result<Syntax, Vec<Fault>> {
    shape::check(source, limits).map_err(|fault| vec![fault])?;
    let Err(new) = add_as(engine, source, Syntax::Today) else { return Ok(Syntax::Today) };
    if says_v1(&source.text) {
        return Err(vec![new]);
    }
    match add_as(engine, source, Syntax::Old) {
        Ok(()) => Ok(Syntax::Old),
        // Whichever syntax was meant is read further before it fails.
        Err(old) if (old.line, old.column) > (new.line, new.column) => Err(vec![
            Fault { reason: format!("in the syntax before OPA 1.0: {}", old.reason), ..old },
            Fault { reason: format!("in today's syntax: {}", new.reason), ..new },
        ]),
        Err(_) => Err(vec![new]),
    }
}

/// Adds a source that is of a known syntax.
pub(super) fn add_as(engine: &mut Engine, source: &Source, syntax: Syntax) -> Result<(), Fault> {
    engine.set_rego_v0(syntax == Syntax::Old);
    engine
        .add_policy(source.name.clone(), source.text.clone())
        .map(drop)
        .map_err(|error| Fault::of_engine(&source.name, &source.text, &error))
}

/// What is said about a source of the old syntax.
pub(super) fn remark(source: &Source, syntax: Syntax) -> Option<Fault> {
    let reason =
        "is written in the syntax before OPA 1.0 and is read as such; `opa fmt --rego-v1` rewrites it";
    (syntax == Syntax::Old).then(|| Fault::in_file(&source.name, reason))
}

fn says_v1(text: &str) -> bool {
    text.lines().any(|line| {
        line.trim_start().strip_prefix("import").is_some_and(|rest| rest.trim_start().starts_with("rego.v1"))
    })
}

/// For texts that come from ones within the limits.
pub(super) fn unbounded() -> PolicyLengthConfig {
    let default = PolicyLengthConfig::default();
    PolicyLengthConfig {
        max_col: u32::MAX.try_into().unwrap_or(default.max_col),
        max_file_bytes: usize::MAX.try_into().unwrap_or(default.max_file_bytes),
        max_lines: usize::MAX.try_into().unwrap_or(default.max_lines),
    }
}

/// What [`shape::check`] has bounded, the parser need not; its own count of columns differs where there are tabs.
pub(super) fn lengths(limits: &Limits) -> PolicyLengthConfig {
    let default = PolicyLengthConfig::default();
    PolicyLengthConfig {
        max_col: limits.columns.saturating_mul(8).try_into().unwrap_or(default.max_col),
        max_file_bytes: limits.source_bytes.try_into().unwrap_or(default.max_file_bytes),
        max_lines: (limits.lines as usize).try_into().unwrap_or(default.max_lines),
    }
}
