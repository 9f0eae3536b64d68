//! What an evaluation went through.

use std::collections::BTreeSet;

use regorus::{Engine, Value};

use super::{EvalError, Policy, policy::ask, program::Program};

/// One evaluation and what it looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    pub value: Result<Value, EvalError>,
    /// What the policy printed, each with its place before it.
    pub prints: Vec<String>,
    /// The definitions of which something was evaluated, by file and line.
    pub reached: Vec<Reached>,
}

/// One definition of one rule of which something was evaluated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached {
    /// Package and rule, such as `envoy.authz.allow`.
    pub rule: String,
    pub file: String,
    /// Where the definition begins, counts from 1.
    pub line: u32,
    /// Its lines on which something was evaluated.
    pub evaluated: Vec<u32>,
    /// Its lines on which nothing was, because something before did not hold.
    pub left: Vec<u32>,
}

/// Where a definition stands.
#[derive(Debug, Clone)]
pub(super) struct Extent {
    rule: String,
    file: String,
    first: u32,
    last: u32,
}

/// All definitions of a policy, by file and line.
pub(super) fn extents(program: &Program) -> Vec<Extent> {
    let mut extents: Vec<Extent> = program
        .rules
        .iter()
        .map(|rule| {
            let span = rule.rule.span();
            Extent {
                rule: rule.name(),
                file: program.units[rule.unit].file().to_owned(),
                first: span.line,
                last: span.line + span.text().matches('\n').count() as u32,
            }
        })
        .collect();
    extents.sort_by(|a, b| (&a.file, a.first).cmp(&(&b.file, b.first)));
    extents
}

impl Policy {
    /// [`Policy::evaluate`], and what it looked at. Costs several times as much, and may come to the time limit where that
    /// does not.
    pub fn explain(&self, input: Value) -> Explanation {
        let mut engine = self.fresh(self.time);
        engine.set_enable_coverage(true);
        let value = Self::within(self.time, || {
            engine.set_input(input);
            ask(&mut engine, &self.query)
        });
        let prints = engine.take_prints().unwrap_or_default();
        Explanation { value, prints, reached: self.reached(&engine) }
    }

    fn reached(&self, engine: &Engine) -> Vec<Reached> {
        // Without a report the explanation is poorer, and no reason to have none.
        let files = engine.get_coverage_report().map(|report| report.files).unwrap_or_default();
        let lines = |extent: &Extent, lines: &BTreeSet<u32>| -> Vec<u32> {
            lines.range(extent.first..=extent.last).copied().collect()
        };
        let reached = self.extents.iter().filter_map(|extent| {
            let file = files.iter().find(|file| file.path == extent.file)?;
            let evaluated = lines(extent, &file.covered);
            let mut left = lines(extent, &file.not_covered);
            left.retain(|line| !evaluated.contains(line));
            let (rule, file) = (extent.rule.clone(), extent.file.clone());
            (!evaluated.is_empty()).then_some(Reached { rule, file, line: extent.first, evaluated, left })
        });
        reached.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authz::rego::tests::{compile, json};

    #[test]
    fn an_explanation_has_the_value_the_prints_and_the_lines_that_were_evaluated() {
        let rules = "default allow := false
allow if {
  print(\"looking\")
  input.method == \"GET\"
  input.user == \"ann\"
}
unused if input.x";
        let explanation = compile(rules).unwrap().explain(json(r#"{"method": "PUT"}"#));

        assert_eq!(explanation.value, Ok(Value::from(false)));
        assert_eq!(explanation.prints, ["policy.rego:4: looking"]);
        let allow = explanation.reached.iter().find(|reached| reached.line == 3).unwrap();
        assert_eq!(allow.rule, "envoy.authz.allow");
        assert_eq!(allow.evaluated, [4, 5]);
        assert_eq!(allow.left, [6]);
        assert!(explanation.reached.iter().all(|reached| reached.rule != "envoy.authz.unused"));
    }
}
