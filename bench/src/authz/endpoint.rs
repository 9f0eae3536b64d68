//! Where a server is asked.

use std::{
    fmt, fs,
    io::{self},
    net::{SocketAddr, TcpStream},
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::PathBuf,
    str::FromStr,
};

/// As it is written: `unix:/path` or `tcp:127.0.0.1:1234`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Unix(PathBuf),
    Tcp(SocketAddr),
}

impl Endpoint {
    /// A connection that does not block, as a file to read and write.
    pub(crate) fn connect(&self) -> io::Result<fs::File> {
        let socket: OwnedFd = match self {
            Self::Unix(path) => {
                let socket = UnixStream::connect(path)?;
                socket.set_nonblocking(true)?;
                socket.into()
            }
            Self::Tcp(address) => {
                let socket = TcpStream::connect(address)?;
                socket.set_nodelay(true)?;
                socket.set_nonblocking(true)?;
                socket.into()
            }
        };
        Ok(socket.into())
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp:{address}"),
        }
    }
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("unix", path)) if !path.is_empty() => Ok(Self::Unix(path.into())),
            Some(("tcp", address)) => {
                address.parse().map(Self::Tcp).map_err(|error| format!("{address}: {error}"))
            }
            _ => Err("write unix:/path or tcp:127.0.0.1:1234".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_reads_as_it_is_written() {
        for text in ["unix:/run/a.sock", "tcp:127.0.0.1:80"] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
        for other in ["", "unix:", "/run/a.sock", "tcp:localhost:80", "udp:127.0.0.1:80"] {
            other.parse::<Endpoint>().unwrap_err();
        }
    }
}
