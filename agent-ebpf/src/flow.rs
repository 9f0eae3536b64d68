//! What both ends of one TCP connection know of it, and of no other one.

use core::ptr::read_volatile;

use aya_ebpf::bindings::bpf_sock_ops;

/// Addresses, ports, and where each end began to count its bytes.
///
/// The addresses alone would not do: loopback has the same ones in each network namespace, and ports are used again, also
/// while the record of a connection that the other end never accepted still waits. The numbers are drawn anew by both ends for
/// each connection, so nobody finds a record but the connection that it was made for.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Flow {
    client: [u32; 4],
    server: [u32; 4],
    /// In host order, as those below.
    client_port: u32,
    server_port: u32,
    client_sequence: u32,
    server_sequence: u32,
}

/// A connection as one of its ends sees it when it is established.
#[derive(Clone, Copy)]
pub struct Seen {
    local: End,
    remote: End,
}

#[derive(Clone, Copy)]
struct End {
    address: [u32; 4],
    port: u32,
    /// Of the first byte that it sends.
    sequence: u32,
}

impl Seen {
    /// `None` when it is neither of IPv4 nor of IPv6.
    ///
    /// The two ends may be sockets of different families, so all addresses are of IPv6, those of IPv4 mapped into it.
    #[inline(always)]
    pub fn in_context(context: *const bpf_sock_ops) -> Option<Self> {
        const AF_INET: u32 = 2;
        const AF_INET6: u32 = 10;
        /// A field. Volatile, because two fields read at once are refused; and each is read whether it is needed or not,
        /// because the compiler makes one read at an offset that varies of two reads in two branches.
        macro_rules! read {
            ($field:ident$([$index:literal])?) => {{
                // SAFETY: the kernel passed a valid context.
                unsafe { read_volatile(&raw const (*context).$field$([$index])?) }
            }};
        }
        let (local4, remote4) = (read!(local_ip4), read!(remote_ip4));
        let local6 = [read!(local_ip6[0]), read!(local_ip6[1]), read!(local_ip6[2]), read!(local_ip6[3])];
        let remote6 =
            [read!(remote_ip6[0]), read!(remote_ip6[1]), read!(remote_ip6[2]), read!(remote_ip6[3])];
        let (local_port, remote_port) = (read!(local_port), u32::from_be(read!(remote_port)));
        // Each end has had its first packet acknowledged, and nothing since.
        let (sent, received) = (read!(snd_una), read!(rcv_nxt));
        let (local, remote) = match read!(family) {
            AF_INET => (mapped(local4), mapped(remote4)),
            AF_INET6 => (local6, remote6),
            _ => return None,
        };
        Some(Self {
            local: End { address: local, port: local_port, sequence: sent },
            remote: End { address: remote, port: remote_port, sequence: received },
        })
    }

    #[inline(always)]
    pub fn by_client(self) -> Flow {
        Flow::between(self.local, self.remote)
    }

    #[inline(always)]
    pub fn by_server(self) -> Flow {
        Flow::between(self.remote, self.local)
    }
}

impl Flow {
    #[inline(always)]
    fn between(client: End, server: End) -> Self {
        Self {
            client: client.address,
            server: server.address,
            client_port: client.port,
            server_port: server.port,
            client_sequence: client.sequence,
            server_sequence: server.sequence,
        }
    }
}

/// `::ffff:a.b.c.d`
#[inline(always)]
fn mapped(address: u32) -> [u32; 4] {
    [0, 0, 0x0000_ffff_u32.to_be(), address]
}
