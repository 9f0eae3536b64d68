//! A policy changes while it is asked: by a rename, by a swapped link as of a mounted ConfigMap, by a write in parts. No answer
//! is lost or mixed, and none is of the old version once the new one has spoken. What is bad, half written or gone leaves the
//! old policy in force and is reported with file, line and caret until it is mended.

use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use tokio::task::JoinSet;
use tonic::transport::Channel;
use vouch_tests::{
    Agent, Need,
    authz::{ask, header, question},
    eventually, grpc,
    metrics::value,
    require,
};

use super::{SOON, rego, settings};

const RELOADS: u64 = 50;
/// Who ask, each so often: some 500 questions a second, as fast as the machine lets them.
const ASKERS: usize = 4;
const PAUSE: Duration = Duration::from_millis(8);

fn version(number: u64) -> String {
    rego(&format!("allow := {{\"allowed\": true, \"headers\": {{\"x-version\": \"{number}\"}}}}"))
}

async fn answered(channel: &Channel) -> Option<String> {
    let answer = ask(channel, &question("/")).await.expect("an answer");
    header(&answer, "x-version").map(str::to_owned)
}

async fn eventually_answered(channel: &Channel, expected: &str) {
    let arrives = async {
        while answered(channel).await.as_deref() != Some(expected) {
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::time::timeout(SOON, arrives).await.unwrap_or_else(|_| panic!("{expected} never decides"));
}

fn reloads(agent: &Agent, outcome: &str) -> f64 {
    let name = format!("vouch_authz_reloads_total{{policy=\"p\",outcome=\"{outcome}\"}}");
    value(&agent.metrics(), &name).unwrap_or(0.0)
}

/// The fact in `vouch status` that tells of the policy, once there is one of that number.
fn reported(agent: &Agent, code: &str) -> String {
    eventually(&format!("{code} is reported"), SOON, || {
        let status = agent.status();
        let facts = status["facts"].as_array().expect("facts").iter();
        let fact =
            facts.filter(|fact| fact["code"] == code).map(|fact| fact["text"].as_str().expect("a text"));
        let found = fact.into_iter().next()?.to_owned();
        assert_eq!(status["state"], "DEGRADED");
        Some(found)
    })
}

fn nothing_is_reported(agent: &Agent) {
    eventually("nothing is reported any more", SOON, || {
        (!agent.status().to_string().contains("E09")).then_some(())
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_turns_bad_stays_as_it_was_and_is_reported() {
    require!(Need::Agent, Need::Root);
    let agent = Agent::start(settings().policy("p", &version(1)));
    let channel = grpc::channel(&agent.authz_socket());
    let file = agent.policy_file("p");
    let broken = rego("allow if {\n    input.parsed_path = = [\"a\"]\n}");
    let unsafe_ = rego("allow if not input.parsed_path[_] == x");
    for (bad, code, place) in [
        (&version(2)[..version(2).len() / 2], "E0904", ""),
        ("", "E0904", ""),
        (&broken, "E0904", "p.rego:6:"),
        (&unsafe_, "E0904", "p.rego:5:"),
        ("\u{0}\u{1}\u{2}", "E0904", ""),
    ] {
        let before = reloads(&agent, "refused");
        fs::write(&file, bad).expect("it can be written");
        eventually("it is refused", SOON, || (reloads(&agent, "refused") > before).then_some(()));
        let text = reported(&agent, code);
        assert!(text.contains(&file.display().to_string()), "{bad:?}: {text}");
        if !place.is_empty() {
            assert!(
                text.contains(place) && text.lines().any(|line| line.trim_end().ends_with('^')),
                "{text}"
            );
        }
        assert_eq!(answered(&channel).await.as_deref(), Some("1"), "{bad:?}");
    }
    fs::remove_file(&file).expect("it can be removed");
    assert!(reported(&agent, "E0901").contains(&file.display().to_string()));
    assert_eq!(answered(&channel).await.as_deref(), Some("1"));
    let page = agent.cli(None, &["status"]);
    let page = String::from_utf8_lossy(&page.stdout).into_owned();
    assert!(page.contains("DEGRADED") && page.contains("E0901"), "{page}");

    agent.write_policy("p", &version(1));
    nothing_is_reported(&agent);
    agent.write_policy("p", &version(2));
    eventually_answered(&channel, "2").await;
    assert_eq!(agent.status()["state"], "HEALTHY", "{}", agent.status());
    assert_eq!(reloads(&agent, "accepted"), 3.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_was_never_good_denies_until_it_is() {
    require!(Need::Agent, Need::Root);
    let agent = Agent::start(settings().policy("p", "package envoy.authz\n\nallow if {\n"));
    let channel = grpc::channel(&agent.authz_socket());
    reported(&agent, "E0904");
    assert_eq!(answered(&channel).await, None);
    // As an editor that writes in place.
    let (head, tail) = (version(7), "\n# the end\n");
    let (first, second) = head.split_at(head.len() / 2);
    fs::write(agent.policy_file("p"), first).expect("it can be written");
    thread::sleep(Duration::from_millis(300));
    assert_eq!(answered(&channel).await, None);
    fs::write(agent.policy_file("p"), [first, second, tail].concat()).expect("it can be written");
    eventually_answered(&channel, "7").await;
    nothing_is_reported(&agent);
}

/// A folder as Kubernetes mounts a ConfigMap: names are links through `..data` to the folder of one version.
fn mount(folder: &Path, number: u64) {
    let inner = format!("..version_{number}");
    fs::create_dir_all(folder.join(&inner)).expect("a folder can be made");
    let policy = rego(&format!(
        "allow := {{\"allowed\": true, \"headers\": {{\"x-version\": concat(\"-\", [\"{number}\", data.version])}}}}"
    ));
    fs::write(folder.join(&inner).join("policy.rego"), policy).expect("it can be written");
    fs::write(folder.join(&inner).join("data.json"), format!("{{\"version\": \"{number}\"}}"))
        .expect("so can it");
    symlink(&inner, folder.join("..data_tmp")).expect("a link can be made");
    fs::rename(folder.join("..data_tmp"), folder.join("..data")).expect("a link can be moved into place");
    for name in ["policy.rego", "data.json"] {
        // They are there since the first time.
        let _ = symlink(format!("..data/{name}"), folder.join(name));
    }
    if let Some(before) = number.checked_sub(1) {
        let _ = fs::remove_dir_all(folder.join(format!("..version_{before}")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_swapped_as_kubernetes_does_it() {
    require!(Need::Agent, Need::Root);
    let mut agent = Agent::prepare(settings().policy_with("p", "", [("files", vec!["mounted"].into())]));
    let folder = agent.dir().join("mounted");
    mount(&folder, 1);
    agent.launch();
    let channel = grpc::channel(&agent.authz_socket());
    assert_eq!(answered(&channel).await.as_deref(), Some("1-1"));
    for number in 2..6 {
        mount(&folder, number);
        let (old, new) = (format!("{0}-{0}", number - 1), format!("{number}-{number}"));
        let swapped = async {
            loop {
                let now = answered(&channel).await.expect("an answer of the policy");
                assert!(now == old || now == new, "{now}");
                if now == new {
                    break;
                }
            }
        };
        tokio::time::timeout(SOON, swapped).await.unwrap_or_else(|_| panic!("{new} never decides"));
    }
    assert_eq!((reloads(&agent, "accepted"), reloads(&agent, "refused")), (5.0, 0.0));
}

/// What those who ask have seen.
#[derive(Debug, Default)]
struct Seen {
    /// The newest version that may have been read.
    written: AtomicU64,
    /// The newest that has answered.
    newest: AtomicU64,
    asked: AtomicU64,
    stopped: AtomicBool,
    wrong: Mutex<Vec<String>>,
}

impl Seen {
    async fn ask_until_stopped(&self, channel: &Channel) {
        while !self.stopped.load(SeqCst) {
            let least = self.newest.load(SeqCst);
            let answer = ask(channel, &question("/")).await;
            let most = self.written.load(SeqCst);
            let version = answer.as_ref().ok().and_then(|answer| header(answer, "x-version")?.parse().ok());
            match version {
                Some(version) if (least..=most).contains(&version) => {
                    self.newest.fetch_max(version, SeqCst);
                }
                _ => {
                    let mut wrong = self.wrong.lock().expect("no panic");
                    wrong.push(format!("{least}..={most}: {answer:?}"));
                }
            }
            self.asked.fetch_add(1, SeqCst);
            tokio::time::sleep(PAUSE).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_reloads_under_load_lose_no_answer_and_never_go_back() {
    require!(Need::Agent, Need::Root);
    let agent = Agent::start(settings().policy("p", &version(1)));
    let channel = grpc::channel(&agent.authz_socket());
    let seen = Arc::new(Seen::default());
    seen.written.store(1, SeqCst);
    let mut askers = JoinSet::new();
    for _ in 0..ASKERS {
        let (channel, seen) = (channel.clone(), Arc::clone(&seen));
        askers.spawn(async move { seen.ask_until_stopped(&channel).await });
    }
    for number in 2..=RELOADS + 1 {
        seen.written.store(number, SeqCst);
        agent.write_policy("p", &version(number));
        let (seen, what) = (Arc::clone(&seen), format!("version {number} decides"));
        let wait = move || eventually(&what, SOON, || (seen.newest.load(SeqCst) == number).then_some(()));
        tokio::task::spawn_blocking(wait).await.expect("it decides");
    }
    seen.stopped.store(true, SeqCst);
    askers.join_all().await;
    let wrong = seen.wrong.lock().expect("no panic");
    assert!(wrong.is_empty(), "{} of {}: {:?}", wrong.len(), seen.asked.load(SeqCst), &wrong[..1]);
    assert!(seen.asked.load(SeqCst) >= RELOADS * 2);
    assert_eq!(reloads(&agent, "accepted"), RELOADS as f64 + 1.0, "each change is read once");
    assert_eq!(reloads(&agent, "refused"), 0.0);
}
