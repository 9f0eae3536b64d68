//! Policies that nobody thought of.

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

use super::{
    grammar::{self, Sample},
    ours::{self, Ours, Relation},
};

const POLICIES: usize = 600;
/// Attempts to make a policy smaller that is not judged as the judge judges it.
const SIMPLIFICATIONS: usize = 300;

#[test]
fn random_policies_are_decided_as_the_judge_decides_them() {
    require!(Need::Opa);
    let mut judge = Judge::start();
    // The same ones in each run; VOUCH_RANDOM_POLICIES=N in the environment takes N others.
    let others = std::env::var("VOUCH_RANDOM_POLICIES").ok().map(|count| count.parse().unwrap());
    let mut runner = if others.is_some() { TestRunner::default() } else { TestRunner::deterministic() };
    let strategy = collection::vec(proptest::num::u16::ANY, 20..160);
    let mut trees: Vec<_> =
        (0..others.unwrap_or(POLICIES)).map(|_| strategy.new_tree(&mut runner).unwrap()).collect();
    let samples: Vec<_> = trees.iter().map(|tree| Asked::new(grammar::sample(&tree.current()))).collect();
    let questions: Vec<_> = samples.iter().flat_map(Asked::questions).collect();
    let answers = judge.ask(&questions);
    let (mut decided, mut allowed, mut machines, mut found) = (0, 0, 0, Vec::new());
    for ((index, sample), answers) in samples.iter().enumerate().zip(answers.chunks(grammar::INPUTS)) {
        let counted = sample.differences(answers);
        decided += counted.decided;
        allowed += counted.allowed;
        machines += usize::from(counted.has_machine);
        found.extend(counted.found.into_iter().next().map(|difference| (index, difference)));
    }
    if let Some((index, difference)) = found.first() {
        let smaller = simplified(&mut trees[*index], &mut judge).unwrap_or_else(|| difference.clone());
        panic!("{} of {} policies are judged otherwise; one is\n{smaller}", found.len(), samples.len());
    }
    let asked = questions.len();
    assert!(decided > asked / 2, "only {decided} of {asked} were answered by both");
    assert!(allowed > decided / 20, "only {allowed} of {decided} were allowed");
    println!("{machines} of {} policies were decided by a machine", samples.len());
    assert!(machines > samples.len() / 4, "only {machines} of {} have a machine", samples.len());
}

/// A sample as both are asked.
struct Asked {
    policy: Policy,
    inputs: Vec<String>,
}

#[derive(Default)]
struct Counted {
    /// Questions that both answered, whatever the answer.
    decided: usize,
    allowed: usize,
    has_machine: bool,
    found: Vec<String>,
}

impl Asked {
    fn new(Sample { module, inputs }: Sample) -> Self {
        Self { policy: Policy::new(Syntax::V1, &module, "data.p.allow"), inputs }
    }

    fn questions(&self) -> impl Iterator<Item = (&Policy, Option<&str>)> {
        self.inputs.iter().map(|input| (&self.policy, Some(input.as_str())))
    }

    fn differences(&self, answers: &[Answer]) -> Counted {
        let loaded = ours::load(&self.policy);
        let has_machine = loaded.as_ref().is_ok_and(vouch::authz::rego::Policy::has_machine);
        let mut counted = Counted { has_machine, ..Counted::default() };
        for (input, judge) in self.inputs.iter().zip(answers) {
            let ours = ours::decide(&loaded, ours::input(input));
            let relation = ours.to(judge);
            if !matches!(relation, Relation::Equal | Relation::Refused) {
                let module = &self.policy.modules["policy.rego"];
                counted
                    .found
                    .push(format!("{relation:?} for {input}\n{module}judge: {judge:?}\nours: {ours}"));
            }
            if !matches!(ours, Ours::Refused(_)) && !matches!(judge, Answer::LoadError(_)) {
                counted.decided += 1;
                counted.allowed += usize::from(ours.allows());
            }
        }
        counted
    }
}

/// The smallest policy on the way from `tree` whose answers still differ.
fn simplified(tree: &mut impl ValueTree<Value = Vec<u16>>, judge: &mut Judge) -> Option<String> {
    let mut smallest = None;
    for _ in 0..SIMPLIFICATIONS {
        let sample = Asked::new(grammar::sample(&tree.current()));
        let answers = judge.ask(&sample.questions().collect::<Vec<_>>());
        let difference = sample.differences(&answers).found.into_iter().next();
        let goes_on = if difference.is_some() {
            smallest = difference;
            tree.simplify()
        } else {
            tree.complicate()
        };
        if !goes_on {
            break;
        }
    }
    smallest
}
