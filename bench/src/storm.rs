//! A storm of processes: each is forked, executes a file of a few hundred bytes, and exits. Some others stay.

use std::{
    fs,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
};

use anyhow::{Context as _, Result, anyhow, ensure};

/// A running storm. It ends with [`Storm::stop`], or when this is dropped.
#[derive(Debug)]
pub struct Storm {
    stop: Arc<AtomicBool>,
    execs: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Result<Vec<Child>>>>,
    /// The program.
    _dir: tempfile::TempDir,
}

/// Processes of a storm that live on, until this is dropped.
#[derive(Debug, Default)]
pub struct Kept(Vec<Child>);

impl Storm {
    /// Starts `threads` that make processes one after the other. After each `keep_every` of them, another one is made
    /// that stays.
    ///
    /// # Errors
    /// When no program can be made here.
    pub fn start(threads: usize, keep_every: u64) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("vouch-storm-").tempdir()?;
        let program = make_program(dir.path())?;
        let (stop, execs) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let threads = (0..threads).map(|_| {
            let (program, stop, execs) = (program.clone(), Arc::clone(&stop), Arc::clone(&execs));
            thread::spawn(move || blow(&program, keep_every, &stop, &execs))
        });
        Ok(Self { threads: threads.collect(), stop, execs, _dir: dir })
    }

    /// How many processes came and went so far.
    pub fn execs(&self) -> u64 {
        self.execs.load(Ordering::Relaxed)
    }

    /// Ends it; whoever came to stay stays.
    ///
    /// # Errors
    /// When a process could not be made.
    pub fn stop(mut self) -> Result<Kept> {
        self.stop.store(true, Ordering::Relaxed);
        let mut kept = Kept::default();
        for thread in self.threads.drain(..) {
            kept.0.extend(thread.join().map_err(|_| anyhow!("a thread of the storm broke"))??);
        }
        Ok(kept)
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            if let Ok(Ok(kept)) = thread.join() {
                drop(Kept(kept));
            }
        }
    }
}

impl Kept {
    pub fn pids(&self) -> impl Iterator<Item = u32> {
        self.0.iter().map(Child::id)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // Either fails only when it has ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn blow(program: &Path, keep_every: u64, stop: &AtomicBool, execs: &AtomicU64) -> Result<Vec<Child>> {
    let mut kept = Kept::default();
    let mut made = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        let status = Command::new(program).env_clear().status().context("making a process")?;
        ensure!(status.success(), "the program of the storm ended with {status}");
        execs.fetch_add(1, Ordering::Relaxed);
        made += 1;
        if made.is_multiple_of(keep_every) {
            let mut stays = Command::new("sleep");
            kept.0
                .push(stays.arg("600").stdout(Stdio::null()).spawn().context("making a process that stays")?);
        }
    }
    Ok(std::mem::take(&mut kept.0))
}

/// Writes the smallest program that ends with 0. By another process: a descriptor for writing that a fork in this one
/// inherits would keep the file from being run.
fn make_program(dir: &Path) -> Result<PathBuf> {
    let (draft, program) = (dir.join("draft"), dir.join("program"));
    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?.write_all(&elf()?)?;
    let script = "cat \"$0\" > \"$1\" && chmod 755 \"$1\"";
    let made = Command::new("sh").args(["-c", script]).args([&draft, &program]).status()?;
    ensure!(made.success(), "the program of the storm cannot be written");
    Ok(program)
}

/// A 64-bit ELF file with one segment, which is all of it.
fn elf() -> Result<Vec<u8>> {
    const BASE: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    // exit(0), and the number that ELF has for the machine.
    let (machine, code): (u16, &[u8]) = match std::env::consts::ARCH {
        // xor edi, edi; mov eax, 60; syscall
        "x86_64" => (62, &[0x31, 0xff, 0xb8, 60, 0, 0, 0, 0x0f, 0x05]),
        // mov x0, #0; mov x8, #93; svc #0
        "aarch64" => (183, &[0, 0, 0x80, 0xd2, 0xa8, 0x0b, 0x80, 0xd2, 1, 0, 0, 0xd4]),
        other => return Err(anyhow!("the storm has no program for {other}")),
    };
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    let size = HEADERS + code.len() as u64;
    let half = |file: &mut Vec<u8>, value: u16| file.extend(value.to_le_bytes());
    let word = |file: &mut Vec<u8>, value: u32| file.extend(value.to_le_bytes());
    let long = |file: &mut Vec<u8>, value: u64| file.extend(value.to_le_bytes());
    // Executable, for that machine, of version 1; entry, program headers, no section headers.
    half(&mut file, 2);
    half(&mut file, machine);
    word(&mut file, 1);
    long(&mut file, BASE + HEADERS);
    long(&mut file, 64);
    long(&mut file, 0);
    word(&mut file, 0);
    // Sizes of the headers, and how many there are.
    for value in [64, 56, 1, 64, 0, 0] {
        half(&mut file, value);
    }
    // Loaded, readable and executable: offset, address (twice), size (twice), alignment.
    word(&mut file, 1);
    word(&mut file, 5);
    for value in [0, BASE, BASE, size, size, 0x1000] {
        long(&mut file, value);
    }
    file.extend(code);
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_storm_makes_processes_and_leaves_those_that_stay() {
        let storm = Storm::start(1, 10).unwrap();
        let start = Instant::now();
        while storm.execs() < 30 && start.elapsed() < Duration::from_secs(20) {
            thread::sleep(Duration::from_millis(5));
        }
        assert!(storm.execs() >= 30);
        let kept = storm.stop().unwrap();
        let living = |pid: u32| Path::new(&format!("/proc/{pid}")).exists();
        let pids: Vec<u32> = kept.pids().collect();
        assert!(pids.len() >= 2 && pids.iter().all(|pid| living(*pid)), "{pids:?}");
        drop(kept);
        assert!(!pids.iter().any(|pid| living(*pid)), "{pids:?}");
    }
}
