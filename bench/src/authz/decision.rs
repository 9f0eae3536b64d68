//! What one decision costs, on one thread and without a socket: ours and Open Policy Agent's in turns.

use std::{hint::black_box, time::Duration};

use anyhow::{Context as _, Result, ensure};
use nix::time::{ClockId, clock_gettime};
use serde::Serialize;
use vouch::authz::{
    input::{self, InputOptions},
    rego::{Limits, Policy, Source},
};
use vouch_bench::numbers::Spread;
use vouch_proto::envoy::service::auth::v3::AttributeContext;

use super::{
    mesh::{self, Comparison, ENTRYPOINT, Module, Service, Syntax},
    opa::Opa,
    question,
};

/// Decisions before any is timed.
const WARM_UP: u32 = 500;

/// Which goal a row is held against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Group {
    Mesh,
    Rules,
}

/// A policy, a question, and the answer that is right.
#[derive(Debug)]
struct Case {
    name: String,
    group: Group,
    module: Module,
    attributes: AttributeContext,
    is_allowed: bool,
}

/// One case in all rounds, in microseconds.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) group: Group,
    pub(crate) ours_us: Vec<f64>,
    /// Empty where there was no Open Policy Agent.
    pub(crate) opa_us: Vec<f64>,
}

impl Row {
    /// Ours by Open Policy Agent's, round by round.
    pub(crate) fn ratio(&self) -> Option<Spread> {
        Spread::of_ratios(&self.ours_us, &self.opa_us)
    }
}

/// What building the input costs, in microseconds.
#[derive(Debug, Serialize)]
pub(crate) struct InputRow {
    pub(crate) build_us: Vec<f64>,
    /// The same with what a decision of ec-backend costs.
    pub(crate) build_and_decide_us: Vec<f64>,
}

/// How long and how often.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    pub(crate) rounds: u32,
    pub(crate) iterations: u32,
}

/// Both sides have to give the right answer before they are timed.
pub(crate) fn run(effort: Effort, mut opa: Option<Opa>) -> Result<(Vec<Row>, InputRow)> {
    let cases = cases();
    let prepared = cases.iter().map(Prepared::new).collect::<Result<Vec<_>>>()?;
    if let Some(opa) = &mut opa {
        for one in &prepared {
            let said = opa.decide(&one.case.module, &one.json)?;
            ensure!(said == one.case.is_allowed, "{} with Open Policy Agent: {said}", one.case.name);
        }
    }
    let row = |case: &Case| Row {
        name: case.name.clone(),
        group: case.group,
        ours_us: Vec::new(),
        opa_us: Vec::new(),
    };
    let mut rows: Vec<Row> = cases.iter().map(row).collect();
    let mut input = InputRow { build_us: Vec::new(), build_and_decide_us: Vec::new() };
    for round in 1..=effort.rounds {
        crate::progress::say(&format!("decisions, round {round} of {}", effort.rounds));
        for (one, row) in prepared.iter().zip(&mut rows) {
            row.ours_us.push(one.time(effort.iterations));
            if let Some(opa) = &mut opa {
                row.opa_us.push(opa.time(&one.case.module, &one.json, effort.iterations)? / 1e3);
            }
        }
        input.build_us.push(prepared[0].time_building(effort.iterations, false));
        input.build_and_decide_us.push(prepared[0].time_building(effort.iterations, true));
    }
    Ok((rows, input))
}

/// The first one is what a backend of the mesh is asked most.
fn cases() -> Vec<Case> {
    let mesh = |service: Service, syntax, is_allowed: bool| Case {
        name: format!("{}{}{}", service.name(), old(syntax), if is_allowed { "" } else { ", denied" }),
        group: Group::Mesh,
        module: service.policy(syntax),
        attributes: question::attributes(service, is_allowed),
        is_allowed,
    };
    let backend = Service::EcBackend;
    let mut cases = vec![mesh(backend, Syntax::V0, true), mesh(backend, Syntax::V0, false)];
    cases.push(mesh(backend, Syntax::V1, true));
    let others = Service::ALL.into_iter().filter(|service| *service != backend);
    cases.extend(others.map(|service| mesh(service, Syntax::V0, true)));
    for (kind, comparison) in [("equality", Comparison::Equality), ("prefix", Comparison::Prefix)] {
        let places = [("first", 0), ("last", mesh::RULES - 1), ("none", mesh::RULES)];
        cases.extend(places.map(|(place, number)| Case {
            name: format!("{} {kind} rules, {place}", mesh::RULES),
            group: Group::Rules,
            module: mesh::rules(comparison),
            attributes: at(mesh::path(number)),
            is_allowed: number < mesh::RULES,
        }));
    }
    cases
}

fn old(syntax: Syntax) -> &'static str {
    match syntax {
        Syntax::V0 => "",
        Syntax::V1 => ", rego.v1",
    }
}

fn at(path: String) -> AttributeContext {
    let mut attributes = question::attributes(Service::EcBackend, true);
    let http = attributes.request.as_mut().and_then(|request| request.http.as_mut());
    if let Some(http) = http {
        http.headers.insert(":path".into(), path.clone());
        http.path = path;
    }
    attributes
}

struct Prepared<'a> {
    case: &'a Case,
    policy: Policy,
    input: regorus::Value,
    json: String,
}

impl<'a> Prepared<'a> {
    fn new(case: &'a Case) -> Result<Self> {
        let Module { name, text, .. } = &case.module;
        let source = Source { name: name.clone(), text: text.clone() };
        let compiled = Policy::compile(&[source], &[], &ENTRYPOINT.parse()?, &Limits::default());
        let policy = compiled.map_err(|faults| {
            anyhow::anyhow!("{}: {}", case.name, faults.first().map(ToString::to_string).unwrap_or_default())
        })?;
        let input = input::document(&case.attributes, &InputOptions::default(), None)?;
        let said = policy.evaluate(input.clone()).with_context(|| case.name.clone())?;
        ensure!(said == regorus::Value::from(case.is_allowed), "{} with Vouch: {said}", case.name);
        let json = input.to_json_str()?;
        Ok(Self { case, policy, input, json })
    }

    fn time(&self, iterations: u32) -> f64 {
        time(iterations, || drop(black_box(self.policy.evaluate(black_box(self.input.clone())))))
    }

    fn time_building(&self, iterations: u32, and_decide: bool) -> f64 {
        let options = InputOptions::default();
        time(iterations, || {
            let input = input::document(black_box(&self.case.attributes), &options, None);
            if and_decide {
                drop(black_box(input.map(|input| self.policy.evaluate(input))));
            } else {
                drop(black_box(input));
            }
        })
    }
}

/// CPU time of this thread for one call, in microseconds.
fn time(iterations: u32, mut work: impl FnMut()) -> f64 {
    (0..WARM_UP.min(iterations)).for_each(|_| work());
    let before = used();
    (0..iterations).for_each(|_| work());
    (used() - before).as_nanos() as f64 / 1e3 / f64::from(iterations)
}

fn used() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("every Linux has it").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_is_decided_as_it_says() {
        let cases = cases();
        assert_eq!(cases.len(), 12);
        for case in &cases {
            Prepared::new(case).unwrap();
        }
    }

    #[test]
    fn a_question_is_as_large_as_one_of_an_envoy() {
        let attributes = question::attributes(Service::EcBackend, true);
        let http = attributes.request.as_ref().unwrap().http.as_ref().unwrap();
        assert_eq!(http.headers.len(), 12);
        let length = question::message(attributes).len();
        assert!((600..1_000).contains(&length), "{length}");
    }
}
