//! `vouch entry list` and `vouch entry lint`.

use std::{path::PathBuf, process::ExitCode, time::SystemTime};

use clap::Subcommand;
use serde_json::{Value, json};
use vouch_proto::admin::{Entry as Listed, Fact, ListEntriesRequest, ListEntriesResponse};

use super::{
    Common,
    client::{admin_problem, block_on},
    exit, output, status,
};
use crate::{
    attestation::PathRule,
    problem::Problem,
    registration::{self, EntryIndex, Surroundings},
    spiffe::TrustDomain,
};

#[derive(Debug, Subcommand)]
pub(super) enum Entry {
    /// The entries that the agent serves
    List,
    /// What entries do not say but probably mean; exits 5 when there is something
    Lint {
        /// Check these files instead of what the agent serves
        #[arg(requires = "trust_domain", value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Trust domain of the files
        #[arg(long, value_name = "NAME")]
        trust_domain: Option<TrustDomain>,
    },
}

pub(super) fn run(entry: &Entry, common: &Common) -> Result<ExitCode, Problem> {
    match entry {
        Entry::List => {
            let listed = ask(common)?;
            let entries: Vec<Value> = listed.entries.iter().map(as_json).collect();
            output::print(common.output, &json!({ "entries": entries }), |out| {
                let rows: Vec<_> = listed.entries.iter().map(row).collect();
                output::table(&["ID", "SPIFFE ID", "SELECTORS", "TTL", "HINT"], &rows, out);
            })?;
            Ok(ExitCode::SUCCESS)
        }
        Entry::Lint { files, trust_domain } => {
            let found = match trust_domain {
                Some(trust_domain) if !files.is_empty() => lint_files(files, trust_domain)?,
                _ => ask(common)?.lint,
            };
            output::print(common.output, &json!({ "warnings": status::facts(&found) }), |out| {
                for fact in &found {
                    out.push_str(&format!("{} {}\n", fact.code, fact.text.replace('\n', "\n      ")));
                    if !fact.fix.is_empty() {
                        out.push_str(&format!("      fix: {}\n", fact.fix));
                    }
                }
                if found.is_empty() {
                    out.push_str("nothing to say\n");
                }
            })?;
            Ok(if found.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(exit::FOUND_PROBLEMS) })
        }
    }
}

fn lint_files(files: &[PathBuf], trust_domain: &TrustDomain) -> Result<Vec<Fact>, Problem> {
    let loaded = registration::load(files, trust_domain)?;
    // Nobody knows here which node will serve them.
    let node = Surroundings { grade: None, path: PathRule::Verified };
    let found = registration::lint(
        &EntryIndex::with_templates(loaded.entries, loaded.templates),
        SystemTime::now(),
        node,
    );
    Ok(loaded.warnings.iter().chain(&found).map(crate::health::warning_fact).collect())
}

fn ask(common: &Common) -> Result<ListEntriesResponse, Problem> {
    block_on(Some(common.timeout), async {
        let answer = common.admin().await?.list_entries(ListEntriesRequest {}).await;
        Ok(answer.map_err(|status| admin_problem(&status))?.into_inner())
    })
}

fn row(entry: &Listed) -> Vec<String> {
    let exclude = entry.exclude.iter().map(|selector| format!("not {selector}"));
    let attested = entry.attested_by.iter().map(|kind| format!("by {kind}"));
    let selectors =
        entry.selectors.iter().cloned().chain(exclude).chain(attested).collect::<Vec<_>>().join(" ");
    let ttl = match entry.x509_svid_ttl {
        0 => "-".into(),
        seconds => humantime::format_duration(std::time::Duration::from_secs(seconds)).to_string(),
    };
    let hint = if entry.hint.is_empty() { "-".into() } else { entry.hint.clone() };
    vec![entry.id.clone(), entry.spiffe_id.clone(), selectors, ttl, hint]
}

pub(super) fn as_json(entry: &Listed) -> Value {
    json!({
        "entry_id": entry.id,
        "spiffe_id": entry.spiffe_id,
        "selectors": entry.selectors,
        "exclude": entry.exclude,
        "attested_by": entry.attested_by,
        "x509_svid_ttl": entry.x509_svid_ttl,
        "dns_names": entry.dns_names,
        "hint": entry.hint,
        "entryExpiry": entry.expires_at,
        "svid_not_after": entry.svid_not_after,
        "derived_from": (!entry.derived_from.is_empty()).then_some(&entry.derived_from),
    })
}
