//! A private view of /run, /tmp and the network.
#![expect(unsafe_code, reason = "the loopback of a new network namespace is brought up by ioctl")]

use std::{
    fs, io,
    net::UdpSocket,
    os::{fd::AsRawFd, unix::fs::PermissionsExt},
    path::Path,
    thread,
};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

use crate::agent::temporary_dir;

/// Runs `scenario` on a thread of its own with an empty /run and /tmp, where all ports of loopback are free. What
/// it starts sees the same. The folder of the staged binaries, which is our temporary folder, stays visible.
///
/// # Panics
/// When the kernel refuses, or `scenario` panics.
pub fn alone(scenario: impl FnOnce() + Send) {
    on_a_thread(|| {
        own_folders(CloneFlags::CLONE_NEWNET);
        bring_loopback_up().expect("root of a network namespace may bring its loopback up");
        scenario();
    });
}

/// The same on the network of this machine.
///
/// # Panics
/// When the kernel refuses, or `scenario` panics.
pub fn with_own_folders(scenario: impl FnOnce() + Send) {
    on_a_thread(|| {
        own_folders(CloneFlags::empty());
        scenario();
    });
}

/// Whoever is in this mount namespace finds each name at its address. Only for scenarios that have one of their own.
///
/// # Panics
/// When the kernel refuses.
pub fn host_names(names: &[(&str, &str)]) {
    let known = fs::read_to_string("/etc/hosts").unwrap_or_default();
    let own: String = names.iter().map(|(name, address)| format!("{address} {name}\n")).collect();
    let file = Path::new("/run/hosts");
    fs::write(file, format!("{known}\n{own}")).expect("/run is ours");
    mount(Some(file), "/etc/hosts", None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .expect("a file can be put over /etc/hosts");
}

fn on_a_thread(scenario: impl FnOnce() + Send) {
    let name = thread::current().name().unwrap_or("alone").to_owned();
    thread::scope(|scope| {
        let thread = thread::Builder::new().name(name).spawn_scoped(scope, scenario);
        let ended = thread.expect("a thread can be started").join();
        ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

fn own_folders(further: CloneFlags) {
    unshare(CloneFlags::CLONE_NEWNS | further).expect("root may make namespaces");
    let nothing = None::<&str>;
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing)
        .expect("mounts become private");
    let stage = std::env::temp_dir();
    let keep = temporary_dir();
    mount(Some(&stage), keep.path(), nothing, MsFlags::MS_BIND, nothing).expect("the stage can be kept");
    tmpfs(Path::new("/run"), 0o755);
    let carried = Path::new("/run/stage");
    fs::create_dir(carried).expect("/run is ours and empty");
    mount(Some(keep.path()), carried, nothing, MsFlags::MS_BIND, nothing).expect("the stage can be carried");
    tmpfs(Path::new("/tmp"), 0o1777);
    if stage.starts_with("/tmp") && stage != Path::new("/tmp") {
        fs::create_dir_all(&stage).expect("/tmp is ours and empty");
        mount(Some(carried), &stage, nothing, MsFlags::MS_BIND, nothing).expect("the stage can be put back");
    }
    // The namespace is ours alone: its folder in the outer one is unmounted with it.
    std::mem::forget(keep);
}

fn bring_loopback_up() -> io::Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: `ifreq` is plain data, for which all bytes zero is a value: an empty name and no flags.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = i16::try_from(libc::IFF_UP).expect("a small flag");
    // SAFETY: the descriptor is open, and SIOCSIFFLAGS only reads the `ifreq` that outlives the call.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Mounts a disk at `at` on which no byte is free. Only for scenarios that are [`alone`].
///
/// # Panics
/// When the kernel refuses.
pub fn full_disk(at: &Path) {
    let one_page = Some("size=4096");
    mount(Some("tmpfs"), at, Some("tmpfs"), MsFlags::empty(), one_page).expect("a tmpfs can be mounted");
    fs::write(at.join("full"), [0; 4096]).expect("one page fits");
}

fn tmpfs(at: &Path, mode: u32) {
    mount(Some("tmpfs"), at, Some("tmpfs"), MsFlags::empty(), None::<&str>).expect("a tmpfs can be mounted");
    fs::set_permissions(at, fs::Permissions::from_mode(mode)).expect("it is ours");
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::{Need, require};

    #[test]
    fn nothing_of_the_machine_is_in_the_way_when_alone() {
        require!(Need::Root);
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let outside = tempfile::tempdir_in("/tmp").unwrap();
        alone(|| {
            TcpListener::bind(taken.local_addr().unwrap()).expect("the port is free in here");
            assert!(outside.path().starts_with(std::env::temp_dir()) || !outside.path().exists());
            fs::write("/run/only-here", "").unwrap();
            assert!(temporary_dir().path().exists());
        });
        assert!(!Path::new("/run/only-here").exists());
    }
}
