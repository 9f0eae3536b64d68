use std::time::{Duration, Instant};

use super::*;
use crate::{
    attestation::{CallerKey, Grade, Selector, SelectorSet},
    decision::{Applicant, Evidence, Outcome},
};

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn denied(pid: u32, uid: u32) -> Ruling {
    let selectors: SelectorSet = [Selector::new("unix", format!("uid:{uid}"))].into_iter().collect();
    Ruling {
        applicant: Arc::new(Applicant {
            pid,
            uid,
            gid: uid,
            caller: CallerKey::Uid(uid),
            grade: Some(Grade::Kernel),
            proof: "kernel record",
            cgroup: Some("/x".into()),
            container: None,
            executable: None,
            exec_count: Some(1),
            birth: 1,
        }),
        evidence: Some(Evidence { selectors: Arc::new(selectors), costs: vec![] }),
        outcome: Outcome::Denied { asked: vec![] },
    }
}

fn pids(decisions: &Decisions) -> Vec<u32> {
    decisions.find(usize::MAX, |_| true).iter().map(|decision| decision.ruling.applicant.pid).collect()
}

#[test]
fn what_is_decided_again_is_counted_and_keeps_its_name() {
    let decisions = Decisions::new(8);
    let first = decisions.record(denied(7, 1000), at(1));
    assert_eq!(decisions.record(denied(7, 1000), at(5)), first);
    let known = decisions.get(first).unwrap();
    assert_eq!((known.count, known.first_at, known.last_at), (2, at(1), at(5)));
    let mut other = denied(7, 1000);
    other.outcome = Outcome::Refused { code: "E0404", reason: "gone".into() };
    assert_ne!(decisions.record(other, at(6)), first);
    let mut reused = denied(7, 1000);
    Arc::make_mut(&mut reused.applicant).birth = 2;
    assert_ne!(decisions.record(reused, at(7)), first, "another process of the same number");
    let mut learned = denied(7, 1000);
    let more: SelectorSet =
        [Selector::new("unix", "uid:1000"), Selector::new("docker", "x")].into_iter().collect();
    learned.evidence = Some(Evidence { selectors: Arc::new(more), costs: vec![] });
    assert_ne!(decisions.record(learned, at(8)), first, "more is known of it");
    assert_eq!((decisions.metrics().recorded.get(), decisions.metrics().repeated.get()), (4, 1));
}

#[test]
fn the_oldest_goes_when_there_is_no_room_and_what_is_repeated_is_young() {
    let decisions = Decisions::new(3);
    for pid in 1..=3 {
        decisions.record(denied(pid, pid), at(u64::from(pid)));
    }
    decisions.record(denied(1, 1), at(4));
    decisions.record(denied(4, 4), at(5));
    assert_eq!(pids(&decisions), [4, 1, 3]);
    assert_eq!((decisions.metrics().held.get(), decisions.metrics().dropped.get()), (3, 1));
}

#[test]
fn one_user_cannot_push_out_what_others_are_asked_about() {
    let decisions = Decisions::new(100);
    for pid in 1..=50 {
        decisions.record(denied(pid, 5), at(1));
    }
    for pid in 1000..3000 {
        decisions.record(denied(pid, 6), at(2));
    }
    let of = |uid| decisions.find(usize::MAX, |ruling| ruling.applicant.uid == uid).len();
    assert_eq!((of(5), of(6)), (50, 50));
}

#[test]
fn a_caller_of_many_uids_cannot_push_out_others_either() {
    let decisions = Decisions::new(100);
    for pid in 1..=50 {
        decisions.record(denied(pid, 5), at(1));
    }
    for pid in 1000..3000 {
        let mut of_a_subordinate = denied(pid, 300_000 + pid);
        Arc::make_mut(&mut of_a_subordinate.applicant).caller = CallerKey::Uid(6);
        decisions.record(of_a_subordinate, at(2));
    }
    assert_eq!(decisions.find(usize::MAX, |ruling| ruling.applicant.uid == 5).len(), 50);
}

#[test]
fn a_repeated_denial_of_one_process_fills_nothing() {
    let decisions = Decisions::new(100);
    decisions.record(denied(1, 5), at(1));
    for second in 0..10_000 {
        decisions.record(denied(2, 6), at(second));
    }
    assert_eq!(pids(&decisions), [2, 1]);
}

#[test]
fn memory_is_bounded_and_an_overlarge_one_is_cut() {
    let decisions = Decisions::new(1 << 20);
    let with = |pid: u32, bytes: usize| {
        let mut large = denied(pid, pid);
        let text = format!("label:{}", "x".repeat(bytes));
        let set: SelectorSet = [Selector::new("docker", text)].into_iter().collect();
        large.evidence = Some(Evidence { selectors: Arc::new(set), costs: vec![] });
        large
    };
    let cut = decisions.record(with(1, MAX_DECISION_BYTES), at(1));
    let known = decisions.get(cut).unwrap();
    assert!(known.cut && known.ruling.evidence.is_none());
    for pid in 2..1000 {
        decisions.record(with(pid, 100 << 10), at(2));
    }
    let held = decisions.find(usize::MAX, |_| true);
    let bytes: usize = held.iter().map(|decision| decision.ruling.bytes()).sum();
    assert!(bytes <= MAX_BYTES && bytes > MAX_BYTES / 2, "{bytes}");
    assert_eq!(held[0].ruling.applicant.pid, 999);
}

#[test]
fn the_cgroup_that_names_a_share_takes_room_in_it_and_in_the_decision() {
    let of_user = denied(1, 5);
    let mut of_container = of_user.clone();
    let cgroup = "/docker/x".to_owned();
    let room = 2 * cgroup.len();
    Arc::make_mut(&mut of_container.applicant).caller = CallerKey::Container(cgroup);
    assert_eq!(of_container.bytes(), of_user.bytes() + room);
}

#[test]
fn recording_is_quick_while_others_record() {
    let decisions = Decisions::new(4096);
    let rounds = 20_000;
    let started = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..4_u32 {
            let decisions = &decisions;
            scope.spawn(move || {
                for round in 0..rounds {
                    decisions.record(denied(round % 3000 + thread * 10_000, thread), at(u64::from(round)));
                }
            });
        }
    });
    let each = started.elapsed() / (4 * rounds);
    println!("one decision took {each:?}");
    assert!(each < Duration::from_millis(1), "{each:?}, in a build that is not optimized");
    assert!(decisions.find(usize::MAX, |_| true).len() <= 4096);
}

#[test]
fn whatever_is_recorded_the_books_agree() {
    let decisions = Decisions::new(16);
    for step in 0..5000_u32 {
        let mut ruling = denied(step * 7 % 40, step * 3 % 5);
        let applicant = Arc::make_mut(&mut ruling.applicant);
        applicant.birth = u64::from(step % 3);
        if applicant.uid > 2 {
            applicant.caller = CallerKey::Container(format!("/docker/{}", applicant.uid));
        }
        decisions.record(ruling, at(u64::from(step)));
        let memory = decisions.lock();
        assert_eq!(memory.held.len(), memory.by_age.len());
        assert_eq!(memory.held.len(), memory.by_caller.values().map(|own| own.ages.len()).sum::<usize>());
        assert_eq!(memory.bytes, memory.by_caller.values().map(|own| own.bytes).sum::<usize>());
        assert!(memory.by_fingerprint.len() <= memory.held.len() && memory.held.len() <= 16);
        assert_eq!(memory.bytes, memory.held.values().map(|held| held.bytes).sum::<usize>());
    }
}

#[test]
fn a_caller_with_large_decisions_replaces_its_own() {
    let decisions = Decisions::new(4096);
    let other = decisions.record(denied(1, 2000), at(1));
    for pid in 0..200 {
        let mut large = denied(pid, 1000);
        large.outcome = Outcome::Denied { asked: vec!["x".repeat(2048); 120] };
        decisions.record(large, at(2));
    }
    assert!(decisions.get(other).is_some(), "another's is still there");
    assert!(decisions.metrics().dropped.get() > 100);
}
