//! Which bodies of the decision's rule an input can satisfy at all, found by look-ups instead of by trying each of them; and
//! whether it satisfies one that says nothing else.
//!
//! Built for a rule of which every definition gives the same constant. Then it is enough that one body holds, in whatever
//! order they are tried, and a body left out because a condition in it fails would not have held. Bodies whose evaluation
//! could end in an error are never left out.

mod conditions;

use std::collections::BTreeMap;

use regorus::{
    Engine, Value,
    unstable::{Module, Ref, Rule, RuleHead},
};

use self::conditions::{Part, Test};
use super::{
    gate::risks,
    program::{Definition, Kind, Program},
};

/// An index over the definitions of one rule.
pub(super) struct Index {
    bodies: Vec<(Ref<Module>, Ref<Rule>)>,
    columns: Vec<Column>,
    /// Bodies that say nothing but what the columns know.
    whole: Bodies,
    /// Where the rule's value is below `data`.
    path: Vec<String>,
    /// What the rule is when a body holds.
    value: Value,
    /// What it is when none does.
    otherwise: Value,
}

/// What an index leaves to do.
pub(super) enum Left {
    /// No body can hold, or one does: this is the value.
    Nothing(Value),
    /// These bodies can.
    Few(Vec<usize>),
    /// So many that the whole policy is evaluated, which computes once what they share.
    Many,
}

/// One part of the input and what bodies demand of it.
struct Column {
    path: Vec<Part>,
    /// Bodies that demand nothing of it.
    free: Bodies,
    equal: BTreeMap<Value, Bodies>,
    prefixes: BTreeMap<String, Bodies>,
    /// How long those prefixes are, without repetition.
    lengths: Vec<usize>,
}

/// How many bodies are tried one by one.
const MOST_CANDIDATES: usize = 8;

impl Index {
    /// `None` where the rule at `path` is not of that kind, or no body demands anything of the input.
    pub(super) fn new(program: &Program, path: &[String]) -> Option<Self> {
        let (defaults, others): (Vec<usize>, Vec<usize>) =
            program.at(path).iter().partition(|at| program.rules[**at].kind == Kind::Default);
        let otherwise = match defaults.as_slice() {
            [] => Value::Undefined,
            [only] => match program.rules[*only].rule.as_ref() {
                Rule::Default { value, .. } => conditions::constant(value)?,
                Rule::Spec { .. } => return None,
            },
            _ => return None,
        };
        let numbers = others;
        let others: Vec<&Definition> = numbers.iter().map(|at| &program.rules[*at]).collect();
        let value = common_constant(&others)?;
        let mut columns: Vec<Column> = Vec::new();
        let count = others.len();
        let mut whole = Bodies::none(count);
        let mut is_risky = false;
        for (body, definition) in others.iter().enumerate() {
            let Rule::Spec { bodies, .. } = definition.rule.as_ref() else { return None };
            let [only] = bodies.as_slice() else { return None };
            if risks::may_err(program, numbers[body]) {
                is_risky = true;
                continue;
            }
            let demands = conditions::of(program, definition.unit, &only.query);
            if demands.are_all {
                whole.insert(body);
            }
            for condition in demands.conditions {
                let known = columns.iter().position(|column| column.path == condition.path);
                let at = known.unwrap_or_else(|| {
                    columns.push(Column::new(condition.path, count));
                    columns.len() - 1
                });
                columns[at].add(body, condition.test, count);
            }
        }
        // What may end the evaluation has to be evaluated: where it stands before the body that holds, it does.
        if is_risky {
            whole = Bodies::none(count);
        }
        let bodies = others
            .iter()
            .map(|definition| (program.units[definition.unit].module.clone(), definition.rule.clone()));
        let index = Self { bodies: bodies.collect(), columns, whole, path: path.to_vec(), value, otherwise };
        (!index.columns.is_empty()).then_some(index)
    }

    /// What is left to try for `input`.
    pub(super) fn narrow(&self, input: &Value) -> Left {
        let candidates = self.candidates(input);
        if candidates.meets(&self.whole) {
            return Left::Nothing(self.value.clone());
        }
        match candidates.len() {
            0 => Left::Nothing(self.otherwise.clone()),
            1..=MOST_CANDIDATES => Left::Few(candidates.iter().collect()),
            _ => Left::Many,
        }
    }

    /// The rule's value for the input that `engine` has been given, by the bodies that are left.
    ///
    /// # Errors
    /// Of the engine, as it words them.
    pub(super) fn evaluate(&self, engine: &mut Engine, left: &[usize]) -> Result<Value, String> {
        for body in left {
            let (module, rule) = &self.bodies[*body];
            let data = engine.eval_rule_in_module(module, rule, false).map_err(|error| error.to_string())?;
            let value = self.path.iter().fold(&data, |value, part| &value[part.as_str()]);
            if value != &Value::Undefined {
                return Ok(value.clone());
            }
        }
        Ok(self.otherwise.clone())
    }

    /// What the rule is when no body holds.
    pub(super) fn otherwise(&self) -> &Value {
        &self.otherwise
    }

    fn candidates(&self, input: &Value) -> Bodies {
        let mut left = Bodies::all(self.bodies.len());
        for column in &self.columns {
            column.narrow(part_of(input, &column.path), &mut left);
            if left.is_empty() {
                break;
            }
        }
        left
    }
}

/// The constant that each definition gives by its one body; `None` when they are not of that kind.
fn common_constant(definitions: &[&Definition]) -> Option<Value> {
    let mut values = definitions.iter().map(|definition| match definition.rule.as_ref() {
        Rule::Spec { head: RuleHead::Compr { assign, .. }, bodies, .. }
            if !definition.is_open && bodies.len() == 1 =>
        {
            match assign {
                Some(assign) => conditions::constant(&assign.value),
                None => Some(Value::from(true)),
            }
        }
        _ => None,
    });
    let first = values.next()??;
    values.all(|value| value.as_ref() == Some(&first)).then_some(first)
}

fn part_of<'a>(input: &'a Value, path: &[Part]) -> &'a Value {
    path.iter().fold(input, |value, part| match part {
        Part::Name(name) => &value[name.as_str()],
        Part::Index(index) => &value[*index],
    })
}

impl Column {
    fn new(path: Vec<Part>, bodies: usize) -> Self {
        Self {
            path,
            free: Bodies::all(bodies),
            equal: BTreeMap::new(),
            prefixes: BTreeMap::new(),
            lengths: Vec::new(),
        }
    }

    fn add(&mut self, body: usize, test: Test, bodies: usize) {
        self.free.remove(body);
        match test {
            Test::OneOf(values) => {
                for value in values {
                    self.equal.entry(value).or_insert_with(|| Bodies::none(bodies)).insert(body);
                }
            }
            Test::Prefix(prefix) => {
                if !self.lengths.contains(&prefix.len()) {
                    self.lengths.push(prefix.len());
                }
                self.prefixes.entry(prefix).or_insert_with(|| Bodies::none(bodies)).insert(body);
            }
        }
    }

    /// Takes from `left` what demands something else of this part of the input than `value`.
    fn narrow(&self, value: &Value, left: &mut Bodies) {
        let mut kept = self.free.clone();
        if let Some(equal) = self.equal.get(value) {
            kept.add_all(equal);
        }
        if let Value::String(text) = value {
            let beginnings = self.lengths.iter().filter_map(|length| text.get(..*length));
            for bodies in beginnings.filter_map(|beginning| self.prefixes.get(beginning)) {
                kept.add_all(bodies);
            }
        }
        left.keep(&kept);
    }
}

/// A set of bodies, by their number.
#[derive(Clone)]
struct Bodies(Vec<u64>);

impl Bodies {
    fn none(count: usize) -> Self {
        Self(vec![0; count.div_ceil(64)])
    }

    fn all(count: usize) -> Self {
        let mut all = Self::none(count);
        (0..count).for_each(|body| all.insert(body));
        all
    }

    fn insert(&mut self, body: usize) {
        self.0[body / 64] |= 1 << (body % 64);
    }

    fn remove(&mut self, body: usize) {
        self.0[body / 64] &= !(1 << (body % 64));
    }

    fn add_all(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(word, other)| *word |= other);
    }

    fn keep(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(word, other)| *word &= other);
    }

    fn meets(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).any(|(word, other)| word & other != 0)
    }

    fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// In ascending order.
    fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().enumerate().flat_map(|(at, word)| {
            let mut word = *word;
            std::iter::from_fn(move || {
                (word != 0).then(|| {
                    let bit = word.trailing_zeros() as usize;
                    word &= word - 1;
                    at * 64 + bit
                })
            })
        })
    }
}

#[cfg(test)]
mod tests;
