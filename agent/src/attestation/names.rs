//! User and group names, looked up in the agent's own system and remembered.

use std::{
    collections::HashMap,
    sync::Mutex,
    time::{Duration, Instant},
};

use nix::unistd::{Gid, Group, Uid, User};

/// How long a name, or its absence, is believed.
const BELIEVED_FOR: Duration = Duration::from_secs(60);
/// Users and groups that are remembered; past that, everything is asked anew.
const REMEMBERED: usize = 4096;

/// Remembers which names uids and gids have. Looking one up may block, so it happens off the async threads.
#[derive(Debug, Default)]
pub(super) struct Names {
    users: Memory,
    groups: Memory,
}

impl Names {
    /// The user's name; `None` when there is none, or the system cannot say.
    pub(super) fn user(&self, uid: u32, now: Instant) -> Option<String> {
        let ask = || User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|user| user.name);
        self.users.get(uid, now, ask)
    }

    pub(super) fn group(&self, gid: u32, now: Instant) -> Option<String> {
        let ask = || Group::from_gid(Gid::from_raw(gid)).ok().flatten().map(|group| group.name);
        self.groups.get(gid, now, ask)
    }
}

#[derive(Debug, Default)]
struct Memory(Mutex<HashMap<u32, (Option<String>, Instant)>>);

impl Memory {
    fn get(&self, id: u32, now: Instant, ask: impl FnOnce() -> Option<String>) -> Option<String> {
        let known = self.lock().get(&id).filter(|(_, until)| *until > now).map(|(name, _)| name.clone());
        known.unwrap_or_else(|| {
            // Not under the lock: the answer may take long.
            let name = ask();
            let mut memory = self.lock();
            if memory.len() >= REMEMBERED {
                memory.clear();
            }
            memory.insert(id, (name.clone(), now + BELIEVED_FOR));
            name
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u32, (Option<String>, Instant)>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_asked_once_a_minute() {
        let (memory, start) = (Memory::default(), Instant::now());
        assert_eq!(memory.get(1, start, || Some("ana".into())), Some("ana".into()));
        assert_eq!(memory.get(1, start, || unreachable!("it is remembered")), Some("ana".into()));
        assert_eq!(memory.get(1, start + BELIEVED_FOR, || None), None);
        assert_eq!(memory.get(1, start + BELIEVED_FOR, || unreachable!("absence is remembered too")), None);
    }

    #[test]
    fn root_has_a_name() {
        assert_eq!(Names::default().user(0, Instant::now()).as_deref(), Some("root"));
    }
}
