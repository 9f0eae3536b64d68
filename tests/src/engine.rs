//! Real container engines: Docker and Podman, each with folders and a socket of its own.
//!
//! An engine runs in a PID namespace and a mount namespace made for it. Whoever is in there ends with the engine, also
//! when a test fails: containers, what watches over them, and what was mounted.

use std::{
    fs,
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

use crate::{Child, agent::temporary_dir, eventually, need};

const START_LIMIT: Duration = Duration::from_secs(30);
/// For one command to an engine, in seconds: an engine that hangs fails the test instead of holding it.
const COMMAND_LIMIT: &str = "60";
/// All engines name their containers' cgroups beneath the same few parents, so one runs at a time.
static TURN: Mutex<()> = Mutex::new(());

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runtime {
    Docker,
    Podman,
}

/// A running engine. Containers, cgroups and folders go away when this is dropped.
#[derive(Debug)]
pub struct Engine {
    runtime: Runtime,
    containers: Mutex<Vec<String>>,
    // Dropped in this order.
    process: Child,
    dir: TempDir,
    _turn: MutexGuard<'static, ()>,
}

/// A container that was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Of its image's configuration, such as `sha256:…`.
    pub image: String,
}

impl Engine {
    /// Starts an engine, and waits until it answers.
    ///
    /// # Panics
    /// When it does not.
    pub fn start(runtime: Runtime) -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let dir = temporary_dir();
        let mut command = Command::new("unshare");
        command.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
        match runtime {
            Runtime::Docker => docker(&mut command, dir.path()),
            Runtime::Podman => podman(&mut command, dir.path()),
        }
        let process = Child::spawn("the engine", command, None, &dir.path().join("log"));
        let mut engine = Self { runtime, containers: Mutex::default(), process, dir, _turn: turn };
        eventually("the engine answers", START_LIMIT, || {
            assert_eq!(engine.process.exited(), None, "the engine ended instead of answering");
            let is_there = fs::metadata(engine.socket()).is_ok_and(|file| file.file_type().is_socket());
            (is_there && engine.client(&["version"]).status.success()).then_some(())
        });
        engine
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("engine.sock")
    }

    /// Makes `folder` the image `name`.
    ///
    /// # Panics
    /// When the engine refuses.
    pub fn import(&self, folder: &Path, name: &str) {
        let archive = self.dir.path().join("image.tar");
        let mut tar = Command::new("tar");
        tar.arg("-C").arg(folder).arg("-cf").arg(&archive).arg(".");
        assert!(tar.status().expect("tar runs").success());
        done(&self.client(&["import", archive.to_str().expect("a temporary path is text"), name]));
    }

    /// Starts `command` in a new container of `image`, without a network. `options` are those of `docker run`.
    ///
    /// # Panics
    /// When the engine refuses.
    pub fn run(&self, options: &[&str], image: &str, command: &[&str]) -> Container {
        self.run_on("none", options, image, command)
    }

    /// The same on the network of whoever started the engine.
    ///
    /// # Panics
    /// When the engine refuses.
    pub fn run_beside(&self, options: &[&str], image: &str, command: &[&str]) -> Container {
        self.run_on("host", options, image, command)
    }

    /// Everything that the first process of `container` wrote so far.
    pub fn log(&self, container: &Container) -> String {
        let output = self.client(&["logs", &container.id]);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        text(&output.stdout) + &text(&output.stderr)
    }

    fn run_on(&self, network: &str, options: &[&str], image: &str, command: &[&str]) -> Container {
        let words = [&["run", "--detach", "--net", network], options, &[image], command].concat();
        let id = done(&self.client(&words));
        let image = done(&self.client(&["inspect", "--format", "{{.Image}}", &id]));
        self.containers.lock().unwrap_or_else(PoisonError::into_inner).push(id.clone());
        Container { id, image }
    }

    /// It does nothing until [`Self::thaw`].
    pub fn freeze(&self) {
        kill(self.pid().expect("it runs"), Signal::SIGSTOP).expect("the engine is ours");
    }

    pub fn thaw(&self) {
        kill(self.pid().expect("it runs"), Signal::SIGCONT).expect("the engine is ours");
    }

    /// Of the engine itself: the first process of its namespace.
    fn pid(&self) -> Option<Pid> {
        let starter = self.process.pid();
        let children = fs::read_to_string(format!("/proc/{starter}/task/{starter}/children")).ok()?;
        children.trim().parse().ok().map(Pid::from_raw)
    }

    /// Docker's own client speaks to both.
    fn client(&self, words: &[&str]) -> Output {
        let mut command = Command::new("timeout");
        command.args(["--signal=KILL", COMMAND_LIMIT]).arg(unpacked("usr/bin/docker"));
        command.arg("--host").arg(format!("unix://{}", self.socket().display()));
        command.env("DOCKER_CONFIG", self.dir.path().join("client")).args(words);
        command.output().expect("timeout runs")
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(first) = self.pid() {
            kill(first, Signal::SIGKILL).ok();
            // Then the starter ends by itself, and nobody else has to reap.
            for _ in 0..250 {
                if self.process.exited().is_some() {
                    break;
                }
                thread::sleep(Duration::from_millis(20));
            }
        }
        self.process.kill();
        let containers = self.containers.get_mut().unwrap_or_else(PoisonError::into_inner);
        for id in containers.iter() {
            let (parent, own) = self.runtime.cgroup(id);
            remove_cgroup(parent, &own);
        }
    }
}

impl Runtime {
    /// The name below which it puts its containers, and a container's own.
    fn cgroup(self, id: &str) -> (&'static str, String) {
        match self {
            Self::Docker => ("docker", id.to_owned()),
            Self::Podman => ("libpod_parent", format!("libpod-{id}")),
        }
    }
}

/// Removes `own` below `parent` in every hierarchy, and `parent` too where nothing else is in it. Whoever is left in there
/// is killed.
pub fn remove_cgroup(parent: &str, own: &str) {
    let hierarchies =
        fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|entry| entry.path());
    for hierarchy in hierarchies.chain([PathBuf::from("/sys/fs/cgroup")]) {
        let parent = hierarchy.join(parent);
        let own = parent.join(own);
        fs::write(own.join("cgroup.kill"), "1").ok();
        // Not eventually(): a second panic would hide the first.
        for _ in 0..250 {
            if !own.exists() || fs::remove_dir(&own).is_ok() {
                break;
            }
            thread::sleep(Duration::from_millis(20));
        }
        fs::remove_dir(parent.join("conmon")).ok();
        fs::remove_dir(parent).ok();
    }
}

/// A folder that can be the root of a container: busybox, and the libraries of `program`.
///
/// # Panics
/// When something cannot be copied.
pub fn root_folder(program: &Path) -> TempDir {
    let folder = temporary_dir();
    let within = |path: &str| folder.path().join(path.trim_start_matches('/'));
    let place = |from: &Path, to: &Path| {
        fs::create_dir_all(to.parent().expect("a folder in the root")).expect("it can be made");
        fs::copy(from, to).unwrap_or_else(|error| panic!("copying {}: {error}", from.display()));
    };
    place(&unpacked("bin/busybox"), &within("bin/busybox"));
    for applet in ["sh", "sleep", "true"] {
        std::os::unix::fs::symlink("busybox", within("bin").join(applet)).expect("it is ours and empty");
    }
    let output = Command::new("ldd").arg(program).output().expect("ldd runs");
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        // `libc.so.6 => /lib/…/libc.so.6 (0x…)`, and the loader without an arrow.
        let path = line.split_ascii_whitespace().find(|word| word.starts_with('/'));
        if let Some(path) = path {
            place(Path::new(path), &within(path));
        }
    }
    for empty in ["/proc", "/dev", "/sys", "/tmp", "/etc"] {
        fs::create_dir(within(empty)).expect("it is ours and empty");
    }
    fs::set_permissions(within("/tmp"), fs::Permissions::from_mode(0o1777)).expect("it is ours");
    folder
}

/// A file of the unpacked engines.
///
/// # Panics
/// When they are not there; [`crate::require!`] comes first.
pub fn unpacked(file: &str) -> PathBuf {
    need::binary("VOUCH_ENGINES").join(file)
}

fn path_of_programs() -> String {
    let own =
        [unpacked("usr/sbin"), unpacked("usr/bin")].map(|folder| folder.display().to_string()).join(":");
    format!("{own}:{}", std::env::var("PATH").unwrap_or_default())
}

/// Library folders of every architecture: only one of them is there.
fn libraries() -> String {
    let folders = ["usr/lib", "lib"].map(unpacked).into_iter().filter_map(|folder| fs::read_dir(folder).ok());
    let folders = folders.flatten().flatten().map(|entry| entry.path().display().to_string());
    folders.filter(|path| path.contains("-linux-gnu")).collect::<Vec<_>>().join(":")
}

fn docker(command: &mut Command, dir: &Path) {
    let within = |name: &str| dir.join(name).display().to_string();
    command.arg(unpacked("usr/sbin/dockerd"));
    command.args(["--storage-driver", "vfs", "--bridge=none", "--iptables=false", "--ip6tables=false"]);
    command.args(["--data-root", &within("data"), "--exec-root", &within("exec"), "-p", &within("pid")]);
    command.args(["--host", &format!("unix://{}", within("engine.sock"))]);
    command.env("PATH", path_of_programs()).env("LD_LIBRARY_PATH", libraries());
}

fn podman(command: &mut Command, dir: &Path) {
    let within = |name: &str| dir.join(name).display().to_string();
    let policies = dir.join("home/.config/containers");
    fs::create_dir_all(&policies).expect("the folder is ours");
    fs::copy(unpacked("etc/containers/policy.json"), policies.join("policy.json"))
        .expect("a policy can be copied");
    // Podman hands no environment on to it.
    let conmon = dir.join("conmon");
    let script = format!(
        "#!/bin/sh\nLD_LIBRARY_PATH={} exec {} \"$@\"\n",
        libraries(),
        unpacked("usr/bin/conmon").display()
    );
    fs::write(&conmon, script).expect("the folder is ours");
    fs::set_permissions(&conmon, fs::Permissions::from_mode(0o755)).expect("it is ours");
    let settings = format!(
        "[engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"none\"\nconmon_path = [{conmon:?}]\n\
         runtime = \"runc\"\n[engine.runtimes]\nrunc = [{:?}]\n\
         [containers]\ndefault_ulimits = [\"nofile=4096:4096\", \"nproc=1024:1024\"]\n\
         seccomp_profile = \"unconfined\"\n",
        unpacked("usr/sbin/runc")
    );
    fs::write(dir.join("containers.conf"), settings).expect("the folder is ours");
    command.arg(unpacked("usr/bin/podman"));
    command.args(["--root", &within("root"), "--runroot", &within("run"), "--tmpdir", &within("tmp")]);
    command.args(["--storage-driver", "vfs", "system", "service", "--time=0"]);
    command.arg(format!("unix://{}", within("engine.sock")));
    command.env("PATH", path_of_programs()).env("LD_LIBRARY_PATH", libraries());
    command.env("HOME", dir.join("home")).env("CONTAINERS_CONF", dir.join("containers.conf"));
}

fn done(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
