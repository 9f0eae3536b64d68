//! The rules of all files by name.

use std::collections::{BTreeMap, HashMap};

use regorus::{
    Engine,
    unstable::{Expr, Import, Module, Ref, Rule, RuleHead, Span},
};

/// All modules of a policy.
pub(super) struct Program {
    pub(super) units: Vec<Unit>,
    pub(super) rules: Vec<Definition>,
    /// Rules by the path that is known before evaluation.
    by_path: BTreeMap<Vec<String>, Vec<usize>>,
}

/// One file.
pub(super) struct Unit {
    pub(super) module: Ref<Module>,
    pub(super) package: Vec<String>,
    /// What a name of an import stands for, its root (`data` or `input`) first.
    pub(super) imports: HashMap<String, Vec<String>>,
}

/// One definition of one rule; a rule may have several.
pub(super) struct Definition {
    pub(super) unit: usize,
    pub(super) rule: Ref<Rule>,
    /// Package and name, up to the first part that is not known before evaluation.
    pub(super) path: Vec<String>,
    /// Whether parts follow that are known only in evaluation.
    pub(super) is_open: bool,
    pub(super) kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Complete,
    Set,
    Function { arity: usize },
    Default,
    DefaultFunction { arity: usize },
}

/// What a name at the head of a reference stands for when no local variable has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Root {
    Input(Vec<String>),
    /// Below `data`.
    Data(Vec<String>),
    Unknown,
}

impl Program {
    pub(super) fn new(engine: &mut Engine) -> Self {
        let units: Vec<Unit> = engine.get_modules().iter().map(Unit::new).collect();
        let rules: Vec<Definition> = units
            .iter()
            .enumerate()
            .flat_map(|(at, unit)| unit.module.policy.iter().map(move |rule| Definition::new(at, unit, rule)))
            .collect();
        let mut by_path: BTreeMap<Vec<String>, Vec<usize>> = BTreeMap::new();
        for (at, definition) in rules.iter().enumerate() {
            by_path.entry(definition.path.clone()).or_default().push(at);
        }
        Self { units, rules, by_path }
    }

    /// The definitions whose known path is exactly `path`.
    pub(super) fn at(&self, path: &[String]) -> &[usize] {
        self.by_path.get(path).map_or(&[], Vec::as_slice)
    }

    /// The definitions whose known path begins with `path`.
    pub(super) fn below<'a>(&'a self, path: &'a [String]) -> impl Iterator<Item = usize> + 'a {
        self.by_path
            .range(path.to_vec()..)
            .take_while(move |(known, _)| known.starts_with(path))
            .flat_map(|(_, rules)| rules.iter().copied())
    }

    /// The definitions that a reference to `path` below `data` makes the engine evaluate: those at or below it, and those
    /// at a prefix of it.
    pub(super) fn reached<'a>(&'a self, path: &'a [String]) -> impl Iterator<Item = usize> + 'a {
        let above = (1..path.len()).flat_map(move |parts| self.at(&path[..parts]).iter().copied());
        self.below(path).chain(above)
    }

    /// What `name` stands for in `unit`, when it is no local variable.
    pub(super) fn root(&self, unit: usize, name: &str) -> Root {
        let unit = &self.units[unit];
        match name {
            "input" => return Root::Input(Vec::new()),
            "data" => return Root::Data(Vec::new()),
            _ => {}
        }
        if let Some((root, rest)) = unit.imports.get(name).and_then(|path| path.split_first()) {
            return if root == "input" { Root::Input(rest.to_vec()) } else { Root::Data(rest.to_vec()) };
        }
        let mut path = unit.package.clone();
        path.push(name.to_owned());
        if self.below(&path).next().is_some() { Root::Data(path) } else { Root::Unknown }
    }

    /// Whether a package, or a package below it, has that path.
    pub(super) fn is_package(&self, path: &[String]) -> bool {
        self.units.iter().any(|unit| unit.package.starts_with(path))
    }
}

impl Unit {
    fn new(module: &Ref<Module>) -> Self {
        let package = steps(&module.package.refr).known();
        let imports = module.imports.iter().filter_map(alias).collect();
        Self { module: module.clone(), package, imports }
    }

    pub(super) fn file(&self) -> &str {
        self.module.package.span.source.file()
    }
}

/// The name that an import of a document gives, and what it stands for.
pub(super) fn alias(import: &Import) -> Option<(String, Vec<String>)> {
    let path = steps(&import.refr).known();
    let root = path.first()?;
    if root != "data" && root != "input" {
        return None;
    }
    let name = match &import.r#as {
        Some(name) => name.text().to_owned(),
        None => path.last()?.clone(),
    };
    Some((name, path))
}

impl Definition {
    fn new(at: usize, unit: &Unit, rule: &Ref<Rule>) -> Self {
        let (refr, kind) = match rule.as_ref() {
            Rule::Default { refr, args, .. } if args.is_empty() => (refr, Kind::Default),
            Rule::Default { refr, args, .. } => (refr, Kind::DefaultFunction { arity: args.len() }),
            Rule::Spec { head, .. } => match head {
                RuleHead::Compr { refr, .. } => (refr, Kind::Complete),
                RuleHead::Set { refr, .. } => (refr, Kind::Set),
                RuleHead::Func { refr, args, .. } => (refr, Kind::Function { arity: args.len() }),
            },
        };
        let steps = steps(refr);
        let mut path = unit.package.clone();
        path.extend(steps.known());
        Self { unit: at, rule: rule.clone(), path, is_open: steps.is_open(), kind }
    }

    pub(super) fn head_span(&self) -> &Span {
        match self.rule.as_ref() {
            Rule::Default { refr, .. } => refr.span(),
            Rule::Spec { head, .. } => match head {
                RuleHead::Compr { refr, .. } | RuleHead::Set { refr, .. } | RuleHead::Func { refr, .. } => {
                    refr.span()
                }
            },
        }
    }

    pub(super) fn name(&self) -> String {
        self.path.join(".")
    }
}

/// A reference taken apart: the expression that it begins with, and what follows.
pub(super) struct Steps<'a> {
    pub(super) head: &'a Ref<Expr>,
    pub(super) rest: Vec<Step<'a>>,
}

pub(super) enum Step<'a> {
    Name(String),
    Index(&'a Ref<Expr>),
}

pub(super) fn steps(reference: &Ref<Expr>) -> Steps<'_> {
    let (mut head, mut rest) = (reference, Vec::new());
    loop {
        match head.as_ref() {
            Expr::RefDot { refr, field, .. } => {
                rest.push(Step::Name(field.0.text().to_owned()));
                head = refr;
            }
            Expr::RefBrack { refr, index, .. } => {
                rest.push(literal(index).map_or(Step::Index(index), Step::Name));
                head = refr;
            }
            _ => break,
        }
    }
    rest.reverse();
    Steps { head, rest }
}

fn literal(index: &Expr) -> Option<String> {
    match index {
        Expr::String { value, .. } | Expr::RawString { value, .. } => {
            value.as_string().ok().map(|text| text.to_string())
        }
        _ => None,
    }
}

impl Steps<'_> {
    /// The name that the reference begins with.
    pub(super) fn root(&self) -> Option<&str> {
        match self.head.as_ref() {
            Expr::Var { span, .. } => Some(span.text()),
            _ => None,
        }
    }

    /// The parts up to the first that is known only in evaluation, the root first.
    pub(super) fn known(&self) -> Vec<String> {
        let names = self.rest.iter().map_while(|step| match step {
            Step::Name(name) => Some(name.clone()),
            Step::Index(_) => None,
        });
        self.root().map(str::to_owned).into_iter().chain(names).collect()
    }

    pub(super) fn is_open(&self) -> bool {
        self.rest.iter().any(|step| matches!(step, Step::Index(_)))
    }
}
