//! What the workloads run: this program under other names, once as it is and once as large as an Envoy.

use std::{
    fs::{self, File, Permissions},
    io::{self, Read as _, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use ring::digest::{Context, SHA256};

/// Size of the large one: behind its end come zeroes, which nobody maps.
pub(super) const LARGE_BYTES: u64 = 100 << 20;

/// One executable, in a directory that every user may enter.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
    /// Lower-case hex.
    pub(super) sha256: String,
}

impl Program {
    /// A copy of this program at `path`, without what is there for debuggers, filled with zeroes up to `bytes`.
    pub(super) fn copy(path: PathBuf, bytes: u64) -> Result<Self> {
        let mut content = fs::read(std::env::current_exe()?)?;
        cut(&mut content);
        let mut file = File::create(&path).with_context(|| format!("writing {}", path.display()))?;
        file.write_all(&content)?;
        // Written, not left out: a hole costs nothing to read.
        io::copy(&mut io::repeat(0).take(bytes.saturating_sub(content.len() as u64)), &mut file)?;
        file.sync_all()?;
        fs::set_permissions(&path, Permissions::from_mode(0o755))?;
        Ok(Self { bytes: fs::metadata(&path)?.len(), sha256: sha256(&path)?, path })
    }

    /// Makes it look like a file that nobody has seen: its time of change is part of what a hash is remembered by.
    pub(super) fn renew(&self) -> Result<()> {
        Ok(fs::set_permissions(&self.path, Permissions::from_mode(0o755))?)
    }
}

/// Ends an executable behind the last byte that is loaded, and takes the table of sections out of its header: both are
/// for linkers and debuggers. What is no such file is left alone.
///
/// Source: elf(5), `Elf64_Ehdr` and `Elf64_Phdr`.
fn cut(content: &mut Vec<u8>) {
    if let Some(end) = loaded_bytes(content).filter(|end| (64..=content.len()).contains(end)) {
        content.truncate(end);
        content[40..48].fill(0);
        content[60..64].fill(0);
    }
}

fn loaded_bytes(content: &[u8]) -> Option<usize> {
    const LOAD: u32 = 1;
    let half = |at: usize| Some(u16::from_le_bytes(*content.get(at..)?.first_chunk()?));
    let word = |at: usize| Some(u32::from_le_bytes(*content.get(at..)?.first_chunk()?));
    let long = |at: usize| Some(u64::from_le_bytes(*content.get(at..)?.first_chunk()?) as usize);
    // 64 bits, least significant byte first.
    content.starts_with(b"\x7fELF\x02\x01").then_some(())?;
    let (table, size, count) = (long(32)?, half(54)? as usize, half(56)? as usize);
    let mut end = 0;
    for number in 0..count {
        let at = table.checked_add(number * size)?;
        if word(at)? == LOAD {
            end = end.max(long(at + 8)?.checked_add(long(at + 32)?)?);
        }
    }
    Some(end)
}

fn sha256(path: &Path) -> Result<String> {
    let mut digest = Digest(Context::new(&SHA256));
    io::copy(&mut File::open(path)?, &mut digest)?;
    Ok(hex::encode(digest.0.finish()))
}

struct Digest(Context);

impl io::Write for Digest {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_as_large_as_it_is_to_be_and_runs() {
        let directory = tempfile::tempdir().unwrap();
        let own = fs::metadata(std::env::current_exe().unwrap()).unwrap().len();
        let small = Program::copy(directory.path().join("small"), 0).unwrap();
        let large = Program::copy(directory.path().join("large"), own + 70_000).unwrap();
        assert!(small.bytes < own, "{} bytes of {own} are loaded", small.bytes);
        assert_eq!(large.bytes, own + 70_000);
        assert_eq!(small.sha256.len(), 64);
        assert_ne!(small.sha256, large.sha256);
        for program in [&small, &large] {
            let ran = std::process::Command::new(&program.path).arg("--list").output().unwrap();
            assert!(ran.status.success() && !ran.stdout.is_empty(), "{program:?}");
        }
    }

    #[test]
    fn a_renewed_file_has_the_same_content_and_another_time() {
        use std::os::unix::fs::MetadataExt as _;
        let directory = tempfile::tempdir().unwrap();
        let program = Program::copy(directory.path().join("p"), 0).unwrap();
        let times = || {
            let seen = fs::metadata(&program.path).unwrap();
            (seen.modified().unwrap(), (seen.ctime(), seen.ctime_nsec()))
        };
        let (modified, changed) = times();
        // Longer than a tick, by which the file system counts.
        std::thread::sleep(std::time::Duration::from_millis(20));
        program.renew().unwrap();
        assert_eq!(times().0, modified);
        assert_ne!(times().1, changed);
    }

    #[test]
    fn what_is_no_executable_is_left_alone() {
        for content in [
            &b""[..],
            b"#!/bin/sh\n",
            b"\x7fELF\x02\x01",
            &[b"\x7fELF\x02\x01".to_vec(), vec![0xff; 90]].concat(),
        ] {
            let mut cut_content = content.to_vec();
            cut(&mut cut_content);
            assert_eq!(cut_content, content);
        }
    }
}
