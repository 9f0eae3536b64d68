//! The decision log: one line of JSON for each answer, written by a thread of its own.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufWriter, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use super::{mask::Mask, metrics::Metrics, record::Record};
use crate::{problem::Problem, quiet::Quiet};

/// Answers that wait to be written; those beyond are counted as lost, and nobody waits for them.
const WAITING: usize = 4096;
/// How long a line waits for others before it is in the file.
const FLUSHED_EVERY: Duration = Duration::from_millis(200);

static UNWRITTEN: Quiet = Quiet::new();

/// Where answers go to be written; cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct DecisionLog {
    waiting: SyncSender<Arc<Record>>,
    metrics: Metrics,
}

impl DecisionLog {
    /// Opens the file, made with mode 0600, and begins to write.
    ///
    /// # Errors
    /// E0906 when it cannot be opened.
    pub(super) fn open(path: &Path, mask: Mask, metrics: Metrics) -> Result<Self, Problem> {
        let cannot = |error: io::Error| {
            Problem::new("E0906", format!("the decision log {} cannot be written", path.display()))
                .why(error.to_string())
                .fix("choose another file: [authz] decision_log, or \"off\"")
        };
        let file = open(path).map_err(cannot)?;
        let (waiting, records) = sync_channel(WAITING);
        let writer = Writer { path: path.to_owned(), file, mask, metrics: metrics.clone() };
        thread::Builder::new()
            .name("decision-log".into())
            .spawn(move || writer.run(&records))
            .map_err(cannot)?;
        Ok(Self { waiting, metrics })
    }

    /// Never waits.
    pub(super) fn write(&self, record: &Arc<Record>) {
        if self.waiting.try_send(Arc::clone(record)).is_err() {
            self.metrics.log_lost.inc();
        }
    }
}

struct Writer {
    path: PathBuf,
    file: BufWriter<File>,
    mask: Mask,
    metrics: Metrics,
}

impl Writer {
    /// Until nobody is left who could send one.
    fn run(mut self, records: &Receiver<Arc<Record>>) {
        let mut flushed = Instant::now();
        loop {
            match records.recv_timeout(FLUSHED_EVERY) {
                Ok(record) => self.write(&record),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if flushed.elapsed() >= FLUSHED_EVERY {
                self.flush();
                flushed = Instant::now();
            }
        }
        self.flush();
    }

    fn write(&mut self, record: &Record) {
        let mut line = record.event(&self.mask).to_string();
        line.push('\n');
        if let Err(error) = self.file.write_all(line.as_bytes()) {
            self.metrics.log_lost.inc();
            self.say(&error);
        }
    }

    /// A file that was moved away is made anew: that is how logs are rotated.
    fn flush(&mut self) {
        if let Err(error) = self.file.flush() {
            self.say(&error);
        }
        if !self.is_in_place()
            && let Ok(file) = open(&self.path).inspect_err(|error| self.say(error))
        {
            self.file = file;
        }
    }

    fn is_in_place(&self) -> bool {
        let place = std::fs::metadata(&self.path);
        let ours = self.file.get_ref().metadata();
        matches!((place, ours), (Ok(place), Ok(ours)) if (place.dev(), place.ino()) == (ours.dev(), ours.ino()))
    }

    fn say(&self, error: &io::Error) {
        if let Some(suppressed) = UNWRITTEN.line(Instant::now()) {
            let path = self.path.display();
            tracing::error!(%error, suppressed, "the decision log {path} cannot be written (E0906)");
        }
    }
}

fn open(path: &Path) -> io::Result<BufWriter<File>> {
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    Ok(BufWriter::new(file))
}
