//! What a number means, from the list that is built into the binary.

/// The list that people read as well.
const LIST: &str = include_str!("../../../ERRORS.md");

/// One number of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Number {
    pub(super) number: &'static str,
    /// Such as `Attestation and matching`.
    pub(super) group: &'static str,
    pub(super) says: &'static str,
    pub(super) cause: &'static str,
    pub(super) fix: &'static str,
}

/// Whether `text` looks like a number: `E0412`, `w0613`.
pub(super) fn is_number(text: &str) -> bool {
    let (kind, digits) = text.split_at_checked(1).unwrap_or_default();
    ["E", "W", "e", "w"].contains(&kind)
        && digits.len() == 4
        && digits.bytes().all(|byte| byte.is_ascii_digit())
}

pub(super) fn look_up(number: &str) -> Option<Number> {
    let number = number.to_uppercase();
    let (meanings, remedies) = halves();
    let (group, row) = grouped(meanings).find(|(_, row)| row[0] == number)?;
    let remedy = rows(remedies).find(|row| row[0] == number);
    let cell = |at: usize| remedy.as_ref().and_then(|row| row.get(at).copied()).unwrap_or_default();
    Some(Number { number: row[0], group, says: row[1], cause: cell(1), fix: cell(2) })
}

/// Every number of the list.
pub(super) fn all() -> impl Iterator<Item = &'static str> {
    rows(halves().0).map(|row| row[0])
}

/// What each number says, and what to do about it.
fn halves() -> (&'static str, &'static str) {
    LIST.split_once("\n## ").unwrap_or((LIST, ""))
}

fn grouped(table: &'static str) -> impl Iterator<Item = (&'static str, Vec<&'static str>)> {
    let mut group = "";
    table.lines().filter_map(move |line| {
        if let Some((_, head)) = line.split_once("| | **") {
            group = head.split_once("**").map_or("", |(name, _)| name);
        }
        Some((group, row(line)?))
    })
}

fn rows(table: &'static str) -> impl Iterator<Item = Vec<&'static str>> {
    table.lines().filter_map(row)
}

/// The cells of a line of a table that begins with a number.
fn row(line: &'static str) -> Option<Vec<&'static str>> {
    let inner = line.strip_prefix("| ")?.strip_suffix(" |")?;
    let cells: Vec<&str> = inner.split(" | ").map(str::trim).collect();
    (cells.len() >= 2 && is_number(cells[0])).then_some(cells)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_has_a_cause_and_a_fix() {
        assert!(all().count() > 100);
        for number in all() {
            let known = look_up(number).unwrap();
            assert!(!known.says.is_empty() && !known.group.is_empty(), "{number} in the first table");
            assert!(!known.cause.is_empty() && !known.fix.is_empty(), "{number} in the second table");
        }
        for row in rows(halves().1) {
            assert!(row.len() == 3 && all().any(|number| number == row[0]), "{row:?}");
        }
    }

    #[test]
    fn a_number_is_found_in_either_case_and_others_are_not() {
        let known = look_up("e0412").unwrap();
        assert_eq!((known.number, known.group), ("E0412", "Attestation and matching"));
        assert!(known.says.contains("no identity") && known.fix.contains("vouch explain"));
        assert_eq!(look_up(&format!("E{}", 9999)), None);
        for other in ["", "E", "E041", "E04123", "X0412", "E04a2", "é0412"] {
            assert!(!is_number(other), "{other}");
        }
    }
}
