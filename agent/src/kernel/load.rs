//! From the embedded object to attached programs.

use std::{
    collections::HashSet,
    error::Error as StdError,
    ffi::CStr,
    fs, io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
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
    offsets::Layout,
    system::{self, Refused},
    tcp,
};

const KERNEL_TYPES: &str = "/sys/kernel/btf/vmlinux";
const LICENSE: &CStr = c"Dual MIT/GPL";

/// Aligned, since the reader of the object takes its tables in place.
#[repr(C, align(8))]
struct Aligned<B: ?Sized>(B);
static OBJECT: &Aligned<[u8]> = &Aligned(*include_bytes!("../../../agent-ebpf/vouch.bpf.o"));

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
}

/// Attaches every hook: those of processes or none, those of sockets as far as it goes.
pub(super) fn load(options: &Options, cgroup: BorrowedFd<'_>) -> Result<Loaded, Error> {
    let layout = kernel_layout()?;
    let _quiet = Quiet::new();
    let mut ebpf = EbpfLoader::new()
        .override_global(global::OFFSETS, layout.offsets.as_bytes(), true)
        .override_global(global::FEATURES, layout.features.as_bytes(), true)
        .map_max_entries(map::EVENTS, options.ring_bytes)
        .map_max_entries(map::FLOWS, if options.tcp { tcp::FLOWS } else { tcp::NO_FLOWS })
        .load(&OBJECT.0)
        .map_err(|error| match denied(&error) {
            Some(source) => Error::NoPermission { source },
            None => Error::Object { reason: chain(&error) },
        })?;
    let types = AyaBtf::from_sys_fs().map_err(|error| Error::Object { reason: chain(&error) })?;
    let mut hooks = Vec::new();
    // Exit comes first: a process that the table learns of and whose exit nobody sees would stay for ever.
    for (name, tracepoint) in [
        (program::EXIT, "sched_process_exit"),
        (program::EXEC, "sched_process_exec"),
        (program::FORK, "sched_process_fork"),
        (program::CGROUP_MOVE, "cgroup_attach_task"),
    ] {
        attach_tracepoint(&mut ebpf, name, tracepoint, &types)?;
        hooks.push(Hook { name, state: HookState::Attached });
    }
    let list_tasks = load_iterator(&mut ebpf, &types)?;
    hooks.push(Hook { name: program::LIST_TASKS, state: HookState::Attached });

    let (unix_links, state) = match attach_unix(&ebpf, &layout, cgroup) {
        Ok(links) => (links, HookState::Attached),
        Err(reason) => (Vec::new(), HookState::Off(reason)),
    };
    for name in [program::CONNECT_UNIX, program::GETSOCKNAME_UNIX] {
        hooks.push(Hook { name, state: state.clone() });
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
    Ok(Loaded { ebpf, unix_links, tcp_links, list_tasks, hooks })
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

fn attach_tracepoint(
    ebpf: &mut Ebpf,
    name: &'static str,
    tracepoint: &str,
    types: &AyaBtf,
) -> Result<(), Error> {
    let program: &mut BtfTracePoint = program_of(ebpf, name)?;
    program.load(tracepoint, types).map_err(|error| refused(name, error))?;
    program.attach().map_err(|error| match denied(&error) {
        Some(source) => Error::NoPermission { source },
        None => Error::Attach { program: name, source: io::Error::other(chain(&error)) },
    })?;
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

/// The links of both AF_UNIX hooks, or why there are none. One without the other would be of no use.
///
/// aya has no name for their attach types. In the object they stand under sections that it can read, so the maps
/// are aya's and the two programs are loaded by hand.
fn attach_unix(ebpf: &Ebpf, layout: &Layout, cgroup: BorrowedFd<'_>) -> Result<Vec<OwnedFd>, String> {
    if !layout.unix_sockets {
        return Err("this kernel does not describe struct unix_sock".to_owned());
    }
    let object = relocated(ebpf).map_err(|error| chain(&*error))?;
    let mut links = Vec::new();
    // The hand-over first: a record without it could not be read, while a hand-over without records finds none.
    for (name, attach_type) in [
        (program::GETSOCKNAME_UNIX, bpf_attach_type::BPF_CGROUP_UNIX_GETSOCKNAME),
        (program::CONNECT_UNIX, bpf_attach_type::BPF_CGROUP_UNIX_CONNECT),
    ] {
        let key = object.programs.get(name).ok_or("the object lacks a program")?.function_key();
        let function = object.functions.get(&key).ok_or("the object lacks a function")?;
        let program = system::load_sock_addr(name, attach_type, &function.instructions, LICENSE)
            .map_err(|refused| explain(name, &refused))?;
        let link = system::link(program.as_fd(), cgroup, attach_type)
            .map_err(|error| format!("{name} cannot be attached: {error}"))?;
        links.push(link);
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
