//! Against a bus of our own: systemd does not run where these run.

use std::{
    fs,
    io::{self, IoSliceMut, Read as _, Write as _},
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
        unix::{
            fs::MetadataExt as _,
            net::{UnixListener, UnixStream},
        },
    },
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use tempfile::TempDir;

use super::*;
use crate::attestation::Containment;

const NO_UNIT: &str = "org.freedesktop.systemd1.NoUnitForPID";
const UNKNOWN: &str = "org.freedesktop.DBus.Error.UnknownMethod";
const WEB: &[(&str, &str)] = &[("Id", "web.service"), ("FragmentPath", "/etc/systemd/system/web.service")];

/// How the service manager behind the bus answers.
#[derive(Clone, Copy)]
struct Manager {
    /// `GetUnitByPIDFD` is answered with the error, or the unit.
    by_pidfd: Result<&'static str, &'static str>,
    by_pid: Result<&'static str, &'static str>,
    properties: &'static [(&'static str, &'static str)],
    passes_descriptors: bool,
    /// Calls of one connection that are answered; then it is closed.
    patience: usize,
}

const MODERN: Manager = Manager {
    by_pidfd: Ok("/unit/web"),
    by_pid: Err("asked by number"),
    properties: WEB,
    passes_descriptors: true,
    patience: usize::MAX,
};

struct Fixture {
    witness: Systemd,
    connections: Arc<AtomicUsize>,
    _dir: TempDir,
}

impl Fixture {
    fn new(manager: Manager) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bus");
        let listener = UnixListener::bind(&path).unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        thread::spawn(move || {
            for stream in listener.incoming() {
                count.fetch_add(1, Ordering::Relaxed);
                let mut stream = stream.unwrap();
                thread::spawn(move || {
                    if let Err(error) = serve(&mut stream, manager) {
                        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{error}");
                    }
                });
            }
        });
        let owner = nix::unistd::geteuid().as_raw();
        let witness = Systemd::at(path, owner, dir.path().join("not-booted"));
        Self { witness, connections, _dir: dir }
    }

    async fn said(&self) -> Result<Vec<String>, String> {
        let ours = ourselves();
        let testimony = tokio::time::timeout(Duration::from_secs(10), self.witness.testify(&ours)).await;
        match testimony.expect("it does not hang") {
            Ok(selectors) => Ok(selectors.iter().map(ToString::to_string).collect()),
            Err(silence) => {
                let place = format!("{}: ", self.witness.bus.display());
                Err(silence.reason.strip_prefix(&place).unwrap_or(&silence.reason).to_owned())
            }
        }
    }
}

fn ourselves() -> Subject {
    let pidfd = stand_in();
    Subject {
        pid: std::process::id(),
        uid: nix::unistd::geteuid().as_raw(),
        cgroup: None,
        containment: Containment::Unsure,
        pidfd: Some(Arc::new(pidfd)),
    }
}

/// Stands in for a pidfd: what matters here is that this very descriptor arrives.
fn stand_in() -> OwnedFd {
    fs::File::open("/proc/self/status").unwrap().into()
}

fn serve(stream: &mut UnixStream, manager: Manager) -> io::Result<()> {
    let uid = hex::encode(nix::unistd::geteuid().to_string());
    expect_line(stream, &format!("\0AUTH EXTERNAL {uid}"))?;
    stream.write_all(b"OK 1234deadbeef\r\n")?;
    expect_line(stream, "NEGOTIATE_UNIX_FD")?;
    stream.write_all(if manager.passes_descriptors { b"AGREE_UNIX_FD\r\n" } else { b"ERROR no\r\n" })?;
    expect_line(stream, "BEGIN")?;
    let (_, hello, _) = receive(stream)?;
    assert!(has(&hello, "Hello"));
    // What a real bus sends besides.
    stream.write_all(&message(4, 0, None, "s", &text(":1.7")))?;
    stream.write_all(&message(2, 1, None, "s", &text(":1.7")))?;
    for _ in 0..manager.patience {
        let (serial, call, descriptor) = receive(stream)?;
        let unit = |answer: Result<&str, &str>| match answer {
            Ok(path) => message(2, serial, None, "o", &text(path)),
            Err(error) => message(3, serial, Some(error), "s", &text("because")),
        };
        let answer = if has(&call, "GetUnitByPIDFD") {
            let sent = fs::File::from(descriptor.expect("the descriptor comes with the call"));
            let ours = fs::metadata("/proc/self/status").unwrap();
            assert_eq!((sent.metadata()?.dev(), sent.metadata()?.ino()), (ours.dev(), ours.ino()));
            unit(manager.by_pidfd)
        } else if has(&call, "GetUnitByPID") {
            assert!(call.ends_with(&std::process::id().to_le_bytes()));
            unit(manager.by_pid)
        } else {
            assert!(has(&call, "/unit/web") && has(&call, "org.freedesktop.systemd1.Unit"));
            let asked = manager.properties.iter().find(|(name, _)| call.ends_with(&text(name)));
            let (_, value) = asked.expect("a property that it has");
            message(2, serial, None, "v", &[b"\x01s\0\0".as_slice(), &text(value)].concat())
        };
        stream.write_all(&answer)?;
    }
    Ok(())
}

fn expect_line(stream: &mut UnixStream, expected: &str) -> io::Result<()> {
    let mut line = vec![0; expected.len() + 2];
    stream.read_exact(&mut line)?;
    assert_eq!(String::from_utf8_lossy(&line), format!("{expected}\r\n"));
    Ok(())
}

/// Serial, bytes, and the descriptor that came with them.
fn receive(stream: &mut UnixStream) -> io::Result<(u32, Vec<u8>, Option<OwnedFd>)> {
    let mut bytes = vec![0; 4096];
    let mut space = nix::cmsg_space!(RawFd);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    // A call is short, and the next one comes only after its answer.
    let received = recvmsg::<()>(stream.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::empty())?;
    let descriptor = received.cmsgs()?.find_map(|message| match message {
        ControlMessageOwned::ScmRights(descriptors) => descriptors.first().copied(),
        _ => None,
    });
    let length = received.bytes;
    if length == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    bytes.truncate(length);
    let serial = u32::from_le_bytes(bytes[8..12].try_into().unwrap());
    #[expect(unsafe_code, reason = "takes over a descriptor that was just received")]
    // SAFETY: the kernel has just installed it for us; nobody else holds it.
    let descriptor = descriptor.map(|descriptor| unsafe { OwnedFd::from_raw_fd(descriptor) });
    Ok((serial, bytes, descriptor))
}

fn has(bytes: &[u8], text: &str) -> bool {
    let ended = [text.as_bytes(), b"\0"].concat();
    bytes.windows(ended.len()).any(|window| window == ended)
}

fn text(text: &str) -> Vec<u8> {
    [&u32::try_from(text.len()).unwrap().to_le_bytes(), text.as_bytes(), b"\0"].concat()
}

fn message(kind: u8, reply_to: u32, error: Option<&str>, signature: &str, body: &[u8]) -> Vec<u8> {
    let mut fields = [b"\x05\x01u\0".as_slice(), &reply_to.to_le_bytes()].concat();
    if let Some(error) = error {
        fields.extend([b"\x04\x01s\0".as_slice(), &text(error)].concat());
        fields.resize(fields.len().next_multiple_of(8), 0);
    }
    fields.extend(b"\x08\x01g\0\x01");
    fields.extend(signature.as_bytes());
    fields.push(0);
    let mut whole = vec![b'l', kind, 0, 1];
    for number in [body.len(), 99, fields.len()] {
        whole.extend(u32::try_from(number).unwrap().to_le_bytes());
    }
    whole.extend(fields);
    whole.resize(whole.len().next_multiple_of(8), 0);
    whole.extend(body);
    whole
}

const SAID: [&str; 2] = ["systemd:id:web.service", "systemd:fragment_path:/etc/systemd/system/web.service"];

#[tokio::test]
async fn a_unit_is_found_by_the_pidfd_itself() {
    assert_eq!(Fixture::new(MODERN).said().await.unwrap(), SAID);
}

#[tokio::test]
async fn an_older_manager_is_asked_by_number() {
    for error in [UNKNOWN, "org.freedesktop.DBus.Error.AccessDenied"] {
        let older = Manager { by_pidfd: Err(error), by_pid: Ok("/unit/web"), ..MODERN };
        assert_eq!(Fixture::new(older).said().await.unwrap(), SAID);
    }
    let no_descriptors = Manager {
        by_pidfd: Err("no descriptor can come"),
        by_pid: Ok("/unit/web"),
        passes_descriptors: false,
        ..MODERN
    };
    assert_eq!(Fixture::new(no_descriptors).said().await.unwrap(), SAID);
}

#[tokio::test]
async fn a_unit_without_a_file_has_an_empty_path() {
    let scope = Manager { properties: &[("Id", "run.scope"), ("FragmentPath", "")], ..MODERN };
    assert_eq!(Fixture::new(scope).said().await.unwrap(), ["systemd:id:run.scope", "systemd:fragment_path:"]);
}

#[tokio::test]
async fn no_unit_is_a_fact_and_any_other_refusal_is_silence() {
    let none = Fixture::new(Manager { by_pidfd: Err(NO_UNIT), ..MODERN });
    assert_eq!(none.said().await.unwrap(), Vec::<String>::new());
    let nobody = "org.freedesktop.DBus.Error.ServiceUnknown";
    let without = Fixture::new(Manager { by_pidfd: Err(nobody), ..MODERN });
    assert_eq!(without.said().await.unwrap_err(), format!("it refuses with {nobody}"));
}

#[tokio::test]
async fn a_connection_serves_many_and_is_made_anew_when_it_breaks() {
    let lasting = Fixture::new(MODERN);
    for _ in 0..5 {
        assert_eq!(lasting.said().await.unwrap(), SAID);
    }
    assert_eq!(lasting.connections.load(Ordering::Relaxed), 1);
    // Three calls are one answer; afterwards the bus hangs up.
    let fleeting = Fixture::new(Manager { patience: 3, ..MODERN });
    for _ in 0..3 {
        assert_eq!(fleeting.said().await.unwrap(), SAID);
    }
    assert_eq!(fleeting.connections.load(Ordering::Relaxed), 3);
    let gone = Fixture::new(Manager { patience: 2, ..MODERN });
    assert_eq!(gone.said().await.unwrap_err(), "the connection ended early");
}

#[tokio::test]
async fn where_there_is_neither_systemd_nor_a_bus_nobody_is_concerned() {
    let dir = tempfile::tempdir().unwrap();
    let (bus, booted) = (dir.path().join("bus"), dir.path().join("system"));
    let owner = nix::unistd::geteuid().as_raw();
    let witness = Systemd::at(bus.clone(), owner, booted.clone());
    assert!(!witness.concerns(&ourselves()));
    fs::create_dir(&booted).unwrap();
    assert!(witness.concerns(&ourselves()));
    let silence = witness.testify(&ourselves()).await.unwrap_err();
    assert_eq!(silence.reason, format!("{}: there is no such socket", bus.display()));
}

#[test]
fn the_address_of_the_bus_may_be_set() {
    for (address, path) in [
        ("", DEFAULT_BUS),
        ("unix:path=/run/bus", "/run/bus"),
        ("tcp:host=x;unix:guid=1,path=/b,x=y", "/b"),
        ("unix:abstract=x", DEFAULT_BUS),
        ("unix:path=/a%20b", DEFAULT_BUS),
    ] {
        assert_eq!(bus_of(Some(address.into())), Path::new(path), "{address}");
    }
    assert_eq!(bus_of(None), Path::new(DEFAULT_BUS));
}
