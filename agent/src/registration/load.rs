//! Entry files → entries: all files or nothing.

use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    io::{self, Read},
    ops::Range,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    EntryId, RegistrationEntry, Warning,
    document::{self, Node, SyntaxError},
    json,
    reader::{self, FileEntries},
    values::Source,
};
use crate::{problem::Problem, spiffe::TrustDomain};

/// Most entries in all files together.
pub const MAX_ENTRIES: usize = 1 << 18;
/// Largest entry file; one of 100,000 entries as `entry show` prints them has some 70 MB.
pub const MAX_FILE_BYTES: u64 = 128 << 20;

/// What all files together say.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Sorted by id, each id once.
    pub entries: Vec<RegistrationEntry>,
    /// Where each entry was written.
    pub origins: HashMap<EntryId, Origin>,
    /// In the order of the files.
    pub warnings: Vec<Warning>,
}

/// Where an entry was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    pub file: Arc<Path>,
    /// From 1.
    pub line: usize,
}

/// Reads all `files`, `.json` or `.toml`. Blocks on the disk; takes some seconds for 100,000 entries.
///
/// # Errors
/// The first fault of the first file with one: nothing of any file is used then.
pub fn load(files: &[PathBuf], trust_domain: &TrustDomain) -> Result<Loaded, Problem> {
    let mut loaded = Loaded::default();
    for file in files {
        let text = read_text(file)?;
        let name = file.display().to_string();
        loaded.add(file, Source { file: &name, text: &text }, trust_domain)?;
    }
    loaded.entries.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(loaded)
}

impl Loaded {
    fn add(&mut self, file: &Path, source: Source<'_>, trust_domain: &TrustDomain) -> Result<(), Problem> {
        let root = parse(file, &source)?;
        let FileEntries { entries, warnings } = reader::read(source, &root, trust_domain)?;
        if self.entries.len() + entries.len() > MAX_ENTRIES {
            return Err(Problem::new(
                "E0602",
                format!("more than {MAX_ENTRIES} entries in all files together"),
            ));
        }
        let mut lines = Lines::of(source.text);
        let file: Arc<Path> = file.into();
        for (entry, span) in entries {
            let origin = Origin { file: Arc::clone(&file), line: lines.line_at(span.start) };
            if let Some(first) = self.origins.get(&entry.id) {
                return Err(twice(&source, &entry, first, &span));
            }
            self.origins.insert(entry.id.clone(), origin);
            self.entries.push(entry);
        }
        self.warnings.extend(warnings);
        Ok(())
    }
}

fn twice(source: &Source<'_>, entry: &RegistrationEntry, first: &Origin, span: &Range<usize>) -> Problem {
    source
        .problem("E0616", format!("entry id {} stands twice", entry.id), &(span.start..span.start + 1))
        .why(format!(
            "first at {}:{}; an entry without an id is named after its SPIFFE ID and conditions",
            first.file.display(),
            first.line
        ))
        .fix("remove one of the two, or give each an `entry_id` of its own")
}

fn parse<'t>(file: &Path, source: &Source<'t>) -> Result<Node<'t>, Problem> {
    let (format, parsed) = match file.extension().and_then(|extension| extension.to_str()) {
        Some("json") => ("JSON", json::from_json(source.text)),
        Some("toml") => ("TOML", document::from_toml(source.text)),
        _ => {
            return Err(Problem::new("E0603", format!("{} is neither .json nor .toml", source.file))
                .why("the format of an entry file is told by the end of its name"));
        }
    };
    parsed.map_err(|SyntaxError { message, span }| {
        source.problem("E0604", format!("not valid {format}: {message}"), &span)
    })
}

/// The text of a regular file of bounded size; never waits for a writer, as reading a FIFO would.
fn read_text(path: &Path) -> Result<String, Problem> {
    let cannot = |error: io::Error| {
        Problem::new("E0601", format!("entry file {} cannot be read", path.display()))
            .why(error.to_string())
            .fix("check [entries] files in the configuration, and that the agent may read the file")
    };
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(cannot)?;
    if !file.metadata().map_err(cannot)?.is_file() {
        return Err(cannot(io::Error::other("it is not a regular file")));
    }
    let bytes = read_bounded(file).map_err(cannot)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(Problem::new("E0602", format!("entry file {} is too large", path.display()))
            .why(format!("at most {MAX_FILE_BYTES} bytes are read"))
            .fix("split it into several files"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let line =
            1 + error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count();
        Problem::new("E0604", format!("{} is not UTF-8 text: line {line}", path.display()))
    })
}

fn read_bounded(file: File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Line numbers of rising positions, in one pass over the text.
struct Lines<'t> {
    text: &'t [u8],
    at: usize,
    line: usize,
}

impl<'t> Lines<'t> {
    fn of(text: &'t str) -> Self {
        Self { text: text.as_bytes(), at: 0, line: 1 }
    }

    fn line_at(&mut self, position: usize) -> usize {
        if let Some(between) = self.text.get(self.at..position) {
            self.line += between.iter().filter(|byte| **byte == b'\n').count();
            self.at = position;
        }
        self.line
    }
}

#[cfg(test)]
mod tests;
