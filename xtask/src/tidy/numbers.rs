//! Every number that an operator may read is explained in one list, and the list explains no other.

use std::collections::BTreeMap;

use super::Finding;

const LIST: &str = "agent/ERRORS.md";
const SOURCES: &str = "agent/src/";

/// Numbers met so far: in the code, each with its first place, and in the list.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    used: BTreeMap<String, (String, usize)>,
    explained: BTreeMap<String, usize>,
}

impl Numbers {
    /// Takes note of the numbers in `text`, the content of `file`.
    pub(super) fn read(&mut self, file: &str, text: &str) {
        let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line));
        if file == LIST {
            self.explained.extend(
                lines
                    .filter_map(|(at, line)| Some((line.strip_prefix("| ")?.get(..5)?.to_owned(), at)))
                    .filter(|(number, _)| is_number(number)),
            );
        } else if file.starts_with(SOURCES) && !file.contains("tests") {
            for (at, line) in lines {
                for number in numbers_in(line) {
                    self.used.entry(number.to_owned()).or_insert_with(|| (file.to_owned(), at));
                }
            }
        }
    }

    /// Numbers that only one side knows.
    pub(super) fn check(self) -> Vec<Finding> {
        let unexplained = self.used.iter().filter(|(number, _)| !self.explained.contains_key(*number));
        let unexplained = unexplained.map(|(number, (file, line))| Finding {
            file: file.clone(),
            line: *line,
            rule: format!("{number} is not explained in {LIST}"),
        });
        let unused = self.explained.iter().filter(|(number, _)| !self.used.contains_key(*number));
        let unused = unused.map(|(number, line)| Finding {
            file: LIST.to_owned(),
            line: *line,
            rule: format!("{number} is used nowhere in {SOURCES}"),
        });
        unexplained.chain(unused).collect()
    }
}

/// Numbers in quotation marks or parentheses, as code and log lines write them.
fn numbers_in(line: &str) -> impl Iterator<Item = &str> {
    line.match_indices(['"', '(']).filter_map(|(at, _)| {
        let number = line.get(at + 1..at + 6)?;
        let closed = line[at + 6..].starts_with(['"', ')']);
        (closed && is_number(number)).then_some(number)
    })
}

fn is_number(text: &str) -> bool {
    let Some(digits) = text.strip_prefix(['E', 'W']) else { return false };
    digits.len() == 4 && digits.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(code: &str, list: &str) -> Vec<String> {
        let mut numbers = Numbers::default();
        numbers.read("agent/src/x.rs", code);
        numbers.read("agent/src/x/tests.rs", "\"E0999\"");
        numbers.read(LIST, list);
        numbers.check().into_iter().map(|finding| finding.rule).collect()
    }

    #[test]
    fn a_number_that_only_one_side_knows_is_found() {
        let code = "Problem::new(\"E0101\", \"x\");\nwarn!(\"cannot (W0102)\");\nlet e = \"E010\";";
        assert_eq!(rules(code, "| E0101 | a |\n| W0102 | b |"), [""; 0]);
        assert_eq!(rules(code, "| E0101 | a |"), ["W0102 is not explained in agent/ERRORS.md"]);
        assert_eq!(rules("(\"é€\"); (é€é)", ""), [""; 0]);
        assert_eq!(rules("", "| E0101 | a |"), ["E0101 is used nowhere in agent/src/"]);
    }
}
