//! What is taken down of one answer, and the last of them.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use regorus::Value;
use serde_json::json;

use super::{id::CheckId, mask::Mask, metrics::Answered};

/// One question and its answer.
#[derive(Debug)]
pub struct Record {
    pub id: CheckId,
    pub at: SystemTime,
    /// The policy that decided, the rule that it decides by, and the digest of its files; `None` when none did.
    pub policy: Option<Decider>,
    pub answer: Answered,
    /// A word; `policy` when it was the policy's own answer.
    pub reason: &'static str,
    /// Why the policy gave no answer; empty when it did.
    pub error: String,
    /// `None` where the question could not be read.
    pub input: Option<Value>,
    /// What the policy said, if it said something.
    pub result: Option<Value>,
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
    kept: Mutex<[VecDeque<Arc<Record>>; 2]>,
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
            add("error", json!({ "message": self.error }));
        }
        if let Some(pid) = self.pid {
            add("pid", json!(pid));
        }
        if let Some(listener) = self.listener {
            add("listener", json!(listener.to_string()));
        }
        event
    }
}

impl Records {
    pub(super) fn new(most: usize) -> Self {
        Self { most_of_each: most.div_ceil(2), kept: Mutex::default() }
    }

    pub(super) fn keep(&self, record: Arc<Record>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let records = &mut kept[usize::from(record.answer == Answered::Allowed)];
        // What makes room is let go after the lock.
        let _oldest = if records.len() == self.most_of_each { records.pop_front() } else { None };
        records.push_back(record);
        drop(kept);
    }

    pub(super) fn get(&self, id: CheckId) -> Option<Arc<Record>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().flatten().find(|record| record.id == id).cloned()
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::{super::id::CheckIds, *};

    fn record(ids: &CheckIds, answer: Answered) -> Arc<Record> {
        Arc::new(Record {
            id: ids.next(UNIX_EPOCH + Duration::from_secs(1)),
            at: UNIX_EPOCH + Duration::from_secs(1),
            policy: Some(Decider { name: "p".into(), path: "a/b".into(), revision: "r".into() }),
            answer,
            reason: "policy",
            error: String::new(),
            input: Some(Value::from(json!({"parsed_body": "secret", "parsed_path": ["x"]}))),
            result: Some(Value::from(true)),
            took: Duration::from_micros(7),
            pid: Some(9),
            listener: None,
        })
    }

    #[test]
    fn yeses_do_not_crowd_out_what_was_denied() {
        let (ids, records) = (CheckIds::default(), Records::new(4));
        let denied = record(&ids, Answered::Denied);
        records.keep(Arc::clone(&denied));
        let allowed: Vec<_> = (0..5).map(|_| record(&ids, Answered::Allowed)).collect();
        allowed.iter().for_each(|record| records.keep(Arc::clone(record)));
        assert!(records.get(denied.id).is_some());
        let kept: Vec<bool> = allowed.iter().map(|record| records.get(record.id).is_some()).collect();
        assert_eq!(kept, [false, false, false, true, true]);
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
