//! What the process gives up: core dumps, strangers' looks into its memory, and every capability it can do without.

use std::io;

use caps::{CapSet, Capability, CapsHashSet};
use nix::sys::{
    prctl,
    resource::{Resource, getrlimit, setrlimit},
};

use crate::health::KEPT_CAPABILITIES;

/// Kept besides where engines of users are asked: their sockets are closed to everybody else, root included.
pub(super) const KEPT_FOR_ROOTLESS: Capability = Capability::CAP_DAC_OVERRIDE;

/// No core file and no look into this process's memory for others of its uid. Before any key is read.
pub(super) fn hide_memory() -> io::Result<()> {
    prctl::set_dumpable(false)?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    Ok(())
}

/// As many descriptors as the hard limit allows: each connection is one, and each peer's pidfd another.
/// Gives the limit.
pub(super) fn raise_descriptors() -> io::Result<u64> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(hard)
}

/// Keeps [`KEPT_CAPABILITIES`] and, if `rootless`, [`KEPT_FOR_ROOTLESS`], as far as they are held, and drops the rest for this thread
/// and all it will start: call it while there is only one.
pub(super) fn drop_capabilities(rootless: bool) -> Result<CapsHashSet, caps::errors::CapsError> {
    let held = caps::read(None, CapSet::Permitted)?;
    let wanted = KEPT_CAPABILITIES
        .iter()
        .map(|(capability, _)| *capability)
        .chain(rootless.then_some(KEPT_FOR_ROOTLESS));
    let kept: CapsHashSet = wanted.filter(|kept| held.contains(kept)).collect();
    // Bounding first: it needs CAP_SETPCAP, which goes with the rest.
    if held.contains(&Capability::CAP_SETPCAP) {
        for capability in caps::all() {
            if !kept.contains(&capability) && caps::has_cap(None, CapSet::Bounding, capability)? {
                caps::drop(None, CapSet::Bounding, capability)?;
            }
        }
    }
    caps::clear(None, CapSet::Ambient)?;
    caps::clear(None, CapSet::Inheritable)?;
    caps::set(None, CapSet::Effective, &kept)?;
    caps::set(None, CapSet::Permitted, &kept)?;
    if let Err(error) = prctl::set_no_new_privs() {
        tracing::warn!(%error, "no_new_privs cannot be set (W0720)");
    }
    Ok(kept)
}
