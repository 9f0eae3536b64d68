//! `vouch fetch` and `vouch watch`: the Workload API, as any workload uses it.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
    time::SystemTime,
};

use clap::Args;
use serde_json::{Value, json};
use vouch_proto::workload::{X509svid, X509svidRequest, X509svidResponse};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use zeroize::Zeroizing;

use super::{
    Common, Output,
    client::{block_on, call_problem, secured},
    output::{self, Reader},
};
use crate::{
    problem::Problem,
    spiffe::{PrivateKey, pem_of},
};

#[derive(Debug, Args)]
pub(super) struct Fetch {
    /// Also write svid.N.pem, svid.N.key and bundle.N.pem into this directory, and remove those of higher N
    #[arg(long, value_name = "DIR")]
    write: Option<PathBuf>,
}

pub(super) fn fetch(fetch: &Fetch, common: &Common) -> Result<ExitCode, Problem> {
    let response = block_on(Some(common.timeout), async {
        let mut client = common.workload_api().await?;
        let mut updates =
            client.fetch_x509svid(secured(X509svidRequest {})).await.map_err(|e| call_problem(&e))?;
        let update = updates.get_mut().message().await.map_err(|status| call_problem(&status))?;
        update.ok_or_else(|| call_problem(&tonic::Status::unavailable("the agent closed the call")))
    })?;
    let held = response.svids.iter().map(Held::of).collect::<Result<Vec<_>, _>>()?;
    let written = match &fetch.write {
        Some(directory) => write(directory, &held).map_err(|error| cannot_write(directory, &error))?,
        None => vec![],
    };
    print(common.output, &held, &written)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn watch(common: &Common) -> Result<ExitCode, Problem> {
    block_on(None, async {
        let mut client = common.workload_api().await?;
        let mut updates =
            client.fetch_x509svid(secured(X509svidRequest {})).await.map_err(|e| call_problem(&e))?;
        loop {
            let update = tokio::select! {
                update = updates.get_mut().message() => update.map_err(|status| call_problem(&status))?,
                _ = tokio::signal::ctrl_c() => return Ok(ExitCode::SUCCESS),
            };
            let Some(X509svidResponse { svids, .. }) = update else {
                return Err(call_problem(&tonic::Status::unavailable("the agent closed the call")));
            };
            let held = svids.iter().map(Held::of).collect::<Result<Vec<_>, _>>()?;
            if print(common.output, &held, &[])? == Reader::Gone {
                return Ok(ExitCode::SUCCESS);
            }
        }
    })
}

/// One SVID as it came, with what its certificate says.
struct Held<'a> {
    svid: &'a X509svid,
    chain: Vec<Vec<u8>>,
    bundle: Vec<Vec<u8>>,
    not_after: SystemTime,
    serial: String,
}

impl<'a> Held<'a> {
    fn of(svid: &'a X509svid) -> Result<Self, Problem> {
        let unreadable = || Problem::new("E0315", "the agent sent a certificate that cannot be read");
        let chain = split(&svid.x509_svid).ok_or_else(unreadable)?;
        let bundle = split(&svid.bundle).ok_or_else(unreadable)?;
        let leaf = chain.first().ok_or_else(unreadable)?;
        let (_, leaf) = X509Certificate::from_der(leaf).map_err(|_| unreadable())?;
        let not_after = SystemTime::from(leaf.validity().not_after.to_datetime());
        let serial = hex::encode(leaf.raw_serial());
        Ok(Self { svid, chain: chain.clone(), bundle, not_after, serial })
    }

    fn json(&self) -> Value {
        json!({
            "spiffe_id": self.svid.spiffe_id,
            "hint": self.svid.hint,
            "serial": self.serial,
            "not_after": output::unix(self.not_after),
            "chain_certificates": self.chain.len(),
            "bundle_certificates": self.bundle.len(),
        })
    }
}

/// DER certificates that stand one after the other.
fn split(mut der: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut certificates = vec![];
    while !der.is_empty() {
        let (rest, _) = X509Certificate::from_der(der).ok()?;
        certificates.push(der[..der.len() - rest.len()].to_vec());
        der = rest;
    }
    Some(certificates)
}

fn print(form: Output, held: &[Held<'_>], written: &[PathBuf]) -> Result<Reader, Problem> {
    let svids: Vec<Value> = held.iter().map(Held::json).collect();
    output::print(form, &json!({ "svids": svids, "written": written }), |out| {
        let now = SystemTime::now();
        for held in held {
            let (id, until) = (&held.svid.spiffe_id, output::date(held.not_after));
            out.push_str(&format!("{id}   valid {} (until {until})", output::left(held.not_after, now)));
            if !held.svid.hint.is_empty() {
                out.push_str(&format!("   hint {}", held.svid.hint));
            }
            out.push('\n');
        }
        for path in written {
            out.push_str(&format!("written: {}\n", path.display()));
        }
    })
}

/// The files that `spire-agent api fetch -write` makes, by the same names.
fn write(directory: &Path, held: &[Held<'_>]) -> io::Result<Vec<PathBuf>> {
    fs::create_dir_all(directory)?;
    let mut written = vec![];
    for (number, held) in held.iter().enumerate() {
        let key = PrivateKey::from_pkcs8(held.svid.x509_svid_key.to_vec()).pem();
        let files = [
            (format!("svid.{number}.pem"), 0o644, Zeroizing::new(pem_of("CERTIFICATE", &held.chain))),
            (format!("svid.{number}.key"), 0o600, key),
            (format!("bundle.{number}.pem"), 0o644, Zeroizing::new(pem_of("CERTIFICATE", &held.bundle))),
        ];
        for (name, mode, content) in files {
            let path = directory.join(name);
            replace(&path, mode, content.as_bytes())?;
            written.push(path);
        }
    }
    remove_former(directory, held.len())?;
    Ok(written)
}

/// What an earlier call wrote for more SVIDs than there are now: nobody should go on with a key that was taken away.
fn remove_former(directory: &Path, count: usize) -> io::Result<()> {
    for file in fs::read_dir(directory)? {
        let file = file?;
        let number = file.file_name().to_str().and_then(number_in);
        if number.is_some_and(|number| number >= count) && !file.file_type()?.is_dir() {
            fs::remove_file(file.path())?;
        }
    }
    Ok(())
}

/// N of svid.N.pem, svid.N.key and bundle.N.pem, written as we write it.
fn number_in(name: &str) -> Option<usize> {
    let (kind, rest) = name.split_once('.')?;
    let (number, extension) = rest.split_once('.')?;
    let ours = matches!((kind, extension), ("svid", "pem" | "key") | ("bundle", "pem"));
    number.parse().ok().filter(|parsed: &usize| ours && parsed.to_string() == number)
}

/// Whole or not at all: written beside it under a private name, then renamed into place.
fn replace(path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
    let staged = path.with_added_extension(format!("{}.new", std::process::id()));
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&staged)?;
    let result =
        file.write_all(content).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&staged, path));
    if result.is_err() {
        let _ = fs::remove_file(&staged);
    }
    result
}

fn cannot_write(directory: &Path, error: &io::Error) -> Problem {
    Problem::new("E0316", format!("files in {} cannot be written", directory.display()))
        .why(error.to_string())
        .fix("choose a directory that you may write: --write DIR")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_svids_that_are_no_more_go_and_no_others() {
        let directory = tempfile::tempdir().unwrap();
        let former = ["svid.1.pem", "svid.1.key", "bundle.1.pem", "svid.12.key"];
        let others =
            ["svid.0.pem", "svid.01.pem", "svid.1.pem.bak", "svid.x.key", "bundle.1.key", "ca.1.pem"];
        for name in former.iter().chain(&others) {
            fs::write(directory.path().join(name), "").unwrap();
        }
        fs::create_dir(directory.path().join("svid.7.pem")).unwrap();
        remove_former(directory.path(), 1).unwrap();
        for name in former {
            assert!(!directory.path().join(name).exists(), "{name}");
        }
        for name in others.iter().chain(&["svid.7.pem"]) {
            assert!(directory.path().join(name).exists(), "{name}");
        }
    }
}
