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
    EntryId, RegistrationEntry, TemplateEntry, Warning,
    document::{self, Node, SyntaxError},
    json,
    reader::{self, FileEntries, Written},
    values::Source,
};
use crate::{problem::Problem, spiffe::TrustDomain};

/// Most entries in all files together.
pub const MAX_ENTRIES: usize = 1 << 18;
/// Most entries with a template in all files together: each is looked at for each process.
pub const MAX_TEMPLATES: usize = 256;
/// Largest entry file; one of 100,000 entries as `entry show` prints them has some 70 MB.
pub const MAX_FILE_BYTES: u64 = 128 << 20;

/// What all files together say.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Sorted by id, each id once.
    pub entries: Vec<RegistrationEntry>,
    /// Sorted by id. No other id is one of theirs with a slash behind it, as those are that they derive.
    pub templates: Vec<TemplateEntry>,
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
    loaded.templates.sort_by(|a, b| a.id.cmp(&b.id));
    loaded.check_derived_ids()?;
    Ok(loaded)
}

impl Loaded {
    fn add(&mut self, file: &Path, source: Source<'_>, trust_domain: &TrustDomain) -> Result<(), Problem> {
        let root = parse(file, &source)?;
        let FileEntries { entries, warnings } = reader::read(source, &root, trust_domain)?;
        if self.origins.len() + entries.len() > MAX_ENTRIES {
            return Err(Problem::new(
                "E0602",
                format!("more than {MAX_ENTRIES} entries in all files together"),
            ));
        }
        let mut lines = Lines::of(source.text);
        let file: Arc<Path> = file.into();
        for (entry, span) in entries {
            let origin = Origin { file: Arc::clone(&file), line: lines.line_at(span.start) };
            if let Some(first) = self.origins.get(entry.id()) {
                return Err(twice(&source, entry.id(), first, &span));
            }
            self.origins.insert(entry.id().clone(), origin);
            match entry {
                Written::Entry(entry) => self.entries.push(entry),
                Written::Template(_) if self.templates.len() == MAX_TEMPLATES => {
                    let title =
                        format!("more than {MAX_TEMPLATES} entries with a template in all files together");
                    return Err(source.problem("E0602", title, &(span.start..span.start + 1)));
                }
                Written::Template(template) => self.templates.push(template),
            }
        }
        self.warnings.extend(warnings);
        Ok(())
    }

    /// What a template makes is called after it: nothing else may be called so.
    fn check_derived_ids(&self) -> Result<(), Problem> {
        for template in &self.templates {
            let made = format!("{}/", template.id);
            let found = called_so(&self.entries, &made).or_else(|| called_so(&self.templates, &made));
            let Some((id, at)) = found.and_then(|id| Some((id, self.origins.get(id)?))) else { continue };
            let place = format!("{}:{}", at.file.display(), at.line);
            let title = format!("entry id {id} ({place}) is one that entry {} may make", template.id);
            return Err(Problem::new("E0622", title)
                .why(
                    "an entry with a template makes one for each SPIFFE ID: its own id, and the path of that",
                )
                .fix("give one of the two another `entry_id`"));
        }
        Ok(())
    }
}

/// The first of `entries`, which are sorted, whose id begins with `made`.
fn called_so<'e, N>(entries: &'e [RegistrationEntry<N>], made: &str) -> Option<&'e EntryId> {
    let at = entries.partition_point(|entry| entry.id.as_str() < made);
    entries.get(at).map(|entry| &entry.id).filter(|id| id.as_str().starts_with(made))
}

fn twice(source: &Source<'_>, id: &EntryId, first: &Origin, span: &Range<usize>) -> Problem {
    source
        .problem("E0616", format!("entry id {id} stands twice"), &(span.start..span.start + 1))
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
