//! The decision log: one line of JSON for each answer, written by a thread of its own.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufWriter, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use super::{mask::Mask, metrics::Metrics, record::Record};
use crate::{problem::Problem, quiet::Quiet};

/// Answers that wait to be written; those beyond are counted as lost, and nobody waits for them.
const WAITING: usize = 4096;
/// Bytes of their questions, all together; one that is larger waits alone.
const WAITING_BYTES: usize = 16 << 20;
/// How long a line waits for others before it is in the file.
const FLUSHED_EVERY: Duration = Duration::from_millis(200);

static UNWRITTEN: Quiet = Quiet::new();

/// Where answers go to be written; cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct DecisionLog {
    waiting: SyncSender<Arc<Record>>,
    bytes: Arc<AtomicUsize>,
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
        let bytes = Arc::<AtomicUsize>::default();
        let taken = Arc::clone(&bytes);
        let writer = Writer { path: path.to_owned(), file, mask, metrics: metrics.clone() };
        thread::Builder::new()
            .name("decision-log".into())
            .spawn(move || writer.run(&records, &taken))
            .map_err(cannot)?;
        Ok(Self { waiting, bytes, metrics })
    }

    /// Never waits.
    pub(super) fn write(&self, record: &Arc<Record>) {
        let before = self.bytes.fetch_add(record.size, Ordering::Relaxed);
        let has_room = before == 0 || before + record.size <= WAITING_BYTES;
        if !has_room || self.waiting.try_send(Arc::clone(record)).is_err() {
            self.bytes.fetch_sub(record.size, Ordering::Relaxed);
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
    fn run(mut self, records: &Receiver<Arc<Record>>, waiting: &AtomicUsize) {
        let mut flushed = Instant::now();
        loop {
            match records.recv_timeout(FLUSHED_EVERY) {
                Ok(record) => {
                    self.write(&record);
                    waiting.fetch_sub(record.size, Ordering::Relaxed);
                }
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
    // A pipe is not waited for: without a reader it is an error.
    let file =
        OpenOptions::new().append(true).create(true).mode(0o600).custom_flags(libc::O_NONBLOCK).open(path)?;
    Ok(BufWriter::new(file))
}

#[cfg(test)]
mod tests {
    use super::{
        super::{id::CheckIds, metrics::Answered},
        *,
    };
    use std::time::SystemTime;

    fn record(ids: &CheckIds, size: usize) -> Arc<Record> {
        let at = SystemTime::UNIX_EPOCH;
        Arc::new(Record {
            id: ids.next(at),
            at,
            policy: None,
            answer: Answered::Denied,
            reason: "policy",
            error: String::new(),
            input: None,
            result: None,
            size,
            took: Duration::ZERO,
            pid: None,
            listener: None,
        })
    }

    #[test]
    fn what_waits_is_bounded_in_bytes_and_a_larger_one_waits_alone() {
        let (waiting, records) = sync_channel(WAITING);
        let log = DecisionLog { waiting, bytes: Arc::default(), metrics: Metrics::default() };
        let ids = CheckIds::default();
        for (size, lost) in [(WAITING_BYTES * 2, 0), (1, 1)] {
            log.write(&record(&ids, size));
            assert_eq!(log.metrics.log_lost.get(), lost);
        }
        log.bytes.fetch_sub(records.recv().expect("one waits").size, Ordering::Relaxed);
        for (size, lost) in [(WAITING_BYTES / 2, 1), (WAITING_BYTES / 2, 1), (1, 2)] {
            log.write(&record(&ids, size));
            assert_eq!(log.metrics.log_lost.get(), lost);
        }
        assert_eq!(records.try_iter().count(), 2);
    }
}
