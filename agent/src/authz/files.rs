//! The files of one policy, read whole within bounds.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use regorus::Value;
use ring::digest::{Context, SHA256};

use super::{
    digits::too_long,
    rego::{self, Data, Entrypoint, Source},
};
use crate::{plain_file, problem::Problem};

/// Most files of one policy, its folders searched through.
pub(super) const MAX_FILES: usize = 1024;
/// How deep folders are searched.
const MAX_DEPTH: usize = 16;

/// Most bytes of the files of a policy that no configuration names.
const POLICY_SIZE: usize = 1 << 20;
const DATA_SIZE: usize = 4 << 20;
const TIMEOUT: Duration = Duration::from_millis(100);

/// Where a policy is written, and within which bounds it is read and evaluated.
#[derive(Debug, Clone)]
pub struct PolicyFiles {
    /// Files and folders.
    pub files: Vec<PathBuf>,
    /// The rule that decides.
    pub entrypoint: Entrypoint,
    /// In bytes, of all sources together.
    pub policy_size: usize,
    /// In bytes, of all data together.
    pub data_size: usize,
    pub timeout: Duration,
}

impl PolicyFiles {
    /// With the bounds that are in force when none are configured.
    pub fn new(files: Vec<PathBuf>, entrypoint: Entrypoint) -> Self {
        Self { files, entrypoint, policy_size: POLICY_SIZE, data_size: DATA_SIZE, timeout: TIMEOUT }
    }

    /// Reads and compiles the policy, which messages call `name`.
    ///
    /// # Errors
    /// E0901 to E0903 when it cannot be read, E0904 when it does not compile, all its faults in one.
    pub fn compile(&self, name: &str) -> Result<rego::Policy, Problem> {
        self.compile_content(name, &self.read()?)
    }

    /// # Errors
    /// See [`read`].
    pub(super) fn read(&self) -> Result<Content, Problem> {
        read(&self.files, self.policy_size, self.data_size)
    }

    pub(super) fn compile_content(&self, name: &str, content: &Content) -> Result<rego::Policy, Problem> {
        let limits = rego::Limits {
            time: self.timeout,
            source_bytes: self.policy_size,
            data_bytes: self.data_size,
            ..rego::Limits::default()
        };
        rego::Policy::compile(&content.sources, &content.data, &self.entrypoint, &limits)
            .map_err(|faults| refused(name, &faults))
    }
}

/// All faults of a policy as one problem.
fn refused(name: &str, faults: &[rego::Fault]) -> Problem {
    const SHOWN: usize = 10;
    let lines: Vec<String> = faults.iter().take(SHOWN).map(ToString::to_string).collect();
    let more = match faults.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!("\nand {more} more"),
    };
    Problem::new("E0904", format!("policy {name} does not compile"))
        .why(format!("{}{more}", lines.join("\n")))
        .fix("mend it; vouch policy check says the same of a file before it is put in place")
}

/// What a policy is made of.
#[derive(Debug, Default)]
pub(super) struct Content {
    pub(super) sources: Vec<Source>,
    pub(super) data: Vec<Data>,
    /// Of names and contents: changes when anything of it does.
    pub(super) revision: String,
}

/// One file that was found, and which data it holds if it holds data: that of its folders below the one that was named.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    path: PathBuf,
    below: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Rego,
    Json,
    Yaml,
}

/// Reads `files`, and what lies in folders among them: `.rego`, `.json`, `.yaml` and `.yml`. What begins with a dot is
/// passed over, as the folders behind a mounted ConfigMap. Data of a folder is put where the folder lies.
///
/// # Errors
/// E0901 for what cannot be read, E0902 for what is too large or too much, E0903 for data that is none.
pub(super) fn read(files: &[PathBuf], policy_size: usize, data_size: usize) -> Result<Content, Problem> {
    let mut content = Content::default();
    let mut digest = Context::new(&SHA256);
    let (mut sources, mut data) = (0, 0);
    for Found { path, below } in find(files)? {
        let name = path.display().to_string();
        let Some(kind) = kind(&path) else {
            return Err(Problem::new("E0901", format!("{name} is neither Rego nor data"))
                .fix("name files that end in .rego, .json, .yaml or .yml"));
        };
        let (used, limit, key) = match kind {
            Kind::Rego => (&mut sources, policy_size, "policy_size"),
            Kind::Json | Kind::Yaml => (&mut data, data_size, "data_size"),
        };
        let text = read_text(&path, limit - *used, key)?;
        *used += text.len();
        for part in [name.as_bytes(), text.as_bytes()] {
            digest.update(&(part.len() as u64).to_le_bytes());
            digest.update(part);
        }
        match kind {
            Kind::Rego => content.sources.push(Source { name, text }),
            Kind::Json | Kind::Yaml => {
                content.data.push(Data { value: parse(kind, &text, &name)?, name, path: below });
            }
        }
    }
    content.revision = hex::encode(&digest.finish().as_ref()[..6]);
    Ok(content)
}

/// Where to look for changes: every file that is read, and a name in every folder that is searched.
pub(super) fn watched(files: &[PathBuf]) -> Vec<PathBuf> {
    let mut watched: Vec<PathBuf> = Vec::new();
    for file in files {
        watched.push(file.clone());
        // What a watch on a file looks at is the folder that it lies in.
        if file.is_dir() {
            watched.push(file.join("*"));
        }
    }
    if let Ok(found) = find(files) {
        watched.extend(found.into_iter().map(|found| found.path));
    }
    watched.sort();
    watched.dedup();
    watched
}

fn kind(path: &Path) -> Option<Kind> {
    match path.extension()?.to_str()? {
        "rego" => Some(Kind::Rego),
        "json" => Some(Kind::Json),
        "yaml" | "yml" => Some(Kind::Yaml),
        _ => None,
    }
}

/// In the order of their names, so that the same folder reads the same everywhere.
fn find(files: &[PathBuf]) -> Result<Vec<Found>, Problem> {
    let mut found = Vec::new();
    for file in files {
        let meta = fs::metadata(file).map_err(|error| cannot(file, &error))?;
        if meta.is_dir() {
            search(file, &mut Vec::new(), &mut found)?;
        } else {
            found.push(Found { path: file.clone(), below: vec![] });
        }
    }
    if found.iter().all(|found| kind(&found.path) != Some(Kind::Rego)) {
        let named: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
        return Err(Problem::new("E0901", format!("there is no Rego in {}", named.join(", ")))
            .fix("name files or folders with files that end in .rego"));
    }
    Ok(found)
}

fn search(folder: &Path, below: &mut Vec<String>, found: &mut Vec<Found>) -> Result<(), Problem> {
    let too_much = |what: String| Problem::new("E0902", what).fix("name the files, or a smaller folder");
    if below.len() == MAX_DEPTH {
        return Err(too_much(format!("{} lies deeper than {MAX_DEPTH} folders", folder.display())));
    }
    let entries = fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let mut entries = entries.map_err(|error| cannot(folder, &error))?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if name.starts_with('.') {
            continue;
        }
        let meta = fs::metadata(&path).map_err(|error| cannot(&path, &error))?;
        if meta.is_dir() {
            below.push(name);
            search(&path, below, found)?;
            below.pop();
        } else if kind(&path).is_some() {
            if found.len() == MAX_FILES {
                return Err(too_much(format!("there are more than {MAX_FILES} files")));
            }
            found.push(Found { path, below: below.clone() });
        }
    }
    Ok(())
}

fn read_text(path: &Path, room: usize, key: &str) -> Result<String, Problem> {
    let bytes = plain_file::read(path, room as u64).map_err(|error| cannot(path, &error))?;
    let Some(bytes) = bytes else {
        return Err(Problem::new("E0902", format!("{} is too large for its policy", path.display()))
            .why(format!("all such files of a policy together may have as many bytes as [authz] {key} says"))
            .fix(format!("raise [authz] {key}, or leave something out")));
    };
    String::from_utf8(bytes).map_err(|_| cannot(path, &io::Error::other("it is not UTF-8 text")))
}

fn parse(kind: Kind, text: &str, name: &str) -> Result<Value, Problem> {
    if let Some(number) = too_long(text) {
        return Err(Problem::new(
            "E0903",
            format!("{name} holds {number}, which has more digits than are kept"),
        )
        .why("once it is read, another number may be equal to it")
        .fix("write it as text, and let the policy compare texts"));
    }
    let parsed = match kind {
        Kind::Yaml => Value::from_yaml_str(text),
        Kind::Json | Kind::Rego => Value::from_json_str(text),
    };
    parsed.map_err(|error| {
        let said = error.to_string();
        Problem::new("E0903", format!("{name} is no data"))
            .why(said.lines().next().unwrap_or_default().trim())
    })
}

fn cannot(path: &Path, error: &io::Error) -> Problem {
    Problem::new("E0901", format!("{} cannot be read", path.display()))
        .why(error.to_string())
        .fix("check [[authz.policies]] files")
}
