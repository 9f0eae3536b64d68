use std::{
    fmt,
    fs::File,
    io::{self, Read},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::Path,
    sync::Arc,
    time::Duration,
};

use aya::{
    Ebpf,
    maps::{HashMap, IterableMap, Map, MapData, MapError, PerCpuArray, PerCpuValues, RingBuf, SkStorage},
    programs::links::FdLink,
    util::nr_cpus,
};
use nix::sys::socket::{UnixAddr, getsockname};
use vouch_abi::{
    ConnectRecord,
    names::{counter, map},
};
use zerocopy::FromBytes;

use super::{
    ConnectorKey, Error, EventSource, Options, Sighting, Task,
    cgroup::Cgroups,
    delay::Delayed,
    load::{self, Loaded},
    origin::Origins,
    pins::Pins,
    system,
};

/// More than the kernel's largest `pid_max` allows processes on any machine we know; a longer list is refused.
const MAX_PROCESSES: usize = 1 << 20;

/// A connect record as the map's reader takes it: words, since it has no type of ours.
type RecordWords = [u64; size_of::<ConnectRecord>() / 8];
const _: () = assert!(size_of::<ConnectRecord>().is_multiple_of(8));

/// The attached kernel programs and what can be asked of them. They are detached when it is dropped, unless they are
/// pinned.
///
/// All questions may be asked from several threads at once. `connect_record`, `slow_down`, `inspect`,
/// `snapshot` and `counters` need no capability any more once it is attached; `cgroup_path` needs CAP_DAC_READ_SEARCH.
pub struct Capture {
    peers: SkStorage<MapData, RecordWords>,
    counters: Arc<CounterMap>,
    list_tasks: OwnedFd,
    cgroups: Cgroups,
    hooks: Vec<Hook>,
    /// Holds the links of the AF_UNIX hooks.
    _unix_links: Vec<OwnedFd>,
    /// Holds the links of the TCP hooks.
    _tcp_links: Vec<FdLink>,
    /// When the hooks of TCP were attached, if they are.
    tcp_since: Option<Duration>,
    origins: Origins,
    delayed: Delayed,
    /// Holds programs and links of the other hooks.
    _ebpf: Ebpf,
    /// Holds the directory of the pins.
    pins: Option<Pins>,
}

/// One kernel program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    pub name: &'static str,
    pub state: HookState,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HookState {
    Attached,
    /// Not attached, and why.
    Off(String),
}

/// All processes at one instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Time since boot, before the first process was looked at.
    pub taken_at: Duration,
    /// In no order. The last thread of each may leave at any time.
    pub tasks: Vec<Task>,
}

/// What the programs counted since they were attached, whoever caused it: the hooks see all of the machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Connects recorded.
    pub connects: u64,
    /// Connects without a record, because the kernel refused socket storage: the caller may have seen to it.
    pub connects_without_storage: u64,
    /// Connects on a socket that was connected already; its first record stayed.
    pub connects_repeated: u64,
    /// Connects that took longer: their makers connect to the agent too often, or have no record.
    pub connects_delayed: u64,
    /// Records handed to an accepted socket.
    pub handovers: u64,
    /// Accepted sockets whose client has no record.
    pub handovers_without_record: u64,
    /// Accepted sockets for which the kernel refused socket storage.
    pub handovers_without_storage: u64,
    /// Processes for whose executable there was no room: it is not believed.
    pub origins_lost: u64,
    /// Connects of TCP recorded.
    pub tcp_connects: u64,
    /// Connects of TCP without a record, because the kernel refused socket storage.
    pub tcp_connects_without_storage: u64,
    /// Records handed to an accepted socket of TCP.
    pub tcp_handovers: u64,
    /// Accepted sockets of TCP whose client has no record: those of other machines, above all.
    pub tcp_handovers_without_record: u64,
    /// Accepted sockets of TCP for which the kernel refused socket storage.
    pub tcp_handovers_without_storage: u64,
    /// Records of TCP that were too old, or pushed out while they were handed over.
    pub tcp_handovers_stale: u64,
    /// Events of processes, those lost included.
    pub events: u64,
    /// Events for which the ring had no room.
    pub events_lost: u64,
}

impl Capture {
    /// Loads the programs and attaches them, the exit hook first.
    ///
    /// The hooks of processes are attached all or not at all. Those of Unix sockets may stay off, as on Linux
    /// before 6.7: see [`Capture::captures_connects`] and [`Capture::hooks`].
    ///
    /// Where hooks and maps are pinned, what an earlier agent left is taken over: there is no instant without hooks,
    /// and its records, notes and waiting events are this one's.
    ///
    /// Needs CAP_BPF and CAP_PERFMON, and CAP_NET_ADMIN for the hooks of Unix sockets.
    pub fn attach(options: &Options) -> Result<(Self, EventSource), Error> {
        let cgroups = Cgroups::find()?;
        let chosen = match &options.cgroup_root {
            Some(path) => {
                Some(File::open(path).map_err(|source| Error::Cgroup2 { path: path.clone(), source })?)
            }
            None => None,
        };
        let cgroup = chosen.as_ref().map_or(cgroups.root(), AsFd::as_fd);
        let Loaded { mut ebpf, unix_links, tcp_links, list_tasks, hooks, pins, origins_adopted } =
            load::load(options, cgroup)?;
        let ring = take::<RingBuf<MapData>>(&mut ebpf, map::EVENTS)?;
        let counters = Arc::new(CounterMap(take(&mut ebpf, map::COUNTERS)?));
        let mut capture = Self {
            peers: take(&mut ebpf, map::PEERS)?,
            counters: Arc::clone(&counters),
            list_tasks,
            cgroups,
            hooks,
            origins: take::<HashMap<_, _, _>>(&mut ebpf, map::ORIGINS).map(Origins)?,
            delayed: take::<HashMap<_, _, _>>(&mut ebpf, map::DELAYED).map(Delayed::new)?,
            _unix_links: unix_links,
            tcp_since: (!tcp_links.is_empty()).then(system::since_boot),
            _tcp_links: tcp_links,
            _ebpf: ebpf,
            pins,
        };
        let broken = |error| Error::Object { reason: format!("its notes: {error}") };
        // Where there was no room for a note, having none is no sign of having been there before.
        if !origins_adopted || counters.total(counter::ORIGINS_LOST).map_err(broken)? == 0 {
            capture.note_those_before().map_err(broken)?;
        }
        let events = match &capture.pins {
            Some(_) => {
                let told = Told::of(&counters).map_err(broken)?;
                EventSource::pinned(ring, counters, told).map_err(broken)?
            }
            None => EventSource::new(ring, counters),
        };
        Ok((capture, events))
    }

    /// Whether the hooks of Unix sockets are attached. If so, a connection without a record is one to refuse.
    pub fn captures_connects(&self) -> bool {
        !self._unix_links.is_empty()
    }

    /// Who called the `connect()` behind an accepted Unix stream socket, as it was at that instant. `None` when
    /// the kernel has no record of it.
    ///
    /// The answer names who connected, not who holds the socket now. The caller still compares
    /// [`Task::pid_ino`] with the inode of the socket's `SO_PEERPIDFD`.
    pub fn connect_record(&self, socket: BorrowedFd<'_>) -> io::Result<Option<Sighting>> {
        // The hook on this call hands the client's record over to this socket.
        getsockname::<UnixAddr>(socket.as_raw_fd())?;
        self.handed_over(socket)
    }

    /// What lies in the storage of accepted sockets.
    fn handed_over(&self, socket: BorrowedFd<'_>) -> io::Result<Option<Sighting>> {
        match self.peers.get(&socket, 0) {
            Ok(words) => {
                let record: ConnectRecord = zerocopy::transmute!(words);
                Ok(Some(Sighting::from(&record)))
            }
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(io::Error::other(error)),
        }
    }

    /// For so long from now each `connect()` of whoever has that key, on whatever Unix stream socket, takes 50 µs longer: time
    /// that the one who connects is charged for.
    pub fn slow_down(&self, connector: ConnectorKey, how_long: Duration) -> io::Result<()> {
        self.delayed.note(connector, system::since_boot() + how_long)
    }

    /// Whether the hooks of TCP are attached.
    pub fn captures_tcp(&self) -> bool {
        self.tcp_since.is_some()
    }

    /// Who called the `connect()` behind an accepted TCP socket, as it was at that instant: a process of this machine, in
    /// whatever network namespace.
    ///
    /// `None` means that nobody knows: the peer is on another machine, or is the kernel itself, or its packets were
    /// readdressed on their way (NAT), or the connection is older than the hooks, was made by TCP Fast Open or by both ends
    /// at once, is one of MPTCP, or its maker suppressed the record. It is never a sign of anything but "unknown". So is what
    /// a socket says that was not accepted.
    ///
    /// The answer names who connected, not who holds the socket now. There is no pidfd of a TCP peer: whoever acts on the
    /// answer asks [`Capture::inspect`] for the same [`Task::pid_ino`] (or pid and start time), since a dead process may
    /// have left the socket to somebody else.
    pub fn tcp_peer(&self, socket: BorrowedFd<'_>) -> io::Result<Option<Sighting>> {
        let Some(since) = self.tcp_since else { return Ok(None) };
        let seen = self.handed_over(socket)?;
        // The kernel connects in the name of root, for whoever made it; such a task executes no file. And where storage
        // outlives an agent while the hooks do not, what is older may be of an earlier connection of the same socket.
        Ok(seen.filter(|seen| seen.task.exe.is_some() && since <= seen.task.recorded_at))
    }

    /// The process as it is now; `None` when its last thread has left. `pid` counts in the pid namespace of the
    /// agent, which is the host's.
    pub fn inspect(&self, pid: u32) -> io::Result<Option<Sighting>> {
        let processes = self.list(Some(pid))?;
        // A kernel that cannot list one process lists all.
        Ok(processes.iter().find(|process| process.connector.tgid == pid).map(Sighting::from))
    }

    /// All processes now. About a millisecond for 2,000 of them.
    pub fn snapshot(&self) -> io::Result<Snapshot> {
        let taken_at = system::since_boot();
        let processes = self.list(None)?;
        Ok(Snapshot {
            taken_at,
            tasks: processes.iter().map(|process| Task::from(&process.connector)).collect(),
        })
    }

    /// Path of a cgroup from the root of cgroup2, `/` for the root itself.
    ///
    /// # Errors
    /// `NotFound` when there is no such cgroup any more, `PermissionDenied` without CAP_DAC_READ_SEARCH.
    pub fn cgroup_path(&self, id: u64) -> io::Result<String> {
        self.cgroups.path(id)
    }

    /// Each program, attached or not.
    pub fn hooks(&self) -> &[Hook] {
        &self.hooks
    }

    /// The directory that keeps hooks and maps when the agent ends, if there is one.
    pub fn pinned_at(&self) -> Option<&Path> {
        self.pins.as_ref().map(Pins::here)
    }

    pub fn counters(&self) -> io::Result<Counters> {
        Ok(Counters {
            connects: self.counters.total(counter::CONNECTS)?,
            connects_without_storage: self.counters.total(counter::CONNECTS_WITHOUT_STORAGE)?,
            connects_repeated: self.counters.total(counter::CONNECTS_REPEATED)?,
            connects_delayed: self.counters.total(counter::CONNECTS_DELAYED)?,
            handovers: self.counters.total(counter::HANDOVERS)?,
            handovers_without_record: self.counters.total(counter::HANDOVERS_WITHOUT_RECORD)?,
            handovers_without_storage: self.counters.total(counter::HANDOVERS_WITHOUT_STORAGE)?,
            origins_lost: self.counters.total(counter::ORIGINS_LOST)?,
            tcp_connects: self.counters.total(counter::TCP_CONNECTS)?,
            tcp_connects_without_storage: self.counters.total(counter::TCP_CONNECTS_WITHOUT_STORAGE)?,
            tcp_handovers: self.counters.total(counter::TCP_HANDOVERS)?,
            tcp_handovers_without_record: self.counters.total(counter::TCP_HANDOVERS_WITHOUT_RECORD)?,
            tcp_handovers_without_storage: self.counters.total(counter::TCP_HANDOVERS_WITHOUT_STORAGE)?,
            tcp_handovers_stale: self.counters.total(counter::TCP_HANDOVERS_STALE)?,
            events: self.counters.total(counter::EVENTS)?,
            events_lost: self.counters.events_lost()?,
        })
    }

    /// Notes who was there before the hooks. A child that is born of somebody not yet noted is found by the next
    /// look, so it looks until there is nobody new: two or three times.
    fn note_those_before(&mut self) -> io::Result<()> {
        const LOOKS: usize = 10;
        for _ in 0..LOOKS {
            if self.origins.note_before(&self.list(None)?)? == 0 {
                break;
            }
        }
        Ok(())
    }

    fn list(&self, only: Option<u32>) -> io::Result<Vec<ConnectRecord>> {
        const RECORD: usize = size_of::<ConnectRecord>();
        let limit = MAX_PROCESSES * RECORD;
        // Of one process two reads, instead of a few bytes at a time.
        let mut bytes = Vec::with_capacity(2 * RECORD);
        system::iterate(self.list_tasks.as_fd(), only)?.take(limit as u64 + 1).read_to_end(&mut bytes)?;
        if bytes.len() > limit {
            return Err(io::Error::other(format!("more than {MAX_PROCESSES} processes")));
        }
        let records = bytes.chunks_exact(RECORD);
        Ok(records.filter_map(|bytes| ConnectRecord::read_from_bytes(bytes).ok()).collect())
    }
}

impl fmt::Debug for Capture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Capture").field("hooks", &self.hooks).finish_non_exhaustive()
    }
}

fn take<M>(ebpf: &mut Ebpf, name: &str) -> Result<M, Error>
where
    M: TryFrom<Map, Error = MapError>,
{
    let map = ebpf.take_map(name).ok_or_else(|| Error::Object { reason: format!("it has no map {name}") })?;
    map.try_into().map_err(|error: MapError| Error::Object { reason: format!("map {name}: {error}") })
}

/// The programs' counters, one value a CPU.
pub(super) struct CounterMap(PerCpuArray<MapData, u64>);

impl CounterMap {
    pub(super) fn events_lost(&self) -> io::Result<u64> {
        self.total(counter::EVENTS_LOST)
    }

    fn total(&self, index: u32) -> io::Result<u64> {
        Ok(self.0.get(&index, 0).map_err(io::Error::other)?.iter().sum())
    }
}

/// Of the lost events, how many readers were told of: kept beside the counters, and written by nobody else.
pub(super) struct Told(PerCpuArray<MapData, u64>);

impl Told {
    fn of(counters: &CounterMap) -> io::Result<Self> {
        let descriptor = counters.0.map().fd().as_fd().try_clone_to_owned()?;
        let map = MapData::from_fd(descriptor).map_err(io::Error::other)?;
        PerCpuArray::try_from(Map::PerCpuArray(map)).map(Self).map_err(io::Error::other)
    }

    pub(super) fn get(&self) -> io::Result<u64> {
        Ok(self.0.get(&counter::EVENTS_LOST_TOLD, 0).map_err(io::Error::other)?.iter().sum())
    }

    pub(super) fn set(&mut self, told: u64) -> io::Result<()> {
        let cpus = nr_cpus().map_err(|(_, error)| error)?;
        let mut values = vec![0; cpus];
        if let Some(first) = values.first_mut() {
            *first = told;
        }
        let values = PerCpuValues::try_from(values)?;
        self.0.set(counter::EVENTS_LOST_TOLD, values, 0).map_err(io::Error::other)
    }
}
