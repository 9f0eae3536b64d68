use regorus::Value;

use super::{super::args::Failure, *};

fn matches(pattern: &str, value: &str) -> bool {
    is_match(&[pattern.into(), value.into()]) == Ok(Value::Bool(true))
}

#[test]
fn digits_words_and_spaces_are_those_of_ascii() {
    assert!(!matches(r"^\d+$", "١٢٣") && !matches(r"^[\d]+$", "١") && matches(r"^\d+$", "123"));
    assert!(!matches(r"^\w$", "é") && matches(r"é\b", "éa") && !matches(r"é\b", "é"));
    assert!(!matches(r"^\s$", "\u{a0}") && !matches(r"^\s$", "\u{b}"));
}

#[test]
fn case_folds_as_unicode_has_it() {
    assert!(matches("(?i)^ÄK$", "äk") && matches("(?i)^k$", "\u{212a}") && matches(r"(?i)^\w$", "ſ"));
    assert!(!matches("(?i)^[^k]$", "K") && !matches("^ä$", "Ä"));
}

#[test]
fn quoted_text_and_what_other_engines_read_in_classes_are_letters() {
    assert!(matches(r"^\Qa.b*\E+$", "a.b***") && !matches(r"^\Qa.b\E$", "axb"));
    assert!(
        matches("^[a&&b]+$", "a&b")
            && matches("^[+--]$", ",")
            && !matches("^[a--b]$", "a")
            && matches("^[a~~b]$", "~")
    );
    assert!(matches("^[[a]$", "[") && matches(r"^\<$", "<"));
}

#[test]
fn a_long_pattern_compiles_and_one_beyond_the_limit_ends_the_evaluation() {
    assert!(matches(r"^\w+@\w+\.\w+$", "a@b.c") && matches("^[^/]{1,63}/[^/]{1,63}$", "a/b"));
    let too_large = is_match(&[r"(?:\pL{500}\pN{500}){2}".into(), "x".into()]);
    assert_eq!(too_large, Err(Failure::Exceeded(Exceeded::Pattern)));
    let too_long = is_match(&["a".repeat(PATTERN_BYTES + 1).into(), "x".into()]);
    assert_eq!(too_long, Err(Failure::Exceeded(Exceeded::Pattern)));
    let too_deep = is_match(&[format!("{}a{}", "(".repeat(600), ")".repeat(600)).into(), "a".into()]);
    assert_eq!(too_deep, Err(Failure::Exceeded(Exceeded::Pattern)));
}

#[test]
fn no_more_patterns_are_kept_than_the_bound_and_the_latest_is_among_them() {
    let mut kept = Kept::default();
    for n in 0..KEPT + 10 {
        let pattern = format!("a{n}");
        kept.insert(&pattern, Arc::new(Compiled::new(&pattern).unwrap()));
        kept.get("a0");
    }
    assert_eq!(kept.patterns.len(), KEPT);
    assert!(kept.get("a0").is_some() && kept.get("a1").is_none() && kept.get("a137").is_some());
}

#[test]
fn a_replacement_does_not_grow_without_end() {
    let grown = replace(&["a".repeat(2000).into(), "a".into(), "b".repeat(2000).into()]);
    assert_eq!(grown, Err(Failure::Exceeded(Exceeded::Text)));
}
