//! Whose a socket is: from what /proc/net says of addresses to the processes that hold the socket open.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::unix::{ffi::OsStrExt as _, net::UnixStream},
    path::Path,
};

use nix::sys::socket::{getsockopt, sockopt};

use super::target::Socket;

/// Sockets of one address that are followed: a listener's connections share it.
const MAX_SOCKETS: usize = 64;
/// Processes that are named.
const MAX_OWNERS: usize = 8;
/// Largest table of sockets that is read.
const MAX_TABLE: u64 = 64 << 20;

/// Who holds a socket, as far as could be seen.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Owners {
    /// Sorted, at most [`MAX_OWNERS`].
    pub(super) pids: Vec<u32>,
    /// Processes whose descriptors this user may not see.
    pub(super) hidden: usize,
    /// The address was found, whoever has it.
    pub(super) is_known: bool,
}

/// The processes of this node that hold the socket: for a TCP address the end that is bound to it, in the network
/// namespace of the caller of this command; for a path whoever listens there.
pub(super) fn of(socket: &Socket) -> io::Result<Owners> {
    let inodes = match socket {
        Socket::Inode(inode) => vec![*inode],
        Socket::Tcp(address) => tcp(*address)?,
        Socket::Unix(path) => {
            if let Some(pid) = listener(path) {
                return Ok(Owners { pids: vec![pid], hidden: 0, is_known: true });
            }
            unix(&read("/proc/net/unix")?, path)
        }
    };
    if inodes.is_empty() {
        return Ok(Owners::default());
    }
    let (mut pids, hidden) = holders(Path::new("/proc"), &inodes)?;
    pids.sort_unstable();
    pids.truncate(MAX_OWNERS);
    Ok(Owners { pids, hidden, is_known: true })
}

/// Who listens at a path, by the word of the kernel to a client: a socket that was renamed has another path in the table.
fn listener(path: &Path) -> Option<u32> {
    let client = UnixStream::connect(path).ok()?;
    let listener = getsockopt(&client, sockopt::PeerCredentials).ok()?.pid();
    // 0 is a process of another pid namespace.
    u32::try_from(listener).ok().filter(|pid| *pid != 0)
}

fn tcp(address: SocketAddr) -> io::Result<Vec<u64>> {
    let mut tables = read("/proc/net/tcp")?;
    // Without IPv6 there is no such file.
    tables.push_str(&read("/proc/net/tcp6").unwrap_or_default());
    Ok(tcp_inodes(&tables, address))
}

/// Inodes of the sockets bound to `address`; where there are none, of those that listen at its port on every address.
fn tcp_inodes(tables: &str, address: SocketAddr) -> Vec<u64> {
    let wanted = (canonical(address.ip()), address.port());
    let sockets = || {
        tables.lines().filter_map(|line| {
            let fields: Vec<&str> = line.split_ascii_whitespace().take(10).collect();
            let (ip, port) = local_address(fields.get(1)?)?;
            // A connection that its process has closed has none.
            let inode: u64 = fields.get(9)?.parse().ok().filter(|inode| *inode != 0)?;
            Some((canonical(ip), port, *fields.get(3)? == "0A", inode))
        })
    };
    let bound = sockets().filter(|(ip, port, _, _)| (*ip, *port) == wanted).map(|(.., inode)| inode);
    let mut found: Vec<u64> = bound.take(MAX_SOCKETS).collect();
    if found.is_empty() {
        let everywhere =
            sockets().filter(|(ip, port, listens, _)| *listens && ip.is_unspecified() && *port == wanted.1);
        found.extend(everywhere.map(|(.., inode)| inode).take(MAX_SOCKETS));
    }
    found
}

/// `0100007F:01BB`: words of the address in the machine's order, then the port.
fn local_address(text: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = text.split_once(':')?;
    let words: Option<Vec<u32>> = (0..address.len())
        .step_by(8)
        .map(|at| address.get(at..at + 8).and_then(|word| u32::from_str_radix(word, 16).ok()))
        .collect();
    let bytes: Vec<u8> = words?.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let ip = match bytes.len() {
        4 => Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into(),
        16 => Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into(),
        _ => return None,
    };
    Some((ip, u16::from_str_radix(port, 16).ok()?))
}

/// An IPv4 address in IPv6's clothes is the IPv4 address.
fn canonical(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}

/// Inodes of the sockets that listen at `path`. Those of connections have the same path, and tell nothing new.
fn unix(table: &str, path: &Path) -> Vec<u64> {
    /// `__SO_ACCEPTCON`
    const LISTENS: u32 = 0x1_0000;
    let inode = |line: &str| -> Option<u64> {
        let mut fields = line.split_ascii_whitespace();
        let listens = u32::from_str_radix(fields.nth(3)?, 16).ok()? & LISTENS != 0;
        let (inode, bound) = (fields.nth(2)?, fields.next()?);
        (listens && bound.as_bytes() == path.as_os_str().as_bytes()).then(|| inode.parse().ok())?
    };
    table.lines().filter_map(inode).take(MAX_SOCKETS).collect()
}

/// Who has one of the sockets open, and how many processes do not show what they have.
fn holders(procfs: &Path, inodes: &[u64]) -> io::Result<(Vec<u32>, usize)> {
    let links: Vec<String> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    let (mut pids, mut hidden) = (vec![], 0);
    for process in fs::read_dir(procfs)? {
        let process = process?;
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        match fs::read_dir(process.path().join("fd")) {
            Ok(descriptors) => {
                let leads_there = |descriptor: fs::DirEntry| {
                    let target = fs::read_link(descriptor.path()).ok();
                    target.is_some_and(|target| links.iter().any(|link| target.as_os_str() == link.as_str()))
                };
                if descriptors.flatten().any(leads_there) {
                    pids.push(pid);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => hidden += 1,
            // It has left meanwhile.
            Err(_) => {}
        }
    }
    Ok((pids, hidden))
}

fn read(table: &str) -> io::Result<String> {
    use std::io::Read as _;
    let mut text = vec![];
    fs::File::open(table)?.take(MAX_TABLE).read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, os::unix::net::UnixListener};

    use super::*;

    const TABLES: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
        0: 0100007F:01BB 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 11 1 0\n\
        1: 0100007F:A000 0100007F:01BB 01 00000000:00000000 00:00000000 00000000  1000        0 22 1 0\n\
        2: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 33 1 0\n\
        3: 0100007F:A001 0100007F:01BB 06 00000000:00000000 00:00000000 00000000     0        0 0 3 0\n\
        0: 0000000000000000FFFF00000100007F:A002 0000000000000000FFFF00000100007F:01BB 01 0:0 00:0 0 0 0 44 1\n\
        1: 00000000000000000000000001000000:01BB 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 55 1\n\
        garbage\n";

    #[test]
    #[cfg(target_endian = "little")]
    fn the_end_that_is_bound_to_an_address_is_found() {
        for (address, inodes) in [
            ("127.0.0.1:443", &[11][..]),
            ("127.0.0.1:40960", &[22]),
            ("10.0.0.1:8080", &[33]),
            ("127.0.0.1:40962", &[44]),
            ("[::ffff:127.0.0.1]:40960", &[22]),
            ("[::1]:443", &[55]),
            ("127.0.0.1:40961", &[]),
            ("127.0.0.1:1", &[]),
        ] {
            assert_eq!(tcp_inodes(TABLES, address.parse().unwrap()), inodes, "{address}");
        }
    }

    #[test]
    fn this_process_owns_what_it_listens_at() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        // A child that another test has just forked has the same sockets until it executes something.
        let is_ours = |socket: Socket| of(&socket).unwrap().pids.contains(&std::process::id());
        assert!(is_ours(Socket::Tcp(listener.local_addr().unwrap())));
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.sock");
        let _listener = UnixListener::bind(&path).unwrap();
        assert!(is_ours(Socket::Unix(path.clone())));
        let table = unix(&read("/proc/net/unix").unwrap(), &path);
        assert!(is_ours(Socket::Inode(table[0])));
        let renamed = directory.path().join("b.sock");
        fs::rename(&path, &renamed).unwrap();
        assert!(is_ours(Socket::Unix(renamed)));
        assert_eq!(of(&Socket::Unix(path.join("x"))).unwrap(), Owners::default());
    }
}
