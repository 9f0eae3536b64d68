//! The file of a run, read with care: it may come from another machine, or another version of this program.

use std::{fs::File, io::Read, path::Path};

use anyhow::{Context, Result, bail, ensure};

use crate::results::{FORMAT, Results};

/// A full run of all scenarios takes a few megabytes.
const MOST_BYTES: u64 = 256 << 20;

/// The results in `file`.
///
/// # Errors
/// When it cannot be read, holds something else, or was written by a later version in another format.
pub fn read(file: &Path) -> Result<Results> {
    let name = file.display();
    let mut text = String::new();
    let opened = File::open(file).with_context(|| format!("opening {name}"))?;
    opened.take(MOST_BYTES + 1).read_to_string(&mut text).with_context(|| format!("reading {name}"))?;
    ensure!(text.len() as u64 <= MOST_BYTES, "{name} is longer than {MOST_BYTES} bytes");
    let any: serde_json::Value = serde_json::from_str(&text).with_context(|| format!("{name} is no JSON"))?;
    match any["format"].as_u64() {
        Some(format) if format == u64::from(FORMAT) => {}
        Some(format) => bail!("{name} has format {format}, and this program reads {FORMAT}"),
        None => bail!("{name} is no file of results: it names no format"),
    }
    serde_json::from_value(any).with_context(|| format!("{name} holds no results of a run"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn read_text(text: &str) -> Result<Results> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("results.json");
        std::fs::write(&file, text).unwrap();
        read(&file)
    }

    #[test]
    fn what_a_run_wrote_is_read() {
        let written = testing::plausible();
        let read = read_text(&serde_json::to_string(&written).unwrap()).unwrap();
        let deliveries = |results: &Results| -> Vec<String> {
            let series = results.scenarios.iter().flat_map(|scenario| &scenario.series);
            series.flat_map(|series| &series.rounds).map(|round| round.delivery.clone()).collect()
        };
        assert!(deliveries(&read) == deliveries(&written), "some histogram changed");
    }

    #[test]
    fn other_files_are_refused_with_a_reason() {
        for (text, reason) in [
            ("no", "is no JSON"),
            ("{}", "names no format"),
            (r#"{"format": 2}"#, "has format 2, and this program reads 1"),
            (r#"{"format": 1}"#, "holds no results"),
        ] {
            let refused = format!("{:#}", read_text(text).unwrap_err());
            assert!(refused.contains(reason), "{refused}");
        }
    }
}
