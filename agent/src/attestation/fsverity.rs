//! The digest by which the kernel checks each block of a file that it reads (fs-verity). Whoever may write to the file's
//! directory cannot change what such a file says, so the digest names the content without reading it.

#![expect(unsafe_code, reason = "FS_IOC_MEASURE_VERITY has no safe form")]

use std::{fs::File, io, os::fd::AsRawFd as _};

/// The largest digest of any algorithm (`FS_VERITY_MAX_DIGEST_SIZE`).
const MAX_DIGEST: usize = 64;

/// `struct fsverity_digest`, with room.
#[repr(C)]
#[derive(Debug)]
struct Measured {
    algorithm: u16,
    /// The room there is; afterwards the size of the digest.
    size: u16,
    digest: [u8; MAX_DIGEST],
}

/// The number says the size of the structure without its variable end.
const MEASURE_VERITY: libc::c_ulong = nix::request_code_readwrite!(b'f', 134, 4);

/// `algorithm:hex` of `file`; `None` when the kernel does not protect it in this way.
///
/// # Errors
/// When the kernel cannot say.
pub(super) fn digest(file: &File) -> io::Result<Option<String>> {
    let mut measured = Measured { algorithm: 0, size: MAX_DIGEST as u16, digest: [0; MAX_DIGEST] };
    // SAFETY: the kernel writes no more than the size that is given, and the structure has that room.
    let done = unsafe { libc::ioctl(file.as_raw_fd(), MEASURE_VERITY, &raw mut measured) };
    if done == 0 {
        return measured.to_text().map(Some);
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        // The file is not protected; its file system, or the kernel, knows of no such thing.
        Some(libc::ENODATA | libc::ENOTTY | libc::EOPNOTSUPP) => Ok(None),
        _ => Err(error),
    }
}

impl Measured {
    fn to_text(&self) -> io::Result<String> {
        let algorithm = match self.algorithm {
            1 => "sha256",
            2 => "sha512",
            other => return Err(io::Error::other(format!("fs-verity algorithm {other} is not known"))),
        };
        let digest = self.digest.get(..usize::from(self.size)).filter(|digest| !digest.is_empty());
        let digest = digest.ok_or_else(|| io::Error::other("fs-verity digest of no possible size"))?;
        Ok(format!("{algorithm}:{}", hex::encode(digest)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_written_with_its_algorithm() {
        let of = |algorithm, size| Measured { algorithm, size, digest: [0xab; MAX_DIGEST] }.to_text();
        assert_eq!(of(1, 32).unwrap(), format!("sha256:{}", "ab".repeat(32)));
        assert_eq!(of(2, 64).unwrap(), format!("sha512:{}", "ab".repeat(64)));
        for (algorithm, size) in [(1, 0), (1, 65), (0, 32), (3, 32)] {
            assert!(of(algorithm, size).is_err(), "{algorithm} {size}");
        }
    }

    #[test]
    fn a_file_without_protection_has_none() {
        let file = tempfile::tempfile().unwrap();
        assert_eq!(digest(&file).unwrap(), None);
    }
}
