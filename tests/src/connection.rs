//! A raw connection, as its maker sees it.

use std::{
    io::{ErrorKind, Read as _},
    os::unix::net::UnixStream,
};

/// Whether the far end has not closed it; reads and drops what it said.
///
/// # Panics
/// When it is no socket any more.
pub fn is_open(mut connection: &UnixStream) -> bool {
    connection.set_nonblocking(true).expect("a socket");
    let mut buffer = [0; 4096];
    loop {
        match connection.read(&mut buffer) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        }
    }
}
