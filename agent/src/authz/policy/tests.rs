use std::fs;

use tempfile::TempDir;
use tokio::join;

use super::*;
use crate::authz::files::PolicyFiles;

/// Far more than can be counted in any time here, where `input` says so.
const SLOW: &str = "package envoy.authz\n\nimport rego.v1\n\ndefault allow := false\n\n\
    allow if {\n\tinput.slow\n\tall := numbers.range(1, 5000)\n\t\
    count([1 | some i in all; some j in all; i * j == 7]) > 2\n}\n";
const TIME: Duration = Duration::from_millis(400);

/// A policy with so much time, in a folder that goes away with it.
fn slow_policy() -> (Arc<Policy>, Arc<Loaded>, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("slow.rego");
    fs::write(&file, SLOW).unwrap();
    let files =
        PolicyFiles { timeout: TIME, ..PolicyFiles::new(vec![file], "envoy/authz/allow".parse().unwrap()) };
    let policy = Arc::new(Policy::new(PolicySettings::of("slow", files)));
    let loaded = policy.reload().unwrap().unwrap();
    (policy, loaded, dir)
}

/// What the policy says, or a word for why it says nothing, and how long that took.
async fn asked(
    policy: &Arc<Policy>,
    loaded: &Arc<Loaded>,
    slow: bool,
) -> (Result<Value, &'static str>, Duration) {
    let began = Instant::now();
    let question = move || Ok::<_, ()>(Value::from(serde_json::json!({ "slow": slow })));
    let value = match policy.evaluate(loaded, false, question).await {
        Ok(Ok(evaluated)) => evaluated.value.map_err(|error| error.reason()),
        Ok(Err(())) => unreachable!("the question can be read"),
        Err(error) => Err(error.reason()),
    };
    (value, began.elapsed())
}

#[tokio::test]
async fn of_long_evaluations_those_that_wait_too_long_for_their_turn_are_told_so() {
    let (policy, loaded, _dir) = slow_policy();
    assert_eq!(asked(&policy, &loaded, true).await.0, Err("time_limit"), "the first is not known to be long");

    let (one, two, three) =
        join!(asked(&policy, &loaded, true), asked(&policy, &loaded, true), asked(&policy, &loaded, true));
    assert_eq!((one.0, two.0), (Err("time_limit"), Err("time_limit")));
    let (answer, waited) = three;
    assert_eq!(answer, Err("overloaded"), "{LONG_AT_ONCE} are evaluated at once");
    assert!((TIME / 2..TIME).contains(&waited), "an Envoy is still there to be told: {waited:?}");

    // Turns that are given back are had by the next ones.
    assert_eq!(asked(&policy, &loaded, false).await.0, Ok(Value::from(false)));
}

#[tokio::test]
async fn a_policy_comes_back_to_the_thread_that_serves_after_many_short_evaluations() {
    let (policy, loaded, _dir) = slow_policy();
    // As after a long one.
    policy.long_for.store(SHORT_IN_A_ROW, Ordering::Relaxed);
    let turns = || Arc::clone(&policy.long_turns).acquire_many_owned(LONG_AT_ONCE as u32);
    let held = turns().await.unwrap();
    assert_eq!(asked(&policy, &loaded, false).await.0, Err("overloaded"), "it needs a turn");
    drop(held);
    let mut asked_for = 0;
    while policy.long_for.load(Ordering::Relaxed) > 0 {
        assert_eq!(asked(&policy, &loaded, false).await.0, Ok(Value::from(false)));
        asked_for += 1;
    }
    assert!(asked_for >= SHORT_IN_A_ROW, "{asked_for}");
    let _held = turns().await.unwrap();
    assert_eq!(asked(&policy, &loaded, false).await.0, Ok(Value::from(false)), "it needs none");
}
