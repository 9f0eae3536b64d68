use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixListener,
};

use super::*;
use crate::attestation::{Container, WitnessConfig, witnesses};

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn config(dir: &Path) -> DockerConfig {
    DockerConfig {
        enabled: true,
        socket: dir.join("docker.sock"),
        podman_socket: dir.join("podman.sock"),
        rootless_sockets: None,
        env: false,
    }
}

fn of_us(config: &DockerConfig) -> Docker {
    Docker::of_owner(config, nix::unistd::geteuid().as_raw())
}

fn subject(cgroup: &str) -> Subject {
    Subject {
        pid: std::process::id(),
        uid: nix::unistd::geteuid().as_raw(),
        cgroup: Some(cgroup.to_owned()),
        containment: Containment::of_cgroup(cgroup, |_| true),
        pidfd: None,
    }
}

fn in_docker() -> Subject {
    subject(&format!("/docker/{ID}"))
}

/// An engine that says `label` of every container, and how often it was asked.
fn engine(socket: &Path, label: &'static str) -> Arc<AtomicUsize> {
    let listener = UnixListener::bind(socket).unwrap();
    fs::set_permissions(socket, fs::Permissions::from_mode(0o600)).unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            count.fetch_add(1, Ordering::Relaxed);
            let _ = stream.read(&mut [0; 1024]).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
            let body = format!(r#"{{"Id":"{ID}","Config":{{"Labels":{{"app":"{label}"}}}}}}"#);
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            let _ = stream.write_all((head + &body).as_bytes()).await;
        }
    });
    asked
}

fn said(testimony: &Result<Vec<Selector>, Silence>) -> Vec<String> {
    testimony.as_ref().unwrap().iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn the_runtime_that_the_kernel_names_decides_which_engine_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let witness = of_us(&config);
    engine(&config.socket, "of-docker");
    engine(&config.podman_socket, "of-podman");
    assert_eq!(said(&witness.testify(&in_docker()).await), ["docker:label:app:of-docker"]);
    // The same id: what one engine says is nothing that the other has said.
    let in_podman = subject(&format!("/machine.slice/libpod-{ID}.scope/container"));
    assert_eq!(said(&witness.testify(&in_podman).await), ["docker:label:app:of-podman"]);
}

#[tokio::test]
async fn all_processes_of_a_container_cost_one_question() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let witness = of_us(&config);
    let asked = engine(&config.socket, "x");
    let subject = in_docker();
    let all = futures_util::future::join_all((0..50).map(|_| witness.testify(&subject))).await;
    assert!(all.iter().all(|testimony| said(testimony) == ["docker:label:app:x"]));
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn an_engine_that_comes_late_is_heard_when_asked_again() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let witness = of_us(&config);
    let silence = witness.testify(&in_docker()).await.unwrap_err();
    assert_eq!(silence.reason, format!("{}: there is no such socket", config.socket.display()));
    engine(&config.socket, "late");
    assert_eq!(said(&witness.testify(&in_docker()).await), ["docker:label:app:late"]);
}

/// Whoever waits for an engine that hangs takes nothing from those who come later.
#[tokio::test]
async fn a_question_that_was_given_up_is_asked_anew() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let witness = of_us(&config);
    let subject = in_docker();
    let hung = UnixListener::bind(&config.socket).unwrap();
    fs::set_permissions(&config.socket, fs::Permissions::from_mode(0o600)).unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(50), witness.testify(&subject)).await.is_err());
    drop(hung);
    fs::remove_file(&config.socket).unwrap();
    engine(&config.socket, "back");
    assert_eq!(said(&witness.testify(&subject).await), ["docker:label:app:back"]);
}

#[tokio::test]
async fn whose_container_cannot_be_told_is_not_known_and_the_host_is_in_none() {
    let dir = tempfile::tempdir().unwrap();
    let witness = of_us(&config(dir.path()));
    let users = format!("/user.slice/user-1000.slice/user@1000.service/libpod-{ID}.scope");
    for (path, concerns) in [
        ("/system.slice/ssh.service".to_owned(), false),
        (format!("/docker/{ID}"), true),
        (format!("/libpod_parent/libpod-{ID}"), true),
        (format!("/k8s.io/{ID}"), false),
        (format!("/unheard-of/{ID}"), true),
    ] {
        assert_eq!(witness.concerns(&subject(&path)), concerns, "{path}");
    }
    for path in [None, Some(format!("/unheard-of/{ID}")), Some(users)] {
        let unsure = Subject { cgroup: path.clone(), containment: Containment::Unsure, ..subject("/") };
        assert!(witness.concerns(&unsure));
        assert!(witness.testify(&unsure).await.is_err(), "{path:?}");
    }
}

#[tokio::test]
async fn what_is_switched_off_is_not_known() {
    let dir = tempfile::tempdir().unwrap();
    let docker = DockerConfig { enabled: false, ..config(dir.path()) };
    let all = witnesses(&WitnessConfig { docker, systemd: false, slurm: false });
    let kinds: Vec<_> = all.iter().map(|witness| witness.kind()).collect();
    assert_eq!(kinds, ["docker", "systemd", "slurm"]);
    let in_docker = in_docker();
    assert!(all[0].concerns(&in_docker) && !all[0].concerns(&subject("/")));
    let silence = all[0].testify(&in_docker).await.unwrap_err();
    assert_eq!(silence.reason, "[attest.docker] is switched off");
    let job = "/system.slice/slurmstepd.scope/job_1/step_0";
    assert!(all[2].concerns(&subject(job)) && all[2].testify(&subject(job)).await.is_err());
}

#[tokio::test]
async fn memory_of_containers_is_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let witness = of_us(&config(dir.path()));
    for number in 0..=MAX_KNOWN {
        let container = Container { runtime: "docker", id: format!("{number:064x}"), cgroup: String::new() };
        let subject = Subject { containment: Containment::Contained(container), ..subject("/") };
        assert!(witness.testify(&subject).await.is_err());
    }
    assert_eq!(witness.known.lock().unwrap().len(), 1);
}
