//! The shell around [`Authority::refresh`]: a timer, and the directories in which issuer files lie.

#![expect(unsafe_code, reason = "tokio wants a promise that the inotify descriptor stays open")]

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use inotify::{Inotify, WatchMask};
use tokio::{io::unix::AsyncFd, time};

use super::{Authority, AuthoritySource};

/// Files are looked at this often even when nothing announces a change.
const EVERY: Duration = Duration::from_secs(30);
/// Certificate, key and roots are written one after the other: wait for the last of them.
const SETTLE: Duration = Duration::from_millis(200);

impl Authority {
    /// Keeps the authority fresh for as long as it is polled; ends only by being dropped.
    ///
    /// Trouble is logged when it comes and when it goes, and shows in [`Authority::trouble`].
    pub async fn maintain(self) {
        let mut changes = Changes::of(&self.0.config.source);
        let mut troubled = self.trouble().is_some();
        loop {
            let _ = time::timeout(self.interval(), changes.next()).await;
            let authority = self.clone();
            let refreshed = tokio::task::spawn_blocking(move || authority.refresh(SystemTime::now())).await;
            match refreshed {
                Ok(Err(problem)) if !troubled => {
                    tracing::error!(code = problem.code, "the authority was not refreshed: {problem}");
                    troubled = true;
                }
                Ok(Ok(())) if troubled => {
                    tracing::info!("the authority is fresh again");
                    troubled = false;
                }
                _ => {}
            }
        }
    }

    /// Often enough for the shortest step of a CA's life.
    fn interval(&self) -> Duration {
        match &self.0.config.source {
            AuthoritySource::Embedded { ca_ttl, .. } => {
                (*ca_ttl / 48).clamp(Duration::from_millis(100), EVERY)
            }
            AuthoritySource::Intermediate(_) => EVERY,
        }
    }
}

/// Something happened in a directory that matters. Without inotify this never says so, and the timer remains.
struct Changes(Option<AsyncFd<Inotify>>);

impl Changes {
    fn of(source: &AuthoritySource) -> Self {
        let AuthoritySource::Intermediate(files) = source else {
            return Self(None);
        };
        // Directories, because files are replaced by renaming, and a mounted secret by moving a link beside them.
        let directories: BTreeSet<PathBuf> = [&files.certificate, &files.key, &files.roots]
            .into_iter()
            .map(|file| {
                file.parent().filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned()
            })
            .collect();
        match Self::watch(&directories) {
            Ok(changes) => changes,
            Err(error) => {
                tracing::warn!(%error, "issuer files are not watched, only read every {} s", EVERY.as_secs());
                Self(None)
            }
        }
    }

    fn watch(directories: &BTreeSet<PathBuf>) -> io::Result<Self> {
        let inotify = Inotify::init()?;
        let mask = WatchMask::CLOSE_WRITE | WatchMask::MOVED_TO | WatchMask::CREATE | WatchMask::DELETE;
        for directory in directories {
            inotify.watches().add(directory, mask)?;
        }
        // SAFETY: `Inotify` owns its descriptor, returns the same one each time, and is closed by its drop alone,
        // which `AsyncFd` runs after deregistering it.
        Ok(Self(Some(unsafe { AsyncFd::register(inotify)? })))
    }

    /// Returns once something changed and nothing has changed since for a moment.
    async fn next(&mut self) {
        self.any().await;
        while time::timeout(SETTLE, self.any()).await.is_ok() {}
    }

    async fn any(&mut self) {
        let Some(inotify) = &mut self.0 else {
            return std::future::pending().await;
        };
        let Ok(mut ready) = inotify.readable_mut().await else {
            return std::future::pending().await;
        };
        let mut buffer = [0; 4096];
        // What exactly changed does not matter: everything is read again.
        let _ = ready.try_io(|inotify| inotify.get_mut().read_events(&mut buffer).map(drop));
    }
}
