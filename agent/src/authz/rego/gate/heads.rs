//! Heads of rules: their names do not collide, and their values are such that the engine takes them as OPA does.

use std::collections::HashSet;

use regorus::{
    Value,
    unstable::{Expr, Literal, Query, Ref, Rule, RuleAssign, RuleBody, RuleHead},
};

use super::{Findings, document, values::is_surely_defined};
use crate::authz::rego::{
    Fault,
    program::{Definition, Kind, Program, Step, steps},
    walk::{self, Event, pattern_names},
};

pub(super) fn check(program: &Program, data: &Value, findings: &mut Findings) {
    for (at, definition) in program.rules.iter().enumerate() {
        let reasons = [
            name(definition),
            arguments(definition),
            parts(definition),
            bodies(definition),
            outputs(program, definition),
            collision(program, at),
            document_collision(definition, data),
        ];
        findings
            .faults
            .extend(reasons.into_iter().flatten().map(|reason| Fault::at(definition.head_span(), reason)));
    }
    for (at, unit) in program.units.iter().enumerate() {
        let rule = program.rules.iter().find(|rule| rule.unit != at && unit.package.starts_with(&rule.path));
        if let Some(rule) = rule {
            let reason = format!("package {} is below the rule {}", unit.package.join("."), rule.name());
            findings.faults.push(Fault::at(&unit.module.package.span, reason));
        }
    }
}

const KEYWORDS: [&str; 4] = ["contains", "every", "if", "in"];

fn name(definition: &Definition) -> Option<String> {
    let name = root_name(definition);
    if ["input", "data"].contains(&name) {
        return Some(format!("a rule cannot be named {name}"));
    }
    let is_bare = matches!(definition.rule.as_ref(),
        Rule::Spec { head: RuleHead::Compr { assign: None, .. }, bodies, .. } if bodies.is_empty());
    if KEYWORDS.contains(&name) || is_bare {
        return Some(format!(
            "{name} is no rule: `import rego.v1` makes `if`, `contains`, `every` and `in` keywords"
        ));
    }
    None
}

fn root_name(definition: &Definition) -> &str {
    match steps(reference(&definition.rule)).head.as_ref() {
        Expr::Var { span, .. } => {
            // The text belongs to the source, which the rule holds.
            let text = span.text();
            definition.path.iter().map(String::as_str).find(|part| *part == text).unwrap_or_default()
        }
        _ => "",
    }
}

fn reference(rule: &Rule) -> &Ref<Expr> {
    match rule {
        Rule::Default { refr, .. } => refr,
        Rule::Spec { head, .. } => match head {
            RuleHead::Compr { refr, .. } | RuleHead::Set { refr, .. } | RuleHead::Func { refr, .. } => refr,
        },
    }
}

fn arguments(definition: &Definition) -> Option<String> {
    if let Kind::Function { arity: 0 } = definition.kind {
        return Some("a function without arguments: write it as a rule, without parentheses".to_owned());
    }
    let (args, bodies) = match definition.rule.as_ref() {
        Rule::Spec { head: RuleHead::Func { args, .. }, bodies, .. } => (args, bodies.as_slice()),
        Rule::Default { args, .. } => (args, &[][..]),
        Rule::Spec { .. } => return None,
    };
    let mut seen = HashSet::new();
    for arg in args {
        if contains_object(arg) {
            return Some(
                "an object as an argument: give it a name, and compare its fields in the body".to_owned(),
            );
        }
        let mut names = Vec::new();
        all_names(arg, &mut names);
        if let Some(twice) = names.into_iter().find(|name| name != "_" && !seen.insert(name.clone())) {
            return Some(format!(
                "argument {twice} is there twice: name them apart and compare them in the body"
            ));
        }
    }
    if let Some(root) = ["input", "data"].into_iter().find(|root| seen.contains(*root)) {
        return Some(format!("an argument called {root} would hide the document: give it another name"));
    }
    let mut declared =
        bodies.iter().flat_map(|body| &body.query.stmts).filter_map(|stmt| match &stmt.literal {
            Literal::SomeVars { vars, .. } => Some(vars),
            _ => None,
        });
    let again = declared.find_map(|vars| vars.iter().find(|name| seen.contains(name.text())));
    again.map(|name| format!("argument {} is declared again: leave the declaration out", name.text()))
}

pub(super) fn all_names(pattern: &Expr, names: &mut Vec<String>) {
    match pattern {
        Expr::Var { span, .. } => names.push(span.text().to_owned()),
        Expr::Array { items, .. } => items.iter().for_each(|item| all_names(item, names)),
        Expr::Object { fields, .. } => fields.iter().for_each(|(_, _, value)| all_names(value, names)),
        _ => {}
    }
}

pub(super) fn contains_object(pattern: &Expr) -> bool {
    match pattern {
        Expr::Object { .. } => true,
        Expr::Array { items, .. } => items.iter().any(|item| contains_object(item)),
        _ => false,
    }
}

/// Parts of a name that are known only in evaluation come last, one of them at most.
fn parts(definition: &Definition) -> Option<String> {
    let rule = definition.rule.as_ref();
    let steps = steps(reference(rule)).rest;
    let open = steps.iter().filter(|step| matches!(step, Step::Index(_))).count();
    let ends_open = matches!(steps.last(), Some(Step::Index(_)));
    if let Rule::Spec { head: RuleHead::Set { key: None, .. }, .. } = rule {
        return Some(
            "is this a set or a field? write `name[\"field\"]` with `= true`, or `name contains \"field\"`"
                .to_owned(),
        );
    }
    let may_end_open = definition.kind == Kind::Complete || definition.kind == Kind::Default;
    if open > 1 || open == 1 && !(ends_open && may_end_open) {
        return Some(
            "only the last part of a rule's name may be a variable: give the inner parts constant names, or \
             build the object in one rule"
                .to_owned(),
        );
    }
    None
}

/// Bodies that stand one behind the other, and what `else` does to values that may be undefined.
fn bodies(definition: &Definition) -> Option<String> {
    let Rule::Spec { head, bodies, .. } = definition.rule.as_ref() else { return None };
    let has_chain = bodies.iter().skip(1).any(|body| !body.is_else);
    let has_else = bodies.iter().any(|body| body.is_else);
    let (assign, is_function) = match head {
        RuleHead::Compr { assign, .. } => (assign.as_ref(), false),
        RuleHead::Func { assign, .. } => (assign.as_ref(), true),
        RuleHead::Set { .. } if has_chain => {
            return Some("bodies one behind the other: write the head again before each of them".to_owned());
        }
        RuleHead::Set { .. } if has_else => return Some("a set has no else".to_owned()),
        RuleHead::Set { .. } => return None,
    };
    if has_chain && (assign.is_some() || is_function || has_else) {
        return Some("bodies one behind the other: write the head again before each of them".to_owned());
    }
    if has_else && !matches!(steps(reference(&definition.rule)).rest.as_slice(), []) && definition.is_open {
        return Some("else in a rule whose name has a variable: build the object in one rule".to_owned());
    }
    None
}

/// What may be undefined where that matters, and cannot be taken into the body.
fn outputs(program: &Program, definition: &Definition) -> Option<String> {
    let unsure = unsure(program, definition);
    let wrong = unsure.iter().any(|unsure| match unsure {
        Unsure::Name => true,
        Unsure::Value { body: Some(body), .. } => body.query.stmts.is_empty(),
        Unsure::Value { .. } => false,
        Unsure::Element { element, .. } => matches!(element.as_ref(), Expr::Object { .. }),
    });
    wrong.then(|| {
        "what this gives may be undefined for some of what the body finds: give it a name in the body, such as \
         `value := ...`, and use that name here"
            .to_owned()
    })
}

/// A part of a head that may be undefined where the engine would forget what it has found before, or skip what comes
/// after.
pub(in crate::authz::rego) enum Unsure<'a> {
    /// A variable part of the rule's name.
    Name,
    /// A value, and the body it belongs to.
    Value { assign: &'a RuleAssign, body: Option<&'a RuleBody> },
    /// An element of a set.
    Element { element: &'a Ref<Expr>, body: &'a RuleBody },
}

pub(in crate::authz::rego) fn unsure<'a>(program: &Program, definition: &'a Definition) -> Vec<Unsure<'a>> {
    let Rule::Spec { head, bodies, .. } = definition.rule.as_ref() else { return Vec::new() };
    let unit = definition.unit;
    let (assign, element, args): (_, _, &[Ref<Expr>]) = match head {
        RuleHead::Compr { assign, .. } => (assign.as_ref(), None, &[]),
        RuleHead::Func { assign, args, .. } => (assign.as_ref(), None, args),
        RuleHead::Set { key, .. } => (None, key.as_ref(), &[]),
    };
    let names: Vec<&Ref<Expr>> = steps(reference(&definition.rule))
        .rest
        .into_iter()
        .filter_map(|step| if let Step::Index(index) = step { Some(index) } else { None })
        .collect();
    let forgets = |value: &Ref<Expr>, body: Option<&RuleBody>, matters: bool| {
        let mut locals = body.map(|body| walk::declared(&body.query)).unwrap_or_default();
        args.iter().for_each(|arg| pattern_names(arg, &mut locals));
        matters && !is_surely_defined(program, unit, value, &locals)
    };
    let mut found = Vec::new();
    let mut look = |at: usize, body: Option<&'a RuleBody>| {
        let has_else = bodies.iter().skip(at + 1).any(|body| body.is_else);
        let assign = body.and_then(|body| body.assign.as_ref()).or(if at == 0 { assign } else { None });
        let element = if at == 0 { element } else { None };
        let values = names.iter().copied().chain(element).chain(assign.map(|assign| &assign.value));
        let repeats = values.clone().any(|value| iterates_within(program, unit, value))
            || body.is_some_and(|body| may_repeat(program, unit, &body.query));
        let matters = if matches!(head, RuleHead::Func { .. }) { has_else } else { repeats };
        if names.iter().any(|name| forgets(name, body, matters)) {
            found.push(Unsure::Name);
        }
        if let Some(assign) = assign.filter(|assign| forgets(&assign.value, body, matters)) {
            found.push(Unsure::Value { assign, body });
        }
        match (element.filter(|element| forgets(element, body, matters)), body) {
            (Some(element), Some(body)) => found.push(Unsure::Element { element, body }),
            (Some(_), None) => found.push(Unsure::Name),
            (None, _) => {}
        }
    };
    if bodies.is_empty() {
        look(0, None);
    }
    bodies.iter().enumerate().for_each(|(at, body)| look(at, Some(body)));
    found
}

fn iterates_within(program: &Program, unit: usize, value: &Ref<Expr>) -> bool {
    super::values::iterates(program, unit, value)
        || walk::parts(value).into_iter().any(|part| iterates_within(program, unit, part))
}

/// Whether a body can hold for more than one choice of its variables.
pub(super) fn may_repeat(program: &Program, unit: usize, query: &Query) -> bool {
    let mut repeats = false;
    for stmt in &query.stmts {
        repeats |= matches!(stmt.literal, Literal::SomeIn { .. });
        walk::statement(stmt, &mut |event, scope| {
            if let Event::Expr(expr) = event
                && scope.closures == 0
            {
                repeats |= super::values::iterates(program, unit, expr);
            }
        });
    }
    repeats
}

/// Another definition that gives the same name another kind of value.
fn collision(program: &Program, at: usize) -> Option<String> {
    let definition = &program.rules[at];
    for other in program.at(&definition.path) {
        let rival = &program.rules[*other];
        if *other <= at {
            continue;
        }
        let defaults = matches!(
            (definition.kind, rival.kind),
            (Kind::Default, Kind::Default) | (Kind::DefaultFunction { .. }, Kind::DefaultFunction { .. })
        );
        if defaults && definition.is_open == rival.is_open {
            return Some(format!("{} has two defaults", definition.name()));
        }
        if !agree(definition, rival) {
            return Some(format!(
                "{} is defined as {} and as {}",
                definition.name(),
                describe(definition),
                describe(rival)
            ));
        }
    }
    let below = program.below(&definition.path).find(|other| {
        program.rules[*other].path.len() > definition.path.len()
            || program.rules[*other].is_open != definition.is_open
    })?;
    let other = &program.rules[below];
    Some(format!(
        "{} and {} give one object: define all of it in one way",
        definition.name(),
        describe_path(other)
    ))
}

fn describe_path(definition: &Definition) -> String {
    if definition.is_open { format!("{}[...]", definition.name()) } else { definition.name() }
}

fn agree(a: &Definition, b: &Definition) -> bool {
    use Kind::{Complete, Default, DefaultFunction, Function, Set};
    match (a.kind, b.kind) {
        (Complete | Default, Complete | Default) | (Set, Set) => a.is_open == b.is_open,
        (
            Function { arity: a } | DefaultFunction { arity: a },
            Function { arity: b } | DefaultFunction { arity: b },
        ) => a == b,
        _ => false,
    }
}

fn describe(definition: &Definition) -> String {
    match definition.kind {
        Kind::Set => "a set".to_owned(),
        Kind::Function { arity } | Kind::DefaultFunction { arity } => {
            format!("a function of {arity} arguments")
        }
        Kind::Default => "a rule with a default".to_owned(),
        Kind::Complete if definition.is_open => "an object".to_owned(),
        Kind::Complete => "a rule with one value".to_owned(),
    }
}

fn document_collision(definition: &Definition, data: &Value) -> Option<String> {
    let known = &definition.path;
    let at = (1..=known.len()).find(|parts| {
        let value = document(data, &known[..*parts]);
        *value != Value::Undefined && (*parts == known.len() || value.as_object().is_err())
    })?;
    Some(format!("a data document gives data.{}, too", known[..at].join(".")))
}
