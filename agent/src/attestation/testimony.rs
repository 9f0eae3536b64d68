//! Asks witnesses until they answer.

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use tokio::{
    sync::Semaphore,
    time::{sleep, timeout},
};

use super::{
    draft::Cost,
    learner::Learner,
    run::Run,
    selector::SelectorSet,
    witness::{Silence, Subject, Witness},
};

/// From one question to the next, while a witness is silent: doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A witness, and how many questions it is asked at once.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) witness: Arc<dyn Witness>,
    pub(super) turns: Arc<Semaphore>,
    /// One question takes no longer.
    pub(super) deadline: Duration,
}

/// How long somebody who only wants to see waits for one witness: less than a command does.
const PATIENCE: Duration = Duration::from_secs(1);

/// Asks one witness once.
pub(super) async fn ask(asked: &Asked, subject: &Subject) -> (Cost, Option<SelectorSet>) {
    let (kind, started) = (asked.witness.kind(), Instant::now());
    let question = async {
        let _turn = asked.turns.acquire().await;
        asked.witness.testify(subject).await
    };
    let answer = timeout(PATIENCE.min(asked.deadline), question).await;
    let answer = answer.unwrap_or_else(|_| Err(Silence::new("no answer yet")));
    let took = started.elapsed();
    match answer {
        Ok(said) => {
            let said = said.into_iter().filter(|selector| selector.kind() == kind).collect();
            (Cost { attestor: kind, took, gap: None }, Some(said))
        }
        Err(silence) => (Cost { attestor: kind, took, gap: Some(silence.reason) }, None),
    }
}

/// Asks one witness about a run, again and again while it is silent, and as long as somebody holds the run.
pub(super) async fn hear(asked: Asked, run: Weak<Run>, learner: Arc<Learner>, silences: impl Fn()) {
    let kind = asked.witness.kind();
    let mut pause = FIRST_PAUSE;
    loop {
        let Some(subject) = run.upgrade().filter(|run| !run.is_gone()).map(|run| run.subject()) else {
            return;
        };
        let Ok(turn) = asked.turns.acquire().await else { return };
        let started = Instant::now();
        let answer = timeout(asked.deadline, asked.witness.testify(&subject)).await;
        let took = started.elapsed();
        drop(turn);
        let Some(run) = run.upgrade() else { return };
        let answer =
            answer.unwrap_or_else(|_| Err(Silence::new(format!("no answer within {:?}", asked.deadline))));
        // A witness that looks at the process looks at it as it is now.
        let answer = answer.and_then(|selectors| {
            let look = learner.look(&run.about).ok_or_else(|| Silence::new("the process has ended"))?;
            if look.changes_since(&run.about.look).cgroup {
                return Err(Silence::new("the process has moved to another cgroup since"));
            }
            Ok(selectors.into_iter().filter(|selector| selector.kind() == kind).collect::<SelectorSet>())
        });
        match answer {
            Ok(said) => {
                run.heard(Cost { attestor: kind, took, gap: None }, Some(said));
                return;
            }
            Err(silence) => {
                silences();
                tracing::debug!(pid = run.about.pid, witness = kind, %silence, "a witness is silent (W0412)");
                run.heard(Cost { attestor: kind, took, gap: Some(silence.reason) }, None);
            }
        }
        drop(run);
        sleep(pause).await;
        pause = LONGEST_PAUSE.min(pause * 2);
    }
}
