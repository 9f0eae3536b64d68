//! A policy that has passed the gate, and its evaluation.

use std::{
    any::Any,
    num::NonZeroU32,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use regorus::{Engine, Value, utils::limits::ExecutionTimerConfig};

use super::{
    Data, Entrypoint, Fault, Limits, Source, builtins, entrypoint,
    explain::{self, Extent},
    gate,
    index::{Index, Left},
    latch,
    machine::{Difference, Machine},
    parse,
    program::{Kind, Program},
    reads, rewrite,
    trial::{self, Trial},
};
use crate::authz::parts::Parts;

/// Checked and ready. Evaluates by `&self`, from several threads at once.
pub struct Policy {
    /// Prepared; each evaluation has a clone, which shares all that is large.
    engine: Engine,
    /// Engines that have evaluated before and are free.
    spares: Mutex<Vec<Engine>>,
    index: Option<Index>,
    machine: Option<Machine>,
    reads: Parts,
    pub(super) query: Query,
    pub(super) time: Duration,
    warnings: Vec<Fault>,
    pub(super) trials: Vec<Trial>,
    pub(super) extents: Vec<Extent>,
}

/// How the engine is asked for the decision.
#[derive(Debug, Clone)]
pub(super) enum Query {
    /// The path of one rule.
    Rule(String),
    /// Any other document.
    Document(String),
}

/// Why an evaluation gives no value. None of them is a reason to allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// Rules, functions or the keys of an object disagree about one value.
    #[error("conflict: {0}")]
    Conflict(String),
    #[error("the evaluation took longer than {} ms", .0.as_millis())]
    TimeLimit(Duration),
    /// A function met a limit of ours, and so has no answer.
    #[error("{0}")]
    Limit(builtins::Exceeded),
    #[error("{0}")]
    Other(String),
    /// A fault of ours; the evaluation ended and nothing else did.
    #[error("the evaluation failed inside: {0}")]
    Panic(String),
}

impl EvalError {
    /// One word for metrics and logs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Conflict(_) => "conflict",
            Self::TimeLimit(_) => "time_limit",
            Self::Limit(_) => "function_limit",
            Self::Other(_) => "eval_error",
            Self::Panic(_) => "internal",
        }
    }
}

/// The parser and the checks recurse as deep as [`Limits::nesting`] and [`Limits::chain`] let them.
const COMPILE_STACK: usize = 64 << 20;

impl Policy {
    /// Reads, checks and prepares a policy. Takes as long as the files are large, on a thread of its own; blocks until
    /// that is done.
    ///
    /// # Errors
    /// Everything that is wrong with it, by place. Files that cannot be read hide faults in others' meaning.
    pub fn compile(
        sources: &[Source],
        data: &[Data],
        entrypoint: &Entrypoint,
        limits: &Limits,
    ) -> Result<Self, Vec<Fault>> {
        let inner = || {
            give_way();
            Self::compile_here(sources, data, entrypoint, limits)
        };
        let compiled = thread::scope(|scope| {
            let builder = thread::Builder::new().name("policy-compile".into()).stack_size(COMPILE_STACK);
            builder.spawn_scoped(scope, inner).map(thread::ScopedJoinHandle::join)
        });
        let name = sources.first().map_or("policy", |source| source.name.as_str());
        match compiled {
            Ok(Ok(result)) => result,
            Ok(Err(panic)) => {
                Err(vec![Fault::in_file(name, format!("reading it failed: {}", said(&*panic)))])
            }
            Err(error) => Err(vec![Fault::in_file(name, format!("no thread to read it on: {error}"))]),
        }
    }

    fn compile_here(
        sources: &[Source],
        data: &[Data],
        entrypoint: &Entrypoint,
        limits: &Limits,
    ) -> Result<Self, Vec<Fault>> {
        if sources.len() > limits.files {
            let (count, limit) = (sources.len(), limits.files);
            return Err(vec![Fault::in_file("policy", format!("has {count} files, the limit is {limit}"))]);
        }
        let mut engine = new_engine(limits)?;
        add_data(&mut engine, data, limits)?;
        let documents = engine.get_data();
        let mut reader = Engine::new();
        let syntaxes = parse::add(&mut reader, sources, limits)?;
        let program = Program::new(&mut reader);
        let findings = gate::check(&program, &documents, entrypoint, limits);
        if !findings.faults.is_empty() {
            return Err(findings.faults);
        }
        let remarks =
            sources.iter().zip(&syntaxes).filter_map(|(source, syntax)| parse::remark(source, *syntax));
        let warnings = remarks.chain(findings.warnings).collect();
        engine.set_policy_length_config(parse::unbounded());
        for (source, syntax) in rewritten(sources, &syntaxes, program)?.iter().zip(&syntaxes) {
            parse::add_as(&mut engine, source, *syntax).map_err(|fault| vec![fault])?;
        }
        prepare(&mut engine, sources)?;
        let program = Program::new(&mut engine);
        let query = query(&program, entrypoint);
        let (trials, extents) = (trial::find(&program), explain::extents(&program));
        let index = match &query {
            Query::Rule(_) => Index::new(&program, entrypoint.parts()),
            Query::Document(_) => None,
        };
        let machine = match &query {
            Query::Rule(_) => Machine::new(&engine, &program, &documents, entrypoint.parts(), limits),
            Query::Document(_) => None,
        };
        let (spares, reads, time) = (Mutex::default(), reads::of(&program), limits.time);
        Ok(Self { engine, spares, index, machine, reads, query, time, warnings, trials, extents })
    }

    /// Remarks on a policy that is loaded all the same, by place.
    pub fn warnings(&self) -> &[Fault] {
        &self.warnings
    }

    /// What of the input can make a difference.
    pub fn reads(&self) -> &Parts {
        &self.reads
    }

    /// The decision for `input`; [`Value::Undefined`] when no rule gives one.
    ///
    /// # Errors
    /// See [`EvalError`]; takes no longer than [`Limits::time`] and the built-in function that is running by then.
    pub fn evaluate(&self, input: Value) -> Result<Value, EvalError> {
        let left = match &self.index {
            Some(index) => index.narrow(&input),
            None => Left::Many,
        };
        let bodies = match left {
            Left::Nothing(value) => return Ok(value),
            Left::Few(bodies) => Some(bodies),
            Left::Many => None,
        };
        match self.machine.as_ref().filter(|machine| machine.can_evaluate(bodies.as_deref())) {
            Some(machine) => self.by_machine(machine, input, bodies.as_deref()),
            None => self.by_engine(input, bodies.as_deref()),
        }
    }

    /// Whether a machine decides.
    pub fn has_machine(&self) -> bool {
        self.machine.as_ref().is_some_and(Machine::is_on)
    }

    /// Says where it is reported that the machine differs from the engine, which happens once at most.
    pub fn report_difference(&self, report: impl Fn(&Difference) + Send + Sync + 'static) {
        if let Some(machine) = &self.machine {
            machine.report_to(Box::new(report));
        }
    }

    /// The decision without index and machine.
    #[cfg(test)]
    pub(super) fn evaluate_whole(&self, input: Value) -> Result<Value, EvalError> {
        self.by_engine(input, None)
    }

    /// What the machine does not know, and a sample of what it does, the engine decides in the time that is left.
    fn by_machine(
        &self,
        machine: &Machine,
        input: Value,
        bodies: Option<&[usize]>,
    ) -> Result<Value, EvalError> {
        let start = Instant::now();
        let is_sample = machine.is_sample();
        let quick = Self::within(self.time, || {
            let value = machine.evaluate(input.clone(), bodies)?;
            Ok(self.or_else_value(value, bodies))
        });
        let is_known = matches!(quick, Ok(_) | Err(EvalError::TimeLimit(_) | EvalError::Limit(_)));
        if is_known && !is_sample {
            return quick;
        }
        let rest = self.time.saturating_sub(start.elapsed());
        let mut engine = self.fresh(rest);
        let sure = Self::within(rest, || {
            engine.set_input(input);
            self.ask(&mut engine, bodies)
        });
        match sure {
            Err(EvalError::TimeLimit(_)) if is_known => quick,
            Err(EvalError::TimeLimit(_)) => Err(EvalError::TimeLimit(self.time)),
            // Another run of the same might have been in time.
            sure if matches!(quick, Err(EvalError::TimeLimit(_))) => sure,
            sure => {
                machine.compare(&quick, &sure);
                sure
            }
        }
    }

    fn by_engine(&self, input: Value, bodies: Option<&[usize]>) -> Result<Value, EvalError> {
        self.with_engine(input, |engine| self.ask(engine, bodies))
    }

    /// By those bodies of the rule, where the index has left some out.
    fn ask(&self, engine: &mut Engine, bodies: Option<&[usize]>) -> Result<Value, EvalError> {
        match (&self.index, bodies) {
            (Some(index), Some(bodies)) => {
                index.evaluate(engine, bodies).map_err(|message| of_engine(&message))
            }
            _ => ask(engine, &self.query),
        }
    }

    /// Where none of the bodies that were asked holds, the rule is what it is without them.
    fn or_else_value(&self, value: Value, bodies: Option<&[usize]>) -> Value {
        match (&self.index, bodies) {
            (Some(index), Some(_)) if value == Value::Undefined => index.otherwise().clone(),
            _ => value,
        }
    }

    #[cfg(test)]
    pub(super) fn machine_mut(&mut self) -> &mut Option<Machine> {
        &mut self.machine
    }

    #[cfg(test)]
    pub(super) fn index(&self) -> Option<&Index> {
        self.index.as_ref()
    }

    /// An engine that has evaluated before is quicker than a new one. One that ended in an error is not used again.
    fn with_engine(
        &self,
        input: Value,
        evaluate: impl FnOnce(&mut Engine) -> Result<Value, EvalError>,
    ) -> Result<Value, EvalError> {
        let spare = self.spares.lock().ok().and_then(|mut spares| spares.pop());
        let mut engine = spare.unwrap_or_else(|| self.engine.clone());
        let value = Self::within(self.time, || {
            engine.set_input(input);
            evaluate(&mut engine)
        });
        if value.is_ok() && engine.take_prints().is_ok() {
            // What the input said is forgotten with it.
            engine.set_input(Value::Undefined);
            if let Ok(mut spares) = self.spares.lock()
                && spares.len() < MOST_SPARES
            {
                spares.push(engine);
            }
        }
        value
    }

    /// An engine of its own, with another time limit.
    pub(super) fn fresh(&self, time: Duration) -> Engine {
        let mut engine = self.engine.clone();
        engine.set_execution_timer_config(ExecutionTimerConfig { limit: time, check_interval: STEPS });
        engine
    }

    /// Runs an evaluation that ends by itself within `time`, and nothing else but it when it panics.
    pub(super) fn within(
        time: Duration,
        evaluate: impl FnOnce() -> Result<Value, EvalError>,
    ) -> Result<Value, EvalError> {
        let start = Instant::now();
        latch::open();
        // The engine is dropped with all its state after a panic, so nothing half done is seen.
        let value = catch_unwind(AssertUnwindSafe(evaluate))
            .unwrap_or_else(|panic| Err(EvalError::Panic(said(&*panic))));
        match value {
            Err(EvalError::TimeLimit(_)) => Err(EvalError::TimeLimit(time)),
            // Whatever came of it came too late: the engine may take an error of one definition for another one's value.
            Ok(_) if start.elapsed() > time => Err(EvalError::TimeLimit(time)),
            Ok(_) | Err(EvalError::Other(_)) if let Some(limit) = latch::met() => {
                Err(EvalError::Limit(limit))
            }
            value => value,
        }
    }
}

/// From now on this thread has a CPU when others leave it one: whoever is answered meanwhile need not wait for it.
fn give_way() {
    const NICE: libc::c_int = 10;
    #[expect(unsafe_code, reason = "neither std nor nix knows of it")]
    // SAFETY: takes three numbers; 0 is the calling thread. It has no way to fail that could matter.
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, NICE)
    };
}

impl std::fmt::Debug for Policy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Policy").field("query", &self.query).field("time", &self.time).finish_non_exhaustive()
    }
}

/// So many decide at once with engines that are kept.
pub(super) const MOST_SPARES: usize = 8;

/// Steps between two looks at the clock.
pub(super) const STEPS: NonZeroU32 = NonZeroU32::new(32).expect("not zero");

fn new_engine(limits: &Limits) -> Result<Engine, Vec<Fault>> {
    let mut engine = Engine::new();
    engine.set_strict_builtin_errors(false);
    engine.set_gather_prints(true);
    engine.set_execution_timer_config(ExecutionTimerConfig { limit: limits.time, check_interval: STEPS });
    let add = |engine: &mut Engine, name: &str, arity, call| {
        let added = engine.add_extension(name.to_owned(), arity, call);
        added.map_err(|error| vec![Fault::in_file("policy", error.to_string())])
    };
    for own in builtins::all() {
        add(&mut engine, own.name, own.arity, Box::new(move |args: Vec<Value>| latch::call(own, &args)))?;
    }
    for own in rewrite::FUNCTIONS {
        add(&mut engine, own.name, own.arity, Box::new(move |args: Vec<Value>| Ok((own.call)(&args))))?;
    }
    Ok(engine)
}

/// `sources` in the words that the engine takes as OPA takes the original ones.
fn rewritten(
    sources: &[Source],
    syntaxes: &[parse::Syntax],
    program: Program,
) -> Result<Vec<Source>, Vec<Fault>> {
    let (mut sources, mut program) = (sources.to_vec(), program);
    let passes = [
        |program: &Program| Ok(rewrite::imports(program)),
        |program: &Program| Ok(rewrite::operators(program)),
        |program: &Program| Ok(rewrite::heads(program)),
        rewrite::guards,
    ];
    for pass in passes {
        let texts: Vec<Option<String>> = pass(&program)?;
        if texts.iter().all(Option::is_none) {
            continue;
        }
        let mut reader = Engine::new();
        reader.set_policy_length_config(parse::unbounded());
        for ((source, syntax), text) in sources.iter_mut().zip(syntaxes).zip(texts) {
            source.text = text.unwrap_or_else(|| std::mem::take(&mut source.text));
            parse::add_as(&mut reader, source, *syntax).map_err(|fault| vec![fault])?;
        }
        program = Program::new(&mut reader);
    }
    Ok(sources)
}

fn add_data(engine: &mut Engine, data: &[Data], limits: &Limits) -> Result<(), Vec<Fault>> {
    let mut left = limits.data_bytes;
    for document in data {
        let size = document.value.to_json_str().map_or(usize::MAX, |text| text.len());
        let Some(rest) = left.checked_sub(size) else {
            let limit = limits.data_bytes;
            let reason = format!("all data documents together have more than {limit} bytes as JSON");
            return Err(vec![Fault::in_file(&document.name, reason)]);
        };
        left = rest;
        let value = document.path.iter().rev().fold(document.value.clone(), |inner, name| {
            Value::from(std::collections::BTreeMap::from([(Value::from(name.as_str()), inner)]))
        });
        if value.as_object().is_err() {
            return Err(vec![Fault::in_file(&document.name, "is no object, so it cannot be all of data")]);
        }
        engine.add_data(value).map_err(|_| {
            let path = format!("data.{}", document.path.join("."));
            vec![Fault::in_file(
                &document.name,
                format!("gives a part of {path} that another document gives, too"),
            )]
        })?;
    }
    Ok(())
}

/// Has the engine order statements and resolve names, so that evaluations need not.
fn prepare(engine: &mut Engine, sources: &[Source]) -> Result<(), Vec<Fault>> {
    engine.eval_bool_query("true".into(), false).map(drop).map_err(|error| {
        let message = error.to_string();
        let named = sources.iter().find(|source| message.contains(&format!("--> {}:", source.name)));
        let source = named.or(sources.first());
        vec![source.map_or_else(
            || Fault::in_file("policy", message.clone()),
            |source| Fault::of_engine(&source.name, &source.text, &message),
        )]
    })
}

fn query(program: &Program, entrypoint: &Entrypoint) -> Query {
    let path = entrypoint.parts();
    let is_rule = |at: usize| {
        let rule = &program.rules[at];
        rule.path == path && !rule.is_open && matches!(rule.kind, Kind::Complete | Kind::Set | Kind::Default)
    };
    let mut rules = program.reached(path).peekable();
    if rules.peek().is_some() && rules.all(is_rule) {
        Query::Rule(entrypoint::reference("data", path, |_| false))
    } else {
        Query::Document(entrypoint.reference())
    }
}

pub(super) fn ask(engine: &mut Engine, query: &Query) -> Result<Value, EvalError> {
    let result = match query {
        Query::Rule(path) => engine.eval_rule(path.clone()),
        Query::Document(reference) => engine.eval_query(reference.clone(), false).map(|results| {
            let result = results.result.into_iter().next();
            let value = result.and_then(|result| result.expressions.into_iter().next());
            value.map_or(Value::Undefined, |expression| expression.value)
        }),
    };
    result.map_err(|error| of_engine(&error.to_string()))
}

/// The engine tells kinds of errors apart only in words.
fn of_engine(message: &str) -> EvalError {
    const CONFLICTS: [&str; 4] =
        ["multiple outputs", "rule conflicts with", "generated multiple times", "must not produce"];
    let text = Fault::of_engine("policy", "", &message);
    let text = if text.line == 0 {
        text.reason
    } else {
        format!("{}:{}:{}: {}", text.file, text.line, text.column, text.reason)
    };
    if message.contains("execution exceeded time limit") {
        return EvalError::TimeLimit(Duration::ZERO);
    }
    if CONFLICTS.iter().any(|words| message.contains(words)) {
        EvalError::Conflict(text)
    } else {
        EvalError::Other(text)
    }
}

fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().map(str::to_owned);
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "it did not say why".to_owned())
}
