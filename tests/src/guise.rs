//! Connections of many users, made by one process.
#![expect(unsafe_code, reason = "a single thread changes its user, which no library does")]

use std::{
    io,
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::Path,
    thread,
};

/// A connection to the socket at `path` whose maker is `uid`.
///
/// # Panics
/// When this process may not be that user, or nobody listens.
pub fn connect_as(uid: u32, path: &Path) -> UnixStream {
    let path = path.to_owned();
    as_user(uid, move || UnixStream::connect(path).expect("it accepts"))
}

/// The same over TCP.
///
/// # Panics
/// As there.
pub fn connect_at_as(uid: u32, address: SocketAddr) -> TcpStream {
    as_user(uid, move || TcpStream::connect(address).expect("it accepts"))
}

fn as_user<T: Send + 'static>(uid: u32, connect: impl FnOnce() -> T + Send + 'static) -> T {
    let connect = move || {
        let keep = -1;
        // SAFETY: plain numbers. The system call, unlike the library's, changes the calling thread alone, which ends here.
        let changed = unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, keep) };
        assert_eq!(changed, 0, "this thread cannot be user {uid}: {}", io::Error::last_os_error());
        connect()
    };
    thread::spawn(connect).join().expect("it connected")
}
