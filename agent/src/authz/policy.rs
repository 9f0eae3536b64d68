//! One policy of the configuration: what it is made of now, and whether that is what its files say.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use arc_swap::ArcSwapOption;
use regorus::Value;
use tokio::{
    sync::Semaphore,
    task::spawn_blocking,
    time::{Instant as TokioInstant, timeout_at},
};

use super::{
    asker::{Asker, Standing},
    files,
    record::Decider,
    rego::{self, EvalError},
    settings::PolicySettings,
};
use crate::{problem::Problem, registration::Fingerprint, spiffe::SpiffeId};
use vouch_proto::envoy::service::auth::v3::AttributeContext;

/// Evaluations that take longer leave the thread that serves everybody.
const LONG: Duration = Duration::from_millis(5);
/// They come back after so many in a row that took less: one may have been long because the machine was busy.
const SHORT_IN_A_ROW: u32 = 64;
/// Long evaluations of one policy at once.
const LONG_AT_ONCE: usize = 2;

/// A policy, which its files may replace at any time.
#[derive(Debug)]
pub(super) struct Policy {
    pub(super) settings: PolicySettings,
    current: ArcSwapOption<Loaded>,
    state: Mutex<State>,
    /// How many short evaluations bring it back to the thread that serves everybody; 0: it is there.
    long_for: AtomicU32,
    long_turns: Arc<Semaphore>,
}

/// A policy as it was read at one moment.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) rego: rego::Policy,
    /// Its revision is a short digest of all its files.
    pub(super) decider: Arc<Decider>,
    pub(super) at: SystemTime,
}

#[derive(Debug, Default)]
struct State {
    /// Why what the files say now is not what decides.
    problem: Option<Arc<Problem>>,
    /// Of the files as they were read last, well or badly.
    seen: Option<String>,
}

/// What was asked, and what the policy said.
#[derive(Debug)]
pub(super) struct Evaluated {
    /// `None` of a large question: to let it go takes long, too.
    pub(super) input: Option<Value>,
    pub(super) value: Result<Value, EvalError>,
}

impl Evaluated {
    fn without_input(self) -> Self {
        Self { input: None, ..self }
    }
}

/// Why an evaluation gave no value.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoValue {
    #[error("the policy is not loaded")]
    NotLoaded,
    #[error("evaluations of the policy take long, and too many of them wait")]
    Overloaded,
    #[error("the question could not be read: a fault of ours")]
    Panicked,
    #[error(transparent)]
    Failed(#[from] EvalError),
}

impl NoValue {
    /// A word for metrics.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::NotLoaded => "not_loaded",
            Self::Overloaded => "overloaded",
            Self::Panicked => "internal",
            Self::Failed(error) => error.reason(),
        }
    }
}

impl Policy {
    pub(super) fn new(settings: PolicySettings) -> Self {
        Self {
            settings,
            current: ArcSwapOption::empty(),
            state: Mutex::default(),
            long_for: AtomicU32::new(0),
            long_turns: Arc::new(Semaphore::new(LONG_AT_ONCE)),
        }
    }

    pub(super) fn current(&self) -> Option<Arc<Loaded>> {
        self.current.load_full()
    }

    /// What is taken down of what it decides by `revision`; empty: by none.
    pub(super) fn decider(&self, revision: String) -> Arc<Decider> {
        let path = self.settings.files.entrypoint.to_string();
        Arc::new(Decider { name: self.settings.name.clone(), path, revision })
    }

    /// Why what the files say now is not what decides.
    pub(super) fn problem(&self) -> Option<Arc<Problem>> {
        self.state().problem.clone()
    }

    /// Where to look for changes.
    pub(super) fn watched(&self) -> Vec<PathBuf> {
        files::watched(&self.settings.files.files)
    }

    /// Reads and compiles the files; what is wrong keeps the policy as it was. `None` when they say what they said the
    /// last time. Takes as long as that takes: not for a thread that serves.
    pub(super) fn reload(&self) -> Option<Result<Arc<Loaded>, Arc<Problem>>> {
        let files = &self.settings.files;
        let before = Fingerprint::of(&self.watched());
        let read = files.read();
        // Of two versions of the files one half each is none of them; whoever watches looks again.
        if read.is_ok() && Fingerprint::of(&self.watched()) != before {
            return None;
        }
        let (seen, compiled) = match read {
            Ok(content) => {
                let seen = content.revision.clone();
                if self.state().seen.as_ref() == Some(&seen) {
                    return None;
                }
                let compiled = files.compile_content(&self.settings.name, &content);
                (
                    Some(seen),
                    compiled.map(|rego| Loaded {
                        rego,
                        decider: self.decider(content.revision),
                        at: SystemTime::now(),
                    }),
                )
            }
            Err(problem) => (None, Err(problem)),
        };
        let outcome = compiled.map(Arc::new).map_err(Arc::new);
        let mut state = self.state();
        state.seen = seen;
        match &outcome {
            Ok(loaded) => {
                state.problem = None;
                self.long_for.store(0, Ordering::Relaxed);
                self.current.store(Some(Arc::clone(loaded)));
            }
            Err(problem) => {
                let before = state.problem.replace(Arc::clone(problem));
                // Files that stay bad in the same way are no news.
                if before.is_some_and(|before| before == *problem) {
                    return None;
                }
            }
        }
        Some(outcome)
    }

    /// Whether it is the one that decides about this. `Err` when that rests on who asks, and nobody can say who does.
    pub(super) fn applies(
        &self,
        asker: &Asker,
        standing: Option<&Standing>,
        attributes: &AttributeContext,
    ) -> Result<bool, Unattested> {
        let PolicySettings { listeners, callers, context_extensions, .. } = &self.settings;
        let is_here = match asker.listener {
            Some(listener) => listeners.contains(&listener),
            None => listeners.is_empty(),
        };
        let says = |(key, value): (&String, &String)| attributes.context_extensions.get(key) == Some(value);
        if !is_here || !context_extensions.iter().all(says) {
            return Ok(false);
        }
        if callers.is_empty() {
            return Ok(true);
        }
        let is = |standing: &Standing| {
            let known = |id: &SpiffeId| standing.ids.contains(id);
            callers.iter().any(known)
        };
        match standing {
            Some(standing) if is(standing) => Ok(true),
            // It may turn out to be one of them.
            Some(standing) if standing.is_unsettled => Err(Unattested),
            Some(_) => Ok(false),
            None => Err(Unattested),
        }
    }

    /// What the policy says of what `question` makes, which may be nothing. A large question, and every question to a policy
    /// that takes long, leaves the thread that serves everybody.
    pub(super) async fn evaluate<Bad: Send + 'static>(
        self: &Arc<Self>,
        loaded: &Arc<Loaded>,
        is_large: bool,
        question: impl FnOnce() -> Result<Value, Bad> + Send + 'static,
    ) -> Result<Result<Evaluated, Bad>, NoValue> {
        if !is_large && self.long_for.load(Ordering::Relaxed) == 0 {
            return self.timed(loaded, question);
        }
        // Together with the evaluation it stays below the patience of an Envoy, which is twice the time by default: what
        // comes later than that is an error of the call.
        let patience = TokioInstant::now() + self.settings.files.timeout / 2;
        let turn = timeout_at(patience, Arc::clone(&self.long_turns).acquire_owned()).await;
        let Ok(Ok(turn)) = turn else { return Err(NoValue::Overloaded) };
        let (this, loaded) = (Arc::clone(self), Arc::clone(loaded));
        let evaluated = spawn_blocking(move || {
            // Held until the work is done, whether or not somebody still waits for it.
            let _turn = turn;
            this.timed(&loaded, question)
                .map(|done| done.map(|done| if is_large { done.without_input() } else { done }))
        });
        evaluated.await.unwrap_or(Err(NoValue::NotLoaded))
    }

    /// Evaluates, and takes note of how long that took.
    fn timed<Bad>(
        &self,
        loaded: &Loaded,
        question: impl FnOnce() -> Result<Value, Bad>,
    ) -> Result<Result<Evaluated, Bad>, NoValue> {
        let input = catch_unwind(AssertUnwindSafe(question)).map_err(|_| NoValue::Panicked)?;
        let input = match input {
            Ok(input) => input,
            Err(bad) => return Ok(Err(bad)),
        };
        let began = Instant::now();
        let value = loaded.rego.evaluate(input.clone());
        if began.elapsed() > LONG {
            self.long_for.store(SHORT_IN_A_ROW, Ordering::Relaxed);
        } else {
            let less = |left: u32| left.checked_sub(1);
            let _ = self.long_for.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        }
        Ok(Ok(Evaluated { input: Some(input), value }))
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // Every holder leaves it whole, so one that panicked does no harm.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The choice rests on who asks, and nobody can say who does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unattested;

#[cfg(test)]
mod tests;
