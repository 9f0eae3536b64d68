//! Where fetched peers and tools are kept between runs: outside the tree, so that a clean clone finds them again.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::Context;

/// `$VOUCH_CACHE`, else `$XDG_CACHE_HOME/vouch`, else `~/.cache/vouch`, else a folder below the temporary one.
pub(crate) fn dir() -> PathBuf {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("VOUCH_CACHE")
        .or_else(|| Some(set("XDG_CACHE_HOME")?.join("vouch")))
        .or_else(|| Some(set("HOME")?.join(".cache/vouch")))
        .unwrap_or_else(|| env::temp_dir().join("vouch-cache"))
}

/// The entry `name`, made by `make` in a folder of its own when it is not there yet. It appears whole or not at
/// all: two runs at once do no harm, and neither does one that was interrupted.
///
/// # Errors
/// Those of `make`, and of the file system.
pub(crate) fn entry(name: &str, make: impl FnOnce(&Path) -> anyhow::Result<()>) -> anyhow::Result<PathBuf> {
    let cache = dir();
    let entry = cache.join(name);
    if entry.exists() {
        return Ok(entry);
    }
    let draft = cache.join(format!(".{name}.{}", std::process::id()));
    fs::create_dir_all(&draft).with_context(|| format!("making {}", draft.display()))?;
    let placed = make(&draft).and_then(|()| match fs::rename(&draft, &entry) {
        // Somebody else was first: theirs is as good as ours.
        Err(_) if entry.exists() => Ok(()),
        moved => moved.with_context(|| format!("moving {} into place", entry.display())),
    });
    if placed.is_err() || draft.exists() {
        fs::remove_dir_all(&draft).ok();
    }
    placed.map(|()| entry)
}
