//! One question: which policy decides, what it is told, what it says, and what Envoy is told.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use prost::Message as _;
use prost_types::{Struct, Value as MetadataValue, value::Kind};
use regorus::Value;
use tonic::{Code, Status};

use super::{
    asker::Asker,
    id::{CheckId, CheckIds},
    input::{BadRequest, InputOptions},
    log::DecisionLog,
    metrics::{Answered, Metrics},
    parts::Parts,
    policies::{NoPolicy, Policies},
    policy::{Evaluated, Loaded, NoValue, Policy},
    question::{Question, Reading, Spiffe},
    record::{Record, Records},
    result::{Allowed, Changes, ResultError, Verdict, interpret},
    settings::{OnError, Settings},
};
use vouch_proto::{
    envoy::service::auth::v3::{
        CheckRequest, CheckResponse, DeniedHttpResponse, HttpStatus, check_response::HttpResponse,
    },
    google::rpc,
};

/// How long a question waits for its asker to be attested, which begins when it connects: an Envoy waits twice as long.
const PATIENCE: Duration = Duration::from_millis(100);
/// A question of more bytes is read where it holds up nobody, and remembered without what was asked.
const LARGE: usize = 64 << 10;
const BAD_REQUEST: i32 = 400;

/// Answers questions. One for all connections.
#[derive(Debug)]
pub(super) struct Judge {
    pub(super) policies: Arc<Policies>,
    pub(super) settings: Arc<Settings>,
    pub(super) records: Records,
    pub(super) log: Option<DecisionLog>,
    pub(super) metrics: Metrics,
    ids: CheckIds,
}

/// How far an answer came, for whoever takes it down.
#[derive(Debug, Default)]
struct Trace {
    policy: Option<(Arc<Policy>, Option<Arc<Loaded>>)>,
    /// For the log alone.
    input: Option<Value>,
    /// As it is remembered.
    question: Option<Question>,
    result: Option<Value>,
    /// Bytes of the question.
    size: usize,
}

/// Why no policy answered.
#[derive(Debug, thiserror::Error)]
enum NoAnswer {
    #[error("no policy is for this question")]
    NoPolicy,
    #[error("which policy decides rests on who asks, and that cannot be known")]
    Unattested,
    /// Of the call itself: too long, or no question.
    #[error("the question cannot be read: {0}")]
    Unreadable(String),
    #[error("request_parse_error: {0}")]
    BadRequest(#[from] BadRequest),
    #[error(transparent)]
    NoValue(#[from] NoValue),
    #[error(transparent)]
    NoVerdict(#[from] ResultError),
}

impl NoAnswer {
    /// A word for metrics.
    fn reason(&self) -> &'static str {
        match self {
            Self::NoPolicy => "no_policy",
            Self::Unattested => "unattested",
            Self::Unreadable(_) => "unreadable",
            Self::BadRequest(_) => "bad_request",
            Self::NoValue(error) => error.reason(),
            Self::NoVerdict(error) => error.reason(),
        }
    }
}

impl Judge {
    pub(super) fn new(
        policies: Arc<Policies>,
        settings: Arc<Settings>,
        log: Option<DecisionLog>,
        metrics: Metrics,
    ) -> Self {
        let records = Records::new(settings.remembered);
        Self { policies, settings, records, log, metrics, ids: CheckIds::default() }
    }

    /// The answer to the `CheckRequest` in `message`.
    ///
    /// # Errors
    /// Only with [`OnError::Grpc`], when no policy answers: Envoy then does as its failure_mode_allow says.
    pub(super) async fn check(&self, asker: &Asker, message: &[u8]) -> Result<CheckResponse, Status> {
        let (began, now) = (Instant::now(), SystemTime::now());
        let id = self.ids.next(now);
        let mut trace = Trace { size: message.len(), ..Trace::default() };
        let verdict = self.judge(asker, message, now, &mut trace).await;
        self.conclude(asker, (id, now, began), verdict, trace)
    }

    /// Instead of [`Self::check`], for a call that fails before there is a question.
    ///
    /// # Errors
    /// As there.
    pub(super) fn unreadable(&self, asker: &Asker, why: &Status) -> Result<CheckResponse, Status> {
        let (began, now) = (Instant::now(), SystemTime::now());
        let error = NoAnswer::Unreadable(why.message().to_owned());
        self.conclude(asker, (self.ids.next(now), now, began), Err(error), Trace::default())
    }

    fn conclude(
        &self,
        asker: &Asker,
        (id, now, began): (CheckId, SystemTime, Instant),
        verdict: Result<Verdict, NoAnswer>,
        trace: Trace,
    ) -> Result<CheckResponse, Status> {
        let is_dry_run = trace.policy.as_ref().is_some_and(|(policy, _)| policy.settings.dry_run);
        let reason = verdict.as_ref().map_or_else(NoAnswer::reason, |_| "policy");
        let error = verdict.as_ref().err().map(ToString::to_string).unwrap_or_default();
        let (answered, response) = self.respond(verdict, is_dry_run, id);
        let took = began.elapsed();
        self.take_down(asker, Answer { id, now, answered, reason, error, took }, trace);
        response
    }

    async fn judge(
        &self,
        asker: &Asker,
        message: &[u8],
        now: SystemTime,
        trace: &mut Trace,
    ) -> Result<Verdict, NoAnswer> {
        let request =
            CheckRequest::decode(message).map_err(|error| NoAnswer::Unreadable(error.to_string()))?;
        let attributes = request.attributes.unwrap_or_default();
        let standing = asker.standing(now, PATIENCE).await;
        let policy =
            self.policies.choose(asker, standing.as_deref(), &attributes).map_err(|none| match none {
                NoPolicy::None => NoAnswer::NoPolicy,
                NoPolicy::Unattested => NoAnswer::Unattested,
            })?;
        let loaded = policy.current();
        trace.policy = Some((Arc::clone(policy), loaded.clone()));
        let loaded = loaded.ok_or(NoValue::NotLoaded)?;
        let settings = &policy.settings;
        let options = InputOptions {
            skip_request_body_parse: settings.skip_request_body_parse,
            body_depth: self.settings.body_depth,
        };
        let spiffe = settings.spiffe.then(|| Spiffe {
            xfcc_is_sanitized: settings.xfcc_is_sanitized,
            caller: standing.as_ref().map(|standing| standing.document.clone()),
        });
        let reading = Reading { options, spiffe };
        let is_large = message.len() > LARGE;
        trace.question = (!is_large).then(|| Question::new(message, reading.clone()));
        let (is_logged, read) = (self.log.is_some(), Arc::clone(&loaded));
        let question = move || {
            let reads = if is_logged { &Parts::All } else { read.rego.reads() };
            reading.input(reads, &attributes)
        };
        let Evaluated { input, value } = policy.evaluate(&loaded, is_large, question).await??;
        trace.input = input.filter(|_| is_logged);
        let value = value.map_err(NoValue::Failed)?;
        trace.result = Some(value.clone()).filter(|value| *value != Value::Undefined);
        Ok(interpret(&value)?)
    }

    fn respond(
        &self,
        verdict: Result<Verdict, NoAnswer>,
        is_dry_run: bool,
        id: CheckId,
    ) -> (Answered, Result<CheckResponse, Status>) {
        let say = |verdict: Verdict| Ok(verdict.into_response(&id.to_string(), self.settings.header_append));
        match verdict {
            Ok(verdict @ Verdict::Allow(_)) => (Answered::Allowed, say(verdict)),
            Ok(Verdict::Deny(_)) if is_dry_run => {
                // As OPA-Envoy does: allowed, with nothing to change.
                let changes = Some(Changes::default());
                (
                    Answered::DryRun,
                    say(Verdict::Allow(Allowed { changes, dynamic_metadata: Struct::default() })),
                )
            }
            Ok(verdict @ Verdict::Deny(_)) => (Answered::Denied, say(verdict)),
            // A question that cannot be read is a denial everywhere.
            Err(error @ NoAnswer::BadRequest(_)) => (Answered::Denied, Ok(denial(&error, id))),
            Err(error) => match self.settings.on_error {
                OnError::Deny => (Answered::Denied, Ok(denial(&error, id))),
                OnError::Grpc => {
                    let text = format!("{error} (decision {id})");
                    (Answered::Failed, Err(Status::new(Code::Unknown, text)))
                }
            },
        }
    }

    fn take_down(&self, asker: &Asker, answer: Answer, trace: Trace) {
        let Answer { id, now, answered, reason, error, took } = answer;
        let decider = trace.policy.map(|(policy, loaded)| match loaded {
            Some(loaded) => Arc::clone(&loaded.decider),
            None => policy.decider(String::new()),
        });
        let name = decider.as_ref().map_or("", |decider| decider.name.as_str());
        self.metrics.checked(name, answered, reason);
        self.metrics.seconds.observe(took.as_secs_f64());
        let record = Record {
            id,
            at: now,
            policy: decider,
            answer: answered,
            reason,
            error,
            input: trace.input,
            result: trace.result,
            size: trace.size,
            took,
            pid: asker.pid(),
            listener: asker.listener,
        };
        if let Some(log) = &self.log {
            log.write(&Arc::new(record.clone()));
        }
        self.records.keep(record, trace.question);
    }
}

/// What is taken down of an answer beside its trace.
struct Answer {
    id: CheckId,
    now: SystemTime,
    answered: Answered,
    reason: &'static str,
    error: String,
    took: Duration,
}

/// No, and in Envoy's metadata why. Of a question that cannot be read its sender is told the cause; of everything else the
/// operator alone.
fn denial(error: &NoAnswer, id: CheckId) -> CheckResponse {
    let text = |text: &str| MetadataValue { kind: Some(Kind::StringValue(text.to_owned())) };
    let fields = [("decision_id", id.to_string()), ("reason", error.reason().to_owned())];
    let fields = fields.iter().map(|(key, value)| ((*key).to_owned(), text(value))).collect();
    let http_response = match error {
        NoAnswer::BadRequest(_) => Some(HttpResponse::DeniedResponse(DeniedHttpResponse {
            status: Some(HttpStatus { code: BAD_REQUEST }),
            headers: vec![],
            body: error.to_string(),
        })),
        _ => None,
    };
    CheckResponse {
        status: Some(rpc::Status { code: Code::PermissionDenied as i32, message: error.to_string() }),
        http_response,
        dynamic_metadata: Some(Struct { fields }),
    }
}

#[cfg(test)]
mod tests;
