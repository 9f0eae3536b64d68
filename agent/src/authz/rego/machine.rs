//! A second, quicker way to the same decision: the rules that a decision needs, compiled to instructions for the engine's
//! virtual machine.
//!
//! A policy has a machine only if everything its decision needs is on a list of what has been shown to mean the same here
//! and there ([`admit`]), and so are all instructions that it is compiled to ([`code`]). Of so many decisions one is made by
//! the engine, too ([`SAMPLE`]): when they differ, or the machine has no answer, the engine's counts and the machine is not
//! asked again.

mod admit;
mod code;
#[cfg(test)]
mod tests;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use regorus::{
    Engine, Value,
    languages::rego::compiler::Compiler,
    rvm::{
        self, RegoVM,
        vm::{self, VmError},
    },
    utils::limits::ExecutionTimerConfig,
};

use super::{
    EvalError, Limits,
    entrypoint::reference,
    policy::{MOST_SPARES, STEPS},
    program::Program,
};

/// Of so many decisions one is made twice.
const SAMPLE: u64 = 1_000;

/// So many bodies of a rule have a way in of their own.
const MOST_BODIES: usize = 250;

/// Rules of one policy as instructions.
pub(super) struct Machine {
    program: Arc<rvm::Program>,
    /// Of the rule that decides, those that can be asked one by one.
    bodies: usize,
    /// What `data` is without rules.
    documents: Value,
    time: Duration,
    /// Those that have decided before and are free.
    spares: Mutex<Vec<RegoVM>>,
    asked: AtomicU64,
    is_off: AtomicBool,
    report: OnceLock<Report>,
}

/// Told once when a machine is found to differ.
pub(super) type Report = Box<dyn Fn(&Difference) + Send + Sync>;

/// Two answers to one question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// In a few words, without what the input says.
    pub machine: &'static str,
    pub engine: &'static str,
}

impl Machine {
    /// For the rule at `path`, by what `engine` evaluates, read as `program`. `None` where anything that it needs is not on
    /// the lists.
    pub(super) fn new(
        engine: &Engine,
        program: &Program,
        documents: &Value,
        path: &[String],
        limits: &Limits,
    ) -> Option<Self> {
        if !admit::is_admitted(program, documents, path) {
            return None;
        }
        let mut engine = engine.clone();
        // The engine is a copy, so nothing half done is seen.
        let compiled = catch_unwind(AssertUnwindSafe(|| compile(&mut engine, path))).ok()??;
        let mut compiled = code::prepare(&compiled)?;
        let is_small = compiled.rule_infos.first().is_some_and(|rule| rule.definitions.len() <= MOST_BODIES);
        let bodies = if is_small { code::enter_bodies(&mut compiled)? } else { 0 };
        let machine = Self {
            program: Arc::new(compiled),
            bodies,
            documents: documents.clone(),
            time: limits.time,
            spares: Mutex::default(),
            asked: AtomicU64::new(0),
            is_off: AtomicBool::new(false),
            report: OnceLock::new(),
        };
        let first = machine.build().ok()?;
        machine.keep(first);
        Some(machine)
    }

    /// Whether it may still be asked.
    pub(super) fn is_on(&self) -> bool {
        !self.is_off.load(Ordering::Relaxed)
    }

    /// Whether it may be asked for the bodies with these numbers, or else for the whole rule.
    pub(super) fn can_evaluate(&self, bodies: Option<&[usize]>) -> bool {
        self.is_on() && bodies.is_none_or(|bodies| bodies.iter().all(|body| *body < self.bodies))
    }

    /// Whether this decision is one of those that the engine makes, too.
    pub(super) fn is_sample(&self) -> bool {
        self.asked.fetch_add(1, Ordering::Relaxed).is_multiple_of(SAMPLE)
    }

    /// The decision for `input`: by the bodies with these numbers, where they are given, and [`Value::Undefined`] when none
    /// of them holds; else by the whole rule. See [`Self::can_evaluate`].
    ///
    /// # Errors
    /// [`EvalError::TimeLimit`]; anything else says that the machine does not know.
    pub(super) fn evaluate(&self, input: Value, left: Option<&[usize]>) -> Result<Value, EvalError> {
        let spare = self.spares.lock().ok().and_then(|mut spares| spares.pop());
        let mut vm = match spare {
            Some(vm) => vm,
            None => self.build().map_err(|error| of_machine(&error))?,
        };
        vm.set_input(input);
        let value = run(&mut vm, left).map_err(|error| of_machine(&error));
        if value.is_ok() {
            // What the input said is forgotten with it.
            vm.set_input(Value::Undefined);
            self.keep(vm);
        }
        value
    }

    /// Says where differences are reported; the first to say so is heard.
    pub(super) fn report_to(&self, report: Report) {
        let _ = self.report.set(report);
    }

    /// When the machine did not say what the engine says, it is not asked again.
    pub(super) fn compare(&self, machine: &Result<Value, EvalError>, engine: &Result<Value, EvalError>) {
        let agree = match (machine, engine) {
            (Ok(machine), Ok(engine)) => machine == engine,
            (Err(machine), Err(engine)) => machine.reason() == engine.reason(),
            _ => false,
        };
        if !agree && !self.is_off.swap(true, Ordering::Relaxed) {
            let difference = Difference { machine: kind(machine), engine: kind(engine) };
            if let Some(report) = self.report.get() {
                report(&difference);
            }
        }
    }

    fn build(&self) -> vm::Result<RegoVM> {
        let mut vm = RegoVM::new();
        vm.load_program(Arc::clone(&self.program));
        vm.set_data(self.documents.clone())?;
        // Nothing in it runs twice, so this is not met.
        vm.set_max_instructions(self.program.instructions.len() + 1);
        vm.set_execution_timer_config(Some(ExecutionTimerConfig { limit: self.time, check_interval: STEPS }));
        Ok(vm)
    }

    fn keep(&self, vm: RegoVM) {
        if let Ok(mut spares) = self.spares.lock()
            && spares.len() < MOST_SPARES
        {
            spares.push(vm);
        }
    }
}

fn compile(engine: &mut Engine, path: &[String]) -> Option<Arc<rvm::Program>> {
    let rule = reference("data", path, |_| false);
    let policy = engine.compile_with_entrypoint(&rule.as_str().into()).ok()?;
    let functions = code::functions();
    Compiler::compile_from_policy_with_host_await(&policy, &[rule.as_str()], &functions).ok()
}

/// The whole rule has the first way in, its bodies those behind it.
fn run(vm: &mut RegoVM, left: Option<&[usize]>) -> vm::Result<Value> {
    let Some(left) = left else { return vm.execute_entry_point_by_index(0) };
    for body in left {
        let value = vm.execute_entry_point_by_index(body + 1)?;
        if value != Value::Undefined {
            return Ok(value);
        }
    }
    Ok(Value::Undefined)
}

fn of_machine(error: &VmError) -> EvalError {
    match error {
        VmError::TimeLimitExceeded { limit, .. } => EvalError::TimeLimit(*limit),
        error => EvalError::Other(error.to_string()),
    }
}

fn kind(value: &Result<Value, EvalError>) -> &'static str {
    match value {
        Ok(Value::Undefined) => "undefined",
        Ok(Value::Bool(true)) => "true",
        Ok(Value::Bool(false)) => "false",
        Ok(_) => "another value",
        Err(error) => error.reason(),
    }
}
