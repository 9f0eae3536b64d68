//! What of its input a policy may look at. The rest need not be made.

use regorus::unstable::{Expr, Ref};

use super::{
    program::{Program, Root, steps},
    walk::{self, Event},
};
use crate::authz::parts::Parts;

/// Each place of the input that some rule names, with everything below it. Where a rule replaces documents by `with`, and
/// where it takes the input as a whole, that is all of it.
pub(super) fn of(program: &Program) -> Parts {
    let mut reads = Parts::default();
    for definition in &program.rules {
        walk::rule(&definition.rule, &mut |event, _| match event {
            Event::Expr(expr) => {
                if let Some(path) = place(program, definition.unit, expr) {
                    reads.add(&path);
                }
            }
            Event::Statement(statement) if !statement.with_mods.is_empty() => reads.add(&[]),
            Event::Statement(_) | Event::Query(_) => {}
        });
    }
    reads
}

/// Up to where it is known before evaluation. A local variable may have the name of an import: then too much is read.
fn place(program: &Program, unit: usize, expr: &Ref<Expr>) -> Option<Vec<String>> {
    let (Expr::Var { .. } | Expr::RefDot { .. } | Expr::RefBrack { .. }) = expr.as_ref() else { return None };
    let steps = steps(expr);
    let Root::Input(mut path) = program.root(unit, steps.root()?) else { return None };
    path.extend(steps.known().into_iter().skip(1));
    Some(path)
}

#[cfg(test)]
mod tests {
    use regorus::Engine;

    use super::*;

    fn reads(rego: &str) -> Parts {
        let mut engine = Engine::new();
        engine.add_policy("p.rego".into(), format!("package p\nimport rego.v1\n{rego}")).unwrap();
        of(&Program::new(&mut engine))
    }

    fn parts(paths: &[&str]) -> Parts {
        let mut parts = Parts::default();
        for path in paths {
            parts.add(&path.split('/').map(str::to_owned).collect::<Vec<_>>());
        }
        parts
    }

    #[test]
    fn every_place_that_is_named_is_read_with_what_is_below_it() {
        for (rego, expected) in [
            ("allow if input.a.b == 1\nallow if not input.a[\"c-d\"].e", &["a/b", "a/c-d/e"][..]),
            ("allow if input.a[_].b == input.k", &["a", "k"]),
            ("allow if { some x in input.list; x == data.p.y[input.key] }\ny := {}", &["list", "key"]),
            ("import input.a.b as c\nallow if c.d\nx := [c.e | c.f]", &["a/b/d", "a/b/e", "a/b/f"]),
            ("import input.a.b\nallow if b[0]", &["a/b"]),
            ("f(x) := x.a\nallow if f(input.b)", &["b"]),
            ("s contains input.a if true\nallow := input.b", &["a", "b"]),
            ("m[input.a] := input.b if input.c", &["a", "b", "c"]),
            ("default allow := false\nallow if { every x in input.a { x == input.b } }", &["a", "b"]),
            ("allow if { x := 1\n x == 1 } else := input.b if { input.c }", &["b", "c"]),
            ("allow if data.p[input.a]", &["a"]),
            ("allow if count({input.a: input.b}) > 0", &["a", "b"]),
        ] {
            assert_eq!(reads(rego), parts(expected), "{rego}");
        }
        assert_eq!(reads("allow := true"), Parts::default());
    }

    #[test]
    fn the_input_as_a_whole_is_all_of_it() {
        for rego in [
            "allow if walk(input)",
            "allow if input[x] == 1",
            "x := input",
            "f(x) := x.a\nallow if f(input)",
            "allow if object.get(input, \"a\", 1) == 1",
            "y if input.a\nallow if y with input as {\"a\": 1}",
            "y if input.a\nallow if not y with input.b as 1",
        ] {
            assert_eq!(reads(rego), Parts::All, "{rego}");
        }
    }
}
