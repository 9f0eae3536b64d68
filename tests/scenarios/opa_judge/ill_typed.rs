//! Policies whose types are as they come: whichever of them the judge's type checker refuses, we refuse; whichever it
//! takes, ours takes.

use proptest::{
    collection,
    strategy::{Strategy, ValueTree},
    test_runner::TestRunner,
};
use vouch_tests::{
    Judge, Need,
    opa::{Answer, Policy, Syntax},
    require,
};

use super::{misfits, ours};

const POLICIES: usize = 3000;

#[test]
fn no_policy_is_loaded_that_the_judge_refuses_for_its_types() {
    require!(Need::Opa);
    // The same ones in each run; VOUCH_RANDOM_POLICIES=N in the environment takes N others.
    let others = std::env::var("VOUCH_RANDOM_POLICIES").ok().map(|count| count.parse().unwrap());
    let mut runner = if others.is_some() { TestRunner::default() } else { TestRunner::deterministic() };
    let choices = collection::vec(proptest::num::u16::ANY, 10..120);
    let policies: Vec<_> = (0..others.unwrap_or(POLICIES))
        .map(|at| {
            let syntax = if at % 3 == 0 { Syntax::V0 } else { Syntax::V1 };
            let choices = choices.new_tree(&mut runner).unwrap().current();
            Policy::new(syntax, &misfits::module(&choices, syntax), "data.p.allow")
        })
        .collect();
    let questions: Vec<_> = policies.iter().map(|policy| (policy, Some("{}"))).collect();
    let answers = Judge::start().ask(&questions);
    let (mut counted, mut found) = (Counted::default(), Vec::new());
    for (policy, judge) in policies.iter().zip(&answers) {
        let wrong = counted.add(judge, ours::load(policy).err());
        found.extend(wrong.map(|wrong| format!("{wrong}\n{}", policy.modules["policy.rego"])));
    }
    assert!(found.is_empty(), "{} of {} differ; one is\n{}", found.len(), policies.len(), found[0]);
    println!("{counted:?}");
    assert!(counted.by_both_for_types * 5 > policies.len(), "{counted:?}");
    assert!(counted.loaded_by_both * 20 > policies.len(), "{counted:?}");
}

#[derive(Debug, Default)]
struct Counted {
    loaded_by_both: usize,
    /// The judge names a fault of types, and so do we.
    by_both_for_types: usize,
    /// At least one of us names another.
    by_both: usize,
    /// Not for its types, by us alone.
    by_us: usize,
}

impl Counted {
    /// Counts one policy; tells what is wrong with our verdict.
    fn add(&mut self, judge: &Answer, ours: Option<String>) -> Option<String> {
        let is_typed = ours.as_ref().is_some_and(|reason| reason.contains("type error: "));
        let judge = match judge {
            Answer::LoadError(why) => Some(why),
            _ => None,
        };
        match (judge, ours) {
            (Some(why), None) => return Some(format!("loaded, and the judge says: {}", why.message)),
            (None, Some(reason)) if is_typed => {
                return Some(format!("the judge loads it, and we say: {reason}"));
            }
            (None, None) => self.loaded_by_both += 1,
            (None, Some(_)) => self.by_us += 1,
            (Some(why), Some(_)) if is_typed && why.code == "rego_type_error" => self.by_both_for_types += 1,
            (Some(_), Some(_)) => self.by_both += 1,
        }
        None
    }
}
