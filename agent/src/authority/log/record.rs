//! Records of the state log as bytes.
//!
//! ```text
//! header   "VREC"  version u16  kind u16  payload length u32  CRC-32 of the 12 bytes before
//! payload
//! trailer  SHA-256 of (trailer hash of the record before, header, payload)   CRC-32 of all before
//! ```
//!
//! Little-endian. The chained hash makes a record that was dropped, doubled or moved show; the header's own CRC
//! tells a damaged length from an unfinished record.

use std::{
    fmt,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ring::digest;
use zeroize::Zeroizing;

use crate::{
    problem::Problem,
    spiffe::{PrivateKey, TrustDomain},
};

const MAGIC: &[u8; 4] = b"VREC";
const VERSION: u16 = 1;
const HEADER: usize = 16;
const TRAILER: usize = 36;
/// Largest payload. A certificate and a key have about 700 bytes.
const MAX_PAYLOAD: usize = 64 << 10;
/// The end of the year 9999, the last that a certificate can say.
const LAST_SECOND: u64 = 253_402_300_799;
/// How a key lies in the log. Wrapping it is another number, not another format.
const KEY_PLAIN: u8 = 0;

/// Names the certificate that signs: its SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SignerId([u8; 32]);

/// One thing that happened, as the log keeps it.
#[derive(Debug, Clone)]
pub(in crate::authority) enum Record {
    /// Whose state this is. The first record, once.
    TrustDomain(TrustDomain),
    /// An authority was made. Nobody has seen it yet.
    Prepared(Prepared),
    /// It is in the bundle since then.
    Published { ca: SignerId, at: SystemTime },
    /// It signs from then on.
    Active { ca: SignerId },
    /// It is out of the bundle, and its key is not used again.
    Retired { ca: SignerId },
    /// Time had come this far, and no SVID signed until then lives longer than `not_after`.
    HighWater { clock: SystemTime, not_after: SystemTime },
}

/// An authority with its key.
#[derive(Debug, Clone)]
pub(in crate::authority) struct Prepared {
    pub(in crate::authority) certificate: Vec<u8>,
    pub(in crate::authority) key: PrivateKey,
}

/// The hash so far: what the next record is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chain([u8; 32]);

/// What a log holds.
#[derive(Debug)]
pub(super) struct Scan {
    pub(super) records: Vec<Record>,
    /// Up to here everything is whole; behind it lies nothing or an unfinished record.
    pub(super) whole_bytes: usize,
    pub(super) chain: Chain,
}

/// Why a log is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    Damaged { at: usize },
    Newer { at: usize, version: u16, kind: u16 },
}

impl SignerId {
    pub fn of(certificate: &[u8]) -> Self {
        Self(sha256(&[certificate]))
    }
}

impl fmt::Debug for SignerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SignerId({})", hex::encode(&self.0[..8]))
    }
}

impl Chain {
    pub(super) fn start() -> Self {
        Self([0; 32])
    }

    /// `record` as the next one of this chain.
    pub(super) fn encode(&mut self, record: &Record) -> Zeroizing<Vec<u8>> {
        let payload = record.payload();
        let mut bytes = Zeroizing::new(Vec::with_capacity(HEADER + payload.len() + TRAILER));
        bytes.extend(MAGIC);
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend(record.kind().to_le_bytes());
        let len = u32::try_from(payload.len()).expect("a payload is far below 4 GiB");
        bytes.extend(len.to_le_bytes());
        put_crc(&mut bytes);
        bytes.extend(payload.iter());
        self.0 = sha256(&[&self.0, &bytes]);
        bytes.extend(self.0);
        put_crc(&mut bytes);
        bytes
    }
}

/// Reads all whole records. What follows them may only be the beginning of one more record, or that one record
/// with a broken body at the very end: both are a write that was never reported as done.
pub(super) fn scan(bytes: &[u8]) -> Result<Scan, Fault> {
    let mut scan = Scan { records: Vec::new(), whole_bytes: 0, chain: Chain::start() };
    while let Some(whole) =
        next(&bytes[scan.whole_bytes..], &scan.chain).map_err(|fault| fault.at(scan.whole_bytes))?
    {
        scan.records.push(whole.record);
        scan.chain = whole.chain;
        scan.whole_bytes += whole.len;
    }
    Ok(scan)
}

struct Whole {
    record: Record,
    chain: Chain,
    len: usize,
}

fn next(rest: &[u8], chain: &Chain) -> Result<Option<Whole>, Fault> {
    let damaged = Fault::Damaged { at: 0 };
    let Some(header) = rest.first_chunk::<HEADER>().filter(|header| header_is_whole(header)) else {
        return if starts_at_most_a_header(rest) { Ok(None) } else { Err(damaged) };
    };
    let version = u16::from_le_bytes([header[4], header[5]]);
    let kind = u16::from_le_bytes([header[6], header[7]]);
    if version != VERSION {
        return Err(Fault::Newer { at: 0, version, kind });
    }
    let payload_len = u32::from_le_bytes([header[8], header[9], header[10], header[11]]) as usize;
    if payload_len > MAX_PAYLOAD {
        return Err(damaged);
    }
    let len = HEADER + payload_len + TRAILER;
    let Some(whole) = rest.get(..len) else {
        return Ok(None);
    };
    let (body, crc) = whole.split_at(len - 4);
    if crc != crc32fast::hash(body).to_le_bytes() {
        return if rest.len() == len { Ok(None) } else { Err(damaged) };
    }
    let (content, hash) = body.split_at(HEADER + payload_len);
    let expected = sha256(&[&chain.0, content]);
    if hash != expected {
        return Err(damaged);
    }
    let record = Record::decode(kind, &content[HEADER..], version)?;
    Ok(Some(Whole { record, chain: Chain(expected), len }))
}

fn header_is_whole(header: &[u8; HEADER]) -> bool {
    header.starts_with(MAGIC) && header[12..] == crc32fast::hash(&header[..12]).to_le_bytes()
}

/// A file may have got its new length before its new bytes: the rest then reads as zeros.
fn starts_at_most_a_header(rest: &[u8]) -> bool {
    rest.len() < HEADER + MAX_PAYLOAD + TRAILER
        && rest.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1) < HEADER
}

impl Record {
    fn kind(&self) -> u16 {
        match self {
            Self::TrustDomain(_) => 1,
            Self::Prepared(_) => 2,
            Self::Published { .. } => 3,
            Self::Active { .. } => 4,
            Self::Retired { .. } => 5,
            Self::HighWater { .. } => 6,
        }
    }

    fn payload(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Zeroizing::new(Vec::with_capacity(4 << 10));
        match self {
            Self::TrustDomain(name) => out.extend(name.name().as_bytes()),
            Self::Prepared(Prepared { certificate, key }) => {
                put_bytes(&mut out, certificate);
                out.push(KEY_PLAIN);
                put_bytes(&mut out, key.pkcs8_der());
            }
            Self::Published { ca, at } => {
                out.extend(ca.0);
                put_time(&mut out, *at);
            }
            Self::Active { ca } | Self::Retired { ca } => out.extend(ca.0),
            Self::HighWater { clock, not_after } => {
                put_time(&mut out, *clock);
                put_time(&mut out, *not_after);
            }
        }
        out
    }

    fn decode(kind: u16, payload: &[u8], version: u16) -> Result<Self, Fault> {
        let newer = Fault::Newer { at: 0, version, kind };
        let mut fields = Fields(payload);
        let record = match kind {
            1 => fields
                .rest()
                .and_then(|name| Some(Self::TrustDomain(std::str::from_utf8(name).ok()?.parse().ok()?))),
            2 => {
                let certificate = fields.bytes().map(<[u8]>::to_vec);
                if certificate.is_some() && fields.0.first().is_some_and(|wrapping| *wrapping != KEY_PLAIN) {
                    return Err(newer);
                }
                let key = fields.take::<1>().and_then(|_| fields.bytes());
                certificate.zip(key).map(|(certificate, key)| {
                    Self::Prepared(Prepared { certificate, key: PrivateKey::from_pkcs8(key.to_vec()) })
                })
            }
            3 => fields.ca().zip(fields.time()).map(|(ca, at)| Self::Published { ca, at }),
            4 => fields.ca().map(|ca| Self::Active { ca }),
            5 => fields.ca().map(|ca| Self::Retired { ca }),
            6 => fields
                .time()
                .zip(fields.time())
                .map(|(clock, not_after)| Self::HighWater { clock, not_after }),
            _ => return Err(newer),
        };
        record.filter(|_| fields.0.is_empty()).ok_or(Fault::Damaged { at: 0 })
    }
}

/// What is still unread of a payload. `None` everywhere means: too short.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.0.split_first_chunk::<N>()?;
        self.0 = tail;
        Some(*head)
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = u32::from_le_bytes(self.take()?) as usize;
        let (head, tail) = self.0.split_at_checked(len)?;
        self.0 = tail;
        Some(head)
    }

    fn rest(&mut self) -> Option<&'a [u8]> {
        Some(std::mem::take(&mut self.0))
    }

    fn ca(&mut self) -> Option<SignerId> {
        self.take().map(SignerId)
    }

    fn time(&mut self) -> Option<SystemTime> {
        let seconds = Some(u64::from_le_bytes(self.take()?)).filter(|seconds| *seconds <= LAST_SECOND)?;
        Some(UNIX_EPOCH + Duration::from_secs(seconds))
    }
}

fn put_crc(out: &mut Vec<u8>) {
    let crc = crc32fast::hash(out);
    out.extend(crc.to_le_bytes());
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend(u32::try_from(bytes.len()).expect("certificates and keys are far below 4 GiB").to_le_bytes());
    out.extend(bytes);
}

/// Whole seconds since the epoch.
fn put_time(out: &mut Vec<u8>, at: SystemTime) {
    out.extend(at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()).to_le_bytes());
}

fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    parts.iter().for_each(|part| context.update(part));
    context.finish().as_ref().try_into().expect("SHA-256 has 32 bytes")
}

impl Fault {
    fn at(self, offset: usize) -> Self {
        match self {
            Self::Damaged { .. } => Self::Damaged { at: offset },
            Self::Newer { version, kind, .. } => Self::Newer { at: offset, version, kind },
        }
    }

    pub(super) fn problem(self, path: &Path) -> Problem {
        match self {
            Self::Damaged { at } => {
                damaged(path, &format!("the record at byte {at} does not match its checksum"))
            }
            Self::Newer { at, version, kind } => {
                Problem::new("E0206", format!("state log {} was written by a newer agent", path.display()))
                    .why(format!(
                        "the record at byte {at} has version {version} and kind {kind}, unknown to this one"
                    ))
                    .fix("start the newer agent again; the log was not touched")
            }
        }
    }
}

/// E0205: the log is there but cannot be believed.
pub(in crate::authority) fn damaged(path: &Path, why: &str) -> Problem {
    Problem::new("E0205", format!("state log {} is damaged", path.display())).why(why.to_owned()).fix(
        "restore state.log from a backup; or, if every peer may be given a new trust bundle, move the state \
         directory away and start with a new authority",
    )
}
