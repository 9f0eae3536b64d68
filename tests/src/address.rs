//! Where a program connects to: `/path` or `tcp:address:port`.

use std::{
    net::SocketAddr,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
};

use anyhow::{Context, Result};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrLike, SockaddrStorage, UnixAddr, connect, socket,
};

/// An address of a stream socket.
#[derive(Debug, Clone, Copy)]
pub enum Address {
    Unix(UnixAddr),
    Tcp(SockaddrStorage),
}

impl Address {
    /// # Errors
    /// When it is neither a path of a possible length nor an address with a port.
    pub fn parse(text: &str) -> Result<Self> {
        match text.strip_prefix("tcp:") {
            Some(address) => Ok(Self::Tcp(address.parse::<SocketAddr>().context("an address")?.into())),
            None => Ok(Self::Unix(UnixAddr::new(text)?)),
        }
    }

    /// A socket of its family.
    ///
    /// # Errors
    /// When there is no room for a descriptor.
    pub fn socket(&self) -> Result<OwnedFd> {
        let family = match self {
            Self::Unix(_) => AddressFamily::Unix,
            Self::Tcp(address) => address.family().context("a family")?,
        };
        Ok(socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?)
    }

    /// # Errors
    /// What the kernel says.
    pub fn connect(&self, socket: BorrowedFd<'_>) -> nix::Result<()> {
        match self {
            Self::Unix(address) => connect(socket.as_raw_fd(), address),
            Self::Tcp(address) => connect(socket.as_raw_fd(), address),
        }
    }

    /// As system calls take it: valid as long as this is.
    pub(crate) fn as_raw(&self) -> (*const libc::sockaddr, u32) {
        match self {
            Self::Unix(address) => (address.as_ptr().cast(), address.len()),
            Self::Tcp(address) => (address.as_ptr(), address.len()),
        }
    }
}
