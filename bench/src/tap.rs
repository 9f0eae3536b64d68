//! Between a client and a server: passes everything on, and notes when the client last said something.

use std::{
    io::{self, Read as _, Write as _},
    net::Shutdown,
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use anyhow::Result;

use crate::clock::Moment;

const BUFFER: usize = 64 << 10;
/// What is shorter belongs to HTTP/2 alone: an opened window, a PING, settings.
const SHORTEST_REQUEST: usize = 64;

/// A socket that leads to another.
#[derive(Debug)]
pub(crate) struct Tap {
    said: Arc<Mutex<Said>>,
    socket: PathBuf,
}

/// What a client has said.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Said {
    /// In requests and ACKs; the frames around them included.
    pub(crate) bytes: u64,
    pub(crate) last: Moment,
}

impl Tap {
    /// Listens at `socket` for connections to `server`, until this program ends.
    pub(crate) fn open(socket: PathBuf, server: PathBuf) -> Result<Self> {
        let listener = UnixListener::bind(&socket)?;
        let said = Arc::new(Mutex::new(Said { bytes: 0, last: Moment::now() }));
        let noting = Arc::clone(&said);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // A client that is not let through sees its connection closed, and comes again.
                let _ = pass(client, &server, &noting);
            }
        });
        Ok(Self { said, socket })
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    pub(crate) fn said(&self) -> Said {
        *self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn pass(client: UnixStream, server: &Path, said: &Arc<Mutex<Said>>) -> io::Result<()> {
    let server = UnixStream::connect(server)?;
    let (from, to, said) = (client.try_clone()?, server.try_clone()?, Arc::clone(said));
    thread::spawn(move || {
        copy(&from, &to, |bytes| {
            if bytes >= SHORTEST_REQUEST {
                let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
                said.bytes += bytes as u64;
                said.last = Moment::now();
            }
        });
    });
    thread::spawn(move || copy(&server, &client, |_| ()));
    Ok(())
}

/// Until either end is closed; then both are.
fn copy(mut from: &UnixStream, mut to: &UnixStream, mut note: impl FnMut(usize)) {
    let mut buffer = vec![0; BUFFER];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
        note(read);
    }
    // Fails only when it is closed already.
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_noted_on_one_side_and_its_length_matters() {
        let directory = tempfile::tempdir().unwrap();
        let (near, far) = (directory.path().join("near"), directory.path().join("far"));
        let listener = UnixListener::bind(&far).unwrap();
        let tap = Tap::open(near.clone(), far).unwrap();
        let mut client = UnixStream::connect(tap.socket()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let mut bytes = [0; 100];
        for (written, noted) in [(9, 0), (100, 100)] {
            client.write_all(&bytes[..written]).unwrap();
            server.read_exact(&mut bytes[..written]).unwrap();
            server.write_all(&bytes[..written]).unwrap();
            client.read_exact(&mut bytes[..written]).unwrap();
            let limit = Moment::now() + std::time::Duration::from_secs(5);
            while tap.said().bytes != noted && Moment::now() < limit {}
            assert_eq!(tap.said().bytes, noted);
        }
        drop(server);
        assert_eq!(client.read(&mut bytes).unwrap(), 0, "the end is passed on");
    }
}
