//! Writes policies in which anything stands anywhere, from a list of numbers: each is one choice, and when they end, the
//! first one of what can be chosen is taken.

use std::slice;

use vouch_tests::opa::Syntax;

/// A policy in package `p`.
pub(crate) fn module(choices: &[u16], syntax: Syntax) -> String {
    let mut writer = Writer {
        choices: choices.iter(),
        names: 0,
        scopes: Vec::new(),
        rules: Vec::new(),
        functions: Vec::new(),
        is_old: syntax == Syntax::V0,
    };
    let mut text = "package p\n".to_owned();
    if writer.is_old {
        text += "import future.keywords.in\nimport future.keywords.every\n";
    }
    for _ in 0..writer.choice(4) {
        text += &writer.rule();
    }
    writer.scopes = vec![Vec::new()];
    let body = writer.body();
    text + &format!("allow {}{body}\n", writer.condition())
}

/// Expressions in one another.
const DEPTH: u32 = 2;

/// Functions with the number of their arguments.
const FUNCTIONS: [(&str, usize); 40] = [
    ("count", 1),
    ("startswith", 2),
    ("lower", 1),
    ("concat", 2),
    ("split", 2),
    ("sum", 1),
    ("max", 1),
    ("sort", 1),
    ("to_number", 1),
    ("object.get", 3),
    ("object.keys", 1),
    ("object.union", 2),
    ("array.concat", 2),
    ("array.slice", 3),
    ("union", 1),
    ("intersection", 1),
    ("json.marshal", 1),
    ("json.unmarshal", 1),
    ("is_string", 1),
    ("type_name", 1),
    ("replace", 3),
    ("trim", 2),
    ("substring", 3),
    ("sprintf", 2),
    ("glob.match", 3),
    ("regex.match", 2),
    ("numbers.range", 2),
    ("object.remove", 2),
    ("json.patch", 2),
    ("json.filter", 2),
    ("urlquery.encode_object", 1),
    ("base64.encode", 1),
    ("strings.replace_n", 2),
    ("indexof", 2),
    ("format_int", 2),
    ("round", 1),
    ("object.filter", 2),
    ("strings.any_prefix_match", 2),
    ("net.cidr_contains", 2),
    ("abs", 1),
];

struct Writer<'a> {
    choices: slice::Iter<'a, u16>,
    names: usize,
    /// Variables of the bodies around.
    scopes: Vec<Vec<String>>,
    rules: Vec<String>,
    /// Each of two arguments.
    functions: Vec<String>,
    is_old: bool,
}

impl Writer<'_> {
    /// One of `count`.
    fn choice(&mut self, count: usize) -> usize {
        self.choices.next().map_or(0, |choice| usize::from(*choice) % count)
    }

    fn pick(&mut self, from: &[&str]) -> String {
        from[self.choice(from.len())].to_owned()
    }

    fn name(&mut self, prefix: &str) -> String {
        self.names += 1;
        format!("{prefix}{}", self.names)
    }

    fn declared(&mut self) -> String {
        let name = self.name("x");
        self.bind(&name);
        name
    }

    fn bind(&mut self, name: &str) {
        self.scopes.last_mut().expect("a body is open").push(name.to_owned());
    }

    fn condition(&self) -> &'static str {
        if self.is_old { "" } else { "if " }
    }

    fn rule(&mut self) -> String {
        self.scopes = vec![Vec::new()];
        let kind = self.choice(8);
        let name = self.name("r");
        let text = match kind {
            0 | 1 => format!("{name} := {}\n", self.literal(1)),
            2 => self.set(&name),
            3 => self.object(&name),
            4 => ["a", "b"].map(|part| format!("{name}.{part} := {}\n", self.literal(1))).concat(),
            5 => self.choices_of(&name),
            _ => return self.function(&name),
        };
        self.rules.push(name);
        text
    }

    fn set(&mut self, name: &str) -> String {
        let body = self.body();
        let value = self.expression(1);
        if self.is_old {
            return format!("{name}[v] {{\n v := {value}\n {}", body.trim_start_matches('{'));
        }
        format!("{name} contains {value} if {body}\n")
    }

    fn object(&mut self, name: &str) -> String {
        let body = self.body();
        let (key, value) = (self.expression(0), self.expression(1));
        if self.is_old {
            return format!("{name}[k] := {value} {{\n k := {key}\n {}", body.trim_start_matches('{'));
        }
        format!("{name}[{key}] := {value} if {body}\n")
    }

    /// A value, or another.
    fn choices_of(&mut self, name: &str) -> String {
        let mut text = if self.choice(2) == 1 {
            format!("default {name} := {}\n", self.pick(&["1", "\"a\"", "{}", "[\"a\"]"]))
        } else {
            String::new()
        };
        let body = self.body();
        text += &format!("{name} := {} {}{body}", self.expression(1), self.condition());
        if self.choice(2) == 1 {
            self.scopes = vec![Vec::new()];
            let body = self.body();
            text += &format!(" else := {} {}{body}", self.expression(1), self.condition());
        }
        text + "\n"
    }

    fn function(&mut self, name: &str) -> String {
        let mut text = String::new();
        for _ in 0..=self.choice(2) {
            self.scopes = vec![vec!["a".to_owned(), "b".to_owned()]];
            let body = self.body();
            text += &format!("{name}(a, b) := {} {}{body}\n", self.expression(1), self.condition());
        }
        self.functions.push(name.to_owned());
        text
    }

    fn body(&mut self) -> String {
        let mut text = "{\n".to_owned();
        for _ in 0..=self.choice(3) {
            text += &format!("  {}\n", self.statement(DEPTH));
        }
        text + "}\n"
    }

    fn statement(&mut self, depth: u32) -> String {
        let text = match self.choice(16) {
            0 => return self.truth(depth),
            1..=3 => {
                let value = self.expression(depth);
                format!("{} := {value}", self.pattern())
            }
            4..=7 => format!("not {}", self.truth(depth)),
            8 => format!("{} = {}", self.expression(depth), self.expression(depth)),
            9 => {
                let value = self.expression(depth);
                format!("{} = {value}", self.declared())
            }
            10 => self.reference(),
            11 => {
                let list = self.expression(depth);
                format!("some {} in {list}", self.pattern())
            }
            12 => {
                let list = self.expression(depth);
                format!("some {}, {} in {list}", self.declared(), self.declared())
            }
            13 => {
                let document = self.expression(depth);
                format!("walk({document}, [{}, {}])", self.declared(), self.declared())
            }
            14 => return self.every(depth),
            _ => self.call(depth),
        };
        match self.choice(12) {
            10 if !self.rules.is_empty() => {
                let at = self.choice(self.rules.len());
                let rule = self.rules[at].clone();
                format!("{text} with data.p.{rule} as {}", self.literal(1))
            }
            11 => format!("{text} with input as {}", self.expression(1)),
            _ => text,
        }
    }

    fn every(&mut self, depth: u32) -> String {
        let list = self.expression(depth);
        let name = self.name("x");
        self.scopes.push(vec![name.clone()]);
        let inner = self.statement(depth.saturating_sub(1));
        self.scopes.pop();
        format!("every {name} in {list} {{ {name} != 77; {inner} }}")
    }

    fn truth(&mut self, depth: u32) -> String {
        match self.choice(6) {
            0 | 1 => self.call(depth),
            2 => self.base(),
            3 => format!("{} == {}", self.expression(depth), self.expression(depth)),
            4 => format!("{} in {}", self.expression(depth), self.expression(depth)),
            _ => {
                let operator = self.pick(&["<", "!=", ">="]);
                format!("{} {operator} {}", self.expression(depth), self.expression(depth))
            }
        }
    }

    fn pattern(&mut self) -> String {
        if self.choice(4) == 3 {
            return format!("[{}, {}]", self.declared(), self.declared());
        }
        self.declared()
    }

    fn expression(&mut self, depth: u32) -> String {
        let inner = depth.saturating_sub(1);
        match self.choice(if depth == 0 { 6 } else { 14 }) {
            0 | 1 => self.literal(depth),
            2..=5 => self.reference(),
            6..=8 => self.call(depth),
            9 => {
                let operator = self.pick(&["+", "-", "*", "/", "%"]);
                format!("({} {operator} {})", self.expression(inner), self.expression(inner))
            }
            10 => {
                let operator = self.pick(&["|", "&", "-"]);
                format!("({} {operator} {})", self.expression(inner), self.expression(inner))
            }
            11 => format!("({} == {})", self.expression(inner), self.expression(inner)),
            12 => format!("({} in {})", self.expression(inner), self.expression(inner)),
            _ => self.comprehension(inner),
        }
    }

    fn comprehension(&mut self, depth: u32) -> String {
        self.scopes.push(Vec::new());
        let condition = self.statement(depth);
        let value = self.expression(depth);
        let text = match self.choice(3) {
            0 => format!("[{value} | {condition}]"),
            1 => format!("{{{value} | {condition}}}"),
            _ => format!("{{{}: {value} | {condition}}}", self.reference()),
        };
        self.scopes.pop();
        text
    }

    fn call(&mut self, depth: u32) -> String {
        let inner = depth.saturating_sub(1);
        let known = self.functions.len();
        let (name, arity) = match self.choice(FUNCTIONS.len() + 8 * known) {
            at if at < FUNCTIONS.len() => (FUNCTIONS[at].0.to_owned(), FUNCTIONS[at].1),
            at => (self.functions[at % known].clone(), 2),
        };
        let arguments: Vec<_> = (0..arity).map(|_| self.expression(inner)).collect();
        format!("{name}({})", arguments.join(", "))
    }

    fn literal(&mut self, depth: u32) -> String {
        let inner = depth.saturating_sub(1);
        match self.choice(if depth == 0 { 4 } else { 9 }) {
            0 => self.pick(&["1", "0", "-1", "1.5", "2"]),
            1 | 2 => self.pick(&["\"a\"", "\"b\"", "\"x/y\""]),
            3 => self.pick(&["true", "null", "set()", "{}", "[]", "{\"a\"}", "false"]),
            4 => format!("[{}, {}]", self.expression(inner), self.expression(inner)),
            5 => format!("[{}]", self.expression(inner)),
            6 => format!("{{\"a\": {}, \"b\": {}}}", self.expression(inner), self.expression(inner)),
            7 => format!("{{{}: {}}}", self.expression(inner), self.expression(inner)),
            _ => format!("{{{}, {}}}", self.expression(inner), self.expression(inner)),
        }
    }

    fn base(&mut self) -> String {
        let variables: Vec<&String> = self.scopes.iter().flatten().chain(&self.rules).collect();
        let variables: Vec<String> = variables.into_iter().cloned().collect();
        match self.choice(2 + 2 * variables.len()) {
            0 => "input.x".to_owned(),
            1 => self.pick(&["input.list", "input", "data.other.x", "input.a.b"]),
            at => variables[at % variables.len()].clone(),
        }
    }

    fn reference(&mut self) -> String {
        let mut text = self.base();
        for _ in 0..self.choice(3) {
            text += &match self.choice(4) {
                0 | 1 => self.pick(&[".a", ".b", ".c", "[\"z\"]"]),
                2 => self.pick(&["[0]", "[1]", "[2]", "[true]", "[_]"]),
                _ => format!("[{}]", self.base()),
            };
        }
        text
    }
}
