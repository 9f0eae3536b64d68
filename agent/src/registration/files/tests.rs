use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use super::*;

/// Longer than anything here takes, shorter than anyone's patience.
const LONG: Duration = Duration::from_secs(20);
/// So long that no test is saved by the poll.
const NEVER: Duration = Duration::from_secs(3600);

struct Running {
    files: EntryFiles,
    seen: watch::Receiver<Arc<EntryIndex>>,
}

async fn run(file: &Path, poll: Duration) -> Running {
    let domain = "example.org".parse().unwrap();
    let (files, mut task) = EntryFiles::open(vec![file.to_owned()], domain).await.unwrap();
    task.poll = poll;
    tokio::spawn(task.run());
    Running { seen: files.subscribe(), files }
}

impl Running {
    /// Waits for an index of one entry, of this uid.
    async fn serves(&mut self, uid: u32) {
        let wanted = format!("unix:uid:{uid}");
        let serves =
            |index: &Arc<EntryIndex>| index.iter().all(|entry| entry.selectors[0].to_string() == wanted);
        timeout(LONG, self.seen.wait_for(serves)).await.expect("the new entries are served").unwrap();
    }

    async fn refuses(&self) -> Arc<Problem> {
        let refused = async {
            loop {
                if let Some(problem) = self.files.last_problem() {
                    return problem;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(LONG, refused).await.expect("the files are refused")
    }
}

/// Until no earlier event is worked on, so that only the next one can wake the task.
async fn idle() {
    tokio::time::sleep(4 * QUIET).await;
}

fn text(uid: u32) -> String {
    format!(r#"{{"entries":[{{"spiffe_id":"spiffe://example.org/web","selectors":["unix:uid:{uid}"]}}]}}"#)
}

fn home() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("entries.json");
    fs::write(&file, text(1)).unwrap();
    (directory, file)
}

/// By a rename from elsewhere, so that the rename alone tells of it.
fn replace(file: &Path, text: &str) {
    let elsewhere = tempfile::tempdir().unwrap();
    let new = elsewhere.path().join("new");
    fs::write(&new, text).unwrap();
    fs::rename(new, file).unwrap();
}

#[tokio::test]
async fn a_written_file_and_a_renamed_one_are_served() {
    let (_directory, file) = home();
    let mut running = run(&file, NEVER).await;
    running.serves(1).await;
    idle().await;
    fs::write(&file, text(2)).unwrap();
    running.serves(2).await;
    idle().await;
    replace(&file, &text(3));
    running.serves(3).await;
}

#[tokio::test]
async fn a_swapped_volume_of_kubernetes_is_served() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    for (version, uid) in [("..1", 1), ("..2", 2), ("..3", 3)] {
        fs::create_dir(root.join(version)).unwrap();
        fs::write(root.join(version).join("entries.json"), text(uid)).unwrap();
    }
    symlink("..1", root.join("..data")).unwrap();
    symlink("..data/entries.json", root.join("entries.json")).unwrap();
    let mut running = run(&root.join("entries.json"), NEVER).await;
    running.serves(1).await;
    for (version, uid) in [("..2", 2), ("..3", 3)] {
        idle().await;
        symlink(version, root.join("..data_tmp")).unwrap();
        fs::rename(root.join("..data_tmp"), root.join("..data")).unwrap();
        running.serves(uid).await;
    }
}

#[tokio::test]
async fn a_file_that_is_written_where_its_link_points_is_served() {
    let (_real_home, real) = home();
    let linked = tempfile::tempdir().unwrap();
    let link = linked.path().join("entries.json");
    symlink(&real, &link).unwrap();
    let mut running = run(&link, NEVER).await;
    running.serves(1).await;
    idle().await;
    replace(&real, &text(2));
    running.serves(2).await;
}

#[tokio::test]
async fn a_bad_file_keeps_the_old_entries_and_a_good_one_heals() {
    let (_directory, file) = home();
    let mut running = run(&file, NEVER).await;
    replace(&file, "{");
    assert_eq!(running.refuses().await.code, "E0604");
    assert_eq!(running.files.current().len(), 1);
    assert_eq!(running.files.counts().refused, 1);
    replace(&file, &text(2));
    running.serves(2).await;
    assert!(running.files.last_problem().is_none());
}

#[tokio::test]
async fn a_directory_that_vanishes_and_returns_is_watched_again() {
    let directory = tempfile::tempdir().unwrap();
    let inner = directory.path().join("inner");
    let file = inner.join("entries.json");
    fs::create_dir(&inner).unwrap();
    fs::write(&file, text(1)).unwrap();
    let mut running = run(&file, Duration::from_millis(50)).await;
    fs::remove_dir_all(&inner).unwrap();
    assert_eq!(running.refuses().await.code, "E0601");
    assert_eq!(running.files.current().len(), 1);
    fs::create_dir(&inner).unwrap();
    fs::write(&file, text(2)).unwrap();
    running.serves(2).await;
}

#[tokio::test]
async fn a_change_that_no_watch_tells_of_is_found_by_the_poll() {
    let (directory, file) = home();
    // A link through a second directory, which is replaced as a whole from a third.
    let (a, b) = (directory.path().join("a"), directory.path().join("b"));
    for (path, uid) in [(&a, 1), (&b, 2)] {
        fs::create_dir(path).unwrap();
        fs::write(path.join("real.json"), text(uid)).unwrap();
    }
    let hop = tempfile::tempdir().unwrap();
    symlink(&a, hop.path().join("hop")).unwrap();
    fs::remove_file(&file).unwrap();
    symlink(hop.path().join("hop/real.json"), &file).unwrap();
    let mut running = run(&file, Duration::from_millis(50)).await;
    running.serves(1).await;
    idle().await;
    symlink(&b, hop.path().join("next")).unwrap();
    fs::rename(hop.path().join("next"), hop.path().join("hop")).unwrap();
    running.serves(2).await;
}

#[tokio::test]
async fn a_reload_on_demand_answers_when_the_entries_are_published() {
    let (_directory, file) = home();
    let running = run(&file, NEVER).await;
    let before = running.files.counts().accepted;
    running.files.reload().await.unwrap();
    assert_eq!(running.files.counts().accepted, before + 1);
    fs::remove_file(&file).unwrap();
    assert_eq!(running.files.reload().await.unwrap_err().code, "E0601");
}

#[tokio::test]
async fn files_that_say_the_same_wake_nobody() {
    let (_directory, file) = home();
    let mut running = run(&file, NEVER).await;
    running.seen.mark_unchanged();
    replace(&file, &format!("\n{}", text(1)));
    running.files.reload().await.unwrap();
    assert!(!running.seen.has_changed().unwrap());
}

#[tokio::test]
async fn a_burst_of_writes_is_read_a_few_times_only() {
    let (_directory, file) = home();
    let mut running = run(&file, NEVER).await;
    for uid in 2..100 {
        replace(&file, &text(uid));
    }
    running.serves(99).await;
    assert!(running.files.counts().accepted < 20, "{:?}", running.files.counts());
}

#[tokio::test]
async fn the_first_load_refuses_what_cannot_be_read() {
    let domain = "example.org".parse().unwrap();
    let absent = PathBuf::from("/nonexistent/entries.json");
    assert_eq!(EntryFiles::open(vec![absent], domain).await.unwrap_err().code, "E0601");
}

#[tokio::test]
async fn the_task_ends_with_its_last_handle() {
    let (_directory, file) = home();
    let (files, task) = EntryFiles::open(vec![file], "example.org".parse().unwrap()).await.unwrap();
    let running = tokio::spawn(task.run());
    drop(files);
    timeout(LONG, running).await.expect("the task ends").unwrap();
}
