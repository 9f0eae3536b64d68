//! Where the fields that the programs read lie in the running kernel.

use vouch_abi::{Features, Offsets};

use super::btf::Btf;

/// A field that this kernel does not have.
pub(super) type Missing = &'static str;

/// The programs work without these; what then is off is said by [`Layout`].
const PID_INO: &str = "pid_ino";
const SECCOMP_MODE: &str = "task_seccomp_mode";
const UNIX_SOCK_PEER: &str = "unix_sock_peer";

/// The layout of one kernel, as far as the programs ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) offsets: Offsets,
    pub(super) features: Features,
    /// Whether the AF_UNIX hooks have what they read.
    pub(super) unix_sockets: bool,
}

impl Layout {
    /// # Errors
    /// All fields that are required and missing, in the order of [`Offsets::TABLE`].
    pub(super) fn resolve(btf: &Btf<'_>) -> Result<Self, Vec<Missing>> {
        // `Offsets` is nothing but `u32`s, one for each row of its table.
        let mut offsets = [0_u32; Offsets::TABLE.len()];
        let mut features = Features { pid_inode: 1, seccomp: 1, ..Features::NONE };
        let mut unix_sockets = true;
        let mut missing = Vec::new();
        for (offset, row) in offsets.iter_mut().zip(Offsets::TABLE) {
            match (row.paths.iter().find_map(|path| btf.offset(path)), row.name) {
                (Some(found), _) => *offset = found,
                (None, PID_INO) => features.pid_inode = 0,
                (None, SECCOMP_MODE) => features.seccomp = 0,
                (None, UNIX_SOCK_PEER) => unix_sockets = false,
                (None, _) => missing.push(row.paths[0]),
            }
        }
        match btf.size("upid") {
            Some(size) => features.upid_size = size,
            None => missing.push("upid"),
        }
        if !missing.is_empty() {
            return Err(missing);
        }
        Ok(Self { offsets: zerocopy::transmute!(offsets), features, unix_sockets })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A kernel with one empty type.
    const EMPTY: [u8; 24] = {
        let mut bytes = [0; 24];
        let magic = 0xeb9f_u16.to_ne_bytes();
        (bytes[0], bytes[1]) = (magic[0], magic[1]);
        let header = 24_u32.to_ne_bytes();
        (bytes[4], bytes[5], bytes[6], bytes[7]) = (header[0], header[1], header[2], header[3]);
        bytes
    };

    #[test]
    fn every_required_field_that_is_missing_is_named() {
        let missing = Layout::resolve(&Btf::parse(&EMPTY).unwrap()).unwrap_err();
        assert!(missing.contains(&"task_struct.tgid"), "{missing:?}");
        assert!(missing.contains(&"inode.i_ctime_sec"), "{missing:?}");
        assert!(!missing.contains(&"pid.ino"), "optional: {missing:?}");
        assert!(!missing.contains(&"task_struct.seccomp.mode"), "optional: {missing:?}");
        assert!(!missing.contains(&"unix_sock.peer"), "optional: {missing:?}");
    }
}
