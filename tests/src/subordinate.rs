//! User namespaces with subordinate uids, as the tools of `/etc/subuid` make them.

use std::{fs, os::unix::fs::MetadataExt, path::Path, process::Command, time::Duration};

use crate::{Child, eventually};

/// So much more is a subordinate uid outside than within.
const BASE: u32 = 300_000;
const COUNT: u32 = 1_000;
const LIMIT: Duration = Duration::from_secs(10);

/// A user namespace where its maker is 0, and subordinate uids are 1 and on. It is there as long as this is.
#[derive(Debug)]
pub struct Users {
    holder: Child,
    inode: u32,
}

impl Users {
    /// # Panics
    /// When user `maker` may not make one, or we may not give it uids.
    pub fn of(maker: u32) -> Self {
        let mut hold = Command::new("unshare");
        hold.args(["--user", "sleep", "60"]);
        let holder = Child::spawn("a user namespace", hold, Some(maker), Path::new("/dev/null"));
        let process = Path::new("/proc").join(holder.pid().to_string());
        let ours = inode(Path::new("/proc/self"));
        let inode =
            eventually("a user namespace", LIMIT, || inode(&process).filter(|its| Some(*its) != ours));
        // Groups are those of outside.
        fs::write(process.join("gid_map"), "0 0 4294967295\n").expect("root gives groups");
        let uids = format!("0 {maker} 1\n1 {} {COUNT}\n", outside(1));
        fs::write(process.join("uid_map"), uids).expect("root gives uids");
        Self { holder, inode }
    }

    pub fn inode(&self) -> u32 {
        self.inode
    }

    /// A command of the user who is `uid` within.
    pub fn command(&self, uid: u32, words: &[&str]) -> Command {
        let (holder, uid) = (self.holder.pid().to_string(), uid.to_string());
        let mut enter = Command::new("nsenter");
        enter.args(["--user", "--target", &holder, "--setuid", &uid, "--setgid", &uid, "--"]).args(words);
        enter
    }
}

/// What the subordinate `uid` is outside.
pub fn outside(uid: u32) -> u32 {
    BASE + uid
}

fn inode(process: &Path) -> Option<u32> {
    u32::try_from(fs::metadata(process.join("ns/user")).ok()?.ino()).ok()
}
