//! Our engine, asked the questions that the judge is asked, and both answers set side by side.

use std::{fmt, time::Duration};

use regorus::Value;
use serde_json::Number;
use vouch::authz::rego::{Data, Limits, Policy as Loaded, Source};
use vouch_tests::opa::{Answer, Policy};

/// What our engine says.
#[derive(Debug, Clone)]
pub(crate) enum Ours {
    Value(serde_json::Value),
    Undefined,
    /// The evaluation ended without a result.
    Error(String),
    /// The policy was not loaded.
    Refused(String),
}

/// How the two answers stand to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Relation {
    /// The same value, or neither gives one.
    Equal,
    /// We refuse to load it.
    Refused,
    /// We answer, where the judge refuses to load.
    Looser,
    /// We end with an error where the judge has a value.
    Stricter,
    /// We answer something else, which is no permission.
    Different,
    /// We allow what the judge does not allow.
    FailsOpen,
}

impl Ours {
    /// Whether Envoy would be told to let the request through.
    pub(crate) fn allows(&self) -> bool {
        matches!(self, Self::Value(value) if *value == true || value["allowed"] == true)
    }

    pub(crate) fn to(&self, judge: &Answer) -> Relation {
        match (self, judge) {
            (Self::Refused(_), _) => Relation::Refused,
            (Self::Value(ours), Answer::Value(theirs)) if same(ours, theirs) => Relation::Equal,
            _ if self.allows() => Relation::FailsOpen,
            (_, Answer::LoadError(_)) => Relation::Looser,
            (Self::Undefined | Self::Error(_), Answer::Undefined | Answer::Error(_)) => Relation::Equal,
            (Self::Error(_), Answer::Value(_)) => Relation::Stricter,
            _ => Relation::Different,
        }
    }
}

impl fmt::Display for Ours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(value) => write!(f, "{value}"),
            Self::Undefined => f.write_str("undefined"),
            Self::Error(error) => write!(f, "error: {error}"),
            Self::Refused(reason) => write!(f, "refused: {reason}"),
        }
    }
}

/// Loads `policy` as the agent would.
///
/// # Errors
/// Why it is refused.
pub(crate) fn load(policy: &Policy) -> Result<Loaded, String> {
    let sources: Vec<_> =
        policy.modules.iter().map(|(name, text)| Source { name: name.clone(), text: text.clone() }).collect();
    let value = Value::from_json_str(&policy.data.to_string()).expect("data is JSON");
    let data = [Data { name: "data.json".to_owned(), path: Vec::new(), value }];
    let entrypoint = policy.query.parse().expect("the query names a document");
    // On a busy machine 100 ms go by without a fault of the policy's.
    let limits = Limits { time: Duration::from_secs(10), ..Limits::default() };
    Loaded::compile(&sources, &data, &entrypoint, &limits)
        .map_err(|faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}

/// A document as the engine has it.
pub(crate) fn input(text: &str) -> Value {
    Value::from_json_str(text).expect("inputs are JSON")
}

/// What `loaded` makes of `input`.
pub(crate) fn decide(loaded: &Result<Loaded, String>, input: Value) -> Ours {
    match loaded {
        Err(reason) => Ours::Refused(reason.clone()),
        Ok(policy) => {
            let had_machine = policy.has_machine();
            let answer = policy.evaluate(input);
            // Of the first questions one is put to the engine, too.
            assert_eq!(policy.has_machine(), had_machine, "the machine differs from the engine");
            match answer {
                Ok(Value::Undefined) => Ours::Undefined,
                Ok(value) => Ours::Value(json(&value)),
                Err(error) => Ours::Error(error.to_string()),
            }
        }
    }
}

fn json(value: &Value) -> serde_json::Value {
    let text = value.to_json_str().expect("a result is JSON");
    serde_json::from_str(&text).expect("what is written as JSON can be read")
}

/// The last bit of a fraction may be lost when its text is read.
fn is_near(one: &Number, other: &Number) -> bool {
    let (Some(one), Some(other)) = (one.as_f64(), other.as_f64()) else { return false };
    one.fract() != 0.0 && (one - other).abs() <= f64::EPSILON * one.abs() || one == other
}

/// Equality as Rego has it: numbers are equal whatever their texts.
fn same(one: &serde_json::Value, other: &serde_json::Value) -> bool {
    use serde_json::Value::{Array, Number, Object};
    match (one, other) {
        (Number(one), Number(other)) => one == other || is_near(one, other),
        (Array(one), Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Object(one), Object(other)) => {
            let key = |(key, value): (&String, _)| other.get(key).is_some_and(|found| same(value, found));
            one.len() == other.len() && one.iter().all(key)
        }
        _ => one == other,
    }
}
