//! The state log: one append-only file that says which authorities this node has, and how far each has come.

mod directory;
mod record;

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use crate::problem::Problem;
use directory::StateDirectory;
pub use record::SignerId;
use record::{Chain, Scan};
pub(super) use record::{Prepared, Record, damaged};

const FILE: &str = "state.log";
/// Made complete under this name first, so that a crash or a full disk leaves no half of a log.
const NEW_FILE: &str = "state.log.new";
/// Where a node without a configuration file keeps its entries; its operator may have written it beforehand.
const ENTRIES: &str = "entries.toml";
/// Largest log that is read. Records are a few hundred bytes and a few are written each day.
const MAX_LOG: u64 = 64 << 20;

/// The log of one state directory, which stays locked for as long as this lives.
#[derive(Debug)]
pub(super) struct StateLog {
    directory: StateDirectory,
    file: Box<dyn Medium>,
    /// Of the records that are durable.
    chain: Chain,
    /// How many bytes of the file are durable.
    whole_bytes: u64,
    /// Set when a write failed: what the file holds behind `whole_bytes` is unknown until it was cut off.
    doubtful: bool,
}

/// What a log is written to: a file, or a test's failing disk.
pub(super) trait Medium: std::fmt::Debug + Send {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Returns once everything appended survives a power cut.
    fn sync(&mut self) -> io::Result<()>;
    /// Goes on with `file`, which is the log opened again.
    fn renew(&mut self, file: File);
}

/// A log as it was found: read, and not yet touched.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) records: Vec<Record>,
    /// Bytes of an unfinished last record. [`Self::accept`] cuts them off.
    pub(super) torn_bytes: usize,
    directory: StateDirectory,
    file: File,
    whole_bytes: usize,
    chain: Chain,
}

/// A state directory, locked: with a log in it, or ready for a first one.
#[derive(Debug)]
pub(super) enum State {
    Known(Opened),
    New(Vacant),
}

/// A locked state directory without a log.
#[derive(Debug)]
pub(super) struct Vacant(StateDirectory);

impl State {
    /// Opens or makes the directory at `path`, locks it and reads its log, which is left as it is.
    ///
    /// # Errors
    /// E0201 unusable, E0202 not ours, E0203 in use, E0205 damaged, E0206 written by a newer version.
    pub(super) fn open(path: &Path) -> Result<Self, Problem> {
        let directory = StateDirectory::open(path)?;
        let Some(mut file) = open_log(&directory.file(FILE))? else {
            directory.require_empty(&[NEW_FILE, ENTRIES])?;
            return Ok(Self::New(Vacant(directory)));
        };
        let path = directory.file(FILE);
        let bytes = read_all(&mut file, &path)?;
        let Scan { records, whole_bytes, chain } =
            record::scan(&bytes).map_err(|fault| fault.problem(&path))?;
        let torn_bytes = bytes.len() - whole_bytes;
        Ok(Self::Known(Opened { records, torn_bytes, directory, file, whole_bytes, chain }))
    }
}

impl Opened {
    /// Takes the log as it is, less an unfinished last record, to append to it.
    ///
    /// # Errors
    /// E0204 when the disk fails.
    pub(super) fn accept(mut self) -> Result<StateLog, Problem> {
        let end = self.whole_bytes as u64;
        let cut = if self.torn_bytes > 0 { cut(&mut self.file, end) } else { Ok(()) };
        cut.map_err(|error| unwritable(&self.path(), &error))?;
        Ok(StateLog {
            directory: self.directory,
            file: Box::new(self.file),
            chain: self.chain,
            whole_bytes: end,
            doubtful: false,
        })
    }

    pub(super) fn path(&self) -> PathBuf {
        self.directory.file(FILE)
    }
}

impl Vacant {
    /// Makes the log with `records` in it: all of them durable, or no file at all.
    ///
    /// # Errors
    /// E0204 when the disk is full or fails.
    pub(super) fn create(self, records: &[Record]) -> Result<StateLog, Problem> {
        self.create_on(records, |file| Box::new(file))
    }

    fn create_on(
        self,
        records: &[Record],
        medium: impl FnOnce(File) -> Box<dyn Medium>,
    ) -> Result<StateLog, Problem> {
        let (new, path) = (self.0.file(NEW_FILE), self.0.file(FILE));
        let written = write_new(&new, records, medium).and_then(|written| {
            fs::rename(&new, &path)?;
            self.0.sync()?;
            Ok(written)
        });
        match written {
            Ok((file, chain, whole_bytes)) => {
                Ok(StateLog { directory: self.0, file, chain, whole_bytes, doubtful: false })
            }
            Err(error) => {
                // Best effort: a left-over is replaced at the next start.
                let _ = fs::remove_file(&new);
                Err(unwritable(&path, &error))
            }
        }
    }
}

impl StateLog {
    /// Appends `record`; when this returns it survives a power cut. After a failure the next call first cuts off
    /// what that one may have left.
    ///
    /// # Errors
    /// E0204 when the disk fails: the record does not count. E0201 or E0205 when the log is not what was written.
    pub(super) fn append(&mut self, record: &Record) -> Result<(), Problem> {
        if self.doubtful {
            self.heal()?;
        }
        let mut chain = self.chain.clone();
        let bytes = chain.encode(record);
        if let Err(error) = self.file.append(&bytes).and_then(|()| self.file.sync()) {
            self.doubtful = true;
            return Err(not_appended(&self.directory.file(FILE), &error));
        }
        self.whole_bytes += bytes.len() as u64;
        self.chain = chain;
        Ok(())
    }

    /// Opens the log anew, by its name: it may have been replaced meanwhile. What was durable must still be there.
    fn heal(&mut self) -> Result<(), Problem> {
        let path = self.directory.file(FILE);
        let mut file = open_log(&path)?.ok_or_else(|| damaged(&path, "it was removed under the agent"))?;
        let bytes = read_all(&mut file, &path)?;
        let whole = usize::try_from(self.whole_bytes).ok().and_then(|whole| bytes.get(..whole));
        let whole = whole.ok_or_else(|| damaged(&path, "it is shorter than what the agent wrote"))?;
        let scan = record::scan(whole).map_err(|fault| fault.problem(&path))?;
        if scan.whole_bytes != whole.len() || scan.chain != self.chain {
            return Err(damaged(&path, "it holds other records than the agent wrote"));
        }
        cut(&mut file, self.whole_bytes).map_err(|error| not_appended(&path, &error))?;
        self.file.renew(file);
        self.doubtful = false;
        Ok(())
    }
}

#[cfg(test)]
impl StateLog {
    /// As if the disk took `appends` more records.
    pub(super) fn fail_after(&mut self, appends: usize) {
        let file = open_log(&self.directory.file(FILE)).unwrap().unwrap();
        self.file = Box::new(tests::Failing { file, appends });
    }
}

impl Medium for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn renew(&mut self, file: File) {
        *self = file;
    }
}

fn write_new(
    path: &Path,
    records: &[Record],
    medium: impl FnOnce(File) -> Box<dyn Medium>,
) -> io::Result<(Box<dyn Medium>, Chain, u64)> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = OpenOptions::new()
        .append(true)
        .create_new(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
        .open(path)?;
    let mut file = medium(file);
    let (mut chain, mut whole_bytes) = (Chain::start(), 0);
    for record in records {
        let bytes = chain.encode(record);
        file.append(&bytes)?;
        whole_bytes += bytes.len() as u64;
    }
    file.sync()?;
    Ok((file, chain, whole_bytes))
}

fn open_log(path: &Path) -> Result<Option<File>, Problem> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC);
    match options.open(path) {
        Ok(file) => {
            directory::require_ours(path, &file.metadata().map_err(|error| unreadable(path, &error))?)?;
            Ok(Some(file))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unreadable(path, &error)),
    }
}

fn read_all(file: &mut File, path: &Path) -> Result<Zeroizing<Vec<u8>>, Problem> {
    let len = file.metadata().map_err(|error| unreadable(path, &error))?.len();
    if len > MAX_LOG {
        return Err(unreadable(path, &io::Error::other(format!("it has more than {MAX_LOG} bytes"))));
    }
    // With its full size from the start, so that no unwiped copy of a key is left by growing.
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(len).unwrap_or(0) + 1));
    file.take(len).read_to_end(&mut bytes).map_err(|error| unreadable(path, &error))?;
    Ok(bytes)
}

fn cut(file: &mut File, len: u64) -> io::Result<()> {
    file.set_len(len)?;
    file.sync_all()
}

fn unreadable(path: &Path, error: &io::Error) -> Problem {
    Problem::new("E0201", format!("state log {} cannot be read", path.display()))
        .why(error.to_string())
        .fix("run the agent as the owner of the state directory, on a disk that works")
}

fn unwritable(path: &Path, error: &io::Error) -> Problem {
    Problem::new("E0204", format!("state log {} cannot be written", path.display()))
        .why(error.to_string())
        .fix("free space on that disk or choose another state_dir, then start the agent again")
}

/// As [`unwritable`], of an agent that serves on.
fn not_appended(path: &Path, error: &io::Error) -> Problem {
    unwritable(path, error).fix("free space on that disk; it is tried again by itself")
}

#[cfg(test)]
mod tests;
