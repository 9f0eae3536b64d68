//! Whether a socket can be where it should be, and who holds it.

use std::{
    fs, io,
    net::{TcpListener, TcpStream},
    os::unix::{
        fs::{FileTypeExt as _, MetadataExt as _},
        net::UnixStream,
    },
    path::Path,
    time::Duration,
};

use nix::{
    sys::socket::{getsockopt, sockopt},
    unistd::geteuid,
};

use super::{check::Check, plan::Plan};

const STICKY: u32 = 0o1000;
const OTHERS_WRITE: u32 = 0o022;
const OTHERS: u32 = 0o077;
/// `rw` for everyone: connecting takes both.
const FOR_ALL: u32 = 0o666;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// `agent` is the one that runs and should hold them.
pub(super) fn look(plan: &Plan, agent: Option<u32>) -> Vec<Check> {
    let mut checks: Vec<Check> = plan.public.iter().flat_map(|path| one(path, false, agent)).collect();
    // The way there was just used, by default or as it was named.
    checks.extend(
        one(&plan.admin, true, agent).into_iter().filter(|check| agent.is_none() || !check.code.is_empty()),
    );
    if agent.is_some() {
        checks.extend(metrics_answer(plan));
    }
    checks
}

fn one(path: &Path, private: bool, agent: Option<u32>) -> Vec<Check> {
    let mut checks = vec![holder(path, private, agent)];
    checks.extend(way(path, private));
    checks
}

fn holder(path: &Path, private: bool, agent: Option<u32>) -> Check {
    let shown = path.display();
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return match agent {
                Some(pid) => {
                    let text = format!("{shown} is gone, though pid {pid} serves there");
                    Check::fail("sockets", "E0310", text, "restart the agent; see who removes files there")
                }
                None => Check::ok("sockets", format!("{shown} is free")),
            };
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Check::unseen("sockets", format!("{shown}: {error}"));
        }
        Err(error) => {
            return Check::fail("sockets", "E0303", format!("{shown}: {error}"), "choose another path");
        }
    };
    if !found.file_type().is_socket() {
        let text = format!("{shown} exists and is no socket");
        return Check::fail("sockets", "E0302", text, "move it away, or choose another path");
    }
    match UnixStream::connect(path) {
        Ok(socket) => {
            let pid =
                getsockopt(&socket, sockopt::PeerCredentials).map_or(0, |peer| peer.pid().unsigned_abs());
            if Some(pid) == agent {
                return served(path, found.mode(), private, pid);
            }
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            let text = format!("{shown} is held by pid {pid} {}", name.trim_end());
            Check::fail(
                "sockets",
                "E0301",
                text,
                "stop it first, or start with --socket; both cannot own one path",
            )
        }
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            let text = format!("{shown} is stale: nobody listens there");
            Check::warn("sockets", "W0434", text, "nothing is needed: the next agent replaces it")
        }
        Err(error) => Check::unseen("sockets", format!("{shown}: {error}")),
    }
}

fn served(path: &Path, mode: u32, private: bool, pid: u32) -> Check {
    let shown = path.display();
    if !private && mode & FOR_ALL != FOR_ALL {
        let text = format!("{shown} has mode {:o}: some users cannot connect", mode & 0o777);
        return Check::warn("sockets", "W0435", text, "restart the agent, which gives it 0777");
    }
    Check::ok("sockets", format!("{shown}, served by this agent, pid {pid}"))
}

/// The directories on the way, links followed, as far as they are there.
fn way(path: &Path, private: bool) -> Vec<Check> {
    let Some(directory) = path.parent().and_then(|directory| fs::canonicalize(directory).ok()) else {
        return vec![];
    };
    let mut checks = vec![];
    for (at, step) in directory.ancestors().enumerate() {
        let Ok(found) = fs::metadata(step) else { continue };
        let (shown, mode) = (step.display(), found.mode() & 0o7777);
        let ours = [0, geteuid().as_raw()].contains(&found.uid());
        let closed = mode & OTHERS_WRITE == 0 || mode & STICKY != 0;
        if !ours || !closed {
            let text =
                format!("directory {shown} may be changed by others: uid {}, mode {mode:o}", found.uid());
            let fix = "take the right to write from group and others, or choose another path";
            checks.push(Check::fail("sockets", "E0317", text, fix));
        }
        if private && at == 0 && mode & OTHERS != 0 {
            let text = format!("directory {shown} of the admin socket is open to others: mode {mode:o}");
            checks.push(Check::fail("sockets", "E0318", text, &format!("chmod 700 {shown}")));
        }
        if !private && mode & 0o001 == 0 {
            let text =
                format!("directory {shown} has mode {mode:o}: some users do not reach {}", path.display());
            checks.push(Check::warn("sockets", "W0435", text, &format!("chmod o+x {shown}")));
        }
    }
    checks
}

/// Before a start: whether the port is free.
pub(super) fn metrics_port(plan: &Plan) -> Option<Check> {
    let Some(address) = plan.config.telemetry.metrics else {
        return Some(Check::fact("metrics", "switched off"));
    };
    Some(match TcpListener::bind(address) {
        Ok(_) => Check::ok("metrics", format!("{address} is free")),
        Err(error) => {
            let fix = "choose another: [telemetry] metrics, or --metrics";
            Check::fail("metrics", "E0308", format!("{address}: {error}"), fix)
        }
    })
}

/// Only where the configuration that is in force is the one that was read.
fn metrics_answer(plan: &Plan) -> Option<Check> {
    let address = plan.config.telemetry.metrics.filter(|_| plan.is_configured)?;
    Some(match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
        Ok(_) => Check::ok("metrics", format!("http://{address}/metrics answers")),
        Err(error) => {
            Check::fail("metrics", "E0320", format!("{address}: {error}"), "restart the agent; see its log")
        }
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::{fs::PermissionsExt as _, net::UnixListener};

    use super::*;

    fn codes(path: &Path, private: bool, agent: Option<u32>) -> Vec<String> {
        let mut codes: Vec<String> = one(path, private, agent).into_iter().map(|check| check.code).collect();
        codes.retain(|code| !code.is_empty());
        codes
    }

    #[test]
    fn a_socket_is_free_held_stale_or_none() {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let path = directory.path().join("api.sock");
        let own = Some(std::process::id());
        assert_eq!(codes(&path, false, None), [""; 0]);
        assert_eq!(codes(&path, false, own), ["E0310"]);
        let listener = UnixListener::bind(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(codes(&path, false, None), ["E0301"]);
        assert_eq!(codes(&path, false, Some(1)), ["E0301"]);
        assert_eq!(codes(&path, false, own), [""; 0]);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(codes(&path, false, own), ["W0435"]);
        drop(listener);
        assert_eq!(codes(&path, false, None), ["W0434"]);
        fs::remove_file(&path).unwrap();
        fs::write(&path, "").unwrap();
        assert_eq!(codes(&path, false, None), ["E0302"]);
    }

    #[test]
    fn a_way_that_others_may_change_is_named() {
        let above = tempfile::tempdir().unwrap();
        fs::set_permissions(above.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let directory = above.path().join("d");
        fs::create_dir(&directory).unwrap();
        let with = |mode| fs::set_permissions(&directory, fs::Permissions::from_mode(mode)).unwrap();
        let path = directory.join("admin.sock");
        with(0o700);
        assert_eq!(codes(&path, true, None), [""; 0]);
        assert_eq!(codes(&path, false, None), ["W0435"]);
        with(0o755);
        assert_eq!(codes(&path, true, None), ["E0318"]);
        with(0o777);
        assert_eq!(codes(&path, false, None), ["E0317"]);
        with(0o1777);
        assert_eq!(codes(&path, false, None), [""; 0]);
    }
}
