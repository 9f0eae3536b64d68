//! From the embedded object to attached programs.

use std::{
    collections::HashSet,
    error::Error as StdError,
    ffi::CStr,
    fs, io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::Path,
};

use aya::{
    Btf as AyaBtf, Ebpf, EbpfLoader,
    maps::{Map, MapData},
    programs::{BtfTracePoint, Iter, Program, ProgramError, links::FdLink},
};
use aya_obj::generated::bpf_attach_type;
use nix::sys::signal::{SigSet, SigmaskHow};
use vouch_abi::names::{global, map, program};
use zerocopy::IntoBytes;

use super::{
    Error, Hook, HookState, Options,
    btf::Btf,
    object::Target,
    offsets::Layout,
    pins::{MapShape, PinFault, Pins},
    system::{self, Refused},
    tcp,
};

const KERNEL_TYPES: &str = "/sys/kernel/btf/vmlinux";
const LICENSE: &CStr = c"Dual MIT/GPL";

/// Aligned, since the reader of the object takes its tables in place.
#[repr(C, align(8))]
struct Aligned<B: ?Sized>(B);
static OBJECT: &Aligned<[u8]> = &Aligned(*include_bytes!("../../../agent-ebpf/vouch.bpf.o"));

/// Programs on tracepoints. Exit comes first: a process that the table learns of and whose exit nobody sees would stay
/// for ever.
const ON_TRACEPOINTS: [(&str, &str); 4] = [
    (program::EXIT, "sched_process_exit"),
    (program::EXEC, "sched_process_exec"),
    (program::FORK, "sched_process_fork"),
    (program::CGROUP_MOVE, "cgroup_attach_task"),
];
/// Programs on Unix sockets. The hand-over first: a record without it could not be read, while a hand-over without
/// records finds none.
const ON_UNIX_SOCKETS: [(&str, bpf_attach_type); 2] = [
    (program::GETSOCKNAME_UNIX, bpf_attach_type::BPF_CGROUP_UNIX_GETSOCKNAME),
    (program::CONNECT_UNIX, bpf_attach_type::BPF_CGROUP_UNIX_CONNECT),
];

/// Everything that holds programs and maps in the kernel.
pub(super) struct Loaded {
    pub(super) ebpf: Ebpf,
    /// Links of the AF_UNIX hooks; empty when they are off.
    pub(super) unix_links: Vec<OwnedFd>,
    /// Links of the TCP hooks; empty when they are off.
    pub(super) tcp_links: Vec<FdLink>,
    /// The program behind the list of tasks.
    pub(super) list_tasks: OwnedFd,
    pub(super) hooks: Vec<Hook>,
    /// Holds the directory of pins, if there is one.
    pub(super) pins: Option<Pins>,
    /// Notes of what processes executed come from an agent before, and its hooks were never away.
    pub(super) origins_adopted: bool,
}

/// Attaches every hook: those of processes or none, those of sockets as far as it goes.
pub(super) fn load(options: &Options, cgroup: BorrowedFd<'_>) -> Result<Loaded, Error> {
    let layout = kernel_layout()?;
    let _quiet = Quiet::new();
    let maps = shapes(options)?;
    let pins = match &options.pins {
        Some(directory) => Some(take_pins(directory, &maps, cgroup)?),
        None => None,
    };
    let origins_adopted = pins.as_ref().is_some_and(|pins| pins.has(map::ORIGINS));
    let mut loader = EbpfLoader::new();
    loader
        .override_global(global::OFFSETS, layout.offsets.as_bytes(), true)
        .override_global(global::FEATURES, layout.features.as_bytes(), true)
        .map_max_entries(map::EVENTS, options.ring_bytes)
        .map_max_entries(map::FLOWS, if options.tcp { tcp::FLOWS } else { tcp::NO_FLOWS });
    if let Some(pins) = &pins {
        for map in &maps {
            loader.map_pin_path(&map.name, pins.map(&map.name));
        }
    }
    let mut ebpf = loader.load(&OBJECT.0).map_err(|error| match denied(&error) {
        Some(source) => Error::NoPermission { source },
        None => Error::Object { reason: chain(&error) },
    })?;
    let types = AyaBtf::from_sys_fs().map_err(|error| Error::Object { reason: chain(&error) })?;
    let mut hooks = Vec::new();
    for (name, tracepoint) in ON_TRACEPOINTS {
        attach_tracepoint(&mut ebpf, name, tracepoint, &types, pins.as_ref())?;
        hooks.push(Hook { name, state: HookState::Attached });
    }
    let list_tasks = load_iterator(&mut ebpf, &types)?;
    hooks.push(Hook { name: program::LIST_TASKS, state: HookState::Attached });

    let (unix_links, state) = match attach_unix(&ebpf, &layout, cgroup, pins.as_ref()) {
        Ok(links) => (links, HookState::Attached),
        Err(Unattached::Off(reason)) => (Vec::new(), HookState::Off(reason)),
        Err(Unattached::Unpinned(fault)) => return Err(fault.into()),
    };
    for name in [program::CONNECT_UNIX, program::GETSOCKNAME_UNIX] {
        hooks.push(Hook { name, state: state.clone() });
    }
    if let Some(pins) = &pins {
        let attached = hooks.iter().filter(|hook| hook.state == HookState::Attached);
        pins.sweep(&maps, &attached.map(|hook| hook.name).collect::<Vec<_>>())?;
    }
    let mut tcp_links = Vec::new();
    if options.tcp {
        let state;
        (tcp_links, state) = match tcp::attach(&mut ebpf, cgroup) {
            Ok(links) => (links, HookState::Attached),
            Err((name, error)) => (Vec::new(), HookState::Off(explain_tcp(name, &error))),
        };
        hooks.extend(tcp::PROGRAMS.map(|name| Hook { name, state: state.clone() }));
    }
    drop(types);
    system::give_memory_back();
    Ok(Loaded { ebpf, unix_links, tcp_links, list_tasks, hooks, pins, origins_adopted })
}

/// The maps that hold state, in order of the names. Those of globals hold none, nor does the one of TCP connections
/// that are being made.
fn shapes(options: &Options) -> Result<Vec<MapShape>, Error> {
    let object =
        aya_obj::Object::parse(&OBJECT.0).map_err(|error| Error::Object { reason: chain(&error) })?;
    let state = object.maps.iter().filter(|(name, map)| map.data().is_empty() && *name != map::FLOWS);
    let mut shapes: Vec<MapShape> = state
        .map(|(name, map)| MapShape {
            name: name.clone(),
            kind: map.map_type(),
            key_bytes: map.key_size(),
            value_bytes: map.value_size(),
            entries: if name == map::EVENTS { options.ring_bytes } else { map.max_entries() },
        })
        .collect();
    shapes.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(shapes)
}

fn take_pins(directory: &Path, maps: &[MapShape], cgroup: BorrowedFd<'_>) -> Result<Pins, Error> {
    let opened = cgroup.try_clone_to_owned().and_then(|cgroup| fs::File::from(cgroup).metadata());
    let id = opened.map_err(|source| Error::Cgroup2 { path: "of the hooks".into(), source })?.ino();
    let on_tracepoints =
        ON_TRACEPOINTS.map(|(name, tracepoint)| (name, Target::Tracepoint(tracepoint.to_owned())));
    let on_sockets = ON_UNIX_SOCKETS
        .map(|(name, attach_type)| (name, Target::Cgroup { id, attach_type: attach_type as u32 }));
    let hooks: Vec<_> = on_tracepoints.into_iter().chain(on_sockets).collect();
    Ok(Pins::open(directory, maps, &hooks)?)
}

/// Keeps signals away from this thread.
///
/// The verifier gives up (EAGAIN) on a thread that has a signal waiting, and so do aya's probes of what the
/// kernel can do, whose answers stay for the life of the process. A child that ends is enough.
struct Quiet(Option<SigSet>);

impl Quiet {
    fn new() -> Self {
        Self(SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK).ok())
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            // It was the mask a moment ago, so it is a valid one.
            let _ = before.thread_set_mask();
        }
    }
}

fn kernel_layout() -> Result<Layout, Error> {
    let no_btf = |source| Error::NoBtf { path: KERNEL_TYPES.into(), source };
    let types = fs::read(KERNEL_TYPES).map_err(no_btf)?;
    let types = Btf::parse(&types)
        .ok_or_else(|| no_btf(io::Error::new(io::ErrorKind::InvalidData, "not in the form of BTF")))?;
    Layout::resolve(&types).map_err(|missing| Error::Layout { missing })
}

/// The link stays with the program, unless it is pinned.
fn attach_tracepoint(
    ebpf: &mut Ebpf,
    name: &'static str,
    tracepoint: &str,
    types: &AyaBtf,
    pins: Option<&Pins>,
) -> Result<(), Error> {
    let cannot = |error: ProgramError| match denied(&error) {
        Some(source) => Error::NoPermission { source },
        None => Error::Attach { program: name, source: io::Error::other(chain(&error)) },
    };
    let program: &mut BtfTracePoint = program_of(ebpf, name)?;
    program.load(tracepoint, types).map_err(|error| refused(name, error))?;
    let link = program.attach().map_err(cannot)?;
    if let Some(pins) = pins {
        let link: FdLink = program.take_link(link).map_err(cannot)?.into();
        pins.keep_tracing(name, link)?;
    }
    Ok(())
}

fn load_iterator(ebpf: &mut Ebpf, types: &AyaBtf) -> Result<OwnedFd, Error> {
    let name = program::LIST_TASKS;
    let program: &mut Iter = program_of(ebpf, name)?;
    program.load("task", types).map_err(|error| refused(name, error))?;
    let descriptor = program.fd().map_err(|error| refused(name, error))?.as_fd().try_clone_to_owned();
    descriptor.map_err(|source| Error::Attach { program: name, source })
}

fn program_of<'a, P>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut P, Error>
where
    &'a mut P: TryFrom<&'a mut Program, Error = ProgramError>,
{
    let program =
        ebpf.program_mut(name).ok_or_else(|| Error::Object { reason: format!("it has no {name}") })?;
    program.try_into().map_err(|error: ProgramError| Error::Object { reason: chain(&error) })
}

fn refused(program: &'static str, error: ProgramError) -> Error {
    if let Some(source) = denied(&error) {
        return Error::NoPermission { source };
    }
    match error {
        ProgramError::LoadError { io_error, verifier_log } => {
            let verifier = system::last_lines(&verifier_log.to_string());
            Error::Load { program, verifier, source: io_error }
        }
        other => Error::Load { program, verifier: String::new(), source: io::Error::other(chain(&other)) },
    }
}

/// Why the AF_UNIX hooks are not attached.
enum Unattached {
    Off(String),
    Unpinned(PinFault),
}

impl<S: Into<String>> From<S> for Unattached {
    fn from(reason: S) -> Self {
        Self::Off(reason.into())
    }
}

/// The links of both AF_UNIX hooks, or why there are none. One without the other would be of no use.
///
/// aya has no name for their attach types. In the object they stand under sections that it can read, so the maps
/// are aya's and the two programs are loaded by hand.
fn attach_unix(
    ebpf: &Ebpf,
    layout: &Layout,
    cgroup: BorrowedFd<'_>,
    pins: Option<&Pins>,
) -> Result<Vec<OwnedFd>, Unattached> {
    if !layout.unix_sockets {
        return Err("this kernel does not describe struct unix_sock".into());
    }
    let object = relocated(ebpf).map_err(|error| chain(&*error))?;
    let mut links = Vec::new();
    for (name, attach_type) in ON_UNIX_SOCKETS {
        let key = object.programs.get(name).ok_or("the object lacks a program")?.function_key();
        let function = object.functions.get(&key).ok_or("the object lacks a function")?;
        let program = system::load_sock_addr(name, attach_type, &function.instructions, LICENSE)
            .map_err(|refused| explain(name, &refused))?;
        links.push(link(name, program.as_fd(), cgroup, attach_type, pins)?);
    }
    Ok(links)
}

fn explain_tcp(name: &str, error: &ProgramError) -> String {
    match (denied(error), error) {
        (Some(_), _) => format!("no right to load {name}: CAP_NET_ADMIN is missing"),
        (None, ProgramError::LoadError { io_error, verifier_log }) => {
            format!(
                "the kernel refuses {name}: {io_error}\n{}",
                system::last_lines(&verifier_log.to_string())
            )
        }
        (None, error) => format!("{name} cannot be attached: {}", chain(error)),
    }
}

/// The program goes under the pinned link, if there is one.
fn link(
    name: &str,
    program: BorrowedFd<'_>,
    cgroup: BorrowedFd<'_>,
    attach_type: bpf_attach_type,
    pins: Option<&Pins>,
) -> Result<OwnedFd, Unattached> {
    if let Some(link) = pins.and_then(|pins| pins.update_cgroup(name, program)) {
        return Ok(link);
    }
    let link = system::link(program, cgroup, attach_type)
        .map_err(|error| format!("{name} cannot be attached: {error}"))?;
    if let Some(pins) = pins {
        pins.keep_cgroup(name, link.as_fd()).map_err(Unattached::Unpinned)?;
    }
    Ok(link)
}

fn explain(name: &str, refused: &Refused) -> String {
    match refused.error.raw_os_error() {
        Some(libc::EPERM) => format!("no right to load {name}: CAP_NET_ADMIN is missing"),
        // An attach type that the kernel does not know is an invalid argument, and the verifier never runs.
        Some(libc::EINVAL) if refused.verifier.is_empty() => {
            "the kernel is older than 6.7, or built without CONFIG_CGROUP_BPF".to_owned()
        }
        _ => format!("the kernel refuses {name}: {}\n{}", refused.error, refused.verifier),
    }
}

/// The object with the addresses of aya's maps filled in.
fn relocated(ebpf: &Ebpf) -> Result<aya_obj::Object, Box<dyn StdError>> {
    let mut object = aya_obj::Object::parse(&OBJECT.0)?;
    let text: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
    let maps = object.maps.clone();
    let descriptors = maps.iter().filter_map(|(name, map)| {
        let descriptor = map_data(ebpf.map(name)?)?.fd().as_fd().as_raw_fd();
        Some((name.as_str(), descriptor, map))
    });
    object.relocate_maps(descriptors, &text)?;
    object.relocate_calls(&text)?;
    Ok(object)
}

fn map_data(map: &Map) -> Option<&MapData> {
    match map {
        Map::Array(data)
        | Map::HashMap(data)
        | Map::LruHashMap(data)
        | Map::PerCpuArray(data)
        | Map::RingBuf(data)
        | Map::SkStorage(data) => Some(data),
        _ => None,
    }
}

/// The cause, if it is that we have not the right. (EACCES is the verifier's word about the program.)
fn denied(error: &(dyn StdError + 'static)) -> Option<io::Error> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        match error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
            Some(code @ libc::EPERM) => return Some(io::Error::from_raw_os_error(code)),
            _ => cause = error.source(),
        }
    }
    None
}

/// An error and its causes in one line.
fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
