//! `systemd:*`: the unit of a process, as the service manager itself names it.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use futures_util::{FutureExt as _, future::BoxFuture};
use tokio::sync::Semaphore;

use super::{
    Selector, Silence, Subject, Witness,
    bus::{Argument, Bus, Call, Failure},
};

const KIND: &str = "systemd";
const DEFAULT_BUS: &str = "/run/dbus/system_bus_socket";
/// There is such a directory if and only if systemd runs the machine, see `sd_booted(3)`.
const BOOTED: &str = "/run/systemd/system";
const SYSTEMD: &str = "org.freedesktop.systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const UNIT: &str = "org.freedesktop.systemd1.Unit";
/// Conversations with the bus at once; it grants a uid a bounded number of connections.
const CONVERSATIONS: usize = 4;

/// Asks the service manager over the system bus.
#[derive(Debug)]
pub(super) struct Systemd {
    bus: PathBuf,
    /// Whose socket the bus must be.
    owner: u32,
    booted: PathBuf,
    turns: Semaphore,
    idle: Mutex<Vec<Bus>>,
}

impl Systemd {
    pub(super) fn new() -> Self {
        const ROOT: u32 = 0;
        Self::at(system_bus(), ROOT, PathBuf::from(BOOTED))
    }

    fn at(bus: PathBuf, owner: u32, booted: PathBuf) -> Self {
        Self { bus, owner, booted, turns: Semaphore::new(CONVERSATIONS), idle: Mutex::default() }
    }

    async fn ask(&self, subject: &Subject) -> Result<Vec<Selector>, Silence> {
        let _turn = self.turns.acquire().await.map_err(|_| Silence::new("nobody asks the bus any more"))?;
        let kept = self.idle().pop();
        let is_kept = kept.is_some();
        let bus = match kept {
            Some(bus) => bus,
            None => Bus::connect(&self.bus, self.owner).await?,
        };
        match self.ask_on(bus, subject).await {
            // Since it was kept the bus may have been started anew.
            Err(Failure::Broken(_)) if is_kept => {
                let bus = Bus::connect(&self.bus, self.owner).await?;
                self.ask_on(bus, subject).await
            }
            asked => asked,
        }
        .map_err(|failure| Silence::new(format!("{}: {failure}", self.bus.display())))
    }

    /// Keeps the connection for the next one, unless it broke or nobody waited any more.
    async fn ask_on(&self, mut bus: Bus, subject: &Subject) -> Result<Vec<Selector>, Failure> {
        let asked = unit_of(&mut bus, subject).await;
        if !matches!(asked, Err(Failure::Broken(_))) {
            self.idle().push(bus);
        }
        asked
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Bus>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Witness for Systemd {
    fn kind(&self) -> &'static str {
        KIND
    }

    /// Every process, where systemd runs the machine, and where there is a bus on which it may be heard.
    fn concerns(&self, _subject: &Subject) -> bool {
        self.booted.is_dir() || self.bus.exists()
    }

    fn testify<'a>(&'a self, subject: &'a Subject) -> BoxFuture<'a, Result<Vec<Selector>, Silence>> {
        self.ask(subject).boxed()
    }
}

/// No unit is a fact.
async fn unit_of(bus: &mut Bus, subject: &Subject) -> Result<Vec<Selector>, Failure> {
    let unit = match find_unit(bus, subject).await {
        Err(Failure::Refused { name }) if name == "org.freedesktop.systemd1.NoUnitForPID" => {
            return Ok(Vec::new());
        }
        found => found?,
    };
    let id = property(bus, &unit, "Id").await?;
    let fragment_path = property(bus, &unit, "FragmentPath").await?;
    Ok(vec![
        Selector::new(KIND, format!("id:{id}")),
        // Empty for a unit that no file describes, as SPIRE has it.
        Selector::new(KIND, format!("fragment_path:{fragment_path}")),
    ])
}

/// The path of the unit's object. By the pidfd, since systemd 253; else by the number, and then it counts only if the
/// process is still there afterwards.
async fn find_unit(bus: &mut Bus, subject: &Subject) -> Result<String, Failure> {
    let call = |member, arguments| Call {
        to: SYSTEMD,
        at: "/org/freedesktop/systemd1",
        interface: MANAGER,
        member,
        arguments,
    };
    if let Some(pidfd) = subject.pidfd.as_deref().filter(|_| bus.takes_descriptors()) {
        match bus.call(&call("GetUnitByPIDFD", &[Argument::Descriptor]), Some(pidfd)).await {
            Err(Failure::Refused { name }) if is_unknown(&name) => {}
            answer => return text(answer?.text()),
        }
    }
    let number = [Argument::Number(subject.pid)];
    text(bus.call(&call("GetUnitByPID", &number), None).await?.text())
}

async fn property(bus: &mut Bus, unit: &str, name: &str) -> Result<String, Failure> {
    let call = Call {
        to: SYSTEMD,
        at: unit,
        interface: "org.freedesktop.DBus.Properties",
        member: "Get",
        arguments: &[Argument::Text(UNIT), Argument::Text(name)],
    };
    text(bus.call(&call, None).await?.text_within())
}

fn text(text: Option<String>) -> Result<String, Failure> {
    text.ok_or_else(|| Failure::Broken("the answer is no text".into()))
}

/// Whether a call is not known there, or not allowed by a policy that does not know it.
fn is_unknown(error: &str) -> bool {
    ["UnknownMethod", "AccessDenied", "NotSupported"]
        .iter()
        .any(|name| error.strip_prefix("org.freedesktop.DBus.Error.") == Some(name))
}

/// Where the agent looks for the system bus.
pub fn system_bus() -> PathBuf {
    bus_of(env::var_os("DBUS_SYSTEM_BUS_ADDRESS"))
}

/// The path in the first `unix:path=` of an address; else where the bus is by default.
fn bus_of(address: Option<OsString>) -> PathBuf {
    let address = address.and_then(|address| address.into_string().ok()).unwrap_or_default();
    let path = address.split(';').find_map(|one| {
        let keys = one.strip_prefix("unix:")?;
        keys.split(',').find_map(|key| key.strip_prefix("path="))
    });
    path.filter(|path| !path.contains('%')).map_or_else(|| Path::new(DEFAULT_BUS).into(), PathBuf::from)
}

#[cfg(test)]
mod tests;
