//! Instructions as the machine runs them: only those of a short list, which run from top to bottom; with our functions in
//! the place of the engine's; and with each name asked whether it has a value when it gets it.

use regorus::{
    Rc, Value,
    rvm::{
        Instruction, Program,
        instructions::{BuiltinCallParams, GuardMode},
        program::{BuiltinInfo, RuleInfo, RuleType},
    },
    unstable::{BuiltinFcn, Expr, Ref, Span},
};

use crate::authz::rego::{
    builtins::{self, Exceeded},
    latch, rewrite,
};

/// Our functions with their numbers of arguments. Calls of them are compiled to [`Instruction::HostAwait`].
pub(super) fn functions() -> Vec<(&'static str, usize)> {
    let ours = builtins::all().iter().map(|own| (own.name, usize::from(own.arity)));
    let written = rewrite::FUNCTIONS.iter().map(|own| (own.name, usize::from(own.arity)));
    ours.chain(written).collect()
}

/// So many rules may need one another, one below the other: each takes a piece of the stack, and an evaluation fits on one
/// of 2 MiB.
pub(super) const DEPTH: usize = 32;

/// `None` where an instruction is not on the list, or the chain of rules is too long.
pub(super) fn prepare(compiled: &Program) -> Option<Program> {
    if compiled.needs_runtime_recursion_check || !compiled.rule_infos.iter().all(is_plain_rule) {
        return None;
    }
    if depth(compiled, 0, &mut vec![None; compiled.rule_infos.len()], DEPTH)? > DEPTH {
        return None;
    }
    let mut program = compiled.clone();
    let own = own_function(&mut program)?;
    let mut writer = Writer { compiled, program, own, instructions: Vec::new(), may_exceed: false };
    let mut places = Vec::new();
    for at in 0..compiled.instructions.len() {
        places.push(writer.instructions.len());
        writer.instruction(at)?;
    }
    let Writer { mut program, instructions, may_exceed, .. } = writer;
    (program.instructions, program.has_host_await) = (instructions, false);
    relocate(&mut program, &places)?;
    if may_exceed {
        // Whether a limit is met does not rest on the order of bodies.
        program.rule_infos.iter_mut().for_each(|rule| rule.early_exit_on_first_success = false);
    }
    // Nothing asks where an instruction comes from, and what is said of a rule is copied whenever it is called.
    (program.instruction_spans, program.sources) = (Vec::new(), Vec::new());
    for rule in &mut program.rule_infos {
        (rule.name, rule.destructuring_blocks, rule.else_bodies) = (String::new(), Vec::new(), Vec::new());
    }
    Some(program)
}

/// Writes the instructions anew.
struct Writer<'a> {
    compiled: &'a Program,
    program: Program,
    /// What calls our functions.
    own: u16,
    instructions: Vec<Instruction>,
    /// Whether a function is called that may meet a limit.
    may_exceed: bool,
}

impl Writer<'_> {
    fn instruction(&mut self, at: usize) -> Option<()> {
        let instruction = self.compiled.instructions[at];
        match instruction {
            Instruction::HostAwait { dest, arg, id } => self.call(dest, arg, id)?,
            // The only jump: over the call of a function of ours that lacks an argument, to its end.
            Instruction::AnyOfNext { end_pc, .. } => {
                let end = self.compiled.instructions.get(usize::from(end_pc))?;
                if usize::from(end_pc) <= at || !matches!(end, Instruction::HostAwait { .. }) {
                    return None;
                }
                self.instructions.push(instruction);
            }
            Instruction::Move { dest, .. } => {
                self.instructions.push(instruction);
                if !passes_arguments(&self.compiled.instructions[at..]) {
                    let guard = Instruction::Guard { register: dest, mode: GuardMode::NotUndefined };
                    self.instructions.push(guard);
                }
            }
            _ if is_plain(&instruction) => self.instructions.push(instruction),
            _ => return None,
        }
        Some(())
    }

    /// A call of the function whose name the instruction before loads into `id`, with an array of arguments: loads its
    /// number instead.
    fn call(&mut self, dest: u8, arg: u8, id: u8) -> Option<()> {
        let Some(Instruction::Load { dest: loaded, literal_idx }) = self.instructions.last_mut() else {
            return None;
        };
        if *loaded != id {
            return None;
        }
        let number = number_of(self.compiled.literals.get(usize::from(*literal_idx))?)?;
        *literal_idx = u16::try_from(self.program.literals.len()).ok()?;
        self.program.literals.push(Value::from(number));
        self.may_exceed |= number < builtins::all().len();
        let args = [arg, id, 0, 0, 0, 0, 0, 0];
        let call = BuiltinCallParams { dest, builtin_index: self.own, num_args: 2, args };
        let params_index = self.program.add_builtin_call_params(call);
        self.instructions.push(Instruction::BuiltinCall { params_index });
        Some(())
    }
}

/// Gives each body of the rule that the entry point calls an entry point of its own, the first one at 1, by the order of its
/// definitions; how many there are.
pub(super) fn enter_bodies(program: &mut Program) -> Option<usize> {
    let Some(Instruction::CallRule { rule_index, .. }) = program.instructions.first() else { return None };
    let rule = program.rule_infos.get(usize::from(*rule_index))?.clone();
    for (number, definition) in rule.definitions.iter().enumerate() {
        let at = u16::try_from(program.rule_infos.len()).ok()?;
        program.rule_infos.push(RuleInfo {
            definitions: Rc::new(vec![definition.clone()]),
            default_literal_index: None,
            ..rule.clone()
        });
        program.entry_points.insert(format!("body {number}"), program.instructions.len());
        program.instructions.push(Instruction::CallRule { dest: 0, rule_index: at });
        program.instructions.push(Instruction::Return { value: 0 });
    }
    Some(rule.definitions.len())
}

/// How many rules are below one another from this one on, itself included; `None` when there is a circle or the chain is
/// longer than `left`.
fn depth(program: &Program, rule: usize, known: &mut [Option<usize>], left: usize) -> Option<usize> {
    let left = left.checked_sub(1)?;
    if let Some(depth) = known.get(rule)? {
        return Some(*depth);
    }
    let mut deepest = 0;
    for start in program.rule_infos[rule].definitions.iter().flatten() {
        let start = usize::try_from(*start).ok()?;
        for instruction in program.instructions.get(start..)? {
            match instruction {
                Instruction::RuleReturn {} => break,
                Instruction::CallRule { rule_index, .. } => {
                    deepest = deepest.max(depth(program, usize::from(*rule_index), known, left)?);
                }
                _ => {}
            }
        }
    }
    known[rule] = Some(deepest + 1);
    Some(deepest + 1)
}

/// A complete rule without arguments and `else`.
fn is_plain_rule(rule: &RuleInfo) -> bool {
    rule.rule_type == RuleType::Complete
        && rule.function_info.is_none()
        && rule.destructuring_blocks.iter().all(Option::is_none)
        && rule.definitions.iter().all(|bodies| bodies.len() == 1)
}

/// What has no effect but on its registers, and ends where the next one begins; and calls of rules and their ends.
fn is_plain(instruction: &Instruction) -> bool {
    matches!(
        instruction,
        Instruction::Load { .. }
            | Instruction::LoadTrue { .. }
            | Instruction::LoadFalse { .. }
            | Instruction::LoadNull { .. }
            | Instruction::LoadBool { .. }
            | Instruction::LoadData { .. }
            | Instruction::LoadInput { .. }
            | Instruction::Eq { .. }
            | Instruction::Ne { .. }
            | Instruction::Lt { .. }
            | Instruction::Le { .. }
            | Instruction::Gt { .. }
            | Instruction::Ge { .. }
            | Instruction::Not { .. }
            | Instruction::Guard { .. }
            | Instruction::BuiltinCall { .. }
            | Instruction::CallRule { .. }
            | Instruction::RuleInit { .. }
            | Instruction::RuleReturn { .. }
            | Instruction::Return { .. }
            | Instruction::ArrayCreate { .. }
            | Instruction::SetCreate { .. }
            | Instruction::ObjectCreate { .. }
            | Instruction::Index { .. }
            | Instruction::IndexLiteral { .. }
            | Instruction::ChainedIndex { .. }
            | Instruction::Contains { .. }
            | Instruction::Count { .. }
    )
}

/// Whether the first one hands the arguments of a function of ours on, where undefined means that it is not called.
fn passes_arguments(instructions: &[Instruction]) -> bool {
    match instructions {
        [
            Instruction::Move { src, .. },
            Instruction::Not { operand, .. },
            Instruction::AnyOfNext { .. },
            ..,
        ] => src == operand,
        _ => false,
    }
}

/// Instructions that were at `n` are at `places[n]` now.
fn relocate(program: &mut Program, places: &[usize]) -> Option<()> {
    for instruction in &mut program.instructions {
        if let Instruction::AnyOfNext { end_pc, .. } = instruction {
            *end_pc = u16::try_from(*places.get(usize::from(*end_pc))?).ok()?;
        }
    }
    for place in program.entry_points.values_mut() {
        *place = *places.get(*place)?;
    }
    for rule in &mut program.rule_infos {
        let moved = |body: &u32| u32::try_from(*places.get(usize::try_from(*body).ok()?)?).ok();
        let bodies = rule.definitions.iter().map(|bodies| bodies.iter().map(moved).collect());
        rule.definitions = Rc::new(bodies.collect::<Option<Vec<Vec<u32>>>>()?);
    }
    Some(())
}

/// Adds [`own`] to what the program calls; its number there.
fn own_function(program: &mut Program) -> Option<u16> {
    if program.builtin_info_table.len() != program.resolved_builtins.len() {
        return None;
    }
    let call: BuiltinFcn = (own, 2);
    program.resolved_builtins.push(call);
    Some(program.add_builtin_info(BuiltinInfo { name: "internal.own".into(), num_args: 2 }))
}

/// Where a function of ours is among [`functions`].
fn number_of(name: &Value) -> Option<usize> {
    let name = name.as_string().ok()?;
    functions().iter().position(|(own, _)| *own == name.as_ref())
}

/// Calls a function of ours: its arguments as an array, and its number.
fn own<E: From<Exceeded>>(_: &Span, _: &[Ref<Expr>], args: &[Value], _: bool) -> Result<Value, E> {
    let [Value::Array(given), number] = args else { return Ok(Value::Undefined) };
    let given: Vec<Value> = given.iter().cloned().collect();
    let number = number.as_u64().ok().and_then(|number| usize::try_from(number).ok()).unwrap_or(usize::MAX);
    let ours = builtins::all();
    match ours.get(number) {
        Some(own) => latch::call(own, &given),
        None => {
            let own = number.checked_sub(ours.len()).and_then(|number| rewrite::FUNCTIONS.get(number));
            Ok(own.map_or(Value::Undefined, |own| (own.call)(&given)))
        }
    }
}
