//! What built-in functions take and answer, as OPA 1.22.2 declares it; operators are functions, too.

use std::collections::{BTreeMap, HashMap};

use regorus::Value;

use super::kind::Type;

/// One function a line: `name(type, type) = type`.
const TABLE: &str = include_str!("declared.txt");

#[derive(Debug, Clone, Default)]
pub(super) struct Signature {
    pub(super) args: Vec<Type>,
    /// Unknown when it answers nothing.
    pub(super) answer: Type,
}

/// All of them by their names.
pub(super) fn all() -> HashMap<&'static str, Signature> {
    let lines = TABLE.lines().map(|line| {
        let (name, _) = line.split_once('(').expect("a line of the table names a function");
        (name, Reader { rest: &line[name.len()..] }.signature())
    });
    lines.collect()
}

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn signature(mut self) -> Signature {
        let args = if self.takes("()") { Vec::new() } else { self.list('(', ')', Self::read) };
        assert!(self.takes(" = "), "an answer stands behind the arguments: {}", self.rest);
        Signature { args, answer: self.read() }
    }

    fn takes(&mut self, text: &str) -> bool {
        let rest = self.rest.strip_prefix(text);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn word(&mut self) -> String {
        let end = self.rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word.to_owned()
    }

    fn list<T>(&mut self, open: char, close: char, read: impl Fn(&mut Self) -> T) -> Vec<T> {
        let mut found = Vec::new();
        if self.takes(&open.to_string()) {
            loop {
                found.push(read(self));
                if self.takes(&close.to_string()) {
                    break;
                }
                assert!(self.takes(", "), "a list goes on: {}", self.rest);
            }
        }
        found
    }

    fn read(&mut self) -> Type {
        match self.word().as_str() {
            "null" => Type::Null,
            "boolean" => Type::Boolean,
            "number" => Type::Number,
            "string" => Type::Text,
            "any" => Type::one_of(self.list('<', '>', Self::read)),
            "set" => Type::set(self.list('[', ']', Self::read).pop().unwrap_or_default()),
            "array" => {
                let items = self.list('<', '>', Self::read);
                Type::array(items, self.list('[', ']', Self::read).pop().unwrap_or_default())
            }
            "object" => {
                let fields: BTreeMap<_, _> = self.list('<', '>', Self::field).into_iter().collect();
                let rest = self.list('[', ']', |reader| {
                    let key = reader.read();
                    assert!(reader.takes(": "), "a value stands behind a key: {}", reader.rest);
                    (key, reader.read())
                });
                Type::object(fields, rest.into_iter().next())
            }
            "nothing" => Type::Unknown,
            other => panic!("the table names the type {other}"),
        }
    }

    fn field(&mut self) -> (Value, Type) {
        let name = self.word();
        assert!(self.takes(": "), "a type stands behind a name: {}", self.rest);
        (Value::from(name), self.read())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authz::rego::builtins;

    #[test]
    fn every_function_that_a_policy_may_call_has_a_declaration_with_as_many_arguments() {
        let declared = all();
        for (name, arity) in builtins::names() {
            let signature = declared.get(name).unwrap_or_else(|| panic!("{name} is in no line"));
            let takes = signature.args.len();
            assert!(
                arity == takes || name == "walk" && arity == takes + 1,
                "{name} takes {takes}, not {arity}"
            );
        }
    }
}
