//! Items of an array in a data document: OPA finds them by the text of their number, too, where the engine finds nothing.

use regorus::{
    Value,
    unstable::{Expr, Ref},
};

use super::Findings;
use crate::authz::rego::{
    Fault,
    program::{Program, Root, Step, Steps, steps},
    walk::{self, Event, Scope},
};

pub(super) fn check(program: &Program, data: &Value, findings: &mut Findings) {
    for definition in &program.rules {
        walk::rule(&definition.rule, &mut |event, scope| {
            let Event::Expr(expr) = event else { return };
            let steps = steps(expr);
            let Some(name) = steps.root().filter(|name| !scope.is_local(name)) else { return };
            let Root::Data(path) = program.root(definition.unit, name) else { return };
            if is_found_by_text(program, definition.unit, data, &path, &steps, scope) {
                let reason = "an item of an array in a data document is found by a number: \
                              if this is one, give the array a name first, `list := data.list; list[number]`";
                findings.faults.push(Fault::at(expr.span(), reason));
            }
        });
    }
}

/// Whether a step into an array is a text, or comes from the input and may be one.
fn is_found_by_text(
    program: &Program,
    unit: usize,
    data: &Value,
    path: &[String],
    steps: &Steps<'_>,
    scope: &Scope,
) -> bool {
    let mut document = super::document(data, path);
    for step in &steps.rest {
        let is_array = matches!(document, Value::Array(_));
        match step {
            Step::Name(name) if is_array => return name.bytes().all(|byte| byte.is_ascii_digit()),
            Step::Name(name) => document = &document[name.as_str()],
            Step::Index(index) => return is_array && is_of_input(program, unit, index, scope),
        }
    }
    false
}

fn is_of_input(program: &Program, unit: usize, index: &Ref<Expr>, scope: &Scope) -> bool {
    let steps = steps(index);
    let root = steps.root().filter(|name| !scope.is_local(name));
    root.is_some_and(|name| matches!(program.root(unit, name), Root::Input(_)))
}

#[cfg(test)]
mod tests {
    use crate::authz::rego::{
        Data, Limits, Policy,
        tests::{entrypoint, json, source},
    };

    fn loads(rules: &str) -> bool {
        let value = json(r#"{"list": ["a"], "deep": [{"c": ["b"]}], "map": {"0": "a"}}"#);
        let data = Data { name: "data.json".into(), path: vec![], value };
        let sources = [source("policy.rego", &format!("package envoy.authz\nimport rego.v1\n{rules}\n"))];
        Policy::compile(&sources, &[data], &entrypoint(), &Limits::default()).is_ok()
    }

    #[test]
    fn texts_that_may_stand_for_the_numbers_of_items_are_refused() {
        for rules in [
            "allow if not data.list[\"0\"]",
            "allow if not data.list[input.k]",
            "allow if not data.deep[\"0\"].c",
            "import data.list\nallow if not list[input.k]",
            "import input.k as key\nallow if not data.list[key]",
        ] {
            assert!(!loads(rules), "{rules}");
        }
        for rules in [
            "allow if data.list[0] == \"a\"",
            "allow if data.list[_] == input.k",
            "allow if { some i; data.list[i] == input.k }",
            "allow if not data.map[input.k]",
            "allow if not data.map[\"0\"]",
            "allow if not data.list.name",
            "allow if { list := data.list; not list[input.k] }",
        ] {
            assert!(loads(rules), "{rules}");
        }
    }
}
