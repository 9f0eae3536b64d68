//! Bodies of rules as the checker of types reads them: calls stand by themselves, and what they answer has a name.

use std::{collections::HashSet, rc::Rc};

use regorus::{Value, unstable::Span};

/// A variable of one rule; each has a number of its own.
pub(super) type Var = u32;

#[derive(Debug, Clone)]
pub(super) enum Term {
    /// Null, a boolean, a number or a text.
    Scalar(Value),
    Var(Var),
    Array(Vec<Term>),
    Object(Vec<(Term, Term)>),
    Set(Vec<Term>),
    Ref(Box<Reference>),
    Closure(Rc<Closure>),
}

#[derive(Debug, Clone)]
pub(super) struct Reference {
    pub(super) span: Span,
    pub(super) head: Head,
    pub(super) steps: Vec<Term>,
}

#[derive(Debug, Clone)]
pub(super) enum Head {
    Input,
    Data,
    Var(Var),
    /// Something that has no name.
    Scalar,
}

#[derive(Debug)]
pub(super) struct Closure {
    pub(super) gives: Gives,
    pub(super) body: Vec<Statement>,
}

#[derive(Debug)]
pub(super) enum Gives {
    Array(Term),
    Set(Term),
    Object(Term, Term),
}

#[derive(Debug, Clone)]
pub(super) struct Statement {
    pub(super) span: Span,
    pub(super) form: Form,
    pub(super) is_negated: bool,
    /// What is replaced for it, by what.
    pub(super) with: Vec<(Target, Term)>,
}

#[derive(Debug, Clone)]
pub(super) enum Form {
    Term(Term),
    Equal { left: Term, right: Term, assigns: bool },
    Call(Callee, Vec<Term>),
    Every { domain: Var, body: Rc<Vec<Statement>>, names: [Var; 2] },
}

#[derive(Debug, Clone)]
pub(super) enum Callee {
    Builtin(String),
    /// By its path below `data`.
    Rule(Vec<String>),
}

#[derive(Debug, Clone)]
pub(super) enum Target {
    Input,
    /// Below `data`.
    Data(Vec<String>),
    Function,
}

impl Term {
    pub(super) fn text(text: &str) -> Self {
        Self::Scalar(Value::from(text))
    }

    /// The value that it is, when it is one.
    pub(super) fn constant(&self) -> Option<Value> {
        Some(match self {
            Self::Scalar(value) => value.clone(),
            Self::Array(items) => Value::from(items.iter().map(Self::constant).collect::<Option<Vec<_>>>()?),
            Self::Set(items) => Value::from(
                items.iter().map(Self::constant).collect::<Option<std::collections::BTreeSet<_>>>()?,
            ),
            Self::Object(fields) => {
                let fields = fields.iter().map(|(key, value)| Some((key.constant()?, value.constant()?)));
                Value::from(fields.collect::<Option<std::collections::BTreeMap<_, _>>>()?)
            }
            _ => return None,
        })
    }

    /// Calls `visit` for it and for the terms that it is made of, but not those inside closures.
    pub(super) fn walk<'a>(&'a self, visit: &mut dyn FnMut(&'a Term)) {
        visit(self);
        match self {
            Self::Array(items) | Self::Set(items) => items.iter().for_each(|item| item.walk(visit)),
            Self::Object(fields) => fields.iter().for_each(|(key, value)| {
                key.walk(visit);
                value.walk(visit);
            }),
            Self::Ref(reference) => reference.steps.iter().for_each(|step| step.walk(visit)),
            Self::Scalar(_) | Self::Var(_) | Self::Closure(_) => {}
        }
    }

    /// Variables in it, also as what a reference begins with.
    pub(super) fn vars(&self, found: &mut HashSet<Var>) {
        self.walk(&mut |term| match term {
            Self::Var(var) => {
                found.insert(*var);
            }
            Self::Ref(reference) => {
                if let Head::Var(var) = reference.head {
                    found.insert(var);
                }
            }
            _ => {}
        });
    }

    /// Whether its value is found only by looking it up, or by a query.
    pub(super) fn is_dynamic(&self) -> bool {
        let mut found = false;
        self.walk(&mut |term| found |= matches!(term, Self::Ref(_) | Self::Closure(_)));
        found
    }
}

impl Statement {
    pub(super) fn new(span: &Span, form: Form) -> Self {
        Self { span: span.clone(), form, is_negated: false, with: Vec::new() }
    }

    /// `term` gets a name.
    pub(super) fn names(span: &Span, var: Var, term: Term) -> Self {
        Self::new(span, Form::Equal { left: Term::Var(var), right: term, assigns: false })
    }

    pub(super) fn terms(&self) -> impl Iterator<Item = &Term> {
        let terms: Vec<&Term> = match &self.form {
            Form::Term(term) => vec![term],
            Form::Equal { left, right, .. } => vec![left, right],
            Form::Call(_, args) => args.iter().collect(),
            Form::Every { .. } => Vec::new(),
        };
        terms.into_iter().chain(self.with.iter().map(|(_, value)| value))
    }

    /// Variables that it needs or gives, without those of closures.
    pub(super) fn vars(&self) -> HashSet<Var> {
        let mut found = HashSet::new();
        self.terms().for_each(|term| term.vars(&mut found));
        if let Form::Every { domain, .. } = &self.form {
            found.insert(*domain);
        }
        found
    }

    /// Variables of the closures in it, and of those inside them.
    pub(super) fn closure_vars(&self, found: &mut HashSet<Var>) {
        let inside = |body: &[Statement], found: &mut HashSet<Var>| {
            for stmt in body {
                found.extend(stmt.vars());
                stmt.closure_vars(found);
            }
        };
        if let Form::Every { body, .. } = &self.form {
            inside(body, found);
        }
        for term in self.terms() {
            term.walk(&mut |term| {
                if let Term::Closure(closure) = term {
                    inside(&closure.body, found);
                    closure.gives.terms().into_iter().for_each(|term| term.vars(found));
                }
            });
        }
    }
}

impl Gives {
    pub(super) fn terms(&self) -> Vec<&Term> {
        match self {
            Self::Array(term) | Self::Set(term) => vec![term],
            Self::Object(key, value) => vec![key, value],
        }
    }
}
