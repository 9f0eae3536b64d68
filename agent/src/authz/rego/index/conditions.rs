//! What must be true of the input for a body to hold, read from its statements.

use regorus::{
    Value,
    unstable::{AssignOp, BoolOp, Expr, Literal, LiteralStmt, Query, Ref, Rule, RuleHead},
};

use crate::authz::rego::{
    gate::calls::{self, Callee},
    program::{Definition, Kind, Program, Root, Step, steps},
    walk::{self, Scope},
};

/// One test of one part of the input. Where it fails the body does not hold, whatever else is in it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Condition {
    /// The part of the input.
    pub(super) path: Vec<Part>,
    pub(super) test: Test,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Name(String),
    Index(usize),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Test {
    /// It is one of these values.
    OneOf(Vec<Value>),
    /// It is a text that begins so.
    Prefix(String),
}

/// What a body demands of the input.
pub(super) struct Demands {
    /// At most one for each part of the input.
    pub(super) conditions: Vec<Condition>,
    /// Whether the body holds wherever they are met, since it says nothing else.
    pub(super) are_all: bool,
}

pub(super) fn of(program: &Program, unit: usize, query: &Query) -> Demands {
    let reader = Reader { program, unit, locals: Scope::of(walk::declared(query)) };
    let mut conditions: Vec<Condition> = Vec::new();
    for stmt in &query.stmts {
        if let Some(condition) = reader.condition(stmt)
            && conditions.iter().all(|known| known.path != condition.path)
        {
            conditions.push(condition);
        }
    }
    let are_all = conditions.len() == query.stmts.len();
    Demands { conditions, are_all }
}

struct Reader<'a> {
    program: &'a Program,
    unit: usize,
    locals: Scope,
}

impl Reader<'_> {
    fn condition(&self, stmt: &LiteralStmt) -> Option<Condition> {
        let Literal::Expr { expr, .. } = &stmt.literal else { return None };
        if !stmt.with_mods.is_empty() {
            return None;
        }
        match expr.as_ref() {
            Expr::BoolExpr { op: BoolOp::Eq, lhs, rhs, .. }
            | Expr::AssignExpr { op: AssignOp::Eq, lhs, rhs, .. } => {
                self.equality(lhs, rhs).or_else(|| self.equality(rhs, lhs))
            }
            Expr::Membership { key: None, value, collection, .. } => {
                let path = self.input(self.unit, value)?;
                let values = match collection.as_ref() {
                    Expr::Array { items, .. } | Expr::Set { items, .. } => items,
                    _ => return None,
                };
                let values = values.iter().map(|value| constant(value)).collect::<Option<Vec<_>>>()?;
                Some(Condition { path, test: Test::OneOf(values) })
            }
            Expr::Call { fcn, params, .. } => {
                let [text, prefix] = params.as_slice() else { return None };
                let Callee::Builtin(name) = calls::callee(self.program, self.unit, fcn, &self.locals)? else {
                    return None;
                };
                let Value::String(prefix) = constant(prefix)? else { return None };
                let path = self.input(self.unit, text)?;
                (name == "startswith").then(|| Condition { path, test: Test::Prefix(prefix.to_string()) })
            }
            _ => None,
        }
    }

    fn equality(&self, part: &Ref<Expr>, value: &Expr) -> Option<Condition> {
        let value = constant(value)?;
        let path = self.input(self.unit, part)?;
        Some(Condition { path, test: Test::OneOf(vec![value]) })
    }

    /// The part of the input that an expression stands for, by itself, through an import, or through one rule that does
    /// nothing but name it.
    fn input(&self, unit: usize, expr: &Ref<Expr>) -> Option<Vec<Part>> {
        let steps = steps(expr);
        let name = steps.root()?;
        if self.locals.is_local(name) {
            return None;
        }
        let rest = steps.rest.iter().map(part).collect::<Option<Vec<Part>>>()?;
        match self.program.root(unit, name) {
            Root::Input(path) => Some(path.into_iter().map(Part::Name).chain(rest).collect()),
            Root::Data(mut path) => {
                // The parts of the reference that name the rule, and those that go on from its value.
                let mut rest = rest.into_iter().peekable();
                while self.program.at(&path).is_empty() {
                    let Part::Name(name) = rest.next()? else { return None };
                    path.push(name);
                }
                let [at] = self.program.at(&path) else { return None };
                let mut found = self.named(&self.program.rules[*at])?;
                found.extend(rest);
                Some(found)
            }
            Root::Unknown => None,
        }
    }

    /// The part of the input that a rule of the form `name := input.some.part` names.
    fn named(&self, definition: &Definition) -> Option<Vec<Part>> {
        let Rule::Spec { head: RuleHead::Compr { assign: Some(assign), .. }, bodies, .. } =
            definition.rule.as_ref()
        else {
            return None;
        };
        if definition.kind != Kind::Complete || definition.is_open || !bodies.is_empty() {
            return None;
        }
        let steps = steps(&assign.value);
        let Root::Input(path) = self.program.root(definition.unit, steps.root()?) else { return None };
        let rest = steps.rest.iter().map(part).collect::<Option<Vec<Part>>>()?;
        Some(path.into_iter().map(Part::Name).chain(rest).collect())
    }
}

fn part(step: &Step<'_>) -> Option<Part> {
    match step {
        Step::Name(name) => Some(Part::Name(name.clone())),
        Step::Index(index) => match index.as_ref() {
            Expr::Number { value, .. } => Some(Part::Index(usize::try_from(value.as_u64().ok()?).ok()?)),
            _ => None,
        },
    }
}

/// The value of a literal.
pub(super) fn constant(expr: &Expr) -> Option<Value> {
    match expr {
        Expr::String { value, .. }
        | Expr::RawString { value, .. }
        | Expr::Number { value, .. }
        | Expr::Bool { value, .. }
        | Expr::Null { value, .. } => Some(value.clone()),
        Expr::Array { items, .. } => {
            let items = items.iter().map(|item| constant(item)).collect::<Option<Vec<_>>>()?;
            Some(Value::from(items))
        }
        _ => None,
    }
}
