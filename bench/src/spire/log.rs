//! What a SPIRE agent logs of the processes that it attests: a JSON object a line, at level `debug`.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use serde::Deserialize;

const MESSAGE: &str = "PID attested to have selectors";

#[derive(Debug, Deserialize)]
struct Line {
    msg: String,
    pid: Option<u32>,
    #[serde(default)]
    selectors: Option<Vec<Parts>>,
}

#[derive(Debug, Deserialize)]
struct Parts {
    r#type: String,
    value: String,
}

/// The selectors of the newest attestation of `pid`, as type and value; `None` when there was none. A last line that
/// is not whole yet is left for later.
///
/// # Errors
/// When the line of that attestation does not read as expected.
pub(super) fn selectors(log: &str, pid: u32) -> Result<Option<BTreeSet<(String, String)>>> {
    let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
    for line in whole.lines().rev().filter(|line| line.contains(MESSAGE)) {
        let read: Line = serde_json::from_str(line).with_context(|| format!("the agent's log has {line}"))?;
        if read.msg == MESSAGE && read.pid == Some(pid) {
            let selectors = read.selectors.with_context(|| format!("no selectors in {line}"))?;
            return Ok(Some(selectors.into_iter().map(|parts| (parts.r#type, parts.value)).collect()));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = concat!(
        r#"{"level":"info","msg":"Starting Workload and SDS APIs","time":"2026-11-25T01:00:00Z"}"#,
        "\n",
        r#"{"level":"debug","msg":"PID attested to have selectors","pid":12,"selectors":[{"type":"unix","value":"uid:5"}]}"#,
        "\n",
        r#"{"level":"debug","msg":"PID attested to have selectors","pid":12,"selectors":[{"type":"unix","value":"uid:0"},"#,
        r#"{"type":"unix","value":"path:/a \"b\":ü"}]}"#,
        "\n",
        r#"{"level":"debug","msg":"PID attested to have selectors","pid":13,"selectors":[]}"#,
        "\n",
    );

    fn pairs(values: &[&str]) -> BTreeSet<(String, String)> {
        values.iter().map(|value| ("unix".to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_newest_attestation_of_the_process_counts() {
        assert_eq!(selectors(LOG, 12).unwrap(), Some(pairs(&["uid:0", "path:/a \"b\":ü"])));
        assert_eq!(selectors(LOG, 13).unwrap(), Some(pairs(&[])));
        assert_eq!(selectors(LOG, 1).unwrap(), None);
    }

    #[test]
    fn a_line_that_is_still_being_written_is_not_read() {
        assert_eq!(selectors(&LOG[..LOG.len() - 1], 13).unwrap(), None);
    }

    #[test]
    fn a_line_of_another_shape_is_an_error_and_no_empty_set() {
        let renamed = LOG.replace("selectors\":[{", "found\":[{");
        assert!(selectors(&renamed, 12).is_err());
        let broken = LOG.replace("\"pid\":12", "\"pid\":\"12\"");
        assert!(selectors(&broken, 12).is_err());
    }
}
