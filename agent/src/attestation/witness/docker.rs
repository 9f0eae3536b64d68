//! `docker:*`: what the engine of a container says of it. Podman is asked in the same words.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::{FutureExt as _, future::BoxFuture};
use tokio::sync::OnceCell;

use super::{
    Containment, DockerConfig, Selector, Silence, Subject, Witness,
    engine::Engine,
    rootless::{UsersContainer, UsersTurns, check_owner},
};
use crate::{attestation::Container, kernel};

const KIND: &str = "docker";
/// Containers that are remembered; past that, all are asked about anew.
const MAX_KNOWN: usize = 1024;

/// Asks once for each container: its labels, image and environment stay as they were made.
#[derive(Debug)]
pub(super) struct Docker {
    docker: Engine,
    podman: Engine,
    rootless_sockets: Option<String>,
    users: UsersTurns,
    env: bool,
    known: Mutex<HashMap<Named, Arc<OnceCell<Vec<Selector>>>>>,
}

/// A container's runtime and id.
type Named = (&'static str, String);

impl Docker {
    pub(super) fn new(config: &DockerConfig) -> Self {
        const ROOT: u32 = 0;
        Self::of_owner(config, ROOT)
    }

    /// With engines whose sockets are those of `owner`.
    fn of_owner(config: &DockerConfig, owner: u32) -> Self {
        Self {
            docker: Engine { socket: config.socket.clone(), owner },
            podman: Engine { socket: config.podman_socket.clone(), owner },
            rootless_sockets: config.rootless_sockets.clone(),
            users: UsersTurns::default(),
            env: config.env,
            known: Mutex::default(),
        }
    }

    /// What the engine said of the container when it was first asked.
    async fn ask_once(&self, engine: &Engine, container: &Container) -> Result<Vec<Selector>, Silence> {
        let name = (container.runtime, container.id.clone());
        let answer = {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            if known.len() >= MAX_KNOWN && !known.contains_key(&name) {
                known.clear();
            }
            Arc::clone(known.entry(name).or_default())
        };
        let ask = async || engine.inspect(&container.id).await?.selectors(KIND, self.env);
        answer.get_or_try_init(ask).await.cloned()
    }

    /// Of a process whose container others than root may have named.
    async fn ask_user(&self, subject: &Subject) -> Result<Vec<Selector>, Silence> {
        let cgroup = subject.cgroup.as_deref();
        let path = cgroup.ok_or_else(|| Silence::new("the cgroup of the process is not known"))?;
        let container = UsersContainer::of_cgroup(path, kernel::only_root_adds_to)
            .ok_or_else(|| Silence::new(format!("which engine made cgroup {path:?} cannot be told")))?;
        let template = self.rootless_sockets.as_deref().ok_or_else(|| {
            let uid = container.uid;
            Silence::new(format!("the engine of uid {uid} is not asked: [attest.docker] rootless = false"))
        })?;
        check_owner(subject, container.uid)?;
        let socket = PathBuf::from(template.replace("%d", &container.uid.to_string()));
        let _turn = self.users.take(container.uid)?;
        // Never remembered: a user's engine may change its mind.
        Engine { socket, owner: container.uid }.inspect(&container.id).await?.selectors(KIND, self.env)
    }
}

impl Witness for Docker {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn concerns(&self, subject: &Subject) -> bool {
        match &subject.containment {
            Containment::Contained(container) => matches!(container.runtime, "docker" | "podman"),
            Containment::Unsure => true,
            Containment::Unnamed => false,
        }
    }

    fn testify<'a>(&'a self, subject: &'a Subject) -> BoxFuture<'a, Result<Vec<Selector>, Silence>> {
        async move {
            match &subject.containment {
                Containment::Contained(container) => match container.runtime {
                    "docker" => self.ask_once(&self.docker, container).await,
                    "podman" => self.ask_once(&self.podman, container).await,
                    _ => Ok(Vec::new()),
                },
                Containment::Unsure => self.ask_user(subject).await,
                Containment::Unnamed => Ok(Vec::new()),
            }
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests;
