//! What a statement looks up, or finds by a query, has a name before the statement stands.

use super::term::{Form, Reference, Statement, Term, Var};

/// `stmt`, and before it the statements that name what it needs.
pub(super) fn hoisted(stmt: &Statement, next: &mut Var) -> Vec<Statement> {
    let mut hoist = Hoist { of: stmt, next, out: Vec::new() };
    let form = match &stmt.form {
        Form::Term(term) => Form::Term(hoist.kept(term)),
        Form::Equal { left, right, assigns } => {
            Form::Equal { left: hoist.kept(left), right: hoist.kept(right), assigns: *assigns }
        }
        Form::Call(callee, args) => {
            Form::Call(callee.clone(), args.iter().map(|arg| hoist.named(arg)).collect())
        }
        Form::Every { .. } => stmt.form.clone(),
    };
    let mut out = hoist.out;
    out.push(Statement { form, ..stmt.clone() });
    out
}

struct Hoist<'a> {
    of: &'a Statement,
    /// The number of the next variable.
    next: &'a mut Var,
    out: Vec<Statement>,
}

impl Hoist<'_> {
    /// At the top of an equality, or by itself, what is looked up has no other name.
    fn kept(&mut self, term: &Term) -> Term {
        match term {
            Term::Ref(reference) => self.steps(reference),
            Term::Closure(_) => term.clone(),
            _ => self.named(term),
        }
    }

    fn steps(&mut self, reference: &Reference) -> Term {
        let steps = reference.steps.iter().map(|step| self.named(step)).collect();
        Term::Ref(Box::new(Reference { steps, ..reference.clone() }))
    }

    fn named(&mut self, term: &Term) -> Term {
        match term {
            Term::Scalar(_) | Term::Var(_) => term.clone(),
            Term::Array(items) => Term::Array(items.iter().map(|item| self.named(item)).collect()),
            Term::Set(items) => Term::Set(items.iter().map(|item| self.named(item)).collect()),
            Term::Object(fields) => {
                Term::Object(fields.iter().map(|(key, value)| (self.named(key), self.named(value))).collect())
            }
            Term::Ref(reference) => {
                let term = self.steps(reference);
                self.name(term)
            }
            Term::Closure(_) => self.name(term.clone()),
        }
    }

    fn name(&mut self, term: Term) -> Term {
        let var = *self.next;
        *self.next += 1;
        let named = Statement::names(&self.of.span, var, term);
        self.out.push(Statement { with: self.of.with.clone(), ..named });
        Term::Var(var)
    }
}
