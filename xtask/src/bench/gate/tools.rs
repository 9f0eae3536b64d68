//! What counts instructions: Valgrind, and the program that runs benches in it.

use std::path::PathBuf;

use crate::{cache, debian, step};

/// As Cargo.toml has the library of it: the two speak a protocol of their own.
const GUNGRAUN_VERSION: &str = "0.20.0";
/// Counted up when Valgrind's package is taken from elsewhere or becomes several.
const VALGRIND_REVISION: u32 = 1;

/// The folder with Debian's `usr` of it.
///
/// # Errors
/// Where packages do not come from Debian, or cannot be fetched.
pub(super) fn valgrind() -> anyhow::Result<PathBuf> {
    let arch = std::env::consts::ARCH;
    let name = format!("valgrind-{VALGRIND_REVISION}-{}-{arch}", debian::codename()?);
    cache::entry(&name, |draft| debian::unpack(&["valgrind"], draft))
}

/// The folder with its `bin`.
///
/// # Errors
/// When it cannot be fetched or built.
pub(super) fn runner() -> anyhow::Result<PathBuf> {
    cache::entry(&format!("gungraun-runner-{GUNGRAUN_VERSION}"), |draft| {
        // It starts Valgrind and reads what that says: not worth a build for speed.
        let install = ["install", "--quiet", "--locked", "--debug", "gungraun-runner"];
        let mut install = step::cargo(&install);
        step::run(install.args(["--version", GUNGRAUN_VERSION, "--root"]).arg(draft))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runner_is_of_the_version_that_the_benches_use() {
        let workspace = include_str!("../../../../Cargo.toml");
        assert!(workspace.contains(&format!("\ngungraun = \"={GUNGRAUN_VERSION}\"\n")));
    }
}
