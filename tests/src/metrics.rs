//! Samples of /metrics.

/// The sample that is called exactly `name`, labels included; `None` as long as there is none.
///
/// # Panics
/// When it is not a number.
pub fn value(metrics: &str, name: &str) -> Option<f64> {
    metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).map(number)
}

/// The samples of `family` with all of its labels, added up; or one sample, by its whole name.
///
/// # Panics
/// When one is not a number.
pub fn sum(metrics: &str, family: &str) -> f64 {
    let of_it = |line: &&str| line.strip_prefix(family).is_some_and(|rest| rest.starts_with([' ', '{']));
    let values = metrics.lines().filter(of_it).filter_map(|line| line.rsplit(' ').next());
    values.map(number).sum()
}

fn number(text: &str) -> f64 {
    text.parse().expect("a sample is a number")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# HELP a b\na 1\na_total{x=\"1\"} 2\na_total{x=\"2\"} 3.5\nab 7\n";

    #[test]
    fn a_sample_is_found_by_its_whole_name_and_a_family_by_its_own() {
        assert_eq!(value(TEXT, "a"), Some(1.0));
        assert_eq!(value(TEXT, "a_total{x=\"2\"}"), Some(3.5));
        assert_eq!(value(TEXT, "a_total"), None);
        assert_eq!((sum(TEXT, "a_total"), sum(TEXT, "a"), sum(TEXT, "b")), (5.5, 1.0, 0.0));
        assert_eq!(sum(TEXT, "a_total{x=\"1\"}"), 2.0);
    }
}
