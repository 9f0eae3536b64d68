use std::{
    os::unix::fs::{PermissionsExt, symlink},
    time::{Duration, UNIX_EPOCH},
};

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::spiffe::PrivateKey;

#[test]
fn what_was_appended_is_read_again() {
    let dir = state_dir();
    let mut log = create(dir.path());
    log.append(&Record::Active { ca: ca() }).unwrap();
    drop(log);
    let opened = open(dir.path()).unwrap();
    assert_eq!(
        format!("{:?}", opened.records),
        format!("{:?}", [records(), vec![Record::Active { ca: ca() }]].concat())
    );
    assert_eq!(opened.torn_bytes, 0);
}

#[test]
fn files_are_for_the_owner_alone() {
    let parent = state_dir();
    let path = parent.path().join("new").join("state");
    let _log = create(&path);
    assert_eq!(mode(&path), 0o700);
    assert_eq!(mode(&path.join(FILE)), 0o600);
    assert!(!path.join(NEW_FILE).exists());
}

#[test]
fn a_record_torn_at_any_byte_is_cut_and_the_log_goes_on() {
    let dir = state_dir();
    drop(create(dir.path()));
    let file = dir.path().join(FILE);
    let before = fs::read(&file).unwrap();
    open(dir.path()).unwrap().accept().unwrap().append(&Record::Active { ca: ca() }).unwrap();
    let after = fs::read(&file).unwrap();
    for len in before.len() + 1..after.len() {
        // The length of a file may reach the disk before its bytes do.
        let in_header = len < before.len() + 16;
        let zeros = [0, after.len() - len].into_iter().chain(in_header.then_some(3 * after.len()));
        for zeros in zeros {
            let mut torn = after[..len].to_vec();
            torn.resize(len + zeros, 0);
            fs::write(&file, &torn).unwrap();
            let opened = open(dir.path()).unwrap();
            assert_eq!(
                (opened.records.len(), opened.torn_bytes),
                (2, torn.len() - before.len()),
                "cut at {len}"
            );
            opened.accept().unwrap().append(&Record::Retired { ca: ca() }).unwrap();
            let records = open(dir.path()).unwrap().records;
            assert!(matches!(records[..], [_, _, Record::Retired { .. }]));
        }
    }
}

#[test]
fn a_record_that_was_dropped_doubled_or_moved_is_damage() {
    let dir = state_dir();
    drop(create(dir.path()));
    let mut log = open(dir.path()).unwrap().accept().unwrap();
    let file = dir.path().join(FILE);
    let mut ends = vec![fs::read(&file).unwrap().len()];
    for record in [Record::Active { ca: ca() }, mark(1), mark(2)] {
        log.append(&record).unwrap();
        ends.push(fs::read(&file).unwrap().len());
    }
    drop(log);
    let whole = fs::read(&file).unwrap();
    let (start, a, b, c) =
        (&whole[..ends[0]], &whole[ends[0]..ends[1]], &whole[ends[1]..ends[2]], &whole[ends[2]..]);
    for (name, parts) in [
        ("dropped", vec![start, a, c]),
        ("doubled", vec![start, a, a, b, c]),
        ("moved", vec![start, a, c, b]),
        ("first dropped", vec![a, b, c]),
    ] {
        fs::write(&file, parts.concat()).unwrap();
        assert_eq!(open(dir.path()).unwrap_err().code, "E0205", "{name}");
        assert_eq!(fs::read(&file).unwrap(), parts.concat(), "{name}: the log is left as it is");
    }
}

#[test]
fn a_damaged_byte_before_the_last_record_is_damage_and_never_cut() {
    let dir = state_dir();
    drop(create(dir.path()));
    let file = dir.path().join(FILE);
    let first = fs::read(&file).unwrap().len();
    open(dir.path()).unwrap().accept().unwrap().append(&mark(1)).unwrap();
    let whole = fs::read(&file).unwrap();
    for at in 0..first {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        fs::write(&file, &damaged).unwrap();
        assert_eq!(open(dir.path()).unwrap_err().code, "E0205", "byte {at}");
        assert_eq!(fs::read(&file).unwrap(), damaged);
    }
}

#[test]
fn a_newer_log_is_refused_and_left_as_it_is() {
    let dir = state_dir();
    drop(create(dir.path()));
    let file = dir.path().join(FILE);
    let whole = fs::read(&file).unwrap();
    for (at, to) in [(4, 2), (6, 99)] {
        let mut newer = whole.clone();
        newer[at] = to;
        let crc = crc32fast::hash(&newer[..12]).to_le_bytes();
        newer[12..16].copy_from_slice(&crc);
        // A whole record of another kind has a whole body too.
        let len = 16 + u32::from_le_bytes(newer[8..12].try_into().unwrap()) as usize;
        let hash = ring::digest::digest(&ring::digest::SHA256, &[&[0; 32][..], &newer[..len]].concat());
        newer[len..len + 32].copy_from_slice(hash.as_ref());
        let crc = crc32fast::hash(&newer[..len + 32]).to_le_bytes();
        newer[len + 32..len + 36].copy_from_slice(&crc);
        fs::write(&file, &newer).unwrap();
        assert_eq!(open(dir.path()).unwrap_err().code, "E0206");
        assert_eq!(fs::read(&file).unwrap(), newer);
    }
}

#[test]
fn a_second_agent_is_refused_by_name() {
    let dir = state_dir();
    let log = create(dir.path());
    let problem = open(dir.path()).unwrap_err();
    assert_eq!(problem.code, "E0203");
    assert!(problem.why.unwrap().contains(&std::process::id().to_string()));
    drop(log);
    open(dir.path()).unwrap();
}

#[test]
fn a_directory_that_is_not_ours_is_refused_and_left_as_it_is() {
    let parent = state_dir();
    let path = parent.path().join("state");
    fs::create_dir(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o750)).unwrap();
    assert_eq!(State::open(&path).unwrap_err().code, "E0202");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(path.join("holiday.jpg"), "").unwrap();
    assert_eq!(State::open(&path).unwrap_err().code, "E0202");
    assert!(!path.join(FILE).exists());

    let link = parent.path().join("link");
    symlink(&path, &link).unwrap();
    assert_eq!(State::open(&link).unwrap_err().code, "E0201");
    let file = parent.path().join("file");
    fs::write(&file, "").unwrap();
    assert_eq!(State::open(&file).unwrap_err().code, "E0201");
    assert_eq!(State::open(&file.join("below")).unwrap_err().code, "E0201");
}

#[test]
fn a_log_that_others_may_read_is_refused() {
    let dir = state_dir();
    drop(create(dir.path()));
    fs::set_permissions(dir.path().join(FILE), fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(State::open(dir.path()).unwrap_err().code, "E0202");
}

#[test]
fn a_disk_that_fails_at_any_byte_of_the_first_start_leaves_nothing() {
    let dir = state_dir();
    let size = {
        let scratch = state_dir();
        drop(create(scratch.path()));
        fs::metadata(scratch.path().join(FILE)).unwrap().len() as usize
    };
    for room in 0..=size {
        let State::New(vacant) = State::open(dir.path()).unwrap() else { panic!("a log was left at {room}") };
        let problem = vacant.create_on(&records(), |file| Box::new(FullDisk { file, room })).unwrap_err();
        assert_eq!(problem.code, "E0204");
        assert!(!dir.path().join(FILE).exists() && !dir.path().join(NEW_FILE).exists());
    }
    drop(create(dir.path()));
}

#[test]
fn after_a_failed_write_the_log_goes_on_as_soon_as_the_disk_does() {
    for room in [0, 20, 1000] {
        let dir = state_dir();
        let mut log = create(dir.path());
        log.append(&mark(1)).unwrap();
        let file = OpenOptions::new().append(true).open(dir.path().join(FILE)).unwrap();
        log.file = Box::new(FullDisk { file, room });
        for _ in 0..3 {
            assert_eq!(log.append(&mark(2)).unwrap_err().code, "E0204");
        }
        log.file = Box::new(OpenOptions::new().append(true).open(dir.path().join(FILE)).unwrap());
        for seconds in [3, 4] {
            log.append(&mark(seconds)).unwrap();
        }
        drop(log);
        let opened = open(dir.path()).unwrap();
        let expected = [records(), vec![mark(1), mark(3), mark(4)]].concat();
        assert_eq!(format!("{:?}", opened.records), format!("{expected:?}"), "room for {room} bytes");
        assert_eq!(opened.torn_bytes, 0);
    }
}

#[test]
fn a_log_that_was_changed_while_the_disk_failed_is_not_written_to() {
    let dir = state_dir();
    let mut log = create(dir.path());
    let file = dir.path().join(FILE);
    let before = fs::read(&file).unwrap();
    log.append(&mark(1)).unwrap();
    let whole = fs::read(&file).unwrap();
    log.fail_after(0);
    assert_eq!(log.append(&mark(2)).unwrap_err().code, "E0204");
    log.fail_after(usize::MAX);
    let mut flipped = whole.clone();
    flipped[20] ^= 1;
    for changed in [&before, &flipped, &vec![]] {
        fs::write(&file, changed).unwrap();
        assert_eq!(log.append(&mark(2)).unwrap_err().code, "E0205");
        assert_eq!(&fs::read(&file).unwrap(), changed);
    }
    fs::remove_file(&file).unwrap();
    assert_eq!(log.append(&mark(2)).unwrap_err().code, "E0205");
    assert!(!file.exists());
}

proptest! {
    #[test]
    fn any_bytes_at_all_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = record::scan(&bytes);
        let _ = record::scan(&[b"VREC\x01\0".as_slice(), &bytes].concat());
    }
}

/// A disk that takes so many more appends and then none.
#[derive(Debug)]
pub(super) struct Failing {
    pub(super) file: File,
    pub(super) appends: usize,
}

impl Medium for Failing {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.appends = self.appends.checked_sub(1).ok_or(io::Error::from_raw_os_error(libc::ENOSPC))?;
        self.file.append(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync()
    }

    fn renew(&mut self, file: File) {
        self.file = file;
    }
}

/// Writes as much as there is room for, then fails; with room left, it is the sync that fails.
#[derive(Debug)]
struct FullDisk {
    file: File,
    room: usize,
}

impl Medium for FullDisk {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let fits = bytes.len().min(self.room);
        self.file.write_all(&bytes[..fits])?;
        self.room -= fits;
        if fits == bytes.len() { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::ENOSPC)) }
    }

    fn sync(&mut self) -> io::Result<()> {
        Err(io::Error::from_raw_os_error(libc::EIO))
    }

    fn renew(&mut self, file: File) {
        self.file = file;
    }
}

fn create(path: &Path) -> StateLog {
    match State::open(path).unwrap() {
        State::New(vacant) => vacant.create(&records()).unwrap(),
        State::Known(_) => panic!("there is a log already"),
    }
}

fn open(path: &Path) -> Result<Opened, Problem> {
    State::open(path).map(|state| match state {
        State::Known(opened) => opened,
        State::New(_) => panic!("there is no log"),
    })
}

fn records() -> Vec<Record> {
    let key = PrivateKey::from_pkcs8(vec![7; 138]);
    vec![
        Record::TrustDomain("example.org".parse().unwrap()),
        Record::Prepared(Prepared { certificate: b"certificate".to_vec(), key }),
    ]
}

fn ca() -> SignerId {
    SignerId::of(b"certificate")
}

fn mark(seconds: u64) -> Record {
    let clock = UNIX_EPOCH + Duration::from_secs(seconds);
    Record::HighWater { clock, not_after: clock }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn state_dir() -> TempDir {
    tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o700)).tempdir().unwrap()
}
