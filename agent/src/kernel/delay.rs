//! Whose connects the hook slows down.

use std::{
    io,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use aya::maps::{HashMap, MapData};

use super::ConnectorKey;

/// A key as the map takes it: words, since it has no type of ours.
type Words = [u64; size_of::<ConnectorKey>() / 8];

pub(super) struct Delayed(Mutex<HashMap<MapData, Words, u64>>);

impl Delayed {
    pub(super) fn new(map: HashMap<MapData, Words, u64>) -> Self {
        Self(Mutex::new(map))
    }

    /// `until` counts from boot. Where there is no room, whoever was longest without a connect is forgotten.
    pub(super) fn note(&self, connector: ConnectorKey, until: Duration) -> io::Result<()> {
        let (words, until): (Words, _) = (zerocopy::transmute!(connector), until.as_nanos() as u64);
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        map.insert(words, until, 0).map_err(io::Error::other)
    }
}
