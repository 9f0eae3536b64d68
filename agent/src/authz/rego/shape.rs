//! What a file costs to read is known before it is read: size, nesting and chains of operators are bounded here, so that
//! the parser's work and the depth of its recursion are.

use super::{Fault, Limits, Source};

/// The first place where `source` is larger than a limit, or has what no version of Rego we load has.
pub(super) fn check(source: &Source, limits: &Limits) -> Result<(), Fault> {
    if source.text.len() > limits.source_bytes {
        let (size, limit) = (source.text.len(), limits.source_bytes);
        return Err(Fault::in_file(&source.name, format!("the file has {size} bytes, the limit is {limit}")));
    }
    Scan { source, limits, line: 1, column: 0, open: Vec::new(), chain: 0, weight: 1, cost: 0 }.run()
}

struct Scan<'a> {
    source: &'a Source,
    limits: &'a Limits,
    line: u32,
    column: u32,
    /// Of each open bracket: the chain around it, and the weight of what is around it.
    open: Vec<(u32, u64)>,
    /// Operators so far without a bracket or a statement between.
    chain: u32,
    /// How often what stands here is read.
    weight: u64,
    cost: u64,
}

impl Scan<'_> {
    fn run(mut self) -> Result<(), Fault> {
        let text = self.source.text.as_str();
        let mut chars = text.char_indices().peekable();
        let (mut before, mut word_before) = (' ', false);
        while let Some((at, c)) = chars.next() {
            self.step(c)?;
            let word = c.is_alphanumeric() || c == '_';
            match c {
                '#' => while chars.next_if(|(_, c)| *c != '\n').is_some_and(|(_, c)| self.passes(c)) {},
                '"' | '`' => {
                    self.count()?;
                    let mut escaped = false;
                    for (_, inner) in chars.by_ref() {
                        self.step(inner)?;
                        if inner == c && !escaped {
                            break;
                        }
                        escaped = c == '"' && inner == '\\' && !escaped;
                    }
                }
                '$' => {
                    return Err(
                        self.fault("`$` begins a template string, which is not supported: use sprintf")
                    );
                }
                '[' | '{' | '(' => self.opens(c, before)?,
                ']' | '}' | ')' => self.closes(),
                ',' | ';' => self.chain = 0,
                '\n' if !continues(&text[at + 1..], before) => self.chain = 0,
                '\n' => {}
                _ if is_operator(c) => self.operator()?,
                _ if word && !word_before => {
                    self.count()?;
                    if ["in", "or", "and"].iter().any(|name| is_word(&text[at..], name)) {
                        self.operator()?;
                    }
                }
                _ => {}
            }
            word_before = word;
            if !c.is_whitespace() {
                before = c;
            } else if c != '\n' {
                // An index stands right behind what it indexes.
                before = if is_operator(before) { before } else { ' ' };
            }
        }
        if self.line > self.limits.lines {
            let limit = self.limits.lines;
            return Err(self.fault(format!("the file has more than {limit} lines")));
        }
        Ok(())
    }

    /// In a comment only places are counted; how long its line is does not matter to the parser's recursion, but it does
    /// to the one who reads messages about it, so the limit is the same.
    fn passes(&mut self, c: char) -> bool {
        self.step(c).is_ok()
    }

    fn step(&mut self, c: char) -> Result<(), Fault> {
        if c == '\n' {
            (self.line, self.column) = (self.line.saturating_add(1), 0);
            return Ok(());
        }
        self.column += 1;
        if c == '\0' {
            return Err(self.fault("a character NUL; remove it".to_owned()));
        }
        if self.column > self.limits.columns {
            let limit = self.limits.columns;
            return Err(self.fault(format!("the line has more than {limit} columns; break it")));
        }
        Ok(())
    }

    fn opens(&mut self, bracket: char, before: char) -> Result<(), Fault> {
        self.count()?;
        self.open.push((self.chain, self.weight));
        if self.open.len() > self.limits.nesting as usize {
            let limit = self.limits.nesting;
            return Err(
                self.fault(format!("more than {limit} brackets are open; name the inner parts as rules"))
            );
        }
        let indexes =
            bracket == '[' && (before.is_alphanumeric() || matches!(before, '_' | ']' | ')' | '"' | '`'));
        if indexes {
            self.operator()?;
        } else if bracket != '(' {
            self.weight = self.weight.saturating_mul(2);
        }
        self.chain = 0;
        Ok(())
    }

    fn closes(&mut self) {
        if let Some((chain, weight)) = self.open.pop() {
            (self.chain, self.weight) = (chain + 1, weight);
        }
    }

    fn operator(&mut self) -> Result<(), Fault> {
        self.count()?;
        self.chain += 1;
        if self.chain > self.limits.chain {
            let limit = self.limits.chain;
            return Err(
                self.fault(format!("more than {limit} operators in a row; name parts of it as rules"))
            );
        }
        Ok(())
    }

    fn count(&mut self) -> Result<(), Fault> {
        self.cost = self.cost.saturating_add(self.weight);
        if self.cost > self.limits.reading {
            return Err(self.fault(
                "arrays, objects and sets are nested too deeply for the size of this file; \
                 move them into a data document",
            ));
        }
        Ok(())
    }

    fn fault(&self, reason: impl Into<String>) -> Fault {
        let text = self.source.text.lines().nth(self.line as usize - 1).unwrap_or_default();
        Fault::on_line(&self.source.name, text, self.line, self.column.max(1), reason)
    }
}

fn is_operator(c: char) -> bool {
    matches!(c, '+' | '-' | '*' | '/' | '%' | '&' | '|' | '=' | '<' | '>' | '!' | '.')
}

fn is_word(text: &str, word: &str) -> bool {
    text.strip_prefix(word).is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
}

/// Whether the statement goes on behind a line break: `rest` is what follows it.
fn continues(rest: &str, before: char) -> bool {
    let next = rest.trim_start();
    is_operator(before) || next.starts_with(is_operator) || is_word(next, "in")
}
