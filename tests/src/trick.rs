//! What a process may do to look like another one, each with no privilege.
#![expect(unsafe_code, reason = "these are system calls that no library wraps")]

use std::{
    ffi::c_void,
    fs,
    io::{self, IoSlice, IoSliceMut},
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
        unix::net::{UnixListener, UnixStream},
    },
    path::Path,
    process, ptr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use io_uring::{IoUring, opcode, squeue, types};
use nix::{
    cmsg_space,
    sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, sendmsg},
    sys::wait::{WaitStatus, waitpid},
    unistd::{ForkResult, Pid, fork, getpid},
};

use crate::Address;

/// How io_uring is asked to connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ring {
    /// By the thread that submits.
    Inline,
    /// By a worker thread of the kernel.
    Worker,
    /// By the thread of the kernel that polls the queue.
    Polled,
}

/// Connects `socket` to `address` by io_uring.
///
/// # Errors
/// When the kernel has no ring for us, or the connect fails.
pub fn connect_by_ring(socket: BorrowedFd<'_>, address: &Address, how: Ring) -> Result<()> {
    let mut builder = IoUring::builder();
    if how == Ring::Polled {
        builder.setup_sqpoll(100);
    }
    let mut ring: IoUring = builder.build(4).context("a ring")?;
    let (at, length) = address.as_raw();
    let mut entry = opcode::Connect::new(types::Fd(socket.as_raw_fd()), at, length).build();
    if how == Ring::Worker {
        entry = entry.flags(squeue::Flags::ASYNC);
    }
    // SAFETY: address and socket outlive the call, which is waited for here.
    unsafe { ring.submission().push(&entry) }.context("room in the ring")?;
    ring.submit_and_wait(1)?;
    let done = ring.completion().next().context("a completion")?;
    if done.result() < 0 {
        return Err(io::Error::from_raw_os_error(-done.result()).into());
    }
    Ok(())
}

/// Connects `socket` by TCP Fast Open, with `text` in its first packet where the kernel has a cookie of the server.
///
/// # Errors
/// What the kernel says.
pub fn connect_with_data(socket: BorrowedFd<'_>, address: &Address, text: &str) -> Result<()> {
    let (at, length) = address.as_raw();
    // SAFETY: text and address outlive the call, and are as long as it is told.
    let sent = unsafe {
        libc::sendto(socket.as_raw_fd(), text.as_ptr().cast(), text.len(), libc::MSG_FASTOPEN, at, length)
    };
    ensure!(sent >= 0, "sendto: {}", io::Error::last_os_error());
    Ok(())
}

/// Ends the connection of `socket`, which may connect anew afterwards.
///
/// # Errors
/// What the kernel says.
pub fn disconnect(socket: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: plain data, for which all bytes zero is a value: no family.
    let nowhere: libc::sockaddr = unsafe { std::mem::zeroed() };
    let length = u32::try_from(size_of_val(&nowhere))?;
    // SAFETY: the address outlives the call.
    let done = unsafe { libc::connect(socket.as_raw_fd(), &raw const nowhere, length) };
    ensure!(done == 0, "connect: {}", io::Error::last_os_error());
    Ok(())
}

/// A child that plays its own part, and its pid in the parent. Only for a process with one thread.
///
/// # Errors
/// When there is no room for another process.
pub fn split() -> Result<Option<Pid>> {
    // SAFETY: the process has one thread, so no lock is held by another one that the child lacks.
    match unsafe { fork() }? {
        ForkResult::Child => Ok(None),
        ForkResult::Parent { child } => Ok(Some(child)),
    }
}

/// Makes processes until one has the number `pid`, which nobody has, and returns only in that one. Only for a
/// process with one thread.
///
/// # Errors
/// When the kernel refuses a process, or the number does not come round in a minute.
pub fn take_pid(pid: Pid) -> Result<()> {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(60) {
        let Some(child) = split()? else {
            if getpid() == pid {
                return Ok(());
            }
            process::exit(0);
        };
        waitpid(child, None)?;
        if child == pid {
            process::exit(0);
        }
    }
    bail!("no process has number {pid}")
}

/// What the kernel calls our executable, once it may be any file. Only in a user namespace of our own.
#[derive(Debug)]
pub struct Disguise {
    map: MemoryMap,
}

impl Disguise {
    /// Lets go of the executable. Only with one thread.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn prepare() -> Result<Self> {
        leave_executable()?;
        let stat = fs::read_to_string("/proc/self/stat")?;
        let (_, fields) = stat.rsplit_once(')').context("a name")?;
        let fields: Vec<u64> =
            fields.split_ascii_whitespace().map(|field| field.parse().unwrap_or_default()).collect();
        // `man 5 proc` counts from 1, and the name was field 2.
        let field = |number: usize| fields.get(number - 3).copied().context("a field");
        // SAFETY: asks where the heap ends, and does not move it.
        let brk = unsafe { libc::sbrk(0) } as u64;
        let (code, data, heap) = ([field(26)?, field(27)?], [field(45)?, field(46)?], [field(47)?, brk]);
        let (stack, arguments, environment) =
            (field(28)?, [field(48)?, field(49)?], [field(50)?, field(51)?]);
        let map =
            MemoryMap { code, data, heap, stack, arguments, environment, auxv: 0, auxv_size: 0, exe_fd: 0 };
        Ok(Self { map })
    }

    /// Makes `file` our executable.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn wear(&mut self, file: &fs::File) -> Result<()> {
        self.name(file)?;
        self.put_on()
    }

    /// The same by a helper that shares our memory and goes to a user namespace of its own, while we stay where we
    /// are. With two files it goes on for as long as we live, by turns.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn wear_by_helper(mut self, files: &[fs::File]) -> Result<()> {
        /// Returns with 0 when all is done, which with several files is never.
        extern "C" fn helper(work: *mut c_void) -> i32 {
            // SAFETY: it is the work below, which is never freed.
            let work = unsafe { &mut *work.cast::<(Disguise, Vec<u32>)>() };
            // SAFETY: asks for a signal, and touches no memory.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            loop {
                for fd in &work.1 {
                    work.0.map.exe_fd = *fd;
                    if work.0.put_on().is_err() {
                        return 1;
                    }
                }
                if work.1.len() == 1 {
                    return 0;
                }
            }
        }
        const STACK: usize = 256 << 10;
        self.name(&files[0])?;
        let fds =
            files.iter().map(|file| Ok(u32::try_from(file.as_raw_fd())?)).collect::<Result<Vec<_>>>()?;
        let work = Box::into_raw(Box::new((self, fds)));
        let stack = vec![0_u128; STACK / 16].leak();
        let flags = libc::CLONE_VM | libc::CLONE_NEWUSER | libc::SIGCHLD;
        // SAFETY: the helper has a stack and work of its own, which nobody else uses and nobody frees.
        let child = unsafe { libc::clone(helper, stack.as_mut_ptr_range().end.cast(), flags, work.cast()) };
        ensure!(child > 0, "no helper: {}", io::Error::last_os_error());
        if files.len() == 1 {
            let end = waitpid(Pid::from_raw(child), None)?;
            ensure!(matches!(end, WaitStatus::Exited(_, 0)), "PR_SET_MM_MAP by a helper: {end:?}");
        }
        Ok(())
    }

    fn name(&mut self, file: &fs::File) -> Result<()> {
        self.map.exe_fd = u32::try_from(file.as_raw_fd())?;
        Ok(())
    }

    fn put_on(&self) -> Result<()> {
        // SAFETY: the kernel only reads the structure, of the size that is given.
        let done = unsafe {
            libc::prctl(libc::PR_SET_MM, libc::PR_SET_MM_MAP, &raw const self.map, size_of::<MemoryMap>(), 0)
        };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()).context("PR_SET_MM_MAP") }
    }
}

/// `struct prctl_mm_map`.
#[derive(Debug)]
#[repr(C)]
struct MemoryMap {
    code: [u64; 2],
    data: [u64; 2],
    heap: [u64; 2],
    stack: u64,
    arguments: [u64; 2],
    environment: [u64; 2],
    auxv: u64,
    auxv_size: u32,
    exe_fd: u32,
}

/// The kernel lets an executable go only when nothing of it is mapped: puts anonymous copies in the place of each
/// mapping.
fn leave_executable() -> Result<()> {
    let executable = fs::read_link("/proc/self/exe")?;
    let maps = fs::read_to_string("/proc/self/maps")?;
    for line in maps.lines().filter(|line| line.ends_with(executable.to_str().unwrap_or("?"))) {
        let (range, rest) = line.split_once(' ').context("a range")?;
        let (start, end) = range.split_once('-').context("a range")?;
        let (start, end) = (usize::from_str_radix(start, 16)?, usize::from_str_radix(end, 16)?);
        let protection = rest.bytes().zip([libc::PROT_READ, libc::PROT_WRITE, libc::PROT_EXEC]);
        let protection = protection.map(|(letter, bit)| if letter == b'-' { 0 } else { bit }).sum();
        // SAFETY: the range is one mapping of ours, readable, that nobody else changes meanwhile, and its copy has
        // the same bytes and rights.
        unsafe { replace_by_copy(start as *mut c_void, end - start, protection) }?;
    }
    Ok(())
}

/// # Safety
/// `length` bytes at `at` are one readable mapping, and nothing writes to it meanwhile.
unsafe fn replace_by_copy(at: *mut c_void, length: usize, protection: i32) -> Result<()> {
    // SAFETY: a new mapping of that size is filled and takes the place of the old one in one step; the caller
    // promised the rest.
    let moved = unsafe {
        let copy = libc::mmap(
            ptr::null_mut(),
            length,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        );
        if copy == libc::MAP_FAILED {
            return Err(io::Error::last_os_error().into());
        }
        ptr::copy_nonoverlapping(at.cast::<u8>().cast_const(), copy.cast::<u8>(), length);
        if libc::mprotect(copy, length, protection) != 0 {
            return Err(io::Error::last_os_error().into());
        }
        libc::mremap(copy, length, length, libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED, at)
    };
    if moved != at {
        bail!("a mapping cannot be replaced: {}", io::Error::last_os_error());
    }
    Ok(())
}

/// Takes as many locks on `file` as make a walk over all of them slow; they last as long as this process.
///
/// # Errors
/// When the kernel refuses.
pub fn lock_often(file: &fs::File, locks: i64) -> Result<()> {
    for lock in 0..locks {
        // SAFETY: plain data, for which all bytes zero is a value.
        let mut flock: libc::flock = unsafe { std::mem::zeroed() };
        flock.l_type = i16::try_from(libc::F_RDLCK)?;
        // Neighbours would become one lock.
        (flock.l_start, flock.l_len) = (2 * lock, 1);
        nix::fcntl::fcntl(file, nix::fcntl::FcntlArg::F_SETLK(&flock))?;
    }
    Ok(())
}

/// Puts a seccomp filter on this thread that lets every call pass. It must be without privileges to gain.
///
/// # Errors
/// When the kernel refuses.
pub fn filter_calls() -> Result<()> {
    let mut pass = libc::sock_filter {
        code: u16::try_from(libc::BPF_RET | libc::BPF_K)?,
        jt: 0,
        jf: 0,
        k: libc::SECCOMP_RET_ALLOW,
    };
    let program = libc::sock_fprog { len: 1, filter: &raw mut pass };
    // SAFETY: the kernel reads the program, of one instruction, and keeps a copy.
    let done =
        unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program, 0, 0) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()).context("a filter") }
}

/// A stream that gives up in the end, whoever is at the other end.
///
/// # Errors
/// When the descriptor is none.
pub fn bounded(socket: &OwnedFd, limit: Duration) -> io::Result<UnixStream> {
    let stream = UnixStream::from(socket.try_clone()?);
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    Ok(stream)
}

/// Sends a descriptor to who listens at `path`: it is theirs as well from then on.
///
/// # Errors
/// When nobody listens, or the kernel refuses.
pub fn hand(descriptor: &impl AsRawFd, path: &Path) -> Result<()> {
    let messenger = UnixStream::connect(path)?;
    let descriptors = [descriptor.as_raw_fd()];
    let control = [ControlMessage::ScmRights(&descriptors)];
    sendmsg::<UnixAddr>(messenger.as_raw_fd(), &[IoSlice::new(b"x")], &control, MsgFlags::empty(), None)?;
    Ok(())
}

/// Takes the descriptor that somebody hands to `listener`.
///
/// # Errors
/// When something else comes.
pub fn take_handed(listener: &UnixListener) -> Result<OwnedFd> {
    let (messenger, _) = listener.accept()?;
    let mut byte = [0];
    let mut parts = [IoSliceMut::new(&mut byte)];
    let mut space = cmsg_space!(RawFd);
    let message =
        recvmsg::<UnixAddr>(messenger.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(descriptors) = control
            && let [descriptor] = descriptors[..]
        {
            // SAFETY: the kernel has just installed it for us; nobody else holds it.
            return Ok(unsafe { OwnedFd::from_raw_fd(descriptor) });
        }
    }
    bail!("no descriptor came")
}
