//! A raw connection, as its maker sees it.

use std::os::fd::{AsFd, AsRawFd};

use nix::{
    errno::Errno,
    sys::socket::{MsgFlags, recv},
};

/// Whether the far end has not closed it; reads and drops what it said.
pub fn is_open(connection: &impl AsFd) -> bool {
    let mut buffer = [0; 4096];
    loop {
        match recv(connection.as_fd().as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) => return error == Errno::EWOULDBLOCK,
        }
    }
}
