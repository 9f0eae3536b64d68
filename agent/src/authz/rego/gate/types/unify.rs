//! What two terms that are to be equal tell of each other, and a type of the term that is to be of it.

use super::{
    infer::Checker,
    kind::{self, Array, Object, Type, or},
    term::Term,
};

impl Checker<'_> {
    pub(super) fn meet(&mut self, one: &Type, other: &Type) -> bool {
        self.work = self.work.saturating_add(one.size().min(other.size()));
        !self.may_go_on() || kind::meet(one, other)
    }

    /// Whether both can have one value; what is known of either tells what its variables are.
    pub(super) fn unify_both(&mut self, a: &Term, of_a: &Type, b: &Term, of_b: &Type) -> bool {
        match (of_a.is_partial(), of_b.is_partial()) {
            (true, false) => return self.unify_one(a, of_b, false),
            (false, true) => return self.unify_one(b, of_a, false),
            (false, false) => return self.meet(of_a, of_b),
            (true, true) => {}
        }
        match (a, b) {
            (Term::Array(left), Term::Array(right)) => {
                left.len() == right.len() && left.iter().zip(right).all(|(a, b)| self.unify_terms(a, b))
            }
            (Term::Object(left), Term::Object(right)) => self.unify_fields(left, right),
            (Term::Array(_) | Term::Object(_), Term::Var(_)) | (Term::Var(_), Term::Var(_)) => {
                self.unify_one(a, &Type::any(), false) && {
                    let of = self.env.of(a);
                    self.unify_one(b, &of, false)
                }
            }
            (Term::Var(_), Term::Array(_) | Term::Object(_)) => {
                self.unify_one(b, &Type::any(), false) && {
                    let of = self.env.of(b);
                    self.unify_one(a, &of, false)
                }
            }
            (Term::Var(_), Term::Ref(_)) => self.unify_one(a, &Type::any(), false),
            (Term::Ref(_), Term::Var(_)) => self.unify_one(b, &Type::any(), false),
            (Term::Var(_), _) if *of_a == Type::Unknown && *of_b != Type::Unknown => {
                self.unify_one(a, of_b, false)
            }
            (_, Term::Var(_)) if *of_b == Type::Unknown && *of_a != Type::Unknown => {
                self.unify_one(b, of_a, false)
            }
            _ => false,
        }
    }

    fn unify_terms(&mut self, a: &Term, b: &Term) -> bool {
        let (of_a, of_b) = (self.env.of(a), self.env.of(b));
        self.unify_both(a, &of_a, b, &of_b)
    }

    fn unify_fields(&mut self, left: &[(Term, Term)], right: &[(Term, Term)]) -> bool {
        left.len() == right.len()
            && left.iter().all(|(key, a)| {
                let other = right.iter().find(|(other, _)| same_key(key, other));
                other.is_some_and(|(_, b)| self.unify_terms(a, b))
            })
    }

    /// Whether `term` can be of that type; its variables get types by it, in `widens` besides those that they have.
    pub(super) fn unify_one(&mut self, term: &Term, of: &Type, widens: bool) -> bool {
        match term {
            Term::Var(var) => {
                let known = self.env.var(*var);
                if widens {
                    self.env.set(*var, or(known, of.clone()));
                    return true;
                }
                if known != Type::Unknown {
                    return self.meet(&known, of);
                }
                self.env.set(*var, of.clone());
                true
            }
            Term::Scalar(_) | Term::Ref(_) | Term::Closure(_) => {
                let known = self.env.of(term);
                self.meet(&known, of)
            }
            Term::Array(_) | Term::Object(_) | Term::Set(_) => self.unify_composite(term, of, widens),
        }
    }

    fn unify_composite(&mut self, term: &Term, of: &Type, widens: bool) -> bool {
        match (term, of) {
            (_, Type::Any(choices)) if choices.is_empty() => {
                let parts: Vec<&Term> = match term {
                    Term::Array(items) | Term::Set(items) => items.iter().collect(),
                    Term::Object(fields) => fields.iter().flat_map(|(key, value)| [key, value]).collect(),
                    _ => Vec::new(),
                };
                for part in parts {
                    self.unify_one(part, of, true);
                }
                true
            }
            (_, Type::Any(choices)) => {
                let mut fits = false;
                for choice in choices.iter() {
                    fits |= self.unify_one(term, choice, true);
                }
                fits
            }
            (Term::Array(items), Type::Array(array)) => self.unify_items(items, array, widens),
            (Term::Object(fields), Type::Object(object)) => self.unify_object(fields, object, widens),
            (Term::Set(items), Type::Set(of)) => items.iter().all(|item| self.unify_one(item, of, widens)),
            _ => false,
        }
    }

    fn unify_items(&mut self, items: &[Term], array: &Array, widens: bool) -> bool {
        if items.len() != array.items.len() && array.rest == Type::Unknown {
            return false;
        }
        items.iter().enumerate().all(|(at, item)| self.unify_one(item, &array.item(at), widens))
    }

    fn unify_object(&mut self, fields: &[(Term, Term)], object: &Object, widens: bool) -> bool {
        if fields.len() != object.fields.len() && *object.rest_value() == Type::Unknown {
            return false;
        }
        fields.iter().all(|(key, value)| match key.constant() {
            Some(key) => match object.field(&key) {
                Type::Unknown => false,
                of => self.unify_one(value, &of, widens),
            },
            None => {
                self.unify_one(value, &Type::any(), widens);
                true
            }
        })
    }
}

fn same_key(one: &Term, other: &Term) -> bool {
    match (one, other) {
        (Term::Var(one), Term::Var(other)) => one == other,
        _ => one.constant().is_some_and(|one| other.constant() == Some(one)),
    }
}
