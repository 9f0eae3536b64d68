//! A program that does what its arguments say, one step after the other, so that a scenario can be the process
//! it needs. After each step it prints the step's name on a line of its own.
//!
//! | step | does |
//! |---|---|
//! | `connect ADDRESS` | connects a stream socket, which the later steps use, to `/path` or `tcp:address:port`; one that fails prints `failed PID` and is a step done |
//! | `fast-open ADDRESS TEXT` | the same by TCP Fast Open |
//! | `bind ADDRESS` | makes a TCP socket that will connect from there |
//! | `disconnect` | ends the connection of the socket, which may connect again |
//! | `reset` | closes the socket as one that is broken |
//! | `socket` | makes a Unix stream socket that is not connected |
//! | `say TEXT` | writes to the socket |
//! | `move DIR` | moves itself to the cgroup at DIR |
//! | `exec PROGRAM STEP...` | becomes PROGRAM, which goes on with the socket and those steps |
//! | `inherit FD` | takes the socket that it was left with |
//! | `await FILE` | waits until there is such a file |
//! | `call NAMES` | writes gRPC calls to the socket: X.509-SVIDs of the Workload API, then the secret of each name |
//! | `hear COUNT` | reads that many answers, each printed before the step: `answer ID,ID...`, `denied` or `closed` |
//! | `ring HOW ADDRESS` | connects by io_uring: `inline`, `worker` or `polled` |
//! | `fork COUNT STEP...` | has a child with the same socket that does the next COUNT arguments as its steps |
//! | `await-end` | for a child: waits until nothing is left of its parent |
//! | `take-pid` | for a child whose parent is gone: becomes, in the end, a process with the parent's number |
//! | `await-exe FILE` | for a child: waits until its parent runs FILE |
//! | `touch FILE` | makes an empty file |
//! | `crowd FILE` | opens FILE as often as it may, to be closed by the next exec |
//! | `lock FILE` | takes many locks on FILE, which make each of those closes slow |
//! | `own-users` | moves itself to a user namespace of its own |
//! | `disguise FILE` | has the kernel call FILE its executable |
//! | `disguise-by-helper FILE` | the same, by a helper with our memory and a user namespace of its own |
//! | `flicker-by-helper FILE` | the same, but from now on it is FILE and our own file by turns |
//! | `flicker FILE` | `disguise`, but from now on it is FILE and our own file by turns |
//! | `filter` | has its system calls filtered, by a filter that lets everything pass |
//! | `name TEXT` | calls itself TEXT |
//! | `engine PATH LABEL` | answers at PATH as a container engine that calls every container `app=LABEL`, and goes on |
//! | `retire` | ends its first thread; a second one goes on |
//! | `hand PATH` | sends the socket to who listens at PATH |
//! | `become UID` | takes another user id, for good |
//! | `regroup GID,GID...` | has those supplementary groups and no other |
//! | `hold` | waits to be killed |
#![expect(unsafe_code, reason = "inherits a descriptor, and ends one thread alone")]

use std::{
    env,
    ffi::CString,
    fs::{self, File},
    io::{self, Write},
    os::{
        fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd},
        unix::process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{self, Command},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::{
    fcntl::{FcntlArg, FdFlag, fcntl},
    sched::{CloneFlags, unshare},
    sys::socket::{AddressFamily, SockFlag, SockType, bind, setsockopt, socket, sockopt},
    unistd::{Gid, Pid, Uid, getpid, setgroups, setresuid},
};
use vouch_tests::{
    Address,
    bare::{self, Answer},
    fake,
    trick::{self, Disguise, Ring},
};

/// However an attack goes, it ends.
const LIMIT: Duration = Duration::from_secs(20);
/// So many that a walk over them takes a good part of a millisecond.
const LOCKS: i64 = 4_000;
/// Descriptors that are left for what comes after a crowd.
const SPARE: usize = 8;

fn main() -> Result<()> {
    // Whatever goes wrong, nobody is left behind.
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
    Actor { socket: None, parent: None, crowd: Vec::new() }.play(env::args().skip(1).collect())
}

struct Actor {
    socket: Option<OwnedFd>,
    parent: Option<Pid>,
    crowd: Vec<File>,
}

impl Actor {
    fn play(mut self, steps: Vec<String>) -> Result<()> {
        let mut steps = steps.into_iter();
        while let Some(step) = steps.next() {
            let mut argument = || steps.next().with_context(|| format!("{step} of what?"));
            match step.as_str() {
                "connect" => self.connect(&argument()?)?,
                "fast-open" => {
                    let address = Address::parse(&argument()?)?;
                    let socket = self.socket.get_or_insert(address.socket()?);
                    trick::connect_with_data(socket.as_fd(), &address, &argument()?)?;
                }
                "bind" => self.bind(&argument()?)?,
                "disconnect" => trick::disconnect(self.socket()?.as_fd())?,
                "reset" => {
                    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
                    setsockopt(self.socket()?, sockopt::Linger, &linger)?;
                    self.socket = None;
                }
                "socket" => self.socket = Some(stream()?),
                "say" => nix::unistd::write(self.socket()?, argument()?.as_bytes()).map(drop)?,
                "move" => fs::write(Path::new(&argument()?).join("cgroup.procs"), "0")?,
                "exec" => return self.exec(&argument()?, steps),
                // SAFETY: the program that became this one left the descriptor open for it and nobody else.
                "inherit" => self.socket = Some(unsafe { OwnedFd::from_raw_fd(argument()?.parse()?) }),
                "await" => wait_for(Path::new(&argument()?)),
                "call" => self.call(&argument()?)?,
                "hear" => self.hear(argument()?.parse()?)?,
                "ring" => self.connect_by_ring(&argument()?, &argument()?)?,
                "fork" => {
                    let count = argument()?.parse()?;
                    let part: Vec<String> = steps.by_ref().take(count).collect();
                    let parent = getpid();
                    if trick::split()?.is_none() {
                        self.parent = Some(parent);
                        return self.play(part);
                    }
                }
                "await-end" => wait_for_end(self.parent.context("no child")?),
                "take-pid" => trick::take_pid(self.parent.context("no child")?)?,
                "await-exe" => wait_for_program(self.parent.context("no child")?, Path::new(&argument()?)),
                "touch" => drop(File::create(argument()?)?),
                "crowd" => self.crowd(Path::new(&argument()?))?,
                "lock" => self.lock(Path::new(&argument()?))?,
                "own-users" => unshare(CloneFlags::CLONE_NEWUSER)?,
                "disguise" => Disguise::prepare()?.wear(&File::open(argument()?)?)?,
                "disguise-by-helper" => Disguise::prepare()?.wear_by_helper(&[File::open(argument()?)?])?,
                "flicker-by-helper" => {
                    let files = [File::open("/proc/self/exe")?, File::open(argument()?)?];
                    Disguise::prepare()?.wear_by_helper(&files)?;
                    // The helper has them as well.
                    self.crowd.extend(files);
                }
                "flicker" => flicker(Path::new(&argument()?))?,
                "filter" => trick::filter_calls()?,
                "name" => nix::sys::prctl::set_name(&CString::new(argument()?)?)?,
                "engine" => fake::engine(Path::new(&argument()?), argument()?)?,
                "retire" => return self.retire(steps.collect()),
                "hand" => trick::hand(self.socket()?, Path::new(&argument()?))?,
                "become" => {
                    let uid = Uid::from_raw(argument()?.parse()?);
                    setresuid(uid, uid, uid)?;
                }
                "regroup" => {
                    let groups = argument()?;
                    let groups = groups.split(',').map(|gid| gid.parse().map(Gid::from_raw));
                    setgroups(&groups.collect::<Result<Vec<_>, _>>()?)?;
                }
                "hold" => hold(),
                _ => bail!("{step} is no step"),
            }
            println!("{step}");
            io::stdout().flush()?;
        }
        Ok(())
    }

    fn socket(&self) -> Result<&OwnedFd> {
        self.socket.as_ref().context("no socket yet")
    }

    /// On the socket that there is, connected or not.
    fn connect(&mut self, address: &str) -> Result<()> {
        let address = Address::parse(address)?;
        if self.socket.is_none() {
            self.socket = Some(address.socket()?);
        }
        if let Err(error) = address.connect(self.socket()?.as_fd()) {
            eprintln!("connect: {error}");
            println!("failed {}", getpid());
        }
        Ok(())
    }

    /// A port that is used again, as long as nobody listens there.
    fn bind(&mut self, address: &str) -> Result<()> {
        let Address::Tcp(address) = Address::parse(address)? else { bail!("{address} is no address of TCP") };
        let socket = self.socket.insert(Address::Tcp(address).socket()?);
        setsockopt(socket, sockopt::ReuseAddr, &true)?;
        Ok(bind(socket.as_raw_fd(), &address)?)
    }

    fn connect_by_ring(&mut self, how: &str, address: &str) -> Result<()> {
        let how = match how {
            "inline" => Ring::Inline,
            "worker" => Ring::Worker,
            "polled" => Ring::Polled,
            _ => bail!("{how} is no way to use a ring"),
        };
        let address = Address::parse(address)?;
        let socket = self.socket.insert(address.socket()?);
        trick::connect_by_ring(socket.as_fd(), &address, how)
    }

    /// Who refuses the connection may have closed it by now.
    fn call(&self, names: &str) -> Result<()> {
        let calls = bare::calls(&names.split(',').collect::<Vec<_>>());
        if let Err(error) = trick::bounded(self.socket()?, LIMIT)?.write_all(&calls) {
            eprintln!("call: {error}");
        }
        Ok(())
    }

    fn hear(&self, count: u32) -> Result<()> {
        let answers = bare::answers(trick::bounded(self.socket()?, LIMIT)?, count);
        for (call, answer) in answers.into_iter().enumerate() {
            match answer {
                Answer::Message(bytes) => println!("answer {}", bare::identities(call, &bytes).join(",")),
                Answer::Denied => println!("denied"),
                Answer::Closed => println!("closed"),
            }
        }
        Ok(())
    }

    fn crowd(&mut self, file: &Path) -> Result<()> {
        while let Ok(one) = File::open(file) {
            self.crowd.push(one);
        }
        self.crowd.truncate(self.crowd.len().saturating_sub(SPARE));
        Ok(())
    }

    fn lock(&mut self, file: &Path) -> Result<()> {
        let file = File::open(file)?;
        trick::lock_often(&file, LOCKS)?;
        self.crowd.push(file);
        Ok(())
    }

    fn exec(self, program: &str, steps: impl Iterator<Item = String>) -> Result<()> {
        let mut command = Command::new(program);
        if let Some(socket) = &self.socket {
            fcntl(socket, FcntlArg::F_SETFD(FdFlag::empty()))?;
            let descriptor: RawFd = socket.as_raw_fd();
            command.args(["inherit", &descriptor.to_string()]);
        }
        println!("exec");
        io::stdout().flush()?;
        Err(command.args(steps).exec()).with_context(|| format!("{program} cannot be run"))
    }

    fn retire(self, steps: Vec<String>) -> Result<()> {
        let (started, wait) = mpsc::channel();
        thread::spawn(move || {
            let _ = started.send(());
            println!("retire");
            let result = self.play(steps);
            process::exit(i32::from(result.is_err()));
        });
        wait.recv()?;
        // SAFETY: ends this thread and no other; what it owned stays where it is.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
        bail!("this thread has ended")
    }
}

fn stream() -> Result<OwnedFd> {
    Ok(socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?)
}

fn flicker(file: &Path) -> Result<()> {
    let files = [File::open("/proc/self/exe")?, File::open(file)?];
    let mut disguise = Disguise::prepare()?;
    thread::spawn(move || while files.iter().all(|file| disguise.wear(file).is_ok()) {});
    Ok(())
}

fn wait_for(path: &Path) {
    let start = Instant::now();
    while !path.exists() && start.elapsed() < LIMIT {
        thread::sleep(Duration::from_millis(1));
    }
}

fn wait_for_end(pid: Pid) {
    let start = Instant::now();
    while process_dir(pid).exists() && start.elapsed() < LIMIT {
        thread::sleep(Duration::from_millis(1));
    }
}

fn process_dir(pid: Pid) -> PathBuf {
    Path::new("/proc").join(pid.to_string())
}

/// Without a pause: the moment is short.
fn wait_for_program(pid: Pid, program: &Path) {
    let link = process_dir(pid).join("exe");
    while fs::read_link(&link).is_ok_and(|runs| runs != program) {}
}

fn hold() -> ! {
    loop {
        thread::park();
    }
}
