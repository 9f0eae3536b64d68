//! A policy's own tests: rules whose names begin with `test_`.

use std::time::Duration;

use regorus::Value;

use super::{
    EvalError, Policy,
    entrypoint::reference,
    policy::{Query, ask},
    program::{Kind, Program},
};

/// What came of one test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestResult {
    /// Package and rule, such as `envoy.authz.test_admin_may_read`.
    pub name: String,
    pub file: String,
    /// Of its first definition, counts from 1.
    pub line: u32,
    pub outcome: Outcome,
    /// What the test printed, each with its place before it.
    pub prints: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The rule has a value other than false.
    Pass,
    /// The rule is false or undefined.
    Fail,
    /// Its name begins with `todo_test_`.
    Skipped,
    Error(EvalError),
}

/// How long one test may take, whatever decisions may.
const TIME: Duration = Duration::from_secs(5);

/// A rule that is a test.
#[derive(Debug, Clone)]
pub(super) struct Trial {
    name: String,
    file: String,
    line: u32,
    query: Query,
    is_skipped: bool,
}

/// The tests of a policy, by file and line.
pub(super) fn find(program: &Program) -> Vec<Trial> {
    let mut trials: Vec<Trial> = Vec::new();
    for rule in program.rules.iter().filter(|rule| rule.kind == Kind::Complete && !rule.is_open) {
        let Some(last) = rule.path.last() else { continue };
        let is_skipped = last.starts_with("todo_test_");
        let name = rule.name();
        if (is_skipped || last.starts_with("test_")) && trials.iter().all(|trial| trial.name != name) {
            trials.push(Trial {
                name,
                file: program.units[rule.unit].file().to_owned(),
                line: rule.rule.span().line,
                query: Query::Rule(reference("data", &rule.path, |_| false)),
                is_skipped,
            });
        }
    }
    trials.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
    trials
}

impl Policy {
    /// Runs the policy's own tests, one after the other, by file and line.
    pub fn run_tests(&self) -> Vec<TestResult> {
        self.trials.iter().map(|trial| self.run_test(trial)).collect()
    }

    fn run_test(&self, trial: &Trial) -> TestResult {
        let mut engine = self.fresh(TIME);
        let outcome = if trial.is_skipped {
            Outcome::Skipped
        } else {
            match Self::within(TIME, || ask(&mut engine, &trial.query)) {
                Ok(Value::Undefined | Value::Bool(false)) => Outcome::Fail,
                Ok(_) => Outcome::Pass,
                Err(error) => Outcome::Error(error),
            }
        };
        let prints = engine.take_prints().unwrap_or_default();
        TestResult { name: trial.name.clone(), file: trial.file.clone(), line: trial.line, outcome, prints }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authz::rego::tests::compile;

    #[test]
    fn tests_pass_fail_err_or_are_skipped() {
        let rules = "allow if input.user == \"ann\"
test_ann if allow with input.user as \"ann\"
test_bob if allow with input.user as \"bob\"
test_false := false
test_conflict := 1
test_conflict := 2
todo_test_later if false
lower_is_replaced if lower(\"X\") == \"y\"
test_replaced if lower_is_replaced with lower as \"y\"
test_prints if print(\"seen\", 1)";
        let results = compile(rules).unwrap().run_tests();

        let outcome = |name: &str| {
            let result = results.iter().find(|result| result.name == format!("envoy.authz.{name}"));
            &result.unwrap_or_else(|| panic!("{name} in {results:?}")).outcome
        };
        assert_eq!(results.len(), 7);
        assert_eq!(outcome("test_ann"), &Outcome::Pass);
        assert_eq!(outcome("test_bob"), &Outcome::Fail);
        assert_eq!(outcome("test_false"), &Outcome::Fail);
        assert!(matches!(outcome("test_conflict"), Outcome::Error(EvalError::Conflict(_))));
        assert_eq!(outcome("todo_test_later"), &Outcome::Skipped);
        assert_eq!(outcome("test_replaced"), &Outcome::Pass);
        let last = results.last().unwrap();
        assert_eq!((last.file.as_str(), last.line), ("policy.rego", 11));
        assert_eq!(last.prints, ["policy.rego:11: seen 1"]);
    }
}
