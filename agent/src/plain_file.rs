//! Files that an operator wrote: read whole, within a bound, and never waited for.

use std::{
    fs::OpenOptions,
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

/// The content of a regular file; `None` when it has more than `most` bytes. Never waits for a writer, as reading a FIFO
/// would.
///
/// # Errors
/// When it cannot be read, or is no regular file.
pub fn read(path: &Path, most: u64) -> io::Result<Option<Vec<u8>>> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= most).then_some(bytes))
}
