//! Every expression of a rule, each with the local variables that are known where it stands.

use std::collections::HashSet;

use regorus::unstable::{AssignOp, Expr, Literal, LiteralStmt, Query, Ref, Rule, RuleHead};

use super::program::{Step, steps};

/// Where an expression stands.
#[derive(Debug, Clone, Default)]
pub(super) struct Scope {
    /// Variables that are declared around it: by `some`, `:=`, `every`, or as arguments.
    locals: Vec<HashSet<String>>,
    /// How many `not` are around it.
    pub(super) negations: u32,
    /// How many comprehensions and `every` are around it.
    pub(super) closures: u32,
    /// How many expressions are around it.
    pub(super) depth: u32,
    /// Whether it is the whole of a statement.
    pub(super) is_statement: bool,
}

impl Scope {
    pub(super) fn is_local(&self, name: &str) -> bool {
        self.locals.iter().any(|names| names.contains(name))
    }

    /// At the head of a query that declares these.
    pub(super) fn of(locals: HashSet<String>) -> Self {
        Self { locals: vec![locals], ..Self::default() }
    }

    /// All declared variables.
    pub(super) fn locals(&self) -> HashSet<String> {
        self.locals.iter().flatten().cloned().collect()
    }
}

pub(super) enum Event<'a> {
    /// References once, as a whole, before the expressions they are indexed with; calls before their arguments.
    Expr(&'a Ref<Expr>),
    Statement(&'a LiteralStmt),
    /// Before its statements, with its declarations in scope.
    Query(&'a Query),
}

/// Calls `visit` for each statement and expression of `rule`, outer ones first. The parts of its head that name it, and
/// the names of called functions, are not visited.
pub(super) fn rule<'a>(rule: &'a Rule, visit: &mut dyn FnMut(Event<'a>, &Scope)) {
    let mut walk = Walk { scope: Scope::default(), visit };
    match rule {
        Rule::Default { value, .. } => walk.expr(value),
        Rule::Spec { head, bodies, .. } => {
            let (reference, args, mut values) = match head {
                RuleHead::Compr { refr, assign, .. } => {
                    (refr, &[][..], assign.iter().map(|assign| &assign.value).collect())
                }
                RuleHead::Set { refr, key, .. } => (refr, &[][..], key.iter().collect::<Vec<_>>()),
                RuleHead::Func { refr, args, assign, .. } => {
                    (refr, args.as_slice(), assign.iter().map(|assign| &assign.value).collect())
                }
            };
            for step in steps(reference).rest {
                if let Step::Index(index) = step {
                    values.push(index);
                }
            }
            let mut names = HashSet::new();
            args.iter().for_each(|arg| pattern_names(arg, &mut names));
            walk.scope.locals.push(names);
            args.iter().for_each(|arg| walk.expr(arg));
            // The head sees what its body declares.
            let first = bodies.first().map(|body| declared(&body.query)).unwrap_or_default();
            walk.scope.locals.push(first);
            values.into_iter().for_each(|value| walk.expr(value));
            walk.scope.locals.pop();
            for body in bodies {
                if let Some(assign) = &body.assign {
                    walk.scope.locals.push(declared(&body.query));
                    walk.expr(&assign.value);
                    walk.scope.locals.pop();
                }
                walk.query(&body.query);
            }
        }
    }
}

/// The same for one statement by itself.
pub(super) fn statement<'a>(stmt: &'a LiteralStmt, visit: &mut dyn FnMut(Event<'a>, &Scope)) {
    Walk { scope: Scope::default(), visit }.statement(stmt);
}

/// What `query` itself declares, without the closures inside it.
pub(super) fn declared(query: &Query) -> HashSet<String> {
    let mut names = HashSet::new();
    for stmt in &query.stmts {
        match &stmt.literal {
            Literal::SomeVars { vars, .. } => names.extend(vars.iter().map(|var| var.text().to_owned())),
            Literal::SomeIn { key, value, .. } => {
                key.iter().chain([value]).for_each(|pattern| pattern_names(pattern, &mut names));
            }
            Literal::Expr { expr, .. } => {
                if let Expr::AssignExpr { op: AssignOp::ColEq, lhs, .. } = expr.as_ref() {
                    pattern_names(lhs, &mut names);
                }
            }
            Literal::NotExpr { .. } | Literal::Every { .. } => {}
        }
    }
    names
}

/// The variables of a pattern.
pub(super) fn pattern_names(pattern: &Expr, names: &mut HashSet<String>) {
    match pattern {
        Expr::Var { span, .. } => {
            names.insert(span.text().to_owned());
        }
        Expr::Array { items, .. } => items.iter().for_each(|item| pattern_names(item, names)),
        Expr::Object { fields, .. } => fields.iter().for_each(|(_, _, value)| pattern_names(value, names)),
        _ => {}
    }
}

/// The expressions that an expression consists of, without the statements of comprehensions.
pub(super) fn parts(expr: &Expr) -> Vec<&Ref<Expr>> {
    match expr {
        Expr::String { .. }
        | Expr::RawString { .. }
        | Expr::Number { .. }
        | Expr::Bool { .. }
        | Expr::Null { .. }
        | Expr::Var { .. } => Vec::new(),
        Expr::Array { items, .. } | Expr::Set { items, .. } => items.iter().collect(),
        Expr::Object { fields, .. } => fields.iter().flat_map(|(_, key, value)| [key, value]).collect(),
        Expr::ArrayCompr { term, .. } | Expr::SetCompr { term, .. } => vec![term],
        Expr::ObjectCompr { key, value, .. } => vec![key, value],
        Expr::Call { params, .. } => params.iter().collect(),
        Expr::UnaryExpr { expr, .. } => vec![expr],
        Expr::RefDot { .. } | Expr::RefBrack { .. } => Vec::new(),
        Expr::BinExpr { lhs, rhs, .. }
        | Expr::BoolExpr { lhs, rhs, .. }
        | Expr::ArithExpr { lhs, rhs, .. }
        | Expr::AssignExpr { lhs, rhs, .. } => vec![lhs, rhs],
        Expr::Membership { key, value, collection, .. } => key.iter().chain([value, collection]).collect(),
    }
}

struct Walk<'v, 'a> {
    scope: Scope,
    visit: &'v mut dyn FnMut(Event<'a>, &Scope),
}

impl<'a> Walk<'_, 'a> {
    fn query(&mut self, query: &'a Query) {
        self.scope.locals.push(declared(query));
        (self.visit)(Event::Query(query), &self.scope);
        query.stmts.iter().for_each(|stmt| self.statement(stmt));
        self.scope.locals.pop();
    }

    fn statement(&mut self, stmt: &'a LiteralStmt) {
        (self.visit)(Event::Statement(stmt), &self.scope);
        for with in &stmt.with_mods {
            self.expr(&with.r#as);
        }
        match &stmt.literal {
            Literal::SomeVars { .. } => {}
            Literal::SomeIn { key, value, collection, .. } => {
                key.iter().chain([value, collection]).for_each(|expr| self.expr(expr));
            }
            Literal::Expr { expr, .. } => self.whole(expr),
            Literal::NotExpr { expr, .. } => {
                self.scope.negations += 1;
                self.whole(expr);
                self.scope.negations -= 1;
            }
            Literal::Every { key, value, domain, query, .. } => {
                self.expr(domain);
                let names = key.iter().chain([value]).map(|name| name.text().to_owned()).collect();
                self.scope.locals.push(names);
                self.scope.closures += 1;
                self.query(query);
                self.scope.closures -= 1;
                self.scope.locals.pop();
            }
        }
    }

    fn whole(&mut self, expr: &'a Ref<Expr>) {
        self.scope.is_statement = true;
        self.expr(expr);
        self.scope.is_statement = false;
    }

    fn expr(&mut self, expr: &'a Ref<Expr>) {
        (self.visit)(Event::Expr(expr), &self.scope);
        let whole = std::mem::take(&mut self.scope.is_statement);
        self.scope.depth += 1;
        match expr.as_ref() {
            Expr::ArrayCompr { query, .. }
            | Expr::SetCompr { query, .. }
            | Expr::ObjectCompr { query, .. } => {
                self.scope.closures += 1;
                self.scope.locals.push(declared(query));
                parts(expr).into_iter().for_each(|part| self.expr(part));
                self.scope.locals.pop();
                self.query(query);
                self.scope.closures -= 1;
            }
            Expr::RefDot { .. } | Expr::RefBrack { .. } => {
                let steps = steps(expr);
                if steps.root().is_none() {
                    self.expr(steps.head);
                }
                for step in steps.rest {
                    if let Step::Index(index) = step {
                        self.expr(index);
                    }
                }
            }
            _ => parts(expr).into_iter().for_each(|part| self.expr(part)),
        }
        self.scope.depth -= 1;
        self.scope.is_statement = whole;
    }
}
