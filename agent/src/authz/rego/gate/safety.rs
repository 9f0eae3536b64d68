//! Every variable gets its value from a statement that needs nothing but what has one already: OPA refuses what is left, and
//! `not` over it would hold.

use std::collections::HashSet;

use regorus::unstable::{AssignOp, Expr, Literal, LiteralStmt, Query, Ref, Rule, RuleHead, Span};

use super::{Findings, calls};
use crate::authz::rego::{
    Fault,
    program::{Program, Root, Step, steps},
    walk::{self, parts, pattern_names},
};

pub(super) fn check(program: &Program, findings: &mut Findings) {
    for definition in &program.rules {
        let mut safety = Safety { program, unit: definition.unit, is_negated: false, faults: Vec::new() };
        safety.rule(&definition.rule);
        findings.faults.extend(safety.faults);
    }
}

/// Names that have a value, or that are declared and have none yet.
#[derive(Clone, Default)]
struct Vars {
    bound: HashSet<String>,
    declared: HashSet<String>,
}

impl Vars {
    fn bind(&mut self, name: &str) -> bool {
        self.bound.insert(name.to_owned())
    }

    fn bind_all(&mut self, names: HashSet<String>) -> bool {
        each(names, |name| self.bound.insert(name))
    }

    /// What is declared here hides what has that name around it.
    fn declare(&mut self, names: &HashSet<String>) {
        self.declared.extend(names.iter().cloned());
        self.bound.retain(|name| !names.contains(name));
    }
}

struct Safety<'a> {
    program: &'a Program,
    unit: usize,
    /// Whether what is looked at stands under `not`, where nothing gets a value.
    is_negated: bool,
    faults: Vec<Fault>,
}

impl Safety<'_> {
    fn rule(&mut self, rule: &Rule) {
        let Rule::Spec { head, bodies, .. } = rule else { return };
        let mut args = Vars::default();
        let mut outputs: Vec<&Ref<Expr>> = Vec::new();
        let (reference, value) = match head {
            RuleHead::Compr { refr, assign, .. } => (refr, assign.as_ref().map(|assign| &assign.value)),
            RuleHead::Set { refr, key, .. } => (refr, key.as_ref()),
            RuleHead::Func { refr, args: patterns, assign, .. } => {
                let mut names = HashSet::new();
                patterns.iter().for_each(|pattern| pattern_names(pattern, &mut names));
                args.declare(&names);
                args.bind_all(names);
                (refr, assign.as_ref().map(|assign| &assign.value))
            }
        };
        outputs.extend(value);
        for step in steps(reference).rest {
            if let Step::Index(index) = step {
                outputs.push(index);
            }
        }
        if bodies.is_empty() {
            let vars = self.with_outputs(&outputs, args.clone());
            self.use_all(&outputs, &vars);
        }
        for (at, body) in bodies.iter().enumerate() {
            let vars = self.query(&body.query, &args);
            let outputs: Vec<&Ref<Expr>> = match &body.assign {
                Some(assign) => vec![&assign.value],
                None if at == 0 || !body.is_else => outputs.clone(),
                None => Vec::new(),
            };
            let vars = self.with_outputs(&outputs, vars);
            self.use_all(&outputs, &vars);
        }
    }

    /// Checks `query` and returns what has a value behind it.
    fn query(&mut self, query: &Query, around: &Vars) -> Vars {
        let mut vars = around.clone();
        vars.declare(&walk::declared(query));
        let mut left: Vec<&LiteralStmt> = query.stmts.iter().collect();
        loop {
            let before = left.len();
            let mut news = false;
            left.retain(|stmt| {
                news |= self.bind(stmt, &mut vars);
                !self.is_ready(stmt, &vars)
            });
            if left.is_empty() || (left.len() == before && !news) {
                break;
            }
        }
        for stmt in &query.stmts {
            self.use_statement(stmt, &vars);
        }
        vars
    }

    /// Gives names in `vars` the values that `stmt` can give them so far; tells whether it gave any.
    fn bind(&self, stmt: &LiteralStmt, vars: &mut Vars) -> bool {
        let with_ready = stmt.with_mods.iter().all(|with| self.ready(&with.r#as, vars));
        if !with_ready {
            return false;
        }
        match &stmt.literal {
            Literal::SomeVars { .. } | Literal::NotExpr { .. } | Literal::Every { .. } => false,
            Literal::SomeIn { key, value, collection, .. } => {
                let mut news = self.bind_indexes(collection, vars);
                if self.ready(collection, vars) {
                    for pattern in key.iter().chain([value]) {
                        news |= self.bind_pattern(pattern, vars);
                    }
                }
                news
            }
            Literal::Expr { expr, .. } => self.bind_expr(expr, vars),
        }
    }

    fn bind_expr(&self, expr: &Ref<Expr>, vars: &mut Vars) -> bool {
        match expr.as_ref() {
            Expr::AssignExpr { op: AssignOp::ColEq, lhs, rhs, .. } => {
                let news = self.bind_indexes(rhs, vars);
                let gives = self.ready(rhs, vars) && may_match(lhs, rhs);
                if gives { self.bind_pattern(lhs, vars) || news } else { news }
            }
            Expr::AssignExpr { op: AssignOp::Eq, lhs, rhs, .. } => self.unify(lhs, rhs, vars),
            Expr::Call { fcn, params, .. } => {
                let news = self.bind_indexes(expr, vars);
                let Some((last, given)) = params.split_last() else { return news };
                let receives = self.arity(fcn).is_some_and(|arity| arity + 1 == params.len());
                if receives && given.iter().all(|param| self.ready(param, vars)) {
                    return self.bind_pattern(last, vars) || news;
                }
                news
            }
            _ => self.bind_indexes(expr, vars),
        }
    }

    /// `=` gives the variables of either side the values of the other.
    fn unify(&self, lhs: &Ref<Expr>, rhs: &Ref<Expr>, vars: &mut Vars) -> bool {
        if let (Expr::Array { items: left, .. }, Expr::Array { items: right, .. }) =
            (lhs.as_ref(), rhs.as_ref())
            && left.len() == right.len()
        {
            return each(left.iter().zip(right), |(left, right)| self.unify(left, right, vars));
        }
        let mut news = self.bind_indexes(lhs, vars) || self.bind_indexes(rhs, vars);
        if self.ready(rhs, vars) && may_match(lhs, rhs) {
            news |= self.bind_pattern(lhs, vars);
        }
        if self.ready(lhs, vars) && may_match(rhs, lhs) {
            news |= self.bind_pattern(rhs, vars);
        }
        news
    }

    /// The variables of a pattern get values; expressions in it must have one, and give those they are indexed with one.
    fn bind_pattern(&self, pattern: &Ref<Expr>, vars: &mut Vars) -> bool {
        match pattern.as_ref() {
            Expr::Var { span, .. } => {
                span.text() != "_" && self.is_variable(span.text(), vars) && vars.bind(span.text())
            }
            Expr::Array { items, .. } => each(items, |item| self.bind_pattern(item, vars)),
            Expr::Object { fields, .. } => each(fields, |(_, _, value)| self.bind_pattern(value, vars)),
            _ => self.bind_indexes(pattern, vars),
        }
    }

    /// `xs[i]` gives `i` each index in turn, wherever in an expression it stands.
    fn bind_indexes(&self, expr: &Ref<Expr>, vars: &mut Vars) -> bool {
        let mut news = false;
        if let Expr::RefDot { .. } | Expr::RefBrack { .. } = expr.as_ref() {
            let steps = steps(expr);
            if steps.root().is_none() {
                news |= self.bind_indexes(steps.head, vars);
            }
            let head_ready = match steps.root() {
                Some(name) => !self.is_variable(name, vars) || vars.bound.contains(name),
                None => self.ready(steps.head, vars),
            };
            for step in &steps.rest {
                let Step::Index(index) = step else { continue };
                news |= self.bind_indexes(index, vars);
                if head_ready {
                    news |= self.bind_pattern(index, vars);
                }
            }
            return news;
        }
        if is_closure(expr) {
            return false;
        }
        for part in parts(expr) {
            news |= self.bind_indexes(part, vars);
        }
        news
    }

    fn with_outputs(&self, outputs: &[&Ref<Expr>], mut vars: Vars) -> Vars {
        while each(outputs, |output| self.bind_indexes(output, &mut vars)) {}
        vars
    }

    fn is_ready(&self, stmt: &LiteralStmt, vars: &Vars) -> bool {
        stmt.with_mods.iter().all(|with| self.ready(&with.r#as, vars))
            && match &stmt.literal {
                Literal::SomeVars { .. } => true,
                Literal::SomeIn { key, value, collection, .. } => {
                    key.iter().chain([value, collection]).all(|expr| self.ready(expr, vars))
                }
                Literal::Expr { expr, .. } | Literal::NotExpr { expr, .. } => self.ready(expr, vars),
                Literal::Every { domain, .. } => self.ready(domain, vars),
            }
    }

    /// Whether every variable in `expr` has a value; those of closures are looked at on their own.
    fn ready(&self, expr: &Ref<Expr>, vars: &Vars) -> bool {
        match expr.as_ref() {
            Expr::Var { span, .. } => {
                let name = span.text();
                name == "_" || !self.is_variable(name, vars) || vars.bound.contains(name)
            }
            Expr::RefDot { .. } | Expr::RefBrack { .. } => {
                let steps = steps(expr);
                let indexes = steps.rest.iter().all(|step| match step {
                    Step::Name(_) => true,
                    Step::Index(index) => self.ready(index, vars),
                });
                indexes && self.ready(steps.head, vars)
            }
            _ if is_closure(expr) => true,
            _ => parts(expr).into_iter().all(|part| self.ready(part, vars)),
        }
    }

    /// Reports what has no value where `stmt` is evaluated.
    fn use_statement(&mut self, stmt: &LiteralStmt, vars: &Vars) {
        for with in &stmt.with_mods {
            self.used(&with.r#as, vars);
        }
        match &stmt.literal {
            Literal::SomeVars { .. } => {}
            Literal::SomeIn { key, value, collection, .. } => {
                key.iter().chain([value]).for_each(|pattern| self.used_pattern(pattern, vars));
                self.used(collection, vars);
            }
            Literal::Expr { expr, .. } => self.use_expr(expr, vars),
            Literal::NotExpr { expr, .. } => {
                let around = std::mem::replace(&mut self.is_negated, true);
                self.used(expr, vars);
                self.is_negated = around;
            }
            Literal::Every { key, value, domain, query, .. } => {
                self.used(domain, vars);
                let names: HashSet<String> =
                    key.iter().chain([value]).map(|name| name.text().to_owned()).collect();
                let mut inside = vars.clone();
                inside.declare(&names);
                inside.bind_all(names);
                self.closure(query, &inside);
            }
        }
    }

    fn use_expr(&mut self, expr: &Ref<Expr>, vars: &Vars) {
        match expr.as_ref() {
            Expr::AssignExpr { lhs, rhs, .. } => {
                [lhs, rhs].iter().for_each(|side| self.used_pattern(side, vars));
            }
            Expr::Call { fcn, params, .. } if self.arity(fcn).is_some_and(|arity| arity < params.len()) => {
                let (last, given) = params.split_last().expect("more parameters than none");
                given.iter().for_each(|param| self.used(param, vars));
                self.used_pattern(last, vars);
            }
            _ => self.used(expr, vars),
        }
    }

    fn use_all(&mut self, exprs: &[&Ref<Expr>], vars: &Vars) {
        exprs.iter().for_each(|expr| self.used(expr, vars));
    }

    fn used(&mut self, expr: &Ref<Expr>, vars: &Vars) {
        match expr.as_ref() {
            Expr::Var { span, .. } => self.used_name(span, vars),
            Expr::RefDot { .. } | Expr::RefBrack { .. } => {
                let steps = steps(expr);
                self.used(steps.head, vars);
                for step in steps.rest {
                    match step {
                        Step::Name(_) => {}
                        Step::Index(index) if self.is_negated => self.used(index, vars),
                        Step::Index(index) => self.used_pattern(index, vars),
                    }
                }
            }
            Expr::ArrayCompr { query, .. }
            | Expr::SetCompr { query, .. }
            | Expr::ObjectCompr { query, .. } => {
                let inside = self.closure(query, vars);
                let outputs = parts(expr);
                let inside = self.with_outputs(&outputs, inside);
                let around = std::mem::replace(&mut self.is_negated, false);
                self.use_all(&outputs, &inside);
                self.is_negated = around;
            }
            _ => parts(expr).into_iter().for_each(|part| self.used(part, vars)),
        }
    }

    /// Where `_` stands for anything.
    fn used_pattern(&mut self, pattern: &Ref<Expr>, vars: &Vars) {
        match pattern.as_ref() {
            Expr::Var { span, .. } if span.text() == "_" => {}
            Expr::Array { items, .. } => items.iter().for_each(|item| self.used_pattern(item, vars)),
            Expr::Object { fields, .. } => {
                for (_, key, value) in fields {
                    self.used(key, vars);
                    self.used_pattern(value, vars);
                }
            }
            _ => self.used(pattern, vars),
        }
    }

    /// A query inside an expression: whatever is around it, it gives its own variables values.
    fn closure(&mut self, query: &Query, vars: &Vars) -> Vars {
        let around = std::mem::replace(&mut self.is_negated, false);
        let inside = self.query(query, vars);
        self.is_negated = around;
        inside
    }

    fn used_name(&mut self, span: &Span, vars: &Vars) {
        let name = span.text();
        if self.is_variable(name, vars) && !vars.bound.contains(name) {
            let reason = if name == "_" {
                "`_` has no value here: under `not`, and in arguments, name what is looked at first"
                    .to_owned()
            } else {
                format!("variable {name} is unsafe: no statement here gives it a value before it is used")
            };
            self.faults.push(Fault::at(span, reason));
        }
    }

    /// Whether `name` is a variable here, and no rule, import or document.
    fn is_variable(&self, name: &str, vars: &Vars) -> bool {
        vars.declared.contains(name)
            || vars.bound.contains(name)
            || self.program.root(self.unit, name) == Root::Unknown
    }

    fn arity(&self, function: &Ref<Expr>) -> Option<usize> {
        calls::arity(self.program, self.unit, function)
    }
}

/// Whether `binds` bound something for any of `items`, each of which it is asked about.
fn each<T>(items: impl IntoIterator<Item = T>, mut binds: impl FnMut(T) -> bool) -> bool {
    let mut news = false;
    for item in items {
        news |= binds(item);
    }
    news
}

/// Whether a value of that form can have the form of the pattern.
fn may_match(pattern: &Expr, value: &Expr) -> bool {
    match (pattern, value) {
        (Expr::Array { items: left, .. }, Expr::Array { items: right, .. }) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| may_match(left, right))
        }
        (Expr::Array { .. }, other) => matches!(
            other,
            Expr::Var { .. }
                | Expr::RefDot { .. }
                | Expr::RefBrack { .. }
                | Expr::Call { .. }
                | Expr::ArrayCompr { .. }
        ),
        _ => true,
    }
}

fn is_closure(expr: &Expr) -> bool {
    matches!(expr, Expr::ArrayCompr { .. } | Expr::SetCompr { .. } | Expr::ObjectCompr { .. })
}
