//! The socket of a witness: whose it must be to be believed.

use std::{
    io,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::Path,
};

use nix::sys::socket::{getsockopt, sockopt};
use tokio::net::UnixStream;

use super::Silence;

/// Who may connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// Owner and group: whoever may connect rules the engine, and decides what it says.
    Closed,
    /// Everybody, as a bus is for.
    Open,
}

/// Connects to the socket at `path`, which must belong to `owner`, and somebody of that uid must listen.
///
/// # Errors
/// When there is nobody, or somebody else.
pub(super) async fn connect(path: &Path, owner: u32, reach: Reach) -> Result<UnixStream, Silence> {
    let silent = |why: String| Silence::new(format!("{}: {why}", path.display()));
    let seen = tokio::fs::metadata(path).await.map_err(|error| silent(plain(&error)))?;
    if !seen.file_type().is_socket() {
        return Err(silent("it is no socket".into()));
    }
    if seen.uid() != owner {
        return Err(silent(format!("it belongs to uid {}, not {owner}", seen.uid())));
    }
    if reach == Reach::Closed && seen.mode() & 0o002 != 0 {
        return Err(silent("everybody may write to it: chmod o-w".into()));
    }
    let stream = UnixStream::connect(path).await.map_err(|error| silent(plain(&error)))?;
    // Whoever called listen(), whatever the path has come to lead to.
    let listener =
        getsockopt(&stream, sockopt::PeerCredentials).map_err(|error| silent(error.to_string()))?;
    if listener.uid() != owner {
        return Err(silent(format!("uid {} listens there, not {owner}", listener.uid())));
    }
    Ok(stream)
}

/// Without the number, which an operator cannot use.
pub(super) fn plain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such socket".into(),
        io::ErrorKind::ConnectionRefused => "nobody listens there".into(),
        io::ErrorKind::WouldBlock => "it takes no more connections".into(),
        io::ErrorKind::PermissionDenied => "the agent may not connect to it".into(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
            "the connection ended early".into()
        }
        _ => error.to_string().replace('\n', " "),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use tokio::net::UnixListener;

    use super::*;

    #[tokio::test]
    async fn a_socket_is_believed_only_from_its_owner_and_only_if_it_is_closed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let us = nix::unistd::geteuid().as_raw();
        let ask = async |owner, reach| connect(&path, owner, reach).await.map_err(|silence| silence.reason);
        let told = |why: &str| format!("{}: {why}", path.display());
        assert_eq!(ask(us, Reach::Closed).await.unwrap_err(), told("there is no such socket"));
        let listener = UnixListener::bind(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o660)).unwrap();
        assert!(ask(us, Reach::Closed).await.is_ok());
        let foreign = us + 1;
        assert_eq!(
            ask(foreign, Reach::Closed).await.unwrap_err(),
            told(&format!("it belongs to uid {us}, not {foreign}"))
        );
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        assert!(ask(us, Reach::Open).await.is_ok());
        assert_eq!(ask(us, Reach::Closed).await.unwrap_err(), told("everybody may write to it: chmod o-w"));
        drop(listener);
        assert_eq!(ask(us, Reach::Open).await.unwrap_err(), told("nobody listens there"));
        fs::remove_file(&path).unwrap();
        fs::write(&path, "").unwrap();
        assert_eq!(ask(us, Reach::Open).await.unwrap_err(), told("it is no socket"));
    }
}
