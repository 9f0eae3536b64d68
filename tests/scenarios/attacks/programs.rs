use std::{fs, os::unix::fs::MetadataExt, path::Path, process::Command};

use serde_json::Value;
use vouch_tests::{entry, settings::entry_of_user};

/// Whoever is the program `good`, by three selectors of which each alone would do.
pub(super) const GOOD_PATH: &str = "spiffe://example.org/good/path";
pub(super) const GOOD_HASH: &str = "spiffe://example.org/good/hash";
pub(super) const GOOD_FILE: &str = "spiffe://example.org/good/file";
pub(super) const GOOD: [&str; 3] = [GOOD_FILE, GOOD_HASH, GOOD_PATH];
pub(super) const EVIL: &str = "spiffe://example.org/evil";
/// Whoever is in the cgroup of a victim.
pub(super) const VICTIM: &str = "spiffe://example.org/victim";
/// Whoever is root.
pub(super) const ROOT: &str = "spiffe://example.org/root";
/// Whoever is in the group of root.
pub(super) const GROUP: &str = "spiffe://example.org/group";

/// The folder of the programs.
pub(super) struct Programs<'a>(&'a Path);

impl<'a> Programs<'a> {
    pub(super) fn make(dir: &'a Path, names: &[&str]) -> Self {
        names.iter().for_each(|name| make_program(dir, name));
        Self(dir)
    }

    pub(super) fn path(&self, name: &str) -> String {
        format!("unix:path:{}", text(&self.0.join(name)))
    }

    pub(super) fn hash(&self, name: &str) -> String {
        let output = Command::new("sha256sum").arg(self.0.join(name)).output().unwrap();
        let hash = String::from_utf8(output.stdout).unwrap();
        format!("unix:sha256:{}", hash.split(' ').next().unwrap())
    }

    pub(super) fn file(&self, name: &str) -> String {
        let file = fs::metadata(self.0.join(name)).unwrap();
        format!("kernel:exe:{}:{}:{}", libc::major(file.dev()), libc::minor(file.dev()), file.ino())
    }

    /// [`GOOD`] for the program `good`, and [`EVIL`] for `evil`.
    pub(super) fn good_and_evil(&self) -> Vec<Value> {
        let mut entries = self.good();
        entries.push(self.evil());
        entries
    }

    pub(super) fn evil(&self) -> Value {
        entry(EVIL, &[&self.file("evil")])
    }

    /// [`GOOD`] for the program `good`, and [`EVIL`] for whatever runs as `uid`.
    pub(super) fn good_and_user(&self, uid: u32) -> Vec<Value> {
        let mut entries = self.good();
        entries.push(entry_of_user(EVIL, uid));
        entries
    }

    pub(super) fn good(&self) -> Vec<Value> {
        vec![
            entry(GOOD_PATH, &[&self.path("good")]),
            entry(GOOD_HASH, &[&self.hash("good")]),
            entry(GOOD_FILE, &[&self.file("good")]),
        ]
    }
}

/// By other processes: a descriptor for writing that a fork elsewhere in this one inherits would keep the file from
/// being run. What is added makes a hash of its own, and no program reads it.
fn make_program(dir: &Path, name: &str) {
    let script = "cp \"$1\" \"$2\" && printf %s \"$3\" >> \"$2\" && chmod 755 \"$2\"";
    let path = dir.join(name);
    // Where the build put it may be hidden by our own /tmp; the first thread of this process has never left.
    let actor = format!("/proc/{}/root{}", std::process::id(), env!("CARGO_BIN_EXE_actor"));
    let made = Command::new("sh").args(["-c", script, "sh", &actor]).arg(&path).arg(name).status().unwrap();
    assert!(made.success());
}

pub(super) fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}
