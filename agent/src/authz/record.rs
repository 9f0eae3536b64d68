//! What is taken down of one answer, and the last of them.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use regorus::Value;
use serde_json::json;

use super::{id::CheckId, mask::Mask, metrics::Answered, question::Question};

/// Most bytes of the questions that are remembered, of each kind.
const MOST_BYTES: usize = 2 << 20;
/// A question of more bytes is remembered without its input and what the policy said: it would crowd out many others.
const MOST_OF_ONE: usize = 256 << 10;

/// One question and its answer.
#[derive(Debug, Clone)]
pub struct Record {
    pub id: CheckId,
    pub at: SystemTime,
    /// The policy that decided, the rule that it decides by, and the digest of its files; `None` when none did.
    pub policy: Option<Arc<Decider>>,
    pub answer: Answered,
    /// A word; `policy` when it was the policy's own answer.
    pub reason: &'static str,
    /// Why the policy gave no answer; empty when it did.
    pub error: String,
    /// `None` where the question could not be read.
    pub input: Option<Value>,
    /// What the policy said, if it said something.
    pub result: Option<Value>,
    /// Bytes of the question, as it was sent.
    pub size: usize,
    pub took: Duration,
    /// Of the Envoy that asked, where it is known.
    pub pid: Option<u32>,
    /// Where it asked; `None`: at the socket.
    pub listener: Option<SocketAddr>,
}

/// Who decided.
#[derive(Debug, Clone)]
pub struct Decider {
    pub name: String,
    pub path: String,
    pub revision: String,
}

/// As many answers as are kept: of the yeses and of all others half each, so that neither crowds out the other.
#[derive(Debug)]
pub(super) struct Records {
    most_of_each: usize,
    kept: Mutex<[Kept; 2]>,
}

/// The oldest first.
#[derive(Debug, Default)]
struct Kept {
    records: VecDeque<Remembered>,
    bytes: usize,
}

#[derive(Debug)]
struct Remembered {
    /// Without its input, which would be several times as large as the question.
    record: Record,
    question: Option<Question>,
}

impl Record {
    /// One event of the decision log, in the words of OPA's where it has one.
    pub fn event(&self, mask: &Mask) -> serde_json::Value {
        let decider = self.policy.as_ref();
        let text = |value: Option<&String>| value.map_or(serde_json::Value::Null, |text| json!(text));
        let mut event = json!({
            "decision_id": self.id.to_string(),
            "timestamp": humantime::format_rfc3339_nanos(self.at).to_string(),
            "policy": text(decider.map(|decider| &decider.name)),
            "path": text(decider.map(|decider| &decider.path)),
            "revision": text(decider.map(|decider| &decider.revision)),
            "answer": self.answer.word(),
            "reason": self.reason,
            "metrics": { "timer_server_handler_ns": u64::try_from(self.took.as_nanos()).unwrap_or(u64::MAX) },
        });
        let mut add = |key: &str, value: serde_json::Value| event[key] = value;
        if let Some(input) = &self.input {
            add("input", mask.input(input));
        }
        if let Some(result) = &self.result {
            add("result", mask.result(result));
        }
        if !self.error.is_empty() {
            add("error", json!({ "message": mask.error(&self.error) }));
        }
        if let Some(pid) = self.pid {
            add("pid", json!(pid));
        }
        if let Some(listener) = self.listener {
            add("listener", json!(listener.to_string()));
        }
        mask.cover_fields(&mut event);
        event
    }
}

impl Records {
    pub(super) fn new(most: usize) -> Self {
        Self { most_of_each: most.div_ceil(2), kept: Mutex::default() }
    }

    /// Whether the content of a question of `size` bytes is remembered.
    pub(super) fn takes(&self, size: usize) -> bool {
        size <= MOST_OF_ONE
    }

    pub(super) fn keep(&self, mut record: Record, mut question: Option<Question>) {
        record.input = None;
        if !self.takes(record.size) {
            (record.result, record.size, question) = (None, 0, None);
        }
        // What makes room is let go after the lock; nearly always it is one.
        let (mut oldest, mut others) = (None, Vec::new());
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = &mut kept[usize::from(record.answer == Answered::Allowed)];
        while kept.records.len() >= self.most_of_each || kept.bytes + record.size > MOST_BYTES {
            let Some(one) = kept.records.pop_front() else { break };
            kept.bytes -= one.record.size;
            others.extend(oldest.replace(one));
        }
        kept.bytes += record.size;
        kept.records.push_back(Remembered { record, question });
    }

    pub(super) fn get(&self, id: CheckId) -> Option<Record> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = kept.iter().flat_map(|kept| &kept.records);
        let Remembered { record, question } = all.find(|kept| kept.record.id == id)?;
        let (record, question) = (record.clone(), question.clone());
        drop(kept);
        Some(Record { input: question.and_then(|question| question.input()), ..record })
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::{
        super::{
            id::CheckIds,
            input::InputOptions,
            question::{Question, Reading},
        },
        *,
    };

    fn record(ids: &CheckIds, answer: Answered) -> Record {
        Record {
            id: ids.next(UNIX_EPOCH + Duration::from_secs(1)),
            at: UNIX_EPOCH + Duration::from_secs(1),
            policy: Some(Arc::new(Decider { name: "p".into(), path: "a/b".into(), revision: "r".into() })),
            answer,
            reason: "policy",
            error: String::new(),
            input: Some(Value::from(json!({"parsed_body": "secret", "parsed_path": ["x"]}))),
            result: Some(Value::from(true)),
            size: 64,
            took: Duration::from_micros(7),
            pid: Some(9),
            listener: None,
        }
    }

    fn question() -> Option<Question> {
        let reading = Reading { options: InputOptions::default(), spiffe: None };
        Some(Question::new(&[], reading))
    }

    #[test]
    fn yeses_do_not_crowd_out_what_was_denied() {
        let (ids, records) = (CheckIds::default(), Records::new(4));
        let denied = record(&ids, Answered::Denied);
        records.keep(denied.clone(), None);
        let allowed: Vec<_> = (0..5).map(|_| record(&ids, Answered::Allowed)).collect();
        allowed.iter().for_each(|record| records.keep(record.clone(), None));
        assert!(records.get(denied.id).is_some());
        let kept: Vec<bool> = allowed.iter().map(|record| records.get(record.id).is_some()).collect();
        assert_eq!(kept, [false, false, false, true, true]);
    }

    #[test]
    fn large_questions_are_few_and_the_largest_have_no_content() {
        let (ids, records) = (CheckIds::default(), Records::new(1000));
        let of = |size| Record { size, ..record(&ids, Answered::Denied) };
        let large: Vec<_> = (0..9).map(|_| of(MOST_OF_ONE)).collect();
        large.iter().for_each(|record| records.keep(record.clone(), question()));
        let kept: Vec<_> = large.iter().filter_map(|record| records.get(record.id)).collect();
        assert_eq!(kept.len(), MOST_BYTES / MOST_OF_ONE);
        assert!(kept.iter().all(|record| record.input.is_some()));
        let largest = of(MOST_OF_ONE + 1);
        records.keep(largest.clone(), question());
        let found = records.get(largest.id).expect("it is remembered");
        assert!(found.input.is_none() && found.result.is_none());
        assert!(records.get(kept[0].id).is_some(), "and takes nobody's place");
    }

    #[test]
    fn an_event_has_the_words_of_opa_and_no_secret() {
        let event = record(&CheckIds::default(), Answered::Denied).event(&Mask::default());
        let expected = json!({
            "decision_id": "00000000-03e8-0000", "timestamp": "1970-01-01T00:00:01.000000000Z",
            "policy": "p", "path": "a/b", "revision": "r", "answer": "denied", "reason": "policy",
            "metrics": {"timer_server_handler_ns": 7000},
            "input": {"parsed_body": "***", "parsed_path": ["x"]}, "result": true, "pid": 9,
        });
        assert_eq!(event, expected);
    }
}
