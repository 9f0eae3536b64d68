//! An engine that says of containers what a scenario wants.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::{
        fs::PermissionsExt as _,
        net::{UnixListener, UnixStream},
    },
    path::Path,
    thread,
};

use anyhow::{Context as _, Result};

/// Listens at `path` and calls every container that it is asked about `app=label`. The socket is its maker's, and
/// everybody of the maker's group may connect.
///
/// # Errors
/// When the socket cannot be made.
pub fn engine(path: &Path, label: String) -> Result<()> {
    let listener = UnixListener::bind(path).with_context(|| format!("binding {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
    thread::spawn(move || {
        // Whoever breaks off is not missed.
        listener.incoming().flatten().for_each(|stream| _ = answer(&stream, &label));
    });
    Ok(())
}

fn answer(mut stream: &UnixStream, label: &str) -> Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let request = lines.next().context("a request")??;
    while lines.next().context("the end of the head")??.trim() != "" {}
    let id = request.split('/').nth(2).context("a container's id")?;
    let body = format!(r#"{{"Id":"{id}","Image":"sha256:00","Config":{{"Labels":{{"app":"{label}"}}}}}}"#);
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())?;
    Ok(())
}
