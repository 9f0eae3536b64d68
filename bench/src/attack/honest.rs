//! An honest caller: connects, asks for its secret, and leaves.

use std::{
    io::{self, ErrorKind, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::{Duration, Instant},
};

use super::bytes::{END_STREAM, HEADERS, RST_STREAM, STREAM, call, data, hello, request};

/// How long an answer may take before the caller is taken for one that was not served.
pub const LIMIT: Duration = Duration::from_secs(10);
const DATA: u8 = 0;

/// From `connect()` to the first byte of the secret `name`.
///
/// # Errors
/// When the connection or the call is refused, or nothing comes within [`LIMIT`].
pub fn first_secret(path: &Path, name: &str) -> io::Result<Duration> {
    let mut out = hello();
    call(&mut out, 1, STREAM, 0);
    data(&mut out, 1, &request(name, 0));
    let start = Instant::now();
    let mut socket = UnixStream::connect(path)?;
    socket.set_read_timeout(Some(LIMIT))?;
    socket.write_all(&out)?;
    let mut payload = Vec::new();
    loop {
        let mut header = [0; 9];
        socket.read_exact(&mut header)?;
        let [a, b, c, kind, flags, stream @ ..] = header;
        payload.resize(u32::from_be_bytes([0, a, b, c]) as usize, 0);
        socket.read_exact(&mut payload)?;
        match kind {
            DATA if u32::from_be_bytes(stream) == 1 && !payload.is_empty() => return Ok(start.elapsed()),
            RST_STREAM => return Err(ErrorKind::ConnectionReset.into()),
            HEADERS if flags & END_STREAM != 0 => return Err(ErrorKind::PermissionDenied.into()),
            _ => {}
        }
    }
}
