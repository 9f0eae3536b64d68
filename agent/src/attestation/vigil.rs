//! Keeps watch over processes that are connected: what was true when they connected must be true still.
//!
//! Exec, exit and moves between cgroups are told by the kernel's events. Credentials have no event, and events may be
//! lost: so all are looked at twice a second, and before anything is handed out.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    task::{JoinSet, spawn_blocking},
    time::{MissedTickBehavior, interval, timeout},
};

use super::{
    attestor::Attestor,
    learner::Learner,
    look::Look,
    run::{Run, is_of_executable},
};
use crate::kernel::{KernelEvent, Task, since_boot};

/// How often every process that is connected is looked at.
const SWEEP: Duration = Duration::from_millis(500);
/// What has not been learned of a changed process by then is taken from it until it is.
const JUDGED_WITHIN: Duration = Duration::from_millis(400);
/// From so many on one list of all processes costs less than a question for each.
const LIST_FROM: usize = 32;
/// How many sweeps lie between two looks at processes that are remembered though nobody is connected.
const IDLE_EVERY: u32 = 60;

impl Attestor {
    /// Takes the kernel's events, in their order. Whoever changed is judged again by a task of its own.
    pub fn observe(self: &Arc<Self>, events: &[KernelEvent]) {
        let seen = self.runs.observe(events);
        self.metrics.ended.inc_by(seen.ended);
        // However often it changes, one waits for its turn to look.
        for run in seen.touched.into_iter().filter(|run| run.summon()) {
            let attestor = Arc::clone(self);
            tokio::spawn(async move { attestor.judge(&run).await });
        }
    }

    /// Looks at every process that is connected, now and then, for ever.
    pub async fn keep_watch(self: Arc<Self>) {
        let mut ticks = interval(SWEEP);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for sweep in 1_u32.. {
            ticks.tick().await;
            self.sweep().await;
            if sweep.is_multiple_of(IDLE_EVERY) {
                self.let_go_of_the_dead().await;
            }
        }
    }

    /// Looks at every process that is connected, and returns when what has changed by now is judged.
    pub async fn sweep(self: &Arc<Self>) {
        let runs = self.runs.in_use();
        if runs.is_empty() {
            return;
        }
        let started = Instant::now();
        let learner = Arc::clone(&self.learner);
        let Ok(suspects) = spawn_blocking(move || suspects(&learner, runs)).await else { return };
        let mut judging = JoinSet::new();
        for run in suspects {
            // Who could not be judged in time before has nothing to lose, and would keep all others waiting.
            let waits = run.is_settled();
            let attestor = Arc::clone(self);
            let judge = async move { attestor.judge(&run).await };
            if waits {
                judging.spawn(judge);
            } else {
                tokio::spawn(judge);
            }
        }
        judging.join_all().await;
        self.metrics.sweeps.observe(started.elapsed().as_secs_f64());
    }

    /// Looks at one process, and takes from its connections what is not true any more.
    pub(super) async fn judge(&self, run: &Arc<Run>) {
        let mut found_unchanged = run.judging.lock().await;
        run.looked_at();
        *found_unchanged = None;
        if run.is_gone() {
            return;
        }
        let began = since_boot();
        let Some(look) = self.learner.look(&run.about).filter(|_| !run.has_ended()) else {
            run.end();
            self.runs.forget(run);
            self.metrics.ended.inc();
            return;
        };
        let news = run.news(&look);
        if !news.any() {
            if !run.is_settled() {
                run.is_as_it_was();
            }
            *found_unchanged = Some(began);
            return;
        }
        self.metrics.changed(news.word());
        tracing::debug!(pid = run.about.pid, change = news.word(), "a connected process has changed");
        let since = look.changes_since(&run.about.look);
        if !since.any() {
            run.is_as_it_was();
            return;
        }
        let later = run.about.later(look, self.learner.capture.as_deref());
        let mut carried = run.carried_over(since, &later);
        let other_file = since.exec || since.executable || since.touched;
        let draft = Arc::new(if other_file { Learner::draft() } else { Learner::draft_without_files() });
        let learned = timeout(JUDGED_WITHIN, async {
            let turn = self.turns.take(run.caller.clone()).await.ok()?;
            let (learner, about, into) = (Arc::clone(&self.learner), later.clone(), Arc::clone(&draft));
            let work = spawn_blocking(move || {
                let _turn = turn;
                learner.learn_quick(&about, &into);
                if other_file {
                    learner.learn_executable(&about, &into);
                }
            });
            work.await.ok()
        });
        let whole = learned.await.ok().flatten().is_some();
        let (mut set, _) = draft.read();
        if whole && since.touched {
            // Until they are learned anew the facts of the file before it was touched stay.
            carried = carried.part(|selector| !is_of_executable(selector));
        }
        set.extend(&carried);
        run.changed(later.look, set, whole);
    }

    async fn let_go_of_the_dead(&self) {
        let idle = self.runs.idle();
        let learner = Arc::clone(&self.learner);
        let look =
            move || idle.into_iter().filter(|run| learner.look(&run.about).is_none()).collect::<Vec<_>>();
        for run in spawn_blocking(look).await.unwrap_or_default() {
            run.end();
            self.runs.forget(&run);
        }
    }
}

/// Those who are not what they were at the newest look, or may not be.
fn suspects(learner: &Learner, runs: Vec<Arc<Run>>) -> Vec<Arc<Run>> {
    let listed: Option<HashMap<u32, Task>> =
        learner.capture.as_ref().filter(|_| runs.len() >= LIST_FROM).and_then(|capture| {
            let snapshot = capture.snapshot().ok()?;
            Some(snapshot.tasks.into_iter().map(|task| (task.pid, task)).collect())
        });
    let differs = |run: &Arc<Run>| match (&listed, run.newest_task()) {
        // A list has no more groups than a record.
        (Some(listed), Some(before)) if before.supplementary_groups().is_some() => {
            listed.get(&before.pid).is_none_or(|now| !now.unchanged_since(&before))
        }
        _ => run.has_ended() || learner.look(&run.about).is_none_or(|look: Look| run.news(&look).any()),
    };
    runs.into_iter().filter(|run| !run.is_settled() || differs(run)).collect()
}
