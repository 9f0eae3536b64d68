//! What bytes from outside may not do, asked by libFuzzer and, with the seeds it starts from, by plain tests.

use std::path::PathBuf;

use anyhow::{Context, ensure};

mod allocated;
pub mod request;
pub mod xfcc;

/// Puts the inputs to start from, each with its name, one file each, where libFuzzer puts what it learns: into the first
/// folder that its command names.
///
/// # Panics
/// When there is no such folder, or they cannot be written.
pub fn write_seeds(seeds: Vec<(&'static str, Vec<u8>)>) {
    let folder = std::env::args_os().skip(1).map(PathBuf::from).find(|path| path.is_dir());
    let folder = folder.expect("a folder for the corpus");
    for (name, input) in seeds {
        let path = folder.join(name);
        std::fs::write(&path, input).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

/// Asks everything of the inputs in the files that the command names.
///
/// # Errors
/// When it names none, or one cannot be read.
///
/// # Panics
/// When an input breaks a rule, as `check` does.
pub fn ask_again(check: fn(&[u8])) -> anyhow::Result<()> {
    let files: Vec<_> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    ensure!(!files.is_empty(), "name the files whose inputs are to be asked again");
    for file in &files {
        let input = std::fs::read(file).with_context(|| format!("reading {}", file.display()))?;
        check(&input);
        println!("{} keeps the rules", file.display());
    }
    Ok(())
}
