//! Hooks and maps that outlive the agent: names on a bpffs keep them.
//!
//! ```text
//! <bpffs>/vouch-<instance>/            one agent's, locked by it, 0700
//!     layout-<hash>/                   of one layout of records and maps
//!         CONNECTORS, EVENTS, …        each map that holds state
//!         link_process_exit, …         each hook
//!         link_process_exit_next       a hook that is about to take the place of the one before
//! ```
//!
//! A start takes the maps over, and puts its own programs under the links: those of cgroups are updated in place,
//! those of tracepoints get a second link that is then renamed over the first, since the kernel cannot update them.
//! For a moment both programs run, and tell one event twice, in one order of numbers, into one ring; whoever reads
//! events takes them twice without harm. Pins of another layout go last, when the new hooks are attached. So a hook is
//! attached at each instant, and whatever an interrupted start leaves behind is what a later start can go on from: a
//! whole set, or the beginnings of a first one. A set that is not whole is given up, since nobody knows what happened
//! while a part of it was away.

mod directory;
mod fault;
mod links;
mod place;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use aya::maps::{MapData, MapInfo};
use vouch_abi::{
    LAYOUTS,
    names::{map, program},
};

use super::object::{self, Kind, Target};
pub use fault::PinFault;
pub use place::{instance_directory, is_bpffs, unpin};

use directory::Directory;
use links::LINK;

const LAYOUT: &str = "layout-";
/// To be changed when records, counters or programs come to mean something else in the same form.
const MEANING: u64 = 1;

/// The pins of one instance, held by this process alone.
#[derive(Debug)]
pub(super) struct Pins {
    directory: Directory,
    layout: String,
    here: PathBuf,
}

/// A map as the object describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MapShape {
    pub(super) name: String,
    pub(super) kind: u32,
    pub(super) key_bytes: u32,
    pub(super) value_bytes: u32,
    pub(super) entries: u32,
}

impl Pins {
    /// Where the pins are.
    pub(super) fn here(&self) -> &Path {
        &self.here
    }

    /// Takes the directory of an instance, which is made if need be, and looks at what is there of `maps` and
    /// `hooks`, each with its name, in the order in which they are attached. What is ours and cannot be gone on with
    /// is given up.
    ///
    /// # Errors
    /// When the directory is not ours alone, or another agent holds it, or something else is pinned under one of our
    /// names. Nothing was changed then.
    pub(super) fn open(root: &Path, maps: &[MapShape], hooks: &[(&str, Target)]) -> Result<Self, PinFault> {
        let directory = Directory::open(root)?;
        let layout = layout_name(maps);
        let here = directory.path().join(&layout);
        directory::make(&here)?;
        let pins = Self { directory, layout, here };
        for (program, target) in hooks {
            pins.check_link(program, target)?;
        }
        let found = pins.check_maps(maps)?;
        let watched = [program::EXIT, program::EXEC, program::FORK];
        if found.len() < maps.len() || !watched.iter().all(|name| pins.is_pinned(name)) {
            pins.give_up(maps, hooks)?;
        } else if found.iter().any(|(map, info)| map.entries != info.max_entries()) {
            // A ring of another size is another ring; what waits in the old one is in the first snapshot.
            directory::remove(&pins.map(map::EVENTS))?;
        }
        Ok(pins)
    }

    /// Whether an earlier start left this map, and this one goes on with it.
    pub(super) fn has(&self, name: &str) -> bool {
        fs::symlink_metadata(self.map(name)).is_ok()
    }

    /// Where a map is pinned, or will be.
    pub(super) fn map(&self, name: &str) -> PathBuf {
        self.here.join(name)
    }

    /// Removes what is left of interrupted starts and of other layouts. Everything of ours is attached already.
    pub(super) fn sweep(&self, maps: &[MapShape], links: &[&str]) -> Result<(), PinFault> {
        let known = |name: &str| {
            let link = name.strip_prefix(LINK);
            maps.iter().any(|map| map.name == name) || link.is_some_and(|link| links.contains(&link))
        };
        for name in directory::names(&self.here)? {
            if !known(&name) {
                directory::remove(&self.here.join(name))?;
            }
        }
        for name in directory::names(self.directory.path())? {
            if name.starts_with(LAYOUT) && name != self.layout {
                directory::remove_layout(&self.directory.path().join(name), &mut Vec::new())?;
            }
        }
        Ok(())
    }

    /// The maps that are pinned, each of which is what its name says.
    fn check_maps<'m>(&self, maps: &'m [MapShape]) -> Result<Vec<(&'m MapShape, MapInfo)>, PinFault> {
        let mut found = Vec::new();
        for map in maps {
            if let Some(info) = self.info(&map.name)? {
                self.check(map, &info)?;
                found.push((map, info));
            }
        }
        Ok(found)
    }

    /// Removes all, the last hooks first: a connect without a record is refused, while one with a record by hooks that
    /// have seen only a part would be believed.
    fn give_up(&self, maps: &[MapShape], hooks: &[(&str, Target)]) -> Result<(), PinFault> {
        for (program, _) in hooks.iter().rev() {
            self.forget(program)?;
        }
        for map in maps {
            directory::remove(&self.map(&map.name))?;
        }
        Ok(())
    }

    fn info(&self, name: &str) -> Result<Option<MapInfo>, PinFault> {
        let path = self.map(name);
        let (descriptor, kind) = match object::open(&path) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(PinFault::Foreign { path, found: error.to_string() }),
        };
        if kind != Kind::Map {
            return Err(PinFault::Foreign { path, found: format!("it is a {kind}") });
        }
        let info = MapData::from_fd(descriptor).and_then(|map| map.info());
        info.map(Some).map_err(|error| PinFault::Foreign { path, found: error.to_string() })
    }

    fn check(&self, map: &MapShape, info: &MapInfo) -> Result<(), PinFault> {
        let foreign = |found: String| Err(PinFault::Foreign { path: self.map(&map.name), found });
        let name = String::from_utf8_lossy(info.name()).into_owned();
        if name != object::kept_of(&map.name) {
            return foreign(format!("it is a map named {name:?}"));
        }
        let kind = info.map_type().map(|kind| kind as u32).unwrap_or(0);
        if (kind, info.key_size(), info.value_size()) != (map.kind, map.key_bytes, map.value_bytes) {
            return foreign(format!(
                "it is a map of type {kind} with keys of {} bytes and values of {}",
                info.key_size(),
                info.value_size()
            ));
        }
        if map.name != map::EVENTS && info.max_entries() != map.entries {
            return foreign(format!("it is a map of {} entries", info.max_entries()));
        }
        Ok(())
    }
}

/// The directory of this layout: of every record, its members and where they lie, and of the maps.
fn layout_name(maps: &[MapShape]) -> String {
    let mut hash = Fnv::new();
    hash.add(&MEANING.to_le_bytes());
    for layout in LAYOUTS {
        hash.add(layout.name.as_bytes());
        hash.add(&(layout.size as u64).to_le_bytes());
        for (member, offset) in layout.members {
            hash.add(member.as_bytes());
            hash.add(&(*offset as u64).to_le_bytes());
        }
    }
    for map in maps {
        // The ring may have any size.
        let entries = if map.name == map::EVENTS { 0 } else { map.entries };
        hash.add(map.name.as_bytes());
        for number in [map.kind, map.key_bytes, map.value_bytes, entries] {
            hash.add(&number.to_le_bytes());
        }
    }
    format!("{LAYOUT}{:016x}", hash.0)
}

/// The hash of Fowler, Noll and Vo (FNV-1a): nobody chooses what goes in.
struct Fnv(u64);

impl Fnv {
    fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
    }
}
