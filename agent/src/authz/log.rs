//! The decision log: one line of JSON for each answer, written by a thread of its own.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufWriter, Write},
    os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _},
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
        let lines = open(path).map_err(cannot)?;
        let (waiting, records) = sync_channel(WAITING);
        let bytes = Arc::<AtomicUsize>::default();
        let taken = Arc::clone(&bytes);
        let writer = Writer { path: path.to_owned(), lines, mask, metrics: metrics.clone() };
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
    lines: Lines<File>,
    mask: Mask,
    metrics: Metrics,
}

/// A file of lines, each of which is whole or begins the one after it anew.
struct Lines<W: Write> {
    file: BufWriter<W>,
    /// The last line in the file may have no end.
    is_torn: bool,
}

impl<W: Write> Lines<W> {
    fn new(file: W, is_torn: bool) -> Self {
        Self { file: BufWriter::new(file), is_torn }
    }

    /// # Errors
    /// When the line, or those before it that wait, cannot be written; this one is not tried again then.
    fn write(&mut self, mut line: String) -> io::Result<()> {
        if self.is_torn {
            line.insert(0, '\n');
        }
        line.push('\n');
        let written = self.file.write_all(line.as_bytes());
        self.is_torn = match &written {
            Ok(()) => false,
            // While others wait nothing of it is in the file.
            Err(_) => self.is_torn || self.file.buffer().is_empty(),
        };
        written
    }
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
        if let Err(error) = self.lines.write(record.event(&self.mask).to_string()) {
            self.metrics.log_lost.inc();
            self.say(&error);
        }
    }

    /// A file that was moved away is made anew: that is how logs are rotated.
    fn flush(&mut self) {
        if let Err(error) = self.lines.file.flush() {
            self.say(&error);
        }
        if !self.is_in_place()
            && let Ok(lines) = open(&self.path).inspect_err(|error| self.say(error))
        {
            self.lines = lines;
        }
    }

    fn is_in_place(&self) -> bool {
        let place = std::fs::metadata(&self.path);
        let ours = self.lines.file.get_ref().metadata();
        matches!((place, ours), (Ok(place), Ok(ours)) if (place.dev(), place.ino()) == (ours.dev(), ours.ino()))
    }

    fn say(&self, error: &io::Error) {
        if let Some(suppressed) = UNWRITTEN.line(Instant::now()) {
            let path = self.path.display();
            tracing::error!(%error, suppressed, "the decision log {path} cannot be written (E0906)");
        }
    }
}

fn open(path: &Path) -> io::Result<Lines<File>> {
    // A pipe is not waited for: without a reader it is an error.
    let file =
        OpenOptions::new().append(true).create(true).mode(0o600).custom_flags(libc::O_NONBLOCK).open(path)?;
    let is_torn = ends_within_a_line(path, &file);
    Ok(Lines::new(file, is_torn))
}

/// Whether who wrote before, another agent perhaps, did not come to the end of a line. Where that cannot be read it may be so.
fn ends_within_a_line(path: &Path, file: &File) -> bool {
    let length = file.metadata().ok().filter(std::fs::Metadata::is_file).map_or(0, |file| file.len());
    let Some(last) = length.checked_sub(1) else { return false };
    let mut byte = [0];
    let read = File::open(path).and_then(|file| file.read_exact_at(&mut byte, last));
    read.is_err() || byte != *b"\n"
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

    /// A disk that has room for so many bytes, and what is on it.
    #[derive(Default)]
    struct Disk {
        room: usize,
        content: Vec<u8>,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = bytes.len().min(self.room);
            if taken == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.room -= taken;
            self.content.extend(&bytes[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn after_a_line_that_was_torn_by_a_full_disk_the_next_one_is_whole() {
        // More than waits in memory, so that it is written at once.
        let long = |word: &str| word.repeat(10_000);
        let mut lines = Lines::new(Disk { room: 15_000, ..Disk::default() }, false);
        lines.write(long("a")).unwrap();
        lines.write(long("b")).unwrap_err();
        lines.write(long("c")).unwrap_err();
        lines.file.get_mut().room = 100_000;
        lines.write("d".to_owned()).unwrap();
        lines.write("e".to_owned()).unwrap();
        lines.file.flush().unwrap();
        let content = String::from_utf8(std::mem::take(&mut lines.file.get_mut().content)).unwrap();
        let read: Vec<_> = content.lines().collect();
        assert_eq!(read, [&*long("a"), &"b".repeat(4_999), "d", "e"]);
        assert!(content.ends_with('\n'));
    }

    #[test]
    fn lines_that_wait_for_room_are_neither_torn_nor_written_twice() {
        let mut lines = Lines::new(Disk { room: 5_000, ..Disk::default() }, false);
        let line = |word: &str| word.repeat(6_000);
        lines.write(line("a")).unwrap();
        lines.write(line("b")).unwrap_err();
        lines.file.get_mut().room = 100_000;
        lines.write(line("c")).unwrap();
        lines.file.flush().unwrap();
        let content = String::from_utf8(std::mem::take(&mut lines.file.get_mut().content)).unwrap();
        assert_eq!(content.lines().collect::<Vec<_>>(), [line("a"), line("c")]);
    }

    #[test]
    fn a_line_that_another_agent_left_without_an_end_is_not_continued() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        for (before, after) in
            [("", "new\n"), ("old\n", "old\nnew\n"), ("old\nto", "old\nto\nnew\n"), ("{", "{\nnew\n")]
        {
            std::fs::write(&path, before).unwrap();
            let mut lines = open(&path).unwrap();
            lines.write("new".to_owned()).unwrap();
            drop(lines);
            assert_eq!(std::fs::read_to_string(&path).unwrap(), after);
        }
    }
}
