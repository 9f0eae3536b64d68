//! Rules become what the checker of types reads.

use std::{
    collections::{HashMap, HashSet},
    rc::Rc,
};

use regorus::{
    Value,
    unstable::{
        ArithOp, AssignOp, BinOp, BoolOp, Expr, Literal, LiteralStmt, Query, Ref, Rule, RuleHead, Span,
    },
};

use super::term::{Callee, Closure, Form, Gives, Head, Reference, Statement, Target, Term, Var};
use crate::authz::rego::{
    gate::calls,
    program::{Definition, Program, Root, Step, steps},
    walk::{declared, pattern_names},
};

/// One way in which a rule gets a value.
pub(super) struct Choice {
    pub(super) body: Vec<Statement>,
    /// The parts of its name behind the package.
    pub(super) path: Vec<Term>,
    pub(super) args: Vec<Term>,
    pub(super) adds: Adds,
}

/// What a choice adds to its rule.
pub(super) enum Adds {
    Value(Term),
    Member(Term),
}

pub(super) fn choices(program: &Program, definition: &Definition) -> Vec<Choice> {
    let new = || Lower {
        program,
        unit: definition.unit,
        next: 0,
        scopes: Vec::new(),
        free: HashMap::new(),
        out: Vec::new(),
        with: Vec::new(),
    };
    match definition.rule.as_ref() {
        Rule::Default { refr, args, value, .. } => vec![new().choice(refr, args, None, Some(value), false)],
        Rule::Spec { head, bodies, .. } => {
            let (refr, args, value, is_set): (_, &[Ref<Expr>], _, _) = match head {
                RuleHead::Compr { refr, assign, .. } => {
                    (refr, &[], assign.as_ref().map(|assign| &assign.value), false)
                }
                RuleHead::Set { refr, key, .. } => (refr, &[], key.as_ref(), true),
                RuleHead::Func { refr, args, assign, .. } => {
                    (refr, args, assign.as_ref().map(|assign| &assign.value), false)
                }
            };
            if bodies.is_empty() {
                return vec![new().choice(refr, args, None, value, is_set)];
            }
            let each = bodies.iter().enumerate().map(|(at, body)| {
                let own = body.assign.as_ref().map(|assign| &assign.value);
                let value = own.or(if at == 0 || !body.is_else { value } else { None });
                new().choice(refr, args, Some(&body.query), value, is_set)
            });
            each.collect()
        }
    }
}

struct Lower<'a> {
    program: &'a Program,
    unit: usize,
    next: Var,
    /// Names that are declared around.
    scopes: Vec<HashMap<String, Var>>,
    /// Names that stand for variables without a declaration.
    free: HashMap<String, Var>,
    /// Statements so far of the body that is read.
    out: Vec<Statement>,
    /// What is replaced for the statement that is read.
    with: Vec<(Target, Term)>,
}

impl Lower<'_> {
    fn choice(
        mut self,
        refr: &Ref<Expr>,
        args: &[Ref<Expr>],
        query: Option<&Query>,
        value: Option<&Ref<Expr>>,
        is_set: bool,
    ) -> Choice {
        let mut names = HashSet::new();
        args.iter().for_each(|arg| pattern_names(arg, &mut names));
        self.declare(names);
        self.declare(query.map(declared).unwrap_or_default());
        query.into_iter().flat_map(|query| &query.stmts).for_each(|stmt| self.statement(stmt));
        let path = steps(refr).rest.into_iter().map(|step| match step {
            Step::Name(name) => Term::text(&name),
            Step::Index(index) => match self.output(index) {
                term @ (Term::Scalar(_) | Term::Var(_)) => term,
                composite => self.named(index.span(), composite),
            },
        });
        let path = path.collect();
        let args = args.iter().map(|arg| self.output(arg)).collect();
        let value = match value {
            Some(value) => self.output(value),
            None => Term::Scalar(Value::from(true)),
        };
        let adds = if is_set { Adds::Member(value) } else { Adds::Value(value) };
        Choice { body: self.out, path, args, adds }
    }

    fn declare(&mut self, names: HashSet<String>) {
        let mut scope = HashMap::new();
        for name in names {
            let var = self.fresh();
            scope.insert(name, var);
        }
        self.scopes.push(scope);
    }

    fn fresh(&mut self) -> Var {
        self.next += 1;
        self.next
    }

    fn local(&self, name: &str) -> Option<Var> {
        self.scopes.iter().rev().find_map(|scope| scope.get(name).copied())
    }

    /// What is looked up, or asked for, in a head or behind `with` gets a name of its own.
    fn output(&mut self, expr: &Ref<Expr>) -> Term {
        let term = self.term(expr);
        if term.is_dynamic() { self.named(expr.span(), term) } else { term }
    }

    fn named(&mut self, span: &Span, term: Term) -> Term {
        let var = self.fresh();
        self.push(Statement::names(span, var, term));
        Term::Var(var)
    }

    fn push(&mut self, mut stmt: Statement) {
        stmt.with.clone_from(&self.with);
        self.out.push(stmt);
    }

    fn body(&mut self, query: &Query) -> Vec<Statement> {
        query.stmts.iter().for_each(|stmt| self.statement(stmt));
        std::mem::take(&mut self.out)
    }

    /// What `read` reads has statements of its own.
    fn inside<T>(&mut self, read: impl FnOnce(&mut Self) -> T) -> T {
        let (out, with) = (std::mem::take(&mut self.out), std::mem::take(&mut self.with));
        let given = read(self);
        (self.out, self.with) = (out, with);
        given
    }

    fn statement(&mut self, stmt: &LiteralStmt) {
        let mut with = Vec::new();
        for replaced in &stmt.with_mods {
            let target = self.target(&replaced.refr);
            let value = match target {
                Target::Function => Term::Scalar(Value::Null),
                _ => self.output(&replaced.r#as),
            };
            with.push((target, value));
        }
        self.with = with;
        match &stmt.literal {
            Literal::SomeVars { .. } => {}
            Literal::SomeIn { span, key, value, collection } => {
                let key = match key {
                    Some(key) => self.term(key),
                    None => Term::Var(self.fresh()),
                };
                let value = self.term(value);
                let collection = self.term(collection);
                let found = self.indexed(collection, vec![key], span);
                self.push(Statement::new(span, Form::Equal { left: value, right: found, assigns: false }));
            }
            Literal::Expr { span, expr } => self.whole(span, expr, false),
            Literal::NotExpr { expr, .. } => self.whole(expr.span(), expr, true),
            Literal::Every { key, value, domain, query, .. } => {
                let given = self.term(domain);
                let domain = match self.named(domain.span(), given) {
                    Term::Var(var) => var,
                    _ => return,
                };
                let names = key.iter().chain([value]).filter(|name| name.text() != "_");
                self.declare(names.map(|name| name.text().to_owned()).collect());
                self.declare(declared(query));
                let body = Rc::new(self.inside(|inner| inner.body(query)));
                self.scopes.pop();
                let names = self.scopes.pop().unwrap_or_default();
                let name = |span: Option<&Span>| span.and_then(|span| names.get(span.text()).copied());
                let (key, value) = (name(key.as_ref()), name(Some(value)));
                let names = [key, value].map(|var| var.unwrap_or_else(|| self.fresh()));
                let span = &query.span;
                self.push(Statement::new(span, Form::Every { domain, body, names }));
            }
        }
        self.with = Vec::new();
    }

    fn target(&self, refr: &Ref<Expr>) -> Target {
        let steps = steps(refr);
        let known = steps.known();
        match steps.root().map(|name| self.program.root(self.unit, name)) {
            Some(Root::Input(_)) => Target::Input,
            Some(Root::Data(mut path)) => {
                path.extend(known.into_iter().skip(1));
                Target::Data(path)
            }
            _ => Target::Function,
        }
    }

    /// A statement that is one expression: what its call answers is not named.
    fn whole(&mut self, span: &Span, expr: &Ref<Expr>, is_negated: bool) {
        let form = match expr.as_ref() {
            Expr::AssignExpr { op, lhs, rhs, .. } => {
                let (left, right) = (self.term(lhs), self.term(rhs));
                Form::Equal { left, right, assigns: matches!(op, AssignOp::ColEq) }
            }
            Expr::BoolExpr { op: BoolOp::Eq, lhs, rhs, .. } => {
                let (left, right) = (self.term(lhs), self.term(rhs));
                Form::Equal { left, right, assigns: false }
            }
            _ => match self.call(expr) {
                Some((callee, args)) => Form::Call(callee, args),
                None => Form::Term(self.term(expr)),
            },
        };
        let mut stmt = Statement::new(span, form);
        stmt.is_negated = is_negated;
        self.push(stmt);
    }

    fn terms(&mut self, exprs: &[&Ref<Expr>]) -> Vec<Term> {
        exprs.iter().map(|expr| self.term(expr)).collect()
    }

    /// What `expr` calls, and with what; operators are functions.
    fn call(&mut self, expr: &Ref<Expr>) -> Option<(Callee, Vec<Term>)> {
        let (name, args) = match expr.as_ref() {
            Expr::Call { fcn, params, .. } => {
                let callee = self.callee(fcn)?;
                if let Callee::Builtin(name) = &callee
                    && name == "print"
                {
                    // Each is asked for by itself, so that what is undefined is printed, too.
                    let args = params.iter().map(|param| self.printed(param)).collect();
                    return Some((Callee::Builtin("internal.print".to_owned()), vec![Term::Array(args)]));
                }
                let params: Vec<_> = params.iter().collect();
                return Some((callee, self.terms(&params)));
            }
            Expr::BinExpr { op, lhs, rhs, .. } => {
                (if *op == BinOp::Union { "or" } else { "and" }, vec![lhs, rhs])
            }
            Expr::BoolExpr { op, lhs, rhs, .. } => (comparison(op), vec![lhs, rhs]),
            Expr::ArithExpr { op, lhs, rhs, .. } => (arithmetic(op), vec![lhs, rhs]),
            Expr::AssignExpr { lhs, rhs, .. } => ("eq", vec![lhs, rhs]),
            Expr::Membership { key: Some(key), value, collection, .. } => {
                ("internal.member_3", vec![key, value, collection])
            }
            Expr::Membership { value, collection, .. } => ("internal.member_2", vec![value, collection]),
            Expr::UnaryExpr { expr, .. } if !matches!(expr.as_ref(), Expr::Number { .. }) => {
                let given = self.term(expr);
                let args = vec![Term::Scalar(Value::from(0_u64)), given];
                return Some((Callee::Builtin("minus".to_owned()), args));
            }
            _ => return None,
        };
        Some((Callee::Builtin(name.to_owned()), self.terms(&args)))
    }

    fn printed(&mut self, expr: &Ref<Expr>) -> Term {
        let var = self.fresh();
        let body = self.inside(|inner| {
            let term = inner.term(expr);
            inner.push(Statement::names(expr.span(), var, term));
            std::mem::take(&mut inner.out)
        });
        Term::Closure(Rc::new(Closure { gives: Gives::Set(Term::Var(var)), body }))
    }

    fn callee(&self, function: &Ref<Expr>) -> Option<Callee> {
        let is_local = steps(function).root().is_some_and(|name| self.local(name).is_some());
        if is_local {
            return None;
        }
        Some(match calls::callee(self.program, self.unit, function, &Default::default())? {
            calls::Callee::Rule(path) => Callee::Rule(path),
            calls::Callee::Builtin(name) => Callee::Builtin(name),
        })
    }

    /// The value of `expr`, once what it calls has been called.
    fn term(&mut self, expr: &Ref<Expr>) -> Term {
        match expr.as_ref() {
            Expr::String { value, .. }
            | Expr::RawString { value, .. }
            | Expr::Number { value, .. }
            | Expr::Bool { value, .. }
            | Expr::Null { value, .. } => Term::Scalar(value.clone()),
            // Which number it is matters to no type; none of them indexes an array.
            Expr::UnaryExpr { expr, .. } if matches!(expr.as_ref(), Expr::Number { .. }) => {
                Term::Scalar(Value::from(-1_i64))
            }
            Expr::Var { span, .. } => self.name(span),
            Expr::Array { items, .. } => Term::Array(items.iter().map(|item| self.term(item)).collect()),
            Expr::Set { items, .. } => Term::Set(items.iter().map(|item| self.term(item)).collect()),
            Expr::Object { fields, .. } => Term::Object(
                fields.iter().map(|(_, key, value)| (self.term(key), self.term(value))).collect(),
            ),
            Expr::ArrayCompr { term, query, .. } => {
                self.closure(query, |inner| Gives::Array(inner.output(term)))
            }
            Expr::SetCompr { term, query, .. } => self.closure(query, |inner| Gives::Set(inner.output(term))),
            Expr::ObjectCompr { key, value, query, .. } => {
                self.closure(query, |inner| Gives::Object(inner.output(key), inner.output(value)))
            }
            Expr::RefDot { .. } | Expr::RefBrack { .. } => self.reference(expr),
            _ => {
                let Some((callee, mut args)) = self.call(expr) else {
                    return Term::Var(self.fresh());
                };
                let answer = Term::Var(self.fresh());
                args.push(answer.clone());
                self.push(Statement::new(expr.span(), Form::Call(callee, args)));
                answer
            }
        }
    }

    fn closure(&mut self, query: &Query, gives: impl FnOnce(&mut Self) -> Gives) -> Term {
        self.declare(declared(query));
        let closure = self.inside(|inner| {
            query.stmts.iter().for_each(|stmt| inner.statement(stmt));
            let gives = gives(inner);
            Closure { gives, body: std::mem::take(&mut inner.out) }
        });
        self.scopes.pop();
        Term::Closure(Rc::new(closure))
    }

    fn name(&mut self, span: &Span) -> Term {
        let name = span.text();
        if name == "_" {
            return Term::Var(self.fresh());
        }
        if let Some(var) = self.local(name) {
            return Term::Var(var);
        }
        match self.head(name) {
            (Head::Var(var), _) => Term::Var(var),
            (head, steps) => Term::Ref(Box::new(Reference { span: span.clone(), head, steps })),
        }
    }

    fn head(&mut self, name: &str) -> (Head, Vec<Term>) {
        if let Some(var) = self.local(name) {
            return (Head::Var(var), Vec::new());
        }
        let texts = |path: Vec<String>| path.iter().map(|part| Term::text(part)).collect();
        match self.program.root(self.unit, name) {
            Root::Data(path) => (Head::Data, texts(path)),
            Root::Input(path) => (Head::Input, texts(path)),
            Root::Unknown => {
                let known = self.free.get(name).copied();
                let var = known.unwrap_or_else(|| self.fresh());
                self.free.insert(name.to_owned(), var);
                (Head::Var(var), Vec::new())
            }
        }
    }

    fn reference(&mut self, expr: &Ref<Expr>) -> Term {
        let steps = steps(expr);
        let head = self.term(steps.head);
        let rest = steps.rest.into_iter().map(|step| match step {
            Step::Name(name) => Term::text(&name),
            Step::Index(index) => self.term(index),
        });
        let rest = rest.collect();
        self.indexed(head, rest, expr.span())
    }

    fn indexed(&mut self, head: Term, rest: Vec<Term>, span: &Span) -> Term {
        let (head, mut steps) = match head {
            Term::Var(var) => (Head::Var(var), Vec::new()),
            Term::Scalar(_) => (Head::Scalar, Vec::new()),
            Term::Ref(reference) => (reference.head, reference.steps),
            literal => match self.named(span, literal) {
                Term::Var(var) => (Head::Var(var), Vec::new()),
                _ => (Head::Scalar, Vec::new()),
            },
        };
        steps.extend(rest);
        Term::Ref(Box::new(Reference { span: span.clone(), head, steps }))
    }
}

fn comparison(op: &BoolOp) -> &'static str {
    match op {
        BoolOp::Lt => "lt",
        BoolOp::Le => "lte",
        BoolOp::Eq => "equal",
        BoolOp::Ge => "gte",
        BoolOp::Gt => "gt",
        BoolOp::Ne => "neq",
    }
}

fn arithmetic(op: &ArithOp) -> &'static str {
    match op {
        ArithOp::Add => "plus",
        ArithOp::Sub => "minus",
        ArithOp::Mul => "mul",
        ArithOp::Div => "div",
        ArithOp::Mod => "rem",
    }
}
