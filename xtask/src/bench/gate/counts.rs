//! What steps cost, as the benches say it and as it is recorded.

use std::collections::BTreeMap;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What each step cost, by its name.
pub(super) type Steps = BTreeMap<String, Counts>;

/// Of one run of one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Counts {
    pub(super) allocations: u64,
    pub(super) bytes: u64,
    /// Where they are the same each time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) instructions: Option<u64>,
}

/// Everything that was counted on one machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) compiler: String,
    pub(super) steps: Steps,
}

/// The record of each kind of processor.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Records(BTreeMap<String, Record>);

impl Records {
    pub(super) fn parse(text: &str) -> anyhow::Result<Self> {
        Ok(serde_json::from_str(text)?)
    }

    pub(super) fn get(&self, arch: &str) -> Option<&Record> {
        self.0.get(arch)
    }

    pub(super) fn set(&mut self, arch: &str, record: Record) {
        self.0.insert(arch.to_owned(), record);
    }

    pub(super) fn to_text(&self) -> anyhow::Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }
}

/// What the benches `allocations` and `instructions` printed. Every step of the second is one of the first.
///
/// # Errors
/// When one of them is not understood: what is not counted must not pass.
pub(super) fn read(allocations: &str, instructions: &str) -> anyhow::Result<Steps> {
    let mut steps = Steps::new();
    for line in allocations.lines() {
        let [name, allocations, bytes] = *line.split_whitespace().collect::<Vec<_>>() else {
            anyhow::bail!("the bench of allocations said {line:?}");
        };
        let counts = Counts { allocations: allocations.parse()?, bytes: bytes.parse()?, instructions: None };
        steps.insert(name.to_owned(), counts);
    }
    anyhow::ensure!(!steps.is_empty(), "the bench of allocations said nothing");
    let mut counted = 0;
    for line in instructions.lines() {
        let (name, count) =
            executed(line).with_context(|| format!("the bench of instructions said {line:?}"))?;
        let step = steps.get_mut(&name).with_context(|| format!("nobody counts allocations of {name}"))?;
        step.instructions = Some(count);
        counted += 1;
    }
    anyhow::ensure!(counted > 0, "the bench of instructions said nothing");
    Ok(steps)
}

/// One summary of gungraun (schema 7): the step's name, and how many instructions it executed.
fn executed(line: &str) -> anyhow::Result<(String, u64)> {
    let summary: Value = serde_json::from_str(line)?;
    let text = |key: &str| summary[key].as_str().with_context(|| format!("no {key}"));
    let name = format!("{}.{}", text("function_name")?, text("id")?);
    let executed = &summary["profiles"][0]["data"]["total"]["metrics"]["Ir"]["values"]["new"];
    Ok((name, executed.as_u64().context("no instructions")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUMMARY: &str = r#"{"function_name":"ack","id":"with_node","profiles":[{"data":{"parts":[],"total":{"metrics":
        {"Ir":{"values":{"new":148912,"old":1}}}}},"tool":"Callgrind"}],"version":"7"}"#;

    #[test]
    fn what_both_benches_say_comes_together() {
        let summary = SUMMARY.replace('\n', "");
        let steps = read("ack.with_node 8 290\nissue.new_key 74 5923\n", &summary).unwrap();
        let ack = Counts { allocations: 8, bytes: 290, instructions: Some(148_912) };
        assert_eq!(steps["ack.with_node"], ack);
        assert_eq!(steps["issue.new_key"].instructions, None);
        for (allocations, instructions) in
            [("", &*summary), ("ack.with_node 8 290", ""), ("ack.with_node 8", &summary), ("a 1 1", &summary)]
        {
            assert!(read(allocations, instructions).is_err(), "{allocations:?}");
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let steps = read("ack.with_node 8 290\nb 1 2", &SUMMARY.replace('\n', "")).unwrap();
        let record = Record { compiler: "rustc 1.95.0".into(), steps };
        let mut records = Records::parse("{}").unwrap();
        records.set("x86_64", record.clone());
        let again = Records::parse(&records.to_text().unwrap()).unwrap();
        assert_eq!(again.get("x86_64"), Some(&record));
        assert_eq!(again.get("aarch64"), None);
    }
}
