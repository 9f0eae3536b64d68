//! `vouch policy check`, `test` and `eval`: what a policy is worth before it decides about anything.

use std::{
    io::{self, Read as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Subcommand};
use regorus::Value;
use serde_json::json;
use vouch_proto::admin::GetCheckRequest;

use super::{Common, client::block_on, exit, explain, output};
use crate::{
    authz::{
        self, CheckId, Mask, PolicyFiles,
        rego::{Entrypoint, Outcome, Reached, TestResult},
        result::{Verdict, interpret},
    },
    config,
    problem::Problem,
};

/// Largest input.
const MAX_INPUT: u64 = 16 << 20;
const CONFIG: &str = "/etc/vouch/vouch.toml";

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Whether policies compile, and what is doubtful in them; exits 5 when one does not
    Check(Which),
    /// Run the rules that begin with test_; exits 5 when one fails
    Test(Which),
    /// What a policy says of one input
    Eval(Eval),
}

/// Policies by their files, or those of a configuration.
#[derive(Debug, Args)]
pub(super) struct Which {
    /// Files and folders of one policy, instead of the policies of the configuration
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The rule that decides
    #[arg(long, value_name = "PACKAGE/RULE", default_value = "envoy/authz/allow")]
    path: Entrypoint,
    /// Configuration whose policies are meant
    #[arg(long, value_name = "FILE", default_value = CONFIG)]
    config: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct Eval {
    #[command(flatten)]
    which: Which,
    /// One policy of the configuration, by name
    #[arg(long, value_name = "NAME")]
    policy: Option<String>,
    /// JSON file with the input, or - for standard input
    #[arg(long, value_name = "FILE", required_unless_present = "decision")]
    input: Option<PathBuf>,
    /// Take the input of a decision that the agent remembers, such as 0197b2c4-6e11-0003; for root
    #[arg(long, value_name = "ID", conflicts_with = "input")]
    decision: Option<CheckId>,
}

/// A policy, and what it is called.
struct Named {
    name: String,
    files: PolicyFiles,
}

pub(super) fn run(command: &Command, common: &Common) -> Result<ExitCode, Problem> {
    match command {
        Command::Check(which) => check(which, common),
        Command::Test(which) => test(which, common),
        Command::Eval(eval) => evaluate(eval, common),
    }
}

impl Which {
    fn policies(&self) -> Result<Vec<Named>, Problem> {
        if !self.files.is_empty() {
            let name = self.files[0].display().to_string();
            let files = PolicyFiles::new(self.files.clone(), self.path.clone());
            return Ok(vec![Named { name, files }]);
        }
        let authz = config::Config::load(&self.config)?.authz;
        if authz.policies.is_empty() {
            return Err(Problem::new("E0911", format!("{} names no policy", self.config.display()))
                .fix("name the files of one: vouch policy check FILE"));
        }
        authz.policies.iter().map(|policy| configured(&authz, policy)).collect()
    }
}

fn configured(authz: &config::Authz, policy: &config::Policy) -> Result<Named, Problem> {
    let path = authz::entrypoint(&policy.name, &policy.path)?;
    let files = PolicyFiles {
        policy_size: authz.policy_size,
        data_size: authz.data_size,
        timeout: authz.timeout,
        ..PolicyFiles::new(policy.files.clone(), path)
    };
    Ok(Named { name: policy.name.clone(), files })
}

fn check(which: &Which, common: &Common) -> Result<ExitCode, Problem> {
    let (mut shown, mut text, mut code) = (vec![], String::new(), ExitCode::SUCCESS);
    for Named { name, files } in which.policies()? {
        match files.compile(&name) {
            Ok(policy) => {
                for warning in policy.warnings() {
                    text.push_str(&format!("warning: {warning} (W0905)\n"));
                }
                text.push_str(&format!("{name}: ok\n"));
                let warnings: Vec<_> = policy.warnings().iter().map(ToString::to_string).collect();
                shown.push(json!({ "policy": name, "ok": true, "warnings": warnings, "error": null }));
            }
            Err(problem) => {
                code = ExitCode::from(exit::FOUND_PROBLEMS);
                text.push_str(&format!("{problem}\n"));
                let error = json!({ "code": problem.code, "title": problem.title, "why": problem.why });
                shown.push(json!({ "policy": name, "ok": false, "warnings": [], "error": error }));
            }
        }
    }
    output::print(common.output, &json!({ "policies": shown }), |out| out.push_str(&text))?;
    Ok(code)
}

fn test(which: &Which, common: &Common) -> Result<ExitCode, Problem> {
    let mut results = vec![];
    for Named { name, files } in which.policies()? {
        results.extend(files.compile(&name)?.run_tests());
    }
    if results.is_empty() {
        return Err(Problem::new("E0912", "there is no test")
            .why("a test is a rule whose name begins with test_")
            .fix("name the files with tests too: vouch policy test POLICY.rego POLICY_test.rego"));
    }
    let count = |wanted: fn(&Outcome) -> bool| results.iter().filter(|test| wanted(&test.outcome)).count();
    let passed = count(|outcome| matches!(outcome, Outcome::Pass));
    let skipped = count(|outcome| matches!(outcome, Outcome::Skipped));
    let failed = results.len() - passed - skipped;
    let shown: Vec<_> = results.iter().map(as_json).collect();
    let document = json!({ "passed": passed, "failed": failed, "skipped": skipped, "tests": shown });
    output::print(common.output, &document, |out| {
        results.iter().for_each(|test| describe(test, out));
        out.push_str(&format!("{passed} passed, {failed} failed, {skipped} skipped\n"));
    })?;
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(exit::FOUND_PROBLEMS) })
}

fn word(outcome: &Outcome) -> (&'static str, String) {
    match outcome {
        Outcome::Pass => ("passed", String::new()),
        Outcome::Fail => ("failed", String::new()),
        Outcome::Skipped => ("skipped", String::new()),
        Outcome::Error(why) => ("error", why.to_string()),
    }
}

fn as_json(test: &TestResult) -> serde_json::Value {
    let (outcome, why) = word(&test.outcome);
    json!({
        "name": test.name, "file": test.file, "line": test.line,
        "outcome": outcome, "error": why, "prints": test.prints,
    })
}

fn describe(test: &TestResult, out: &mut String) {
    let (outcome, why) = word(&test.outcome);
    out.push_str(&format!("{:<8}{}  {}:{}\n", outcome.to_uppercase(), test.name, test.file, test.line));
    for line in why.lines().chain(test.prints.iter().map(String::as_str)) {
        out.push_str(&format!("        {}\n", output::visible(line)));
    }
}

fn evaluate(eval: &Eval, common: &Common) -> Result<ExitCode, Problem> {
    let (input, decided_by) = match (&eval.decision, &eval.input) {
        (Some(id), _) => remembered(*id, common)?,
        (None, Some(path)) => (read_input(path)?, None),
        (None, None) => return Err(Problem::new("E0913", "there is no input").fix("name one: --input FILE")),
    };
    let mut policies = eval.which.policies()?;
    let wanted = eval.policy.as_ref().or(decided_by.as_ref());
    if let Some(wanted) = wanted.filter(|_| eval.which.files.is_empty()) {
        policies.retain(|policy| policy.name == *wanted);
    }
    let [Named { name, files }] = policies.as_slice() else {
        return Err(Problem::new("E0911", "it is not clear which policy is meant")
            .fix("name its files, or one of the configuration: --policy NAME"));
    };
    let report = files.compile(name)?.explain(input);
    let (verdict, error) = match report.value.as_ref().map(interpret) {
        Ok(Ok(Verdict::Allow(_))) => ("allowed", String::new()),
        Ok(Ok(Verdict::Deny(_))) => ("denied", String::new()),
        Ok(Err(error)) => ("denied", error.to_string()),
        Err(error) => ("denied", error.to_string()),
    };
    let value = report.value.as_ref().map(|value| Mask::default().result(value)).unwrap_or_default();
    let reached: Vec<_> = report.reached.iter().map(reached_as_json).collect();
    let document = json!({
        "policy": name, "answer": verdict, "result": value, "error": error,
        "prints": report.prints, "reached": reached,
    });
    output::print(common.output, &document, |out| {
        out.push_str(&format!("answer    {}\n", verdict.to_uppercase()));
        if error.is_empty() {
            out.push_str(&format!("result    {value}\n"));
        } else {
            out.push_str(&format!("error     {}\n", output::visible(&error)));
        }
        report.prints.iter().for_each(|line| out.push_str(&format!("print     {}\n", output::visible(line))));
        report.reached.iter().for_each(|rule| describe_reached(rule, out));
    })?;
    Ok(ExitCode::SUCCESS)
}

fn reached_as_json(rule: &Reached) -> serde_json::Value {
    json!({
        "rule": rule.rule, "file": rule.file, "line": rule.line,
        "evaluated": rule.evaluated, "left": rule.left,
    })
}

/// A rule that was looked at, and the first line of it that was not reached: where it ended.
fn describe_reached(rule: &Reached, out: &mut String) {
    let ended = match (rule.evaluated.last(), rule.left.first()) {
        (Some(last), Some(_)) => format!("ends at line {last}"),
        (Some(_), None) => "whole".to_owned(),
        (None, _) => "not looked at".to_owned(),
    };
    out.push_str(&format!("rule      {}  {}:{}  {ended}\n", rule.rule, rule.file, rule.line));
}

/// The input of a decision that the agent remembers, and the policy that decided.
fn remembered(id: CheckId, common: &Common) -> Result<(Value, Option<String>), Problem> {
    let asked = GetCheckRequest { decision: id.to_string(), unmasked_input: true };
    let answer = block_on(Some(common.timeout), async {
        let answer = common.admin().await?.get_check(asked).await;
        Ok(answer.map_err(|status| explain::check_refused(&status))?.into_inner())
    })?;
    if answer.input_json.is_empty() {
        return Err(Problem::new("E0913", format!("decision {id} had no input"))
            .why("the question could not be read, or no policy was for it")
            .fix(format!("see why: vouch explain {id}")));
    }
    let policy = Some(answer.policy).filter(|policy| !policy.is_empty());
    Ok((parse(&answer.input_json, &format!("the input of decision {id}"))?, policy))
}

fn read_input(path: &Path) -> Result<Value, Problem> {
    let name = path.display().to_string();
    let cannot = |error: &io::Error| {
        Problem::new("E0913", format!("input {name} cannot be read"))
            .why(error.to_string())
            .fix("name a file of JSON, or - for standard input")
    };
    let mut text = String::new();
    let read = match name.as_str() {
        "-" => io::stdin().lock().take(MAX_INPUT + 1).read_to_string(&mut text),
        _ => std::fs::File::open(path).and_then(|file| file.take(MAX_INPUT + 1).read_to_string(&mut text)),
    };
    read.map_err(|error| cannot(&error))?;
    if text.len() as u64 > MAX_INPUT {
        return Err(cannot(&io::Error::other(format!("it has more than {MAX_INPUT} bytes"))));
    }
    parse(&text, &format!("input {name}"))
}

fn parse(text: &str, what: &str) -> Result<Value, Problem> {
    Value::from_json_str(text).map_err(|error| {
        let said = error.to_string();
        Problem::new("E0913", format!("{what} is no JSON"))
            .why(said.lines().next().unwrap_or_default().trim())
    })
}
