//! Instructions as the machine runs them: only those of a short list, which run from top to bottom; with our functions in
//! the place of the engine's; and with each name asked whether it has a value when it gets it.

use regorus::{
    Rc, Value,
    rvm::{
        Instruction, Program,
        instructions::{BuiltinCallParams, GuardMode},
        program::{BuiltinInfo, RuleInfo},
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

/// `None` where an instruction is not on the list.
pub(super) fn prepare(compiled: &Program) -> Option<Program> {
    let mut program = compiled.clone();
    let own = own_function(&mut program)?;
    let (mut instructions, mut places) = (Vec::new(), Vec::new());
    let mut may_exceed = false;
    for (at, instruction) in compiled.instructions.iter().enumerate() {
        places.push(instructions.len());
        match instruction {
            Instruction::HostAwait { dest, arg, id } => {
                let Some(Instruction::Load { dest: loaded, literal_idx }) = instructions.last_mut() else {
                    return None;
                };
                let number = number_of(compiled.literals.get(usize::from(*literal_idx))?)?;
                may_exceed |= number < builtins::all().len();
                if loaded != id {
                    return None;
                }
                *literal_idx = literal(&mut program, Value::from(number))?;
                let mut args = [0; 8];
                (args[0], args[1]) = (*arg, *id);
                let call = BuiltinCallParams { dest: *dest, builtin_index: own, num_args: 2, args };
                let params_index = program.add_builtin_call_params(call);
                instructions.push(Instruction::BuiltinCall { params_index });
            }
            // The only jump: over the call of a function of ours that lacks an argument, to its end.
            Instruction::AnyOfNext { end_pc, .. } => {
                let end = compiled.instructions.get(usize::from(*end_pc))?;
                if usize::from(*end_pc) <= at || !matches!(end, Instruction::HostAwait { .. }) {
                    return None;
                }
                instructions.push(instruction.clone());
            }
            Instruction::Move { dest, .. } => {
                instructions.push(instruction.clone());
                if !passes_arguments(&compiled.instructions[at..]) {
                    instructions.push(Instruction::Guard { register: *dest, mode: GuardMode::NotUndefined });
                }
            }
            _ if is_plain(instruction) => instructions.push(instruction.clone()),
            _ => return None,
        }
    }
    program.instructions = instructions;
    relocate(&mut program, &places)?;
    if may_exceed {
        // Whether a limit is met does not rest on the order of bodies.
        program.rule_infos.iter_mut().for_each(|rule| rule.early_exit_on_first_success = false);
    }
    // Nothing asks where an instruction comes from.
    (program.instruction_spans, program.sources) = (Vec::new(), Vec::new());
    program.has_host_await = false;
    (!program.needs_runtime_recursion_check).then_some(program)
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
            destructuring_blocks: vec![None],
            else_bodies: vec![vec![false; definition.len()]],
            ..rule.clone()
        });
        program.entry_points.insert(format!("body {number}"), program.instructions.len());
        program.instructions.push(Instruction::CallRule { dest: 0, rule_index: at });
        program.instructions.push(Instruction::Return { value: 0 });
    }
    Some(rule.definitions.len())
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

fn literal(program: &mut Program, value: Value) -> Option<u16> {
    let at = program.literals.len();
    program.literals.push(value);
    u16::try_from(at).ok()
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
