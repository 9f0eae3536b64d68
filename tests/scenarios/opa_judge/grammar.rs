//! Writes small policies and inputs from a list of numbers: each is one choice, and when they end, the first one of
//! what can be chosen is taken. So fewer and smaller numbers make a smaller policy of the same kind.

use std::{fmt::Write, slice};

/// A policy in package `p`, and inputs to ask it with.
pub(crate) struct Sample {
    pub(crate) module: String,
    pub(crate) inputs: Vec<String>,
}

/// Writes one.
pub(crate) fn sample(choices: &[u16]) -> Sample {
    let mut writer = Writer { choices: choices.iter(), names: 0, helpers: Vec::new(), scope: Vec::new() };
    let module = writer.module();
    let inputs = (0..INPUTS).map(|_| writer.input()).collect();
    Sample { module, inputs }
}

/// Of each policy.
pub(crate) const INPUTS: usize = 4;
/// Expressions in one another.
const DEPTH: u32 = 3;

/// What an expression is, as far as the writer knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Number,
    Text,
    /// An array of texts.
    List,
    Truth,
}

/// A rule that others may name.
struct Helper {
    name: String,
    shape: Shape,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Value(Kind),
    Set,
    Object,
    /// Of one text.
    Function(Kind),
}

struct Writer<'a> {
    choices: slice::Iter<'a, u16>,
    names: usize,
    helpers: Vec<Helper>,
    /// Variables that are bound where we write.
    scope: Vec<(String, Kind)>,
}

impl Writer<'_> {
    /// One of `count`.
    fn choice(&mut self, count: usize) -> usize {
        self.choices.next().map_or(0, |choice| usize::from(*choice) % count)
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.choice(from.len())]
    }

    fn name(&mut self, prefix: &str) -> String {
        self.names += 1;
        format!("{prefix}{}", self.names)
    }

    fn module(&mut self) -> String {
        let mut text = "package p\n\n".to_owned();
        for _ in 0..self.choice(4) {
            text += &self.helper();
        }
        if self.choice(2) == 1 {
            text += "default allow := false\n\n";
        }
        for _ in 0..=self.choice(2) {
            let body = self.body();
            match self.choice(4) {
                0..=2 => write!(text, "allow if {{\n{body}}}\n\n"),
                _ => {
                    let value = self.pick(&["true", "false", "{\"allowed\": true}", "\"yes\"", "input.n"]);
                    write!(text, "allow := {value} if {{\n{body}}}\n\n")
                }
            }
            .expect("a text takes more text");
        }
        text
    }

    /// A rule of one, two or three definitions.
    fn helper(&mut self) -> String {
        let name = self.name("h");
        let kind = self.pick(&[Kind::Truth, Kind::Number, Kind::Text, Kind::List]);
        let shapes =
            [Shape::Value(kind), Shape::Set, Shape::Object, Shape::Function(kind), Shape::Value(kind)];
        let shape = self.pick(&shapes);
        let mut text = self.default_of(&name, shape);
        for _ in 0..=self.choice(3) {
            self.scope.clear();
            if matches!(shape, Shape::Function(_)) {
                self.scope.push(("arg".to_owned(), Kind::Text));
            }
            let body = self.body();
            let head = self.head(&name, shape);
            text += &format!("{head} if {{\n{body}}}");
            if self.choice(5) == 4 && matches!(shape, Shape::Value(_)) {
                self.scope.clear();
                let value = self.expression(kind, 1);
                if self.choice(2) == 1 {
                    let body = self.body();
                    text += &format!(" else := {value} if {{\n{body}}}");
                    self.scope.clear();
                    let last = self.expression(kind, 1);
                    text += &format!(" else := {last}");
                } else {
                    text += &format!(" else := {value}");
                }
            }
            text += "\n\n";
            self.scope.clear();
        }
        self.helpers.push(Helper { name, shape });
        text
    }

    fn default_of(&mut self, name: &str, shape: Shape) -> String {
        let (head, kind) = match shape {
            Shape::Value(kind) => (name.to_owned(), kind),
            Shape::Function(kind) => (format!("{name}(_)"), kind),
            Shape::Set | Shape::Object => return String::new(),
        };
        if self.choice(3) < 2 {
            return String::new();
        }
        let value = self.literal(kind);
        format!("default {head} := {value}\n\n")
    }

    /// The head of one definition, after its body: what that binds may be its value.
    fn head(&mut self, name: &str, shape: Shape) -> String {
        match shape {
            Shape::Value(kind) => format!("{name} := {}", self.expression(kind, 1)),
            Shape::Set => format!("{name} contains {}", self.expression(Kind::Text, 1)),
            Shape::Object => {
                format!("{name}[{}] := {}", self.atom(Kind::Text), self.expression(Kind::Number, 1))
            }
            Shape::Function(kind) => format!("{name}(arg) := {}", self.expression(kind, 1)),
        }
    }

    fn body(&mut self) -> String {
        (0..=self.choice(3)).map(|_| format!("\t{}\n", self.statement())).collect()
    }

    fn statement(&mut self) -> String {
        match self.choice(12) {
            0 | 1 => self.expression(Kind::Truth, 0),
            2 | 3 => match self.expression(Kind::Truth, 1).as_str() {
                // Alone in a body it says nothing about policies that somebody would write.
                "true" => "not input.yes".to_owned(),
                negated => format!("not {negated}"),
            },
            4 => self.assignment(),
            5 => self.some(),
            6 => self.every(),
            7 => self.replaced(),
            8 => self.pairs(),
            9 => self.unification(),
            10 => self.looked_up(),
            _ => {
                let (kind, not) =
                    (self.pick(&[Kind::Number, Kind::Text, Kind::List]), self.pick(&["", "not "]));
                format!("{not}{} == {}", self.expression(kind, 1), self.expression(kind, 1))
            }
        }
    }

    fn kind(&mut self) -> Kind {
        self.pick(&[Kind::Number, Kind::Text, Kind::List, Kind::Truth])
    }

    fn assignment(&mut self) -> String {
        let kind = self.kind();
        let value = self.expression(kind, 0);
        let name = self.name("x");
        self.scope.push((name.clone(), kind));
        format!("{name} := {value}")
    }

    fn some(&mut self) -> String {
        let list = self.expression(Kind::List, 1);
        let name = self.name("x");
        self.scope.push((name.clone(), Kind::Text));
        let used = self.pick(&["!= \"zz\"", "== \"a\"", "< \"b\""]);
        format!("some {name} in {list}\n\t{name} {used}")
    }

    fn every(&mut self) -> String {
        let list = self.expression(Kind::List, 1);
        let name = self.name("x");
        self.scope.push((name.clone(), Kind::Text));
        let inside = self.expression(Kind::Truth, 1);
        self.scope.pop();
        format!("every {name} in {list} {{ {name} != \"b\"; {inside} }}")
    }

    /// Keys and values of an object.
    fn pairs(&mut self) -> String {
        let of = self.pick(&["input.object", "input.user", "input.list", "input.nothing", "{\"a\": \"b\"}"]);
        let (key, value) = (self.name("k"), self.name("v"));
        self.scope.push((value.clone(), Kind::Text));
        let condition = self.pick(&["!= \"zz\"", "== \"a\"", "== 1"]);
        match self.choice(3) {
            0 => format!("some {key}, {value} in {of}\n\t{key} {condition}"),
            1 => format!("{value} := {of}[{key}]\n\t{key} {condition}"),
            _ => {
                self.scope.pop();
                format!("every {key}, {value} in {of} {{ {key} {condition}; {value} != \"a\" }}")
            }
        }
    }

    fn unification(&mut self) -> String {
        let (a, b) = (self.expression(Kind::Text, 1), self.expression(Kind::Text, 1));
        let name = self.name("x");
        let pattern = match self.choice(3) {
            0 => format!("[{name}, {b}] = [{a}, {b}]"),
            1 => format!("[{name}, _] := input.list"),
            _ => format!("[_, {name}] := split({a}, \"/\")"),
        };
        self.scope.push((name, Kind::Text));
        pattern
    }

    /// A part whose key is computed, of what may not have it.
    fn looked_up(&mut self) -> String {
        let not = self.pick(&["", "not "]);
        let sets =
            self.helpers.iter().filter(|helper| helper.shape == Shape::Set || helper.shape == Shape::Object);
        let mut of: Vec<_> = sets.map(|helper| helper.name.clone()).collect();
        of.extend(["input.object", "input.user", "input.list"].map(str::to_owned));
        let of = of[self.choice(of.len())].clone();
        format!("{not}{of}[{}]", self.atom(Kind::Text))
    }

    /// A helper under another input.
    fn replaced(&mut self) -> String {
        let not = self.pick(&["", "not "]);
        let value = self.pick(&["1", "\"a\"", "[\"a\"]", "null", "input.n"]);
        let target = self.pick(&["n", "path", "list", "user"]);
        let asked = self.helper_of(Kind::Truth).unwrap_or_else(|| "input.yes".to_owned());
        format!("{not}{asked} with input.{target} as {value}")
    }

    fn expression(&mut self, kind: Kind, depth: u32) -> String {
        if depth >= DEPTH || self.choice(3) == 0 {
            return self.atom(kind);
        }
        match kind {
            Kind::Number => self.number(depth + 1),
            Kind::Text => self.text(depth + 1),
            Kind::List => self.list(depth + 1),
            Kind::Truth => self.truth(depth + 1),
        }
    }

    /// A literal, a variable, a part of the input, or a rule.
    fn atom(&mut self, kind: Kind) -> String {
        match self.choice(4) {
            0 => self.literal(kind),
            1 => self.part_of_input(kind),
            2 => {
                let bound: Vec<_> =
                    self.scope.iter().filter(|(_, of)| *of == kind).map(|(name, _)| name.clone()).collect();
                match bound.len() {
                    0 => self.part_of_input(kind),
                    count => bound[self.choice(count)].clone(),
                }
            }
            _ => self.helper_of(kind).unwrap_or_else(|| self.literal(kind)),
        }
    }

    /// A rule of this kind, if there is one.
    fn helper_of(&mut self, kind: Kind) -> Option<String> {
        let count = self.helpers.len();
        let from = self.choice(count.max(1));
        let found =
            (0..count).map(|index| (index + from) % count).find(|index| self.helpers[*index].is(kind))?;
        let Helper { name, shape } = &self.helpers[found];
        let (name, shape) = (name.clone(), *shape);
        Some(match shape {
            Shape::Value(_) => name,
            Shape::Set => format!("{} in {name}", self.literal(Kind::Text)),
            Shape::Object => format!("{name}[{}]", self.literal(Kind::Text)),
            Shape::Function(_) => format!("{name}({})", self.part_of_input(Kind::Text)),
        })
    }

    fn literal(&mut self, kind: Kind) -> String {
        let known: &[&str] = match kind {
            Kind::Number => &["1", "0", "2", "-1", "1.5", "10"],
            Kind::Text => &["\"a\"", "\"\"", "\"b\"", "\"/data\"", "\"1\"", "\"é\""],
            Kind::List => &["[\"a\", \"b\"]", "[]", "[\"b\"]", "[\"a\", \"a\"]"],
            Kind::Truth => &["true", "false"],
        };
        self.pick(known).to_owned()
    }

    /// Also parts that are not there, or of another kind.
    fn part_of_input(&mut self, kind: Kind) -> String {
        let known: &[&str] = match kind {
            Kind::Number => &["input.n", "input.m", "input.path", "input.nothing", "count(input.list)"],
            Kind::Text => &[
                "input.path",
                "input.user.name",
                "input.list[0]",
                "input.n",
                "input.nothing",
                "input.list[_]",
            ],
            Kind::List => &["input.list", "input.user.roles", "input.path", "input.nothing"],
            Kind::Truth => &["input.yes", "input.no", "input.user.admin", "input.nothing", "input.n"],
        };
        self.pick(known).to_owned()
    }

    fn number(&mut self, depth: u32) -> String {
        let (a, b) = (self.expression(Kind::Number, depth), self.expression(Kind::Number, depth));
        match self.choice(8) {
            0 => format!("count({})", self.expression(Kind::List, depth)),
            1 => format!("({a} + {b})"),
            2 => format!("({a} - {b})"),
            3 => format!("({a} * {b})"),
            4 => format!("({a} / {b})"),
            5 => format!("to_number({})", self.expression(Kind::Text, depth)),
            6 => format!("max([{a}, {b}])"),
            _ => format!("count({})", self.expression(Kind::Text, depth)),
        }
    }

    fn text(&mut self, depth: u32) -> String {
        let (a, b) = (self.expression(Kind::Text, depth), self.expression(Kind::Text, depth));
        match self.choice(11) {
            0 => format!("concat(\"/\", {})", self.expression(Kind::List, depth)),
            1 => format!("lower({a})"),
            2 => format!("upper({a})"),
            3 => format!("trim_prefix({a}, {b})"),
            4 => format!("replace({a}, {b}, \"x\")"),
            5 => format!("substring({a}, {}, -1)", self.pick(&["0", "1", "9"])),
            6 => format!("sprintf(\"%v-%s\", [{}, {a}])", self.expression(Kind::Number, depth)),
            7 => format!("object.get(input.user, \"name\", {a})"),
            8 => format!("{}[{}]", self.expression_of_split(depth), self.pick(&["0", "1", "9"])),
            9 => format!("input.object[{a}]"),
            _ => format!("trim({a}, {b})"),
        }
    }

    fn expression_of_split(&mut self, depth: u32) -> String {
        format!("split({}, \"/\")", self.expression(Kind::Text, depth))
    }

    fn list(&mut self, depth: u32) -> String {
        match self.choice(8) {
            0 => self.expression_of_split(depth),
            1 => format!("[{}, {}]", self.expression(Kind::Text, depth), self.expression(Kind::Text, depth)),
            2 => format!("sort({})", self.expression(Kind::List, depth)),
            3 => {
                format!("array.concat({}, {})", self.expression(Kind::List, depth), self.literal(Kind::List))
            }
            4 => format!("array.slice({}, 0, 1)", self.expression(Kind::List, depth)),
            5 => {
                let operator = self.pick(&["|", "&", "-"]);
                let sets = [self.set(depth), self.set(depth)];
                format!("sort({} {operator} {})", sets[0], sets[1])
            }
            6 => format!("object.keys({{{}: 1, \"c\": 2}})", self.expression(Kind::Text, depth)),
            _ => {
                let list = self.expression(Kind::List, depth);
                let name = self.name("y");
                self.scope.push((name.clone(), Kind::Text));
                let (kept, condition) =
                    (self.expression(Kind::Text, depth), self.expression(Kind::Truth, depth));
                self.scope.pop();
                format!("[{kept} | some {name} in {list}; {name} != \"zz\"; {condition}]")
            }
        }
    }

    fn set(&mut self, depth: u32) -> String {
        match self.choice(3) {
            0 => format!("{{{}, \"b\"}}", self.expression(Kind::Text, depth)),
            1 => format!("{{y | some y in {}}}", self.expression(Kind::List, depth)),
            _ => "{\"a\"}".to_owned(),
        }
    }

    fn truth(&mut self, depth: u32) -> String {
        let kind = self.pick(&[Kind::Number, Kind::Text]);
        let (a, b) = (self.expression(Kind::Text, depth), self.expression(Kind::Text, depth));
        match self.choice(12) {
            0 | 1 => {
                let operator = self.pick(&["==", "!=", "<", "<=", ">", ">="]);
                format!("{} {operator} {}", self.expression(kind, depth), self.expression(kind, depth))
            }
            2 => format!("startswith({a}, {b})"),
            3 => format!("contains({a}, {b})"),
            4 => format!(
                "regex.match({}, {a})",
                self.pick(&["\"^a\"", "\"^/d\\\\w+$\"", "\"[0-9]+\"", "\"(\""])
            ),
            5 => format!("glob.match({}, [\"/\"], {a})", self.pick(&["\"*\"", "\"/**\"", "\"a*\""])),
            6 => format!("is_string({})", self.expression(kind, depth)),
            7 => format!("{a} in {}", self.expression(Kind::List, depth)),
            8 => format!("[{a}, {b}] == input.list"),
            9 => format!("{{\"a\": {a}}} == {{\"a\": {b}}}"),
            10 => format!("{} == {}", self.set(depth), self.set(depth)),
            _ => format!("count({}) > {}", self.expression(Kind::List, depth), self.literal(Kind::Number)),
        }
    }

    fn input(&mut self) -> String {
        let fields = [
            ("n", &["1", "0", "2", "-1", "1.5", "\"1\"", "null"][..]),
            ("m", &["1", "0", "3"]),
            ("path", &["\"/data\"", "\"a\"", "\"\"", "\"1/b\"", "\"é/A\"", "7"]),
            ("list", &["[\"a\", \"b\"]", "[]", "[\"b\", \"c\", \"a\"]", "[\"a\", 1]", "\"ab\""]),
            (
                "user",
                &[
                    "{\"name\": \"a\", \"admin\": true}",
                    "{\"name\": \"b\", \"roles\": [\"a\"]}",
                    "{}",
                    "null",
                ],
            ),
            ("object", &["{\"a\": \"b\", \"b\": \"a\"}", "{}", "{\"a\": 1}", "[\"a\"]"]),
            ("yes", &["true"]),
            ("no", &["false", "true"]),
        ];
        let mut given = Vec::new();
        for (name, values) in fields {
            if self.choice(8) < 7 {
                given.push(format!("\"{name}\": {}", self.pick(values)));
            }
        }
        format!("{{{}}}", given.join(", "))
    }
}

impl Helper {
    fn is(&self, kind: Kind) -> bool {
        match self.shape {
            Shape::Value(of) | Shape::Function(of) => of == kind,
            Shape::Set => kind == Kind::Truth,
            Shape::Object => kind == Kind::Number,
        }
    }
}
