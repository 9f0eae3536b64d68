//! What lies in a folder beside the scenarios.

use std::{collections::BTreeMap, fs, path::Path};

/// The texts of all files in `folder` below `tests`, by the names of the files.
///
/// # Panics
/// When one cannot be read.
pub(crate) fn of(folder: &str) -> BTreeMap<String, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let read = |file: std::io::Result<fs::DirEntry>| {
        let file = file?;
        Ok((file.file_name().to_string_lossy().into_owned(), fs::read_to_string(file.path())?))
    };
    let files = fs::read_dir(&folder).and_then(|files| files.map(read).collect());
    files.unwrap_or_else(|error: std::io::Error| panic!("{}: {error}", folder.display()))
}
