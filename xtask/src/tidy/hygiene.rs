//! Nothing unfinished, nothing ignored, no file of two ideas.

use super::Finding;

const MAX_LINES: usize = 500;
/// Longer files, each with the reason why it is one idea all the same.
const LONG_FILES: [(&str, &str); 0] = [];
/// What unfinished Rust looks like, in two halves so that this file is not found by itself.
const UNFINISHED: [(&str, &str); 3] = [("todo", "!("), ("unimplemented", "!("), ("#[ign", "ore")];

/// Unfinished or overlong places in `text`, when `file` is Rust.
pub(super) fn check(file: &str, text: &str) -> Vec<Finding> {
    if !file.ends_with(".rs") {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for (start, end) in UNFINISHED {
            let mark = format!("{start}{end}");
            if line.contains(&mark) {
                let rule = format!("`{mark}` is unfinished work: finish it or take it out");
                findings.push(Finding { file: file.to_owned(), line: index + 1, rule });
            }
        }
    }
    let lines = text.lines().count();
    if lines > MAX_LINES && !LONG_FILES.iter().any(|(known, _)| *known == file) {
        let rule = format!(
            "{lines} lines: split the second idea off, or give the reason in LONG_FILES of xtask/src/tidy/hygiene.rs"
        );
        findings.push(Finding { file: file.to_owned(), line: MAX_LINES + 1, rule });
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unfinished_rust_is_found() {
        for (start, end) in UNFINISHED {
            let text = format!("fn f() {{\n    {start}{end});\n}}\n");
            assert_eq!(check("agent/src/x.rs", &text).len(), 1, "{start}");
            assert_eq!(check("README.md", &text).len(), 0, "{start}");
        }
    }

    #[test]
    fn a_file_of_more_than_500_lines_is_found() {
        assert_eq!(check("a.rs", &"\n".repeat(500)), []);
        assert_eq!(check("a.rs", &"\n".repeat(501)).len(), 1);
    }
}
